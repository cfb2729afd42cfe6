//! TLS for checks: rustls, with nobody's certificate verified unless that is asked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use pointsman_model::check::TlsOptions;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Unusable;

/// Where Debian and its kin keep the authorities that a system trusts.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// TLS settings of one check, read once.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Connector {
    /// Reads certificates and keys. `alpn` are the protocols offered; none for keepalived's checks.
    ///
    /// # Errors
    /// A file that cannot be read or used, or a name that is none.
    pub fn new(options: &TlsOptions, alpn: &[&[u8]]) -> Result<Self, Unusable> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let builder = match options.verify {
            true => {
                let path = options
                    .ca
                    .clone()
                    .unwrap_or_else(|| PathBuf::from(SYSTEM_AUTHORITIES));
                builder.with_root_certificates(authorities(&path)?)
            }
            false => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody(provider))),
        };
        let mut config = match (&options.certificate, &options.key) {
            (Some(certificate), Some(key)) => builder
                .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
                .map_err(unusable)?,
            (None, None) => builder.with_no_client_auth(),
            _ => {
                return Err(unusable(
                    "a certificate needs its key, and a key its certificate",
                ));
            }
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.enable_sni = options.sni.is_some();
        // Each check is a new client: a session resumed would skip what is to be checked.
        config.resumption = rustls::client::Resumption::disabled();
        let name = options
            .sni
            .as_ref()
            .map(|name| ServerName::try_from(name.clone()).map_err(unusable))
            .transpose()?;
        Ok(Self {
            config: Arc::new(config),
            name,
        })
    }

    /// Speaks TLS on a connection. The caller bounds the time.
    ///
    /// # Errors
    /// What the handshake found wrong.
    pub async fn connect(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => ServerName::from(stream.peer_addr()?.ip()),
        };
        TlsConnector::from(Arc::clone(&self.config))
            .connect(name, stream)
            .await
    }
}

/// TLS with whoever is there, for checks that have no options for it.
pub(crate) fn to_anybody() -> TlsConnector {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring has cipher suites for TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        Arc::new(config)
    });
    TlsConnector::from(Arc::clone(config))
}

fn unusable(error: impl ToString) -> Unusable {
    Unusable(format!("TLS: {}", error.to_string()))
}

fn read(path: &Path) -> Result<Vec<u8>, Unusable> {
    fs::read(path).map_err(|error| Unusable(format!("TLS: {}: {error}", path.display())))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let pem = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(Unusable(format!(
            "TLS: {}: no certificate in it",
            path.display()
        ))),
        Err(error) => Err(Unusable(format!("TLS: {}: {error}", path.display()))),
    }
}

fn authorities(path: &Path) -> Result<RootCertStore, Unusable> {
    let mut store = RootCertStore::empty();
    // A system's bundle may hold a few that are too odd for us.
    let (added, _) = store.add_parsable_certificates(certificates(path)?);
    match added {
        0 => Err(Unusable(format!(
            "TLS: {}: no authority in it",
            path.display()
        ))),
        _ => Ok(store),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Unusable> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|error| Unusable(format!("TLS: {}: {error}", path.display())))
}

/// Takes any certificate, as keepalived and ldirectord do: the question is whether the server works, not
/// who it is. Signatures are not verified either, since that would refuse certificates of old (version 1,
/// RSA of 1,024 bits) that the servers' own users may well live with.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.0.signature_verification_algorithms.supported_schemes();
        schemes.extend([
            SignatureScheme::RSA_PKCS1_SHA1,
            SignatureScheme::ECDSA_SHA1_Legacy,
        ]);
        schemes
    }
}
