//! LDAP (RFC 4511): bind, and read one entry.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::ber::{self, element, expect, write};
use super::pattern::Pattern;
use super::peer::{Peer, Stream, Tls};
use super::{Answer, Failure, Login};

/// Largest message that is read, in bytes: an entry's name and no attributes.
const MESSAGE: usize = 64 * 1024;
/// Most messages before the search is done.
const MESSAGES: usize = 16;

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const ENUMERATED: u8 = 0x0a;
const SEQUENCE: u8 = 0x30;
const BIND_REQUEST: u8 = 0x60;
const BIND_RESPONSE: u8 = 0x61;
const UNBIND_REQUEST: u8 = 0x42;
const SEARCH_REQUEST: u8 = 0x63;
const SEARCH_RESULT_ENTRY: u8 = 0x64;
const SEARCH_RESULT_DONE: u8 = 0x65;

/// Bytes that are no LDAP message, and what is wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub(super) &'static str);

/// Binds with login and password if there are both, else anonymously; reads the entry `base`; its DN
/// must match.
pub(super) async fn check(
    peer: &Peer<'_>,
    tls: Tls,
    login: Option<Login<'_>>,
    base: &str,
    receive: Option<&Pattern>,
) -> Result<Answer, Failure> {
    let mut stream = peer.stream(tls).await?;
    let login = login.filter(|login| !login.password.is_empty());
    let Login { name, password } = login.unwrap_or(Login {
        name: "",
        password: "",
    });
    stream.write_all(&bind_request(1, name, password)).await?;
    stream.flush().await?;
    match answer(&mut stream, 1).await? {
        Operation::Bound(result) => succeeded("bind", &result)?,
        _ => return Err(Failure::garbage("an answer to bind", "")),
    }
    stream.write_all(&search_request(2, base)).await?;
    stream.flush().await?;
    let mut found = Vec::new();
    for _ in 0..MESSAGES {
        match answer(&mut stream, 2).await? {
            Operation::Entry(dn) => found.push(dn),
            Operation::Done(result) => {
                let _ = stream
                    .write_all(&message(3, &write(UNBIND_REQUEST, &[])))
                    .await;
                let _ = stream.shutdown().await;
                return judge(&found, &result, receive);
            }
            Operation::Bound(_) | Operation::Other => {}
        }
    }
    Err(Failure::garbage(
        "an answer to one question",
        "too many messages",
    ))
}

/// Exactly one entry, and its name matches.
fn judge(found: &[String], result: &Outcome, receive: Option<&Pattern>) -> Result<Answer, Failure> {
    let [dn] = found else {
        succeeded("the search", result)?;
        return Err(Failure::refused(
            "the search",
            format!("{} entries", found.len()),
        ));
    };
    match receive.filter(|pattern| !pattern.matches(dn)) {
        Some(pattern) => Err(Failure::mismatch(pattern, dn)),
        None => Ok(Answer::success()),
    }
}

fn succeeded(doing: &'static str, result: &Outcome) -> Result<(), Failure> {
    match result.code {
        0 => Ok(()),
        code => Err(Failure::refused(
            doing,
            format!("result {code} {}", result.diagnostic),
        )),
    }
}

/// The next message that answers request `id`; others (notices, RFC 4511 §4.4) end the check.
async fn answer(stream: &mut Box<dyn Stream>, id: u8) -> Result<Operation, Failure> {
    let bytes = read_message(stream).await?;
    let malformed = |error: Malformed| Failure::garbage("an LDAP message", error.to_string());
    let message = parse(&bytes).map_err(malformed)?;
    match message.id == [id] {
        true => Ok(message.operation),
        false => Err(Failure::refused("a request", "the server sent a notice")),
    }
}

async fn read_message<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::with_capacity(256);
    loop {
        let wanted = match ber::length(&bytes) {
            Ok(Some(length)) if bytes.len() == length => return Ok(bytes),
            Ok(Some(length)) if length > MESSAGE => return Err(Failure::TooLong(MESSAGE)),
            Ok(Some(length)) => length - bytes.len(),
            Ok(None) => 1,
            Err(error) => return Err(Failure::garbage("an LDAP message", error.to_string())),
        };
        if bytes.first().is_some_and(|&tag| tag != SEQUENCE) {
            return Err(Failure::garbage("an LDAP message", &bytes));
        }
        let mut part = (&mut *stream).take(wanted as u64);
        if part.read_buf(&mut bytes).await? == 0 {
            return Err(Failure::Closed("an answer"));
        }
    }
}

/// One LDAPMessage (RFC 4511 §4.1.1).
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// Which request it answers: the integer's bytes as they came.
    pub id: Vec<u8>,
    /// What it says.
    pub operation: Operation,
}

/// What a server may answer, as far as a check looks at it.
#[derive(Debug, PartialEq, Eq)]
pub enum Operation {
    /// BindResponse.
    Bound(Outcome),
    /// SearchResultEntry: its DN.
    Entry(String),
    /// SearchResultDone.
    Done(Outcome),
    /// References, intermediate and extended responses.
    Other,
}

/// LDAPResult (RFC 4511 §4.1.9).
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// 0 is success.
    pub code: u8,
    /// For people.
    pub diagnostic: String,
}

