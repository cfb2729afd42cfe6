//! RADIUS (RFC 2865): an Access-Request with a password, answered with Access-Accept.

use std::net::IpAddr;

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};

use super::peer::Peer;
use super::{Answer, Failure, Login, random};

/// Largest packet (RFC 2865 §3).
const PACKET: usize = 4096;
/// Code, identifier, length and authenticator come before the attributes.
const HEAD: usize = 20;
/// Longest password (RFC 2865 §5.2).
const PASSWORD: usize = 128;

const ACCESS_REQUEST: u8 = 1;
const ACCESS_ACCEPT: u8 = 2;
const ACCESS_REJECT: u8 = 3;
const ACCESS_CHALLENGE: u8 = 11;

const USER_NAME: u8 = 1;
const USER_PASSWORD: u8 = 2;
const NAS_IP_ADDRESS: u8 = 4;
const REPLY_MESSAGE: u8 = 18;
const NAS_IDENTIFIER: u8 = 32;
const MESSAGE_AUTHENTICATOR: u8 = 80;
const NAS_IPV6_ADDRESS: u8 = 95;

/// Asks whether the server lets the user in.
pub(super) async fn check(
    peer: &Peer<'_>,
    login: Login<'_>,
    secret: &str,
) -> Result<Answer, Failure> {
    let socket = peer.datagrams().await?;
    let request = Request::new(login, secret.as_bytes(), socket.local_addr()?.ip())?;
    let mut buffer = vec![0; PACKET];
    let length = socket.ask(&request.bytes, &mut buffer).await?;
    let said = match request.read(&buffer[..length], secret.as_bytes()) {
        Ok(Verdict::Accept) => return Ok(Answer::success()),
        Ok(Verdict::Reject(text)) => format!("Access-Reject {text}"),
        Ok(Verdict::Challenge) => "Access-Challenge".to_owned(),
        Err(Malformed(why)) => {
            return Err(Failure::garbage("an answer of this RADIUS server", why));
        }
    };
    Err(Failure::refused("access", said.trim_end()))
}

/// An Access-Request that waits for its answer.
struct Request {
    bytes: Vec<u8>,
}

/// What a server decided.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Access-Accept.
    Accept,
    /// Access-Reject, with its words for the user.
    Reject(String),
    /// Access-Challenge: the server wants more than a password.
    Challenge,
}

