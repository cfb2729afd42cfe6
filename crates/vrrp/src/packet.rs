//! VRRP messages as bytes, versions 2 and 3, and the IPv4 header before them.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+-------+---------------+---------------+---------------+
//! |version| type  | virtual rtr id|   priority    |count of addrs |
//! +-------+-------+---------------+---------------+---------------+
//! | v2: authentication | interval |           checksum            |
//! | v3: 0 | interval, 12 bits     |                               |
//! +---------------------------------------------------------------+
//! |  addresses, 4 or 16 bytes each; v2 over IPv4: 8 bytes more    |
//! ```
//!
//! Untrusted bytes pass one length check, [`Message::new_checked`] or [`Ipv4::new_checked`]; after
//! it no accessor can panic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pointsman_model::Family;
use pointsman_model::vrrp::{AdvertInterval, VrrpVersion};

/// IP protocol number of VRRP.
pub const VRRP: u8 = 112;
/// IP protocol number of the authentication header (RFC 4302).
pub const AH: u8 = 51;
/// Length of the header of a VRRP message.
pub const HEADER_BYTES: usize = 8;
/// Length of the authentication data of version 2 over IPv4.
pub const AUTH_BYTES: usize = 8;
/// The only type of message there is.
pub const ADVERTISEMENT: u8 = 1;
/// Length of an IPv4 header without options.
pub const IPV4_BYTES: usize = 20;

mod field {
    use std::ops::Range;

    pub const VERSION_TYPE: usize = 0;
    pub const VRID: usize = 1;
    pub const PRIORITY: usize = 2;
    pub const COUNT: usize = 3;
    pub const AUTH_TYPE: usize = 4;
    pub const SECONDS: usize = 5;
    pub const INTERVAL: Range<usize> = 4..6;
    pub const CHECKSUM: Range<usize> = 6..8;

    pub mod ipv4 {
        use super::Range;

        pub const VERSION_LENGTH: usize = 0;
        pub const TOS: usize = 1;
        pub const TOTAL_LENGTH: Range<usize> = 2..4;
        pub const ID: Range<usize> = 4..6;
        pub const TTL: usize = 8;
        pub const PROTOCOL: usize = 9;
        pub const CHECKSUM: Range<usize> = 10..12;
        pub const SOURCE: Range<usize> = 12..16;
        pub const DESTINATION: Range<usize> = 16..20;
    }
}

/// Bytes that are no message: too short for what they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too short")]
pub struct TooShort;

/// A VRRP message in place, header and addresses complete.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    family: Family,
}

impl<'a> Message<'a> {
    /// Checks that header, addresses and authentication data are there.
    ///
    /// # Errors
    /// [`TooShort`].
    pub fn new_checked(bytes: &'a [u8], family: Family) -> Result<Self, TooShort> {
        let message = Self { bytes, family };
        if bytes.len() < HEADER_BYTES || bytes.len() < message.len() {
            return Err(TooShort);
        }
        Ok(message)
    }

    /// Version, 0 to 15.
    pub fn version(&self) -> u8 {
        self.bytes[field::VERSION_TYPE] >> 4
    }

    /// Type, 0 to 15.
    pub fn kind(&self) -> u8 {
        self.bytes[field::VERSION_TYPE] & 0x0f
    }

    /// Virtual router id.
    pub fn vrid(&self) -> u8 {
        self.bytes[field::VRID]
    }

    /// Priority; 0 resigns.
    pub fn priority(&self) -> u8 {
        self.bytes[field::PRIORITY]
    }

    /// Number of addresses.
    pub fn count(&self) -> u8 {
        self.bytes[field::COUNT]
    }

    /// Authentication type of version 2.
    pub fn auth_type(&self) -> u8 {
        self.bytes[field::AUTH_TYPE]
    }

    /// Time between adverts; `None` for 0.
    pub fn interval(&self) -> Option<AdvertInterval> {
        if self.version() == 2 {
            AdvertInterval::from_seconds(self.bytes[field::SECONDS])
        } else {
            AdvertInterval::from_centiseconds(be16(&self.bytes[field::INTERVAL]) & 0x0fff)
        }
    }

    /// The checksum as it was sent.
    pub fn checksum(&self) -> u16 {
        be16(&self.bytes[field::CHECKSUM])
    }

