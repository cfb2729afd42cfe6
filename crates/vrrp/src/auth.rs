//! Authentication of adverts: eight bytes in clear (PASS), an authentication header (AH,
//! HMAC-MD5-96, RFC 2403) and the signed trailer of `auth_hmac` (HMAC-SHA256, as keepalived 2.4).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use pointsman_model::vrrp::{HmacTrailer, Key, VrrpVersion};
use sha2::Sha256;

use crate::packet::{AUTH_BYTES, Ipv4, VRRP, ipv4_header_for_digest};

/// Length of an authentication header with a digest of 96 bits.
pub const AH_BYTES: usize = 24;
/// Length of the trailer of `auth_hmac`.
pub const TRAILER_BYTES: usize = 28;

const AH_ICV: usize = 12;
const TRAILER_TAG: usize = 12;
const TRAILER_TYPE: u8 = 1;
/// Senders whose sequence numbers are kept in multicast mode; the one not heard longest goes first.
const SENDERS: usize = 16;

/// A password as it lies in a message: eight bytes, padded with zeros.
pub fn padded(key: &Key) -> [u8; AUTH_BYTES] {
    let mut padded = [0; AUTH_BYTES];
    for (to, from) in padded.iter_mut().zip(key.reveal()) {
        *to = *from;
    }
    padded
}

/// Whether `data` is the password; takes as long whatever differs.
pub fn password_holds(key: &Key, data: &[u8]) -> bool {
    let expected = padded(key);
    data.len() == expected.len()
        && data
            .iter()
            .zip(expected)
            .fold(0, |different, (a, b)| different | (a ^ b))
            == 0
}

/// The authentication header of an IPv4 packet, `header` of which is followed by it and `message`.
pub fn ah(
    key: &Key,
    header: &[u8],
    unicast: bool,
    sequence: u32,
    message: &[u8],
) -> [u8; AH_BYTES] {
    let mut ah = [0; AH_BYTES];
    ah[0] = VRRP;
    ah[1] = (AH_BYTES / 4 - 2) as u8;
    ah[4..8].copy_from_slice(&header[12..16]);
    ah[8..12].copy_from_slice(&sequence.to_be_bytes());
    let digest = ah_mac(key, header, unicast, &ah, message).finalize();
    ah[AH_ICV..].copy_from_slice(&digest.into_bytes()[..AH_BYTES - AH_ICV]);
    ah
}

/// The sequence number of an authentication header if its digest is right. `ah` has
/// [`AH_BYTES`].
pub fn ah_sequence(
    key: &Key,
    packet: &Ipv4<'_>,
    unicast: bool,
    ah: &[u8],
    message: &[u8],
) -> Option<u32> {
    let mut zeroed: [u8; AH_BYTES] = ah.try_into().ok()?;
    zeroed[AH_ICV..].fill(0);
    ah_mac(key, packet.header(), unicast, &zeroed, message)
        .verify_truncated_left(&ah[AH_ICV..])
        .ok()?;
    Some(u32::from_be_bytes([ah[8], ah[9], ah[10], ah[11]]))
}

fn ah_mac(key: &Key, header: &[u8], unicast: bool, ah: &[u8], message: &[u8]) -> Hmac<Md5> {
    let mut mac = Hmac::<Md5>::new_from_slice(&padded(key)).expect("HMAC takes keys of any length");
    mac.update(&ipv4_header_for_digest(header, unicast));
    mac.update(ah);
    mac.update(message);
    mac
}

/// Why a trailer was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrailerError {
    /// Type or reserved bytes.
    #[error("trailer of an unknown form")]
    Malformed,
    /// Its time is too far from ours.
    #[error("trailer is too old or too new")]
    Stale,
    /// No such key.
    #[error("trailer is signed with an unknown key")]
    UnknownKey,
    /// The digest is wrong.
    #[error("trailer has a wrong digest")]
    InvalidHmac,
    /// Not newer than the last one of this sender.
    #[error("trailer was used before")]
    Replay,
}