/// Why a packet is no answer to a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl Request {
    /// A new request from `nas`, our own address.
    ///
    /// # Errors
    /// When login or password are too long for RADIUS.
    fn new(login: Login<'_>, secret: &[u8], nas: IpAddr) -> Result<Self, Failure> {
        let [identifier] = random();
        Self::with(identifier, random(), login, secret, nas)
    }

    fn with(
        identifier: u8,
        authenticator: [u8; 16],
        login: Login<'_>,
        secret: &[u8],
        nas: IpAddr,
    ) -> Result<Self, Failure> {
        let Login { name, password } = login;
        if name.len() > 253 || password.len() > PASSWORD {
            return Err(Failure::Unusable("login or passwd is too long for RADIUS"));
        }
        let mut bytes = vec![ACCESS_REQUEST, identifier, 0, 0];
        bytes.extend_from_slice(&authenticator);
        let mut attribute = |kind: u8, value: &[u8]| {
            bytes.extend_from_slice(&[kind, value.len() as u8 + 2]);
            bytes.extend_from_slice(value);
        };
        // First, as draft-ietf-radext-deprecating-radius §5.2 advises against forged answers.
        attribute(MESSAGE_AUTHENTICATOR, &[0; 16]);
        attribute(USER_NAME, name.as_bytes());
        attribute(
            USER_PASSWORD,
            &hide(password.as_bytes(), secret, &authenticator),
        );
        match nas {
            IpAddr::V4(addr) => attribute(NAS_IP_ADDRESS, &addr.octets()),
            IpAddr::V6(addr) => attribute(NAS_IPV6_ADDRESS, &addr.octets()),
        }
        attribute(NAS_IDENTIFIER, b"pointsman");
        let length = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        let signature = sign(secret, &[&bytes]);
        bytes[HEAD + 2..HEAD + 18].copy_from_slice(&signature);
        Ok(Self { bytes })
    }

    fn authenticator(&self) -> &[u8] {
        &self.bytes[4..HEAD]
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// When it is no RADIUS packet, answers another request, or was not signed with `secret`.
    fn read(&self, packet: &[u8], secret: &[u8]) -> Result<Verdict, Malformed> {
        let packet = Packet::parse(packet)?;
        if packet.identifier() != self.bytes[1] {
            return Err(Malformed("an answer to another request"));
        }
        let expected = Md5::new()
            .chain_update(&packet.0[..4])
            .chain_update(self.authenticator())
            .chain_update(packet.attributes())
            .chain_update(secret)
            .finalize();
        if expected[..] != packet.0[4..HEAD] {
            return Err(Malformed("an answer signed with another secret"));
        }
        let mut message = String::new();
        let mut rest = packet.attributes();
        while let Some((attribute, after)) = Attribute::first(rest)? {
            match attribute.kind {
                REPLY_MESSAGE => message.push_str(&String::from_utf8_lossy(attribute.value)),
                MESSAGE_AUTHENTICATOR => {
                    let offset = packet.0.len() - rest.len() + 2;
                    self.verify(packet.0, offset, attribute.value, secret)?;
                }
                _ => {}
            }
            rest = after;
        }
        match packet.code() {
            ACCESS_ACCEPT => Ok(Verdict::Accept),
            ACCESS_REJECT => Ok(Verdict::Reject(message)),
            ACCESS_CHALLENGE => Ok(Verdict::Challenge),
            _ => Err(Malformed("a packet that is no answer")),
        }
    }

    /// Checks a Message-Authenticator, `value` at `offset` (RFC 2869 §5.14).
    fn verify(
        &self,
        packet: &[u8],
        offset: usize,
        value: &[u8],
        secret: &[u8],
    ) -> Result<(), Malformed> {
        let before = &packet[HEAD..offset];
        let after = packet.get(offset + 16..).unwrap_or_default();
        let parts = [&packet[..4], self.authenticator(), before, &[0; 16], after];
        match value == sign(secret, &parts) {
            true => Ok(()),
            false => Err(Malformed("an answer signed with another secret")),
        }
    }
}

/// A packet whose length is right, head and attributes.
pub struct Packet<'a>(&'a [u8]);

impl<'a> Packet<'a> {
    /// Looks at the head; what lies behind the length that it gives is padding (RFC 2865 §3).
    ///
    /// # Errors
    /// When there is less than a head, or less than its length says.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let head: &[u8; HEAD] = bytes.first_chunk().ok_or(Malformed("too short"))?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let packet = bytes.get(..length).filter(|_| length >= HEAD);
        packet.map(Self).ok_or(Malformed("a wrong length"))
    }

    /// What kind it is.
    pub fn code(&self) -> u8 {
        self.0[0]
    }

    /// Which request it answers.
    pub fn identifier(&self) -> u8 {
        self.0[1]
    }

    /// The bytes after the head.
    pub fn attributes(&self) -> &'a [u8] {
        &self.0[HEAD..]
    }
}

/// One attribute (RFC 2865 §5).
pub struct Attribute<'a> {
    /// Its number.
    pub kind: u8,
    /// What it says.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The attribute that `bytes` begin with, and what follows it; `None` at their end.
    ///
    /// # Errors
    /// When its length is too small or too large.
    pub fn first(bytes: &'a [u8]) -> Result<Option<(Self, &'a [u8])>, Malformed> {
        const WRONG: Malformed = Malformed("an attribute of a wrong length");
        match *bytes {
            [] => Ok(None),
            [_] => Err(WRONG),
            [kind, length, ..] => {
                let length = usize::from(length);
                let value = bytes.get(2..length).ok_or(WRONG)?;
                Ok(Some((Self { kind, value }, &bytes[length..])))
            }
        }
    }
}

/// Hides a password (RFC 2865 §5.2).
fn hide(password: &[u8], secret: &[u8], authenticator: &[u8; 16]) -> Vec<u8> {
    let mut hidden = password.to_vec();
    hidden.resize(password.len().next_multiple_of(16).max(16), 0);
    let mut previous = *authenticator;
    for block in hidden.chunks_exact_mut(16) {
        let pad = Md5::new()
            .chain_update(secret)
            .chain_update(previous)
            .finalize();
        for (byte, pad) in block.iter_mut().zip(pad) {
            *byte ^= pad;
        }
        previous.copy_from_slice(block);
    }
    hidden
}