    /// The advertised addresses, in order.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let size = address_bytes(self.family);
        let end = HEADER_BYTES + usize::from(self.count()) * size;
        self.bytes[HEADER_BYTES..end]
            .chunks_exact(size)
            .map(|bytes| match <[u8; 16]>::try_from(bytes) {
                Ok(six) => Ipv6Addr::from(six).into(),
                Err(_) => Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into(),
            })
    }

    /// The authentication data of version 2 over IPv4.
    pub fn auth_data(&self) -> Option<&'a [u8]> {
        let start = self.len().checked_sub(AUTH_BYTES)?;
        has_auth_data(self.version(), self.family).then(|| &self.bytes[start..self.len()])
    }

    /// Length of what the header speaks of; a trailer or padding may follow.
    #[expect(clippy::len_without_is_empty, reason = "a message is never empty")]
    pub fn len(&self) -> usize {
        let auth = if has_auth_data(self.version(), self.family) {
            AUTH_BYTES
        } else {
            0
        };
        HEADER_BYTES + usize::from(self.bytes[field::COUNT]) * address_bytes(self.family) + auth
    }

    /// What the header speaks of.
    pub fn bytes(&self) -> &'a [u8] {
        &self.bytes[..self.len()]
    }

    /// What follows it.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.len()..]
    }

    /// Whether the checksum is right. Over IPv6 it covers what follows the message too.
    pub fn checksum_holds(&self, source: IpAddr, destination: IpAddr) -> bool {
        let covered = match self.family {
            Family::V4 => self.bytes(),
            Family::V6 => self.bytes,
        };
        let pseudo = match (self.family, self.version()) {
            (Family::V4, 2) => 0,
            _ => pseudo_header(source, destination, covered.len()),
        };
        fold(sum(covered, pseudo)) == 0xffff
    }
}

/// An advertisement to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// Version.
    pub version: VrrpVersion,
    /// Virtual router id.
    pub vrid: u8,
    /// Priority; 0 resigns.
    pub priority: u8,
    /// Authentication type of version 2.
    pub auth_type: u8,
    /// Authentication data of version 2 over IPv4.
    pub auth_data: [u8; AUTH_BYTES],
    /// Time between adverts.
    pub interval: AdvertInterval,
    /// Family of the addresses and of the packet.
    pub family: Family,
    /// Addresses, all of `family`, at most 255; further ones are left out.
    pub addresses: Vec<IpAddr>,
}

impl Advert {
    /// The message with a checksum of 0.
    pub fn emit(&self) -> Vec<u8> {
        let version = self.version.number();
        let count = self.addresses.len().min(255);
        let mut bytes = vec![
            version << 4 | ADVERTISEMENT,
            self.vrid,
            self.priority,
            count as u8,
        ];
        match self.version {
            VrrpVersion::V2 => bytes.extend([
                self.auth_type,
                (self.interval.centiseconds() / 100).min(255) as u8,
            ]),
            VrrpVersion::V3 => bytes.extend(self.interval.centiseconds().min(0x0fff).to_be_bytes()),
        }
        bytes.extend([0, 0]);
        for address in &self.addresses[..count] {
            match address {
                IpAddr::V4(a) => bytes.extend(a.octets()),
                IpAddr::V6(a) => bytes.extend(a.octets()),
            }
        }
        if has_auth_data(version, self.family) {
            bytes.extend(self.auth_data);
        }
        bytes
    }
}

/// What a checksum covers besides the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Covers {
    /// The message alone.
    Message,
    /// Addresses, protocol and length too (RFC 9568 §5.2.8).
    PseudoHeader(IpAddr, IpAddr),
}

