//! Sends letters one after the other.

use std::time::{Duration, Instant, SystemTime};

use lettre::address::Envelope;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, AsyncSendmailTransport, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use pointsman_model::{Mail, MailTls};
use tokio::sync::mpsc;

use crate::Letter;
use crate::rate::Rate;

/// So many mails leave at once, and then one each so often.
const BURST: u32 = 50;
const PERIOD: Duration = Duration::from_secs(2);

/// Sends what comes until nobody can send any more.
pub(crate) async fn send_all(mut letters: mpsc::Receiver<(Letter, Mail)>) {
    let mut rate = Rate::new(BURST, PERIOD, Instant::now());
    while let Some((letter, mail)) = letters.recv().await {
        tokio::time::sleep(rate.take(Instant::now())).await;
        // Each step is bounded by itself; a server that answers each at the last moment is not.
        let whole = mail.timeout * 8;
        match tokio::time::timeout(whole, send(&letter, &mail)).await {
            Ok(Ok(())) => tracing::debug!("mailed: {}", letter.subject),
            Ok(Err(error)) => tracing::warn!("mail lost: {}: {error}", letter.subject),
            Err(_) => tracing::warn!("mail lost: {}: timed out", letter.subject),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Unsent {
    #[error("`{0}` is no mail address")]
    Address(String),
    #[error("no recipient")]
    Nobody,
    #[error("SMTP server {server}: {source}")]
    Smtp {
        server: String,
        source: lettre::transport::smtp::Error,
    },
    #[error("sendmail: {0}")]
    Sendmail(lettre::transport::sendmail::Error),
}

async fn send(letter: &Letter, mail: &Mail) -> Result<(), Unsent> {
    let text = letter.text(mail, SystemTime::now()).into_bytes();
    let to = mail.to.iter().map(|to| address(to));
    let to = to.collect::<Result<Vec<_>, _>>()?;
    let envelope = Envelope::new(Some(address(&mail.from)?), to).map_err(|_| Unsent::Nobody)?;
    let Some(server) = &mail.server else {
        let sendmail = AsyncSendmailTransport::<Tokio1Executor>::new();
        return sendmail
            .send_raw(&envelope, &text)
            .await
            .map_err(Unsent::Sendmail);
    };
    let refused = |source| Unsent::Smtp {
        server: format!("{server}:{}", mail.port),
        source,
    };
    let helo = mail.helo.clone().or_else(host_name);
    let helo = helo.unwrap_or_else(|| "localhost".into());
    let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server)
        .port(mail.port)
        .hello_name(ClientId::Domain(helo))
        .timeout(Some(mail.timeout))
        .tls(tls(mail.tls, server).map_err(refused)?)
        .build();
    let sent = transport.send_raw(&envelope, &text).await;
    sent.map(drop).map_err(refused)
}

/// What is wanted of a server that is called `name`; who may sign for it, the system says.
fn tls(wanted: MailTls, name: &str) -> Result<Tls, lettre::transport::smtp::Error> {
    let parameters = || TlsParameters::new_rustls(name.to_owned());
    Ok(match wanted {
        MailTls::Off => Tls::None,
        MailTls::Starttls => Tls::Required(parameters()?),
        MailTls::Always => Tls::Wrapper(parameters()?),
    })
}

/// The address itself, of `Name <user@host>` too.
fn address(text: &str) -> Result<Address, Unsent> {
    let inner = match (text.rfind('<'), text.rfind('>')) {
        (Some(start), Some(end)) if start < end => &text[start + 1..end],
        _ => text,
    };
    let inner = inner.trim();
    // An address without a host is one of the server's own.
    let whole = if inner.contains('@') {
        inner.to_owned()
    } else {
        format!("{inner}@localhost")
    };
    whole.parse().map_err(|_| Unsent::Address(text.to_owned()))
}

fn host_name() -> Option<String> {
    nix::unistd::gethostname().ok()?.into_string().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_what_people_write() {
        for (text, found) in [
            ("a@example.org", "a@example.org"),
            ("Second Admin <b@example.com>", "b@example.com"),
            ("root", "root@localhost"),
        ] {
            assert_eq!(address(text).unwrap().to_string(), found);
        }
        assert!(address("a b@c d").is_err());
    }
}