/// Sequence numbers of trailers: what was sent last, and what was heard last from whom.
#[derive(Debug, Default)]
pub struct Sequences {
    sent: u64,
    heard: Vec<(IpAddr, u64)>,
}

impl Sequences {
    /// The next number to send; `wall` is the time since 1970.
    pub fn next(&mut self, wall: Duration) -> u64 {
        self.sent = clock(wall).max(self.sent.wrapping_add(1));
        self.sent
    }

    /// Takes `sequence` of `sender` if it is newer than the last one, by serial arithmetic.
    fn take(&mut self, sender: IpAddr, sequence: u64) -> bool {
        match self.heard.iter().position(|(known, _)| *known == sender) {
            Some(at) => {
                let newer = sequence.wrapping_sub(self.heard[at].1) as i64 > 0;
                if newer {
                    self.heard.remove(at);
                    self.heard.push((sender, sequence));
                }
                newer
            }
            None => {
                if self.heard.len() == SENDERS {
                    self.heard.remove(0);
                }
                self.heard.push((sender, sequence));
                true
            }
        }
    }
}

/// What a trailer signs besides itself.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// Version of the protocol.
    pub version: VrrpVersion,
    /// Virtual router id.
    pub vrid: u8,
    /// Source of the packet.
    pub source: IpAddr,
    /// The message; its checksum does not count.
    pub message: &'a [u8],
}

/// The trailer behind a message.
pub fn trailer(
    config: &HmacTrailer,
    signed: Signed<'_>,
    sequence: u64,
) -> Option<[u8; TRAILER_BYTES]> {
    let key = config.keys.iter().find(|key| key.id == config.active_key)?;
    let mut trailer = [0; TRAILER_BYTES];
    trailer[0] = TRAILER_TYPE;
    trailer[1] = key.id;
    trailer[4..12].copy_from_slice(&sequence.to_be_bytes());
    let digest = trailer_mac(&key.key, signed, &trailer)
        .finalize()
        .into_bytes();
    trailer[TRAILER_TAG..].copy_from_slice(&digest[..TRAILER_BYTES - TRAILER_TAG]);
    Some(trailer)
}

/// Checks a trailer; `wall` is the time since 1970.
///
/// # Errors
/// [`TrailerError`], in the order of its variants.
pub fn check_trailer(
    config: &HmacTrailer,
    signed: Signed<'_>,
    trailer: &[u8; TRAILER_BYTES],
    wall: Duration,
    sequences: &mut Sequences,
) -> Result<(), TrailerError> {
    if trailer[0] != TRAILER_TYPE || trailer[2..4] != [0, 0] {
        return Err(TrailerError::Malformed);
    }
    let mut sequence = [0; 8];
    sequence.copy_from_slice(&trailer[4..12]);
    let sequence = u64::from_be_bytes(sequence);
    if !config.monotonic {
        let off = (sequence.wrapping_sub(clock(wall)) as i64).unsigned_abs() >> 32;
        if off > config.time_window.as_secs() {
            return Err(TrailerError::Stale);
        }
    }
    let key = config
        .keys
        .iter()
        .find(|key| key.id == trailer[1])
        .ok_or(TrailerError::UnknownKey)?;
    trailer_mac(&key.key, signed, trailer)
        .verify_truncated_left(&trailer[TRAILER_TAG..])
        .map_err(|_| TrailerError::InvalidHmac)?;
    if sequences.take(signed.source, sequence) {
        Ok(())
    } else {
        Err(TrailerError::Replay)
    }
}