/// Reads one message.
///
/// # Errors
/// When the bytes are none.
pub fn parse(bytes: &[u8]) -> Result<Message, Malformed> {
    let (message, _) = expect(SEQUENCE, bytes)?;
    let (id, rest) = expect(INTEGER, message)?;
    let operation = element(rest)?;
    Ok(Message {
        id: id.to_vec(),
        operation: match operation.tag {
            BIND_RESPONSE => Operation::Bound(outcome(operation.content)?),
            SEARCH_RESULT_DONE => Operation::Done(outcome(operation.content)?),
            SEARCH_RESULT_ENTRY => {
                let (dn, _) = expect(OCTET_STRING, operation.content)?;
                Operation::Entry(String::from_utf8_lossy(dn).into_owned())
            }
            _ => Operation::Other,
        },
    })
}

fn outcome(bytes: &[u8]) -> Result<Outcome, Malformed> {
    let (code, rest) = expect(ENUMERATED, bytes)?;
    let (_matched_dn, rest) = expect(OCTET_STRING, rest)?;
    let (diagnostic, _) = expect(OCTET_STRING, rest)?;
    // RFC 4511 names codes up to 123; what is larger is as bad as any other but 0.
    let code = match code {
        &[code] => code,
        [] => return Err(Malformed("a result without a code")),
        _ => u8::MAX,
    };
    Ok(Outcome {
        code,
        diagnostic: String::from_utf8_lossy(diagnostic).into_owned(),
    })
}

fn message(id: u8, operation: &[u8]) -> Vec<u8> {
    write(SEQUENCE, &[&write(INTEGER, &[&[id]]), operation])
}

/// A simple bind, version 3.
fn bind_request(id: u8, name: &str, password: &str) -> Vec<u8> {
    const SIMPLE: u8 = 0x80;
    let parts = [
        write(INTEGER, &[&[3]]),
        write(OCTET_STRING, &[name.as_bytes()]),
        write(SIMPLE, &[password.as_bytes()]),
    ];
    message(
        id,
        &write(BIND_REQUEST, &parts.each_ref().map(Vec::as_slice)),
    )
}

/// The object `base` itself, `(objectClass=*)`, without its attributes (`1.1`, RFC 4511 §4.5.1.8).
fn search_request(id: u8, base: &str) -> Vec<u8> {
    const BOOLEAN: u8 = 0x01;
    const PRESENT: u8 = 0x87;
    let parts = [
        write(OCTET_STRING, &[base.as_bytes()]),
        write(ENUMERATED, &[&[0]]),
        write(ENUMERATED, &[&[0]]),
        write(INTEGER, &[&[0]]),
        write(INTEGER, &[&[0]]),
        write(BOOLEAN, &[&[0]]),
        write(PRESENT, &[b"objectClass"]),
        write(SEQUENCE, &[&write(OCTET_STRING, &[b"1.1"])]),
    ];
    message(
        id,
        &write(SEARCH_REQUEST, &parts.each_ref().map(Vec::as_slice)),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As OpenLDAP's slapd 2.5 answered.
    const BOUND: &[u8] = b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00";
    const WRONG_PASSWORD: &[u8] = b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x31\x04\x00\x04\x00";

    #[test]
    fn answers_of_a_real_server_are_read() {
        let outcome = |code| Outcome {
            code,
            diagnostic: String::new(),
        };
        let read = |bytes| parse(bytes).unwrap();
        assert_eq!(read(BOUND).operation, Operation::Bound(outcome(0)));
        assert_eq!(read(BOUND).id, [1]);
        assert_eq!(
            read(WRONG_PASSWORD).operation,
            Operation::Bound(outcome(49))
        );
        let entry = b"\x30\x18\x02\x01\x02\x64\x13\x04\x0fdc=example,dc=x\x30\x00";
        assert_eq!(
            read(entry).operation,
            Operation::Entry("dc=example,dc=x".into())
        );
    }

    #[test]
    fn requests_are_as_the_protocol_wants_them() {
        assert_eq!(
            bind_request(1, "cn=a", "pw"),
            b"\x30\x12\x02\x01\x01\x60\x0d\x02\x01\x03\x04\x04cn=a\x80\x02pw"
        );
        let search = search_request(2, "dc=x");
        assert!(search.starts_with(b"\x30\x2e\x02\x01\x02\x63\x29\x04\x04dc=x\x0a\x01\x00"));
        assert!(search.ends_with(b"\x87\x0bobjectClass\x30\x05\x04\x031.1"));
    }

    #[test]
    fn one_entry_is_wanted() {
        let result = |code| Outcome {
            code,
            diagnostic: String::new(),
        };
        let dn = || "dc=x".to_owned();
        assert!(judge(&[dn()], &result(0), None).is_ok());
        assert!(judge(&[], &result(0), None).is_err());
        assert!(judge(&[dn(), dn()], &result(0), None).is_err());
        let text = judge(&[], &result(32), None).unwrap_err().to_string();
        assert!(text.contains("result 32"), "{text}");
        let other = Pattern::new("^dc=y$").unwrap();
        assert!(judge(&[dn()], &result(0), Some(&other)).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_refused(mut bytes: Vec<u8>, at: prop::sample::Index, byte: u8) {
            let _ = parse(&bytes);
            bytes = BOUND.to_vec();
            *at.get_mut(&mut bytes) = byte;
            let _ = parse(&bytes);
        }
    }
}