/// Writes the checksum of `message`, which covers the whole of it.
pub fn write_checksum(message: &mut [u8], covers: Covers) {
    message[field::CHECKSUM].fill(0);
    let pseudo = match covers {
        Covers::Message => 0,
        Covers::PseudoHeader(source, destination) => {
            pseudo_header(source, destination, message.len())
        }
    };
    let checksum = !fold(sum(message, pseudo));
    message[field::CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
}

/// An IPv4 packet in place, header complete.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<'a>(&'a [u8]);

impl<'a> Ipv4<'a> {
    /// Checks version and header length.
    ///
    /// # Errors
    /// [`TooShort`].
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, TooShort> {
        let packet = Self(bytes);
        if bytes.len() < IPV4_BYTES
            || bytes[field::ipv4::VERSION_LENGTH] >> 4 != 4
            || packet.header_len() < IPV4_BYTES
            || bytes.len() < packet.header_len()
        {
            return Err(TooShort);
        }
        Ok(packet)
    }

    /// Length of the header, options included.
    pub fn header_len(&self) -> usize {
        usize::from(self.0[field::ipv4::VERSION_LENGTH] & 0x0f) * 4
    }

    /// Length of the packet as the header has it.
    pub fn total_length(&self) -> usize {
        usize::from(be16(&self.0[field::ipv4::TOTAL_LENGTH]))
    }

    /// Time to live.
    pub fn ttl(&self) -> u8 {
        self.0[field::ipv4::TTL]
    }

    /// Protocol.
    pub fn protocol(&self) -> u8 {
        self.0[field::ipv4::PROTOCOL]
    }

    /// Source address.
    pub fn source(&self) -> Ipv4Addr {
        address(&self.0[field::ipv4::SOURCE])
    }

    /// Destination address.
    pub fn destination(&self) -> Ipv4Addr {
        address(&self.0[field::ipv4::DESTINATION])
    }

    /// The header.
    pub fn header(&self) -> &'a [u8] {
        &self.0[..self.header_len()]
    }

    /// What follows the header.
    pub fn payload(&self) -> &'a [u8] {
        &self.0[self.header_len()..]
    }
}

/// An IPv4 header for `payload_bytes` of `protocol`, internetwork control (`0xc0`), its checksum
/// filled in.
pub fn ipv4_header(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    ttl: u8,
    id: u16,
    protocol: u8,
    payload_bytes: usize,
) -> [u8; IPV4_BYTES] {
    use field::ipv4;
    let mut header = [0; IPV4_BYTES];
    header[ipv4::VERSION_LENGTH] = 0x45;
    header[ipv4::TOS] = 0xc0;
    let total = u16::try_from(IPV4_BYTES + payload_bytes).unwrap_or(u16::MAX);
    header[ipv4::TOTAL_LENGTH].copy_from_slice(&total.to_be_bytes());
    header[ipv4::ID].copy_from_slice(&id.to_be_bytes());
    header[ipv4::TTL] = ttl;
    header[ipv4::PROTOCOL] = protocol;
    header[ipv4::SOURCE].copy_from_slice(&source.octets());
    header[ipv4::DESTINATION].copy_from_slice(&destination.octets());
    let checksum = !fold(sum(&header, 0));
    header[ipv4::CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
    header
}

/// The header as the digest of an authentication header sees it: what routers may change is 0.
/// keepalived leaves the TTL in multicast adverts, which nothing forwards.
pub fn ipv4_header_for_digest(header: &[u8], unicast: bool) -> Vec<u8> {
    use field::ipv4;
    let mut header = header.to_vec();
    header[ipv4::TOS] = 0;
    header[6..8].fill(0);
    if unicast {
        header[ipv4::TTL] = 0;
    }
    header[ipv4::CHECKSUM].fill(0);
    header
}

/// One's complement sum (RFC 1071) of `bytes`, not folded.
pub(crate) fn sum(bytes: &[u8], start: u32) -> u32 {
    let mut chunks = bytes.chunks_exact(2);
    let mut sum = start;
    for pair in &mut chunks {
        sum += u32::from(be16(pair));
    }
    if let [last] = chunks.remainder() {
        sum += u32::from(*last) << 8;
    }
    sum
}

/// Folds a sum into 16 bits.
pub(crate) fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn pseudo_header(source: IpAddr, destination: IpAddr, len: usize) -> u32 {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(a) => sum(&a.octets(), 0),
        IpAddr::V6(a) => sum(&a.octets(), 0),
    };
    octets(source) + octets(destination) + u32::from(VRRP) + len as u32
}

fn has_auth_data(version: u8, family: Family) -> bool {
    version == 2 && family == Family::V4
}

fn address_bytes(family: Family) -> usize {
    match family {
        Family::V4 => 4,
        Family::V6 => 16,
    }
}

fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

fn address(bytes: &[u8]) -> Ipv4Addr {
    Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A keepalived 2.2.7 advert: vrid 51, priority 150, PASS "secret12", 10.66.0.100.
    const KEEPALIVED_V2: [u8; 20] = [
        0x21, 51, 150, 1, 1, 1, 0, 0, 10, 66, 0, 100, b's', b'e', b'c', b'r', b'e', b't', b'1',
        b'2',
    ];

    #[test]
    fn a_version_2_advert_has_the_bytes_of_the_rfc() {
        let advert = Advert {
            version: VrrpVersion::V2,
            vrid: 51,
            priority: 150,
            auth_type: 1,
            auth_data: *b"secret12",
            interval: AdvertInterval::from_seconds(1).unwrap(),
            family: Family::V4,
            addresses: vec!["10.66.0.100".parse().unwrap()],
        };
        assert_eq!(advert.emit(), KEEPALIVED_V2);
    }

    fn adverts() -> impl Strategy<Value = Advert> {
        let v4 = any::<[u8; 4]>().prop_map(IpAddr::from);
        let v6 = any::<[u8; 16]>().prop_map(IpAddr::from);
        let addresses = prop_oneof![
            proptest::collection::vec(v4, 0..40).prop_map(|a| (Family::V4, a)),
            proptest::collection::vec(v6, 0..40).prop_map(|a| (Family::V6, a)),
        ];
        (
            any::<(bool, u8, u8, u8, [u8; 8])>(),
            1u16..4096,
            1u8..=255,
            addresses,
        )
            .prop_map(
                |((two, vrid, priority, auth_type, auth_data), cs, s, (family, addresses))| {
                    Advert {
                        version: if two {
                            VrrpVersion::V2
                        } else {
                            VrrpVersion::V3
                        },
                        vrid,
                        priority,
                        auth_type,
                        auth_data,
                        interval: if two {
                            AdvertInterval::from_seconds(s).unwrap()
                        } else {
                            AdvertInterval::from_centiseconds(cs).unwrap()
                        },
                        family,
                        addresses,
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn what_is_emitted_is_read_back(advert in adverts()) {
            let (source, destination): (IpAddr, IpAddr) = match advert.family {
                Family::V4 => ("10.0.0.1".parse().unwrap(), "224.0.0.18".parse().unwrap()),
                Family::V6 => ("fe80::1".parse().unwrap(), "ff02::12".parse().unwrap()),
            };
            let mut bytes = advert.emit();
            let covers = match (advert.family, advert.version) {
                (Family::V4, VrrpVersion::V2) => Covers::Message,
                _ => Covers::PseudoHeader(source, destination),
            };
            write_checksum(&mut bytes, covers);
            let message = Message::new_checked(&bytes, advert.family).unwrap();
            prop_assert_eq!(message.version(), advert.version.number());
            prop_assert_eq!(message.kind(), ADVERTISEMENT);
            prop_assert_eq!(message.vrid(), advert.vrid);
            prop_assert_eq!(message.priority(), advert.priority);
            prop_assert_eq!(message.interval(), Some(advert.interval));
            prop_assert_eq!(message.addresses().collect::<Vec<_>>(), advert.addresses.clone());
            prop_assert!(message.rest().is_empty());
            prop_assert!(message.checksum_holds(source, destination));
            if let Some(data) = message.auth_data() {
                prop_assert_eq!(data, &advert.auth_data[..]);
            }
            let flipped = usize::from(advert.vrid) % bytes.len();
            if flipped != 3 && flipped != 0 {
                let mut broken = bytes.clone();
                broken[flipped] ^= 0x10;
                let message = Message::new_checked(&broken, advert.family).unwrap();
                prop_assert!(!message.checksum_holds(source, destination));
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            for family in [Family::V4, Family::V6] {
                if let Ok(message) = Message::new_checked(&bytes, family) {
                    let _ = message.addresses().count();
                    let _ = (message.interval(), message.auth_data(), message.rest());
                }
            }
            if let Ok(packet) = Ipv4::new_checked(&bytes) {
                let _ = (packet.payload(), packet.total_length(), packet.source());
            }
        }
    }
}