fn trailer_mac(key: &Key, signed: Signed<'_>, trailer: &[u8; TRAILER_BYTES]) -> Hmac<Sha256> {
    let mut pseudo = [0; 20];
    pseudo[1] = signed.version.number();
    pseudo[2] = signed.vrid;
    match signed.source {
        IpAddr::V4(a) => {
            pseudo[0] = 4;
            pseudo[4..8].copy_from_slice(&Ipv4Addr::octets(&a));
        }
        IpAddr::V6(a) => {
            pseudo[0] = 6;
            pseudo[4..].copy_from_slice(&a.octets());
        }
    }
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.reveal()).expect("HMAC takes keys of any length");
    mac.update(&pseudo);
    mac.update(&signed.message[..6]);
    mac.update(&[0, 0]);
    mac.update(&signed.message[8..]);
    mac.update(&trailer[..TRAILER_TAG]);
    mac.update(&[0; TRAILER_BYTES - TRAILER_TAG]);
    mac
}

/// Time as a sequence number: seconds in the upper half, then 1/65536 s, then a counter.
fn clock(wall: Duration) -> u64 {
    let seconds = wall.as_secs() & 0xffff_ffff;
    let fraction = u64::from(wall.subsec_micros()) * 65536 / 1_000_000;
    seconds << 32 | fraction << 16
}

#[cfg(test)]
mod tests {
    use pointsman_model::vrrp::{HmacKey, HmacMode};

    use super::*;

    #[test]
    fn passwords_are_compared_padded() {
        let key = Key::new("abc");
        assert!(password_holds(&key, b"abc\0\0\0\0\0"));
        assert!(!password_holds(&key, b"abcd\0\0\0\0"));
        assert!(!password_holds(&key, b"abc"));
        assert_eq!(padded(&Key::new("0123456789")), *b"01234567");
    }

    #[test]
    fn a_trailer_holds_once_and_in_its_time() {
        let config = HmacTrailer {
            keys: vec![HmacKey {
                id: 7,
                key: Key::new([9; 32]),
            }],
            active_key: 7,
            monotonic: false,
            time_window: Duration::from_secs(5),
            mode: HmacMode::Enforce,
        };
        let source: IpAddr = "10.0.0.1".parse().unwrap();
        let message = [0x31, 5, 100, 0, 0, 100, 1, 2];
        let signed = Signed {
            version: VrrpVersion::V3,
            vrid: 5,
            source,
            message: &message,
        };
        let now = Duration::from_secs(1_700_000_000);
        let mut ours = Sequences::default();
        let first = trailer(&config, signed, ours.next(now)).unwrap();
        let second = trailer(&config, signed, ours.next(now)).unwrap();
        let mut theirs = Sequences::default();
        let mut check = |signed, bytes, at| check_trailer(&config, signed, bytes, at, &mut theirs);
        assert_eq!(check(signed, &first, now), Ok(()));
        assert_eq!(check(signed, &second, now), Ok(()));
        assert_eq!(check(signed, &first, now), Err(TrailerError::Replay));
        let late = now + Duration::from_secs(10);
        assert_eq!(check(signed, &second, late), Err(TrailerError::Stale));
        let other = Signed {
            message: &[0x31, 5, 101, 0, 0, 100, 1, 2],
            ..signed
        };
        assert_eq!(check(other, &second, now), Err(TrailerError::InvalidHmac));
        let mut strange = second;
        strange[1] = 8;
        assert_eq!(check(signed, &strange, now), Err(TrailerError::UnknownKey));
        let mut malformed = second;
        malformed[2] = 1;
        assert_eq!(check(signed, &malformed, now), Err(TrailerError::Malformed));
        // The checksum is not signed: routers of old kept it apart.
        let summed = Signed {
            message: &[0x31, 5, 100, 0, 0, 100, 0, 0],
            ..signed
        };
        let third = trailer(&config, summed, ours.next(now)).unwrap();
        assert_eq!(check(signed, &third, now), Ok(()));
    }

    #[test]
    fn senders_are_bounded() {
        let mut sequences = Sequences::default();
        for n in 0..100u8 {
            assert!(sequences.take(IpAddr::from([10, 0, 0, n]), 1));
        }
        assert_eq!(sequences.heard.len(), SENDERS);
    }
}