/// HMAC-MD5 over `parts`.
fn sign(secret: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = Hmac::<Md5>::new_from_slice(secret).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &[u8] = b"xyzzy5461";
    const LOGIN: Login<'static> = Login {
        name: "nemo",
        password: "arctangent",
    };

    /// The authenticator of RFC 2865 §7.1, and what it hides `arctangent` as.
    #[test]
    fn a_password_is_hidden_as_in_the_rfc() {
        let authenticator = [
            0x0f, 0x40, 0x3f, 0x94, 0x73, 0x97, 0x80, 0x57, 0xbd, 0x83, 0xd5, 0xcb, 0x98, 0xf4,
            0x22, 0x7a,
        ];
        let hidden = [
            0x0d, 0xbe, 0x70, 0x8d, 0x93, 0xd4, 0x13, 0xce, 0x31, 0x96, 0xe4, 0x3f, 0x78, 0x2a,
            0x0a, 0xee,
        ];
        assert_eq!(hide(b"arctangent", SECRET, &authenticator), hidden);
        assert_eq!(hide(b"", SECRET, &authenticator).len(), 16);
        assert_eq!(hide(&[b'x'; 17], SECRET, &authenticator).len(), 32);
    }

    fn request() -> Request {
        Request::new(LOGIN, SECRET, IpAddr::from([192, 168, 1, 16])).unwrap()
    }

    /// An answer as a server with `secret` makes it.
    fn answer(request: &Request, code: u8, attributes: &[u8], secret: &[u8]) -> Vec<u8> {
        let length = (HEAD + attributes.len()) as u16;
        let mut packet = vec![code, request.bytes[1]];
        packet.extend_from_slice(&length.to_be_bytes());
        let authenticator = Md5::new()
            .chain_update(&packet)
            .chain_update(request.authenticator())
            .chain_update(attributes)
            .chain_update(secret)
            .finalize();
        packet.extend_from_slice(&authenticator);
        packet.extend_from_slice(attributes);
        packet
    }

    #[test]
    fn a_signed_answer_is_the_servers_verdict() {
        let request = request();
        let read = |code, attributes: &[u8]| {
            request.read(&answer(&request, code, attributes, SECRET), SECRET)
        };
        assert_eq!(read(2, &[]), Ok(Verdict::Accept));
        assert_eq!(
            read(3, b"\x12\x05no!"),
            Ok(Verdict::Reject("no!".to_owned()))
        );
        assert_eq!(read(11, &[]), Ok(Verdict::Challenge));
        assert!(read(4, &[]).is_err());
        for broken in [&b"\x12"[..], b"\x12\x00", b"\x12\x01", b"\x12\x09no!"] {
            assert!(read(2, broken).is_err(), "{broken:x?}");
        }
    }

    #[test]
    fn an_answer_that_is_not_for_us_is_refused() {
        let request = request();
        let good = answer(&request, 2, &[], SECRET);
        let mut padded = good.clone();
        padded.extend_from_slice(&[0; 8]);
        assert_eq!(request.read(&padded, SECRET), Ok(Verdict::Accept));
        assert!(
            request
                .read(&answer(&request, 2, &[], b"other"), SECRET)
                .is_err()
        );
        assert!(request.read(&good[..19], SECRET).is_err());
        let mut other = good.clone();
        other[1] ^= 1;
        assert!(request.read(&other, SECRET).is_err());
        // A Message-Authenticator that does not hold.
        let forged = answer(&request, 2, &[&[80, 18][..], &[0; 16]].concat(), SECRET);
        assert!(request.read(&forged, SECRET).is_err());
    }

    #[test]
    fn what_is_too_long_for_the_protocol_is_refused() {
        let long = "x".repeat(129);
        let login = Login {
            name: "nemo",
            password: &long,
        };
        assert!(Request::new(login, SECRET, IpAddr::from([10, 0, 0, 1])).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_refused(packet: Vec<u8>, attributes: Vec<u8>, code: u8) {
            let request = request();
            let _ = request.read(&packet, SECRET);
            let attributes = &attributes[..attributes.len().min(1000)];
            let _ = request.read(&answer(&request, code, attributes, SECRET), SECRET);
        }
    }
}
