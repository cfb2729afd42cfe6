use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How a check speaks TLS. The server's certificate is not verified unless `ca` and `verify` ask for it,
/// as with keepalived and ldirectord.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TlsOptions {
    /// Name in the server name indication; `None` sends none.
    pub sni: Option<String>,
    /// The certificate must lead to `ca` (or else to the system's) and fit the name. Not of keepalived.
    pub verify: bool,
    /// PEM file of authorities.
    pub ca: Option<PathBuf>,
    /// PEM file of our own certificate and those above it.
    pub certificate: Option<PathBuf>,
    /// PEM file of its key.
    pub key: Option<PathBuf>,
    /// Password of that key.
    pub key_password: Option<Secret>,
}

/// A password or shared secret. It is never shown: `Debug` prints stars.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, to be sent and not to be logged.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let options = TlsOptions {
            key_password: Some(Secret::new("hunter2")),
            ..TlsOptions::default()
        };
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
