//! From received bytes to an advert that may be believed, or the reason why not.
//!
//! The checks come in keepalived's order; the first that fails names the refusal and its counter.
//! A refused advert touches no timer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pointsman_model::Family;
use pointsman_model::vrrp::{
    Authentication, HmacMode, Peers, VrrpCounters, VrrpInstance, VrrpVersion,
};

use crate::auth::{self, AH_BYTES, Sequences, Signed, TRAILER_BYTES, TrailerError};
use crate::fsm::Heard;
use crate::packet::{ADVERTISEMENT, AH, Ipv4, Message, VRRP};

/// The shortest Ethernet frame, without header and checksum: what is shorter is padded.
const SHORTEST_PAYLOAD: usize = 46;

/// How far a new master's first sequence number is ahead of the last one's.
const AH_STEP: u32 = 16;

/// Why an advert was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Shorter or longer than it says.
    #[error("wrong length")]
    Length,
    /// An authentication header where none is configured, or none where one is.
    #[error("authentication header is there on one side only")]
    AuthenticationHeader,
    /// It was forwarded: somebody outside the link sent it.
    #[error("TTL or hop limit is {0}, not 255")]
    Ttl(u8),
    /// Another version of the protocol.
    #[error("version {0} is not ours")]
    Version(u8),
    /// `auth_hmac` is configured here and the advert has no trailer.
    #[error("no signed trailer")]
    NoTrailer,
    /// The trailer.
    #[error(transparent)]
    Trailer(#[from] TrailerError),
    /// Version 2: no such type.
    #[error("authentication type {0} does not exist")]
    NoSuchAuthentication(u8),
    /// Version 2: another type than ours.
    #[error("authentication type {0} is not ours")]
    OtherAuthentication(u8),
    /// Version 2: wrong password or digest, or a digest used before.
    #[error("wrong password or digest")]
    Authentication,
    /// Version 2: another interval than ours.
    #[error("advert interval is not ours")]
    Interval,
    /// Not an advertisement.
    #[error("message type {0} does not exist")]
    Type(u8),
    /// Wrong checksum.
    #[error("wrong checksum")]
    Checksum,
    /// Sent to the group though we use unicast, or the other way round.
    #[error("sent to {0}, which is not how we send")]
    Destination(IpAddr),
    /// We are the owner and do not look at others' adverts.
    #[error("ignored by the owner")]
    Owner,
    /// Unicast: the sender is none of our peers.
    #[error("the sender is no peer")]
    NoPeer,
    /// Unicast: the TTL is outside what was configured for this peer.
    #[error("TTL or hop limit {0} is not what this peer's adverts have")]
    PeerTtl(u8),
}

impl Refusal {
    /// The counter of this refusal, if it has one.
    fn counter(self, counters: &mut VrrpCounters) -> Option<&mut u64> {
        Some(match self {
            Self::Length => &mut counters.packet_len_err,
            Self::AuthenticationHeader | Self::OtherAuthentication(_) => {
                &mut counters.authtype_mismatch
            }
            Self::Ttl(_) => &mut counters.ip_ttl_err,
            Self::Version(_) => &mut counters.version_err,
            Self::NoTrailer => &mut counters.auth_ext_missing,
            Self::Trailer(TrailerError::Malformed) => &mut counters.auth_ext_malformed,
            Self::Trailer(TrailerError::Stale) => &mut counters.auth_ext_stale,
            Self::Trailer(TrailerError::UnknownKey) => &mut counters.auth_ext_unknown_key,
            Self::Trailer(TrailerError::InvalidHmac) => &mut counters.auth_ext_invalid_hmac,
            Self::Trailer(TrailerError::Replay) => &mut counters.auth_ext_replay,
            Self::NoSuchAuthentication(_) => &mut counters.invalid_authtype,
            Self::Authentication => &mut counters.auth_failure,
            Self::Interval => &mut counters.advert_interval_err,
            Self::Type(_) => &mut counters.invalid_type_rcvd,
            Self::Checksum => &mut counters.checksum_err,
            Self::Destination(_) => &mut counters.addr_list_err,
            Self::NoPeer | Self::PeerTtl(_) => &mut counters.peer_err,
            Self::Owner => return None,
        })
    }
}

/// A received packet, split into its layers but not believed.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    source: IpAddr,
    destination: IpAddr,
    ttl: u8,
    /// IPv4 only.
    ip: Option<Ipv4<'a>>,
    ah: Option<&'a [u8]>,
    /// The VRRP message and what follows it.
    payload: &'a [u8],
    /// So short that Ethernet pads it.
    padded: bool,
}

impl<'a> Datagram<'a> {
    /// An IPv4 packet with its header, as a raw socket gives it.
    ///
    /// # Errors
    /// [`Refusal::Length`].
    pub fn ipv4(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let ip = Ipv4::new_checked(bytes).map_err(|_| Refusal::Length)?;
        let len = ip
            .total_length()
            .checked_sub(ip.header_len())
            .filter(|len| *len <= ip.payload().len())
            .ok_or(Refusal::Length)?;
        let padded = ip.total_length() <= SHORTEST_PAYLOAD;
        let payload = &ip.payload()[..len];
        let (ah, payload) = match ip.protocol() {
            VRRP => (None, payload),
            AH => {
                let (ah, payload) = payload.split_at_checked(AH_BYTES).ok_or(Refusal::Length)?;
                if ah[0] != VRRP || usize::from(ah[1]) != AH_BYTES / 4 - 2 {
                    return Err(Refusal::Length);
                }
                (Some(ah), payload)
            }
            _ => return Err(Refusal::Length),
        };
        Ok(Self {
            source: ip.source().into(),
            destination: ip.destination().into(),
            ttl: ip.ttl(),
            ip: Some(ip),
            ah,
            payload,
            padded,
        })
    }

    /// An IPv6 payload with what the kernel says about its header.
    pub fn ipv6(payload: &'a [u8], source: IpAddr, destination: IpAddr, hop_limit: u8) -> Self {
        Self {
            source,
            destination,
            ttl: hop_limit,
            ip: None,
            ah: None,
            payload,
            padded: false,
        }
    }

    /// The virtual router id, if there are bytes for it.
    pub fn vrid(&self) -> Option<u8> {
        self.payload.get(1).copied()
    }

    /// Who sent it.
    pub fn source(&self) -> IpAddr {
        self.source
    }

    /// Whom it was sent to.
    pub fn destination(&self) -> IpAddr {
        self.destination
    }
}

/// What an instance knows about the adverts it hears and sends: counters, sequence numbers.
#[derive(Debug)]
pub struct Receiver {
    config: Arc<VrrpInstance>,
    /// What was counted.
    pub counters: VrrpCounters,
    /// Sequence number of the last authentication header, sent or heard.
    ah_sequence: Option<u32>,
    /// It was heard, not sent.
    ah_heard: bool,
    /// Sequence numbers of signed trailers.
    pub(crate) sequences: Sequences,
    last_source: Option<IpAddr>,
    /// The last refusal and whom it was of.
    pub last_refusal: Option<(IpAddr, Refusal)>,
}

/// An advert that is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// What the state machine is told.
    pub heard: Heard,
    /// Its addresses are not ours; worth a line in the log.
    pub other_addresses: bool,
}

impl Receiver {
    /// Nothing heard yet.
    pub fn new(config: Arc<VrrpInstance>) -> Self {
        Self {
            config,
            counters: VrrpCounters::default(),
            ah_sequence: None,
            ah_heard: false,
            sequences: Sequences::default(),
            last_source: None,
            last_refusal: None,
        }
    }

    /// Goes by another configuration from now on.
    pub fn reconfigure(&mut self, config: Arc<VrrpInstance>) {
        self.config = config;
    }

    /// The sequence number of the next authentication header.
    pub(crate) fn next_ah_sequence(&mut self) -> u32 {
        // Past what another master may have sent that is still on its way to us.
        let step = if std::mem::take(&mut self.ah_heard) {
            AH_STEP
        } else {
            1
        };
        let next = self
            .ah_sequence
            .map_or(1, |last| last.wrapping_add(step).max(1));
        self.ah_sequence = Some(next);
        next
    }

    /// Believes an advert or refuses it, and counts; `wall` is the time since 1970.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn receive(
        &mut self,
        datagram: &Datagram<'_>,
        wall: Duration,
    ) -> Result<Accepted, Refusal> {
        let result = self.check(datagram, wall);
        match result {
            Ok(accepted) => {
                self.last_source = Some(accepted.heard.source);
                if accepted.other_addresses {
                    self.counters.addr_list_err += 1;
                }
            }
            Err(refusal) => {
                self.last_refusal = Some((datagram.source, refusal));
                if let Some(counter) = refusal.counter(&mut self.counters) {
                    *counter += 1;
                }
            }
        }
        result
    }

    fn check(&mut self, datagram: &Datagram<'_>, wall: Duration) -> Result<Accepted, Refusal> {
        let config = Arc::clone(&self.config);
        let message =
            Message::new_checked(datagram.payload, config.family).map_err(|_| Refusal::Length)?;
        if config.family == Family::V4
            && datagram.ah.is_some() != matches!(config.authentication, Authentication::Ah(_))
        {
            return Err(Refusal::AuthenticationHeader);
        }
        let trailer: Option<&[u8; TRAILER_BYTES]> = match message.rest() {
            [] => None,
            rest if config.hmac.is_some() && rest.len() == TRAILER_BYTES => rest.try_into().ok(),
            _ if datagram.padded => None,
            _ => return Err(Refusal::Length),
        };
        let unicast = match &config.peers {
            Peers::Multicast(_) => None,
            Peers::Unicast(unicast) => Some(unicast),
        };
        if unicast.is_none() && datagram.ttl != 255 {
            return Err(Refusal::Ttl(datagram.ttl));
        }
        if message.version() != config.version.number() {
            return Err(Refusal::Version(message.version()));
        }
        self.check_trailer(&config, datagram, &message, trailer, wall)?;
        if config.version == VrrpVersion::V2 {
            self.check_version_2(&config, datagram, &message, unicast.is_some())?;
        }
        if message.kind() != ADVERTISEMENT {
            return Err(Refusal::Type(message.kind()));
        }
        let enforced = !(config.checksum_as_v2
            && config.version == VrrpVersion::V3
            && config.family == Family::V4);
        if enforced && !message.checksum_holds(datagram.source, datagram.destination) {
            return Err(Refusal::Checksum);
        }
        if datagram.destination.is_multicast() == unicast.is_some() {
            return Err(Refusal::Destination(datagram.destination));
        }
        if config.owner_ignores_adverts && config.priority.is_owner() {
            return Err(Refusal::Owner);
        }
        self.counters.advert_rcvd += 1;
        if message.priority() == 0 {
            self.counters.pri_zero_rcvd += 1;
        }
        let known = config.skips_address_check && self.last_source == Some(datagram.source);
        let other_addresses = !known && !same_addresses(&config, &message);
        if let Some(unicast) = unicast {
            let peer = unicast
                .peers
                .iter()
                .find(|peer| peer.address == datagram.source);
            match peer {
                Some(peer) if !(peer.min_ttl..=peer.max_ttl).contains(&datagram.ttl) => {
                    return Err(Refusal::PeerTtl(datagram.ttl));
                }
                None if unicast.check_source => return Err(Refusal::NoPeer),
                _ => {}
            }
        }
        let interval = message.interval().unwrap_or(config.advert_interval);
        Ok(Accepted {
            heard: Heard {
                source: datagram.source,
                priority: message.priority(),
                interval: interval.duration(),
            },
            other_addresses,
        })
    }

    fn check_trailer(
        &mut self,
        config: &VrrpInstance,
        datagram: &Datagram<'_>,
        message: &Message<'_>,
        trailer: Option<&[u8; TRAILER_BYTES]>,
        wall: Duration,
    ) -> Result<(), Refusal> {
        let Some(hmac) = &config.hmac else {
            return Ok(());
        };
        match trailer {
            Some(trailer) => {
                let signed = Signed {
                    version: config.version,
                    vrid: message.vrid(),
                    source: datagram.source,
                    message: message.bytes(),
                };
                auth::check_trailer(hmac, signed, trailer, wall, &mut self.sequences)?;
                Ok(())
            }
            None if hmac.mode == HmacMode::Enforce => Err(Refusal::NoTrailer),
            None => Ok(()),
        }
    }

    fn check_version_2(
        &mut self,
        config: &VrrpInstance,
        datagram: &Datagram<'_>,
        message: &Message<'_>,
        unicast: bool,
    ) -> Result<(), Refusal> {
        let kind = message.auth_type();
        if kind > 2 {
            return Err(Refusal::NoSuchAuthentication(kind));
        }
        if kind != auth_type(&config.authentication) {
            return Err(Refusal::OtherAuthentication(kind));
        }
        match &config.authentication {
            Authentication::None => {}
            Authentication::Pass(key) => {
                let holds = message
                    .auth_data()
                    .is_some_and(|data| auth::password_holds(key, data));
                if !holds {
                    return Err(Refusal::Authentication);
                }
            }
            Authentication::Ah(key) => {
                let sequence = datagram
                    .ah
                    .zip(datagram.ip)
                    .and_then(|(ah, ip)| auth::ah_sequence(key, &ip, unicast, ah, message.bytes()))
                    .filter(|sequence| self.ah_sequence.is_none_or(|last| *sequence > last))
                    .ok_or(Refusal::Authentication)?;
                self.ah_sequence = Some(sequence);
                self.ah_heard = true;
            }
        }
        if message.interval() != Some(config.advert_interval) {
            return Err(Refusal::Interval);
        }
        Ok(())
    }
}

/// The number of an authentication type in a message.
pub(crate) fn auth_type(authentication: &Authentication) -> u8 {
    match authentication {
        Authentication::None => 0,
        Authentication::Pass(_) => 1,
        Authentication::Ah(_) => 2,
    }
}

fn same_addresses(config: &VrrpInstance, message: &Message<'_>) -> bool {
    usize::from(message.count()) == config.addresses.len()
        && config
            .addresses
            .iter()
            .all(|ours| message.addresses().any(|theirs| theirs == ours.ip()))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use pointsman_model::vrrp::{AdvertInterval, Key, Unicast, UnicastPeer, VirtualAddress, Vrid};

    use super::*;
    use crate::transmit::Transmitter;

    const WALL: Duration = Duration::from_secs(1_700_000_000);

    fn instance() -> VrrpInstance {
        let mut config = VrrpInstance::new("VI", "eth0", Vrid::new(5).unwrap(), Family::V4);
        config.addresses = vec![VirtualAddress::new("10.0.0.100/24".parse().unwrap())];
        config
    }

    fn packets(config: &VrrpInstance, priority: u8) -> Vec<u8> {
        let config = Arc::new(config.clone());
        let mut receiver = Receiver::new(Arc::clone(&config));
        let mut transmitter = Transmitter::default();
        let source = Ipv4Addr::new(10, 0, 0, 1);
        let packet = transmitter
            .packets(&config, source.into(), priority, &mut receiver, WALL)
            .next()
            .unwrap();
        packet.bytes
    }

    fn receive(config: &VrrpInstance, bytes: &[u8]) -> (Result<Accepted, Refusal>, VrrpCounters) {
        let mut receiver = Receiver::new(Arc::new(config.clone()));
        let result = Datagram::ipv4(bytes).and_then(|datagram| receiver.receive(&datagram, WALL));
        (result, receiver.counters)
    }

    #[track_caller]
    fn refused(config: &VrrpInstance, bytes: &[u8], reason: Refusal) -> VrrpCounters {
        let (result, counters) = receive(config, bytes);
        assert_eq!(result, Err(reason));
        assert_eq!(counters.advert_rcvd, 0);
        counters
    }

    #[test]
    fn an_advert_of_the_same_configuration_is_believed() {
        let config = instance();
        let (result, counters) = receive(&config, &packets(&config, 150));
        let accepted = result.unwrap();
        assert_eq!(accepted.heard.priority, 150);
        assert_eq!(accepted.heard.interval, Duration::from_secs(1));
        assert!(!accepted.other_addresses);
        assert_eq!(counters.advert_rcvd, 1);
    }

    #[test]
    fn each_difference_is_named_and_counted() {
        let config = instance();
        let good = packets(&config, 100);

        let mut ttl = good.clone();
        ttl[8] = 254;
        assert_eq!(refused(&config, &ttl, Refusal::Ttl(254)).ip_ttl_err, 1);

        let mut short = good.clone();
        short[3] -= 1;
        assert_eq!(refused(&config, &short, Refusal::Length).packet_len_err, 1);

        let mut sum = good.clone();
        sum[22] ^= 1;
        assert_eq!(refused(&config, &sum, Refusal::Checksum).checksum_err, 1);

        let mut kind = good.clone();
        kind[20] = 0x22;
        assert_eq!(
            refused(&config, &kind, Refusal::Type(2)).invalid_type_rcvd,
            1
        );

        let mut auth = good.clone();
        auth[24] = 3;
        assert_eq!(
            refused(&config, &auth, Refusal::NoSuchAuthentication(3)).invalid_authtype,
            1
        );

        let mut with_pass = instance();
        with_pass.authentication = Authentication::Pass(Key::new("one"));
        assert_eq!(
            refused(&with_pass, &good, Refusal::OtherAuthentication(0)).authtype_mismatch,
            1
        );
        let mut other_pass = instance();
        other_pass.authentication = Authentication::Pass(Key::new("two"));
        let other = packets(&other_pass, 100);
        assert_eq!(
            refused(&with_pass, &other, Refusal::Authentication).auth_failure,
            1
        );

        let mut slower = instance();
        slower.advert_interval =
            AdvertInterval::new(VrrpVersion::V2, Duration::from_secs(2)).unwrap();
        assert_eq!(
            refused(&slower, &good, Refusal::Interval).advert_interval_err,
            1
        );

        let mut three = instance();
        three.version = VrrpVersion::V3;
        assert_eq!(refused(&three, &good, Refusal::Version(2)).version_err, 1);

        let mut unicast = instance();
        unicast.peers = Peers::Unicast(Unicast {
            peers: vec![UnicastPeer {
                address: "10.0.0.9".parse().unwrap(),
                min_ttl: 0,
                max_ttl: 255,
            }],
            ttl: None,
            check_source: true,
        });
        let group = "224.0.0.18".parse().unwrap();
        assert_eq!(
            refused(&unicast, &good, Refusal::Destination(group)).addr_list_err,
            1
        );
    }

    #[test]
    fn other_addresses_are_believed_but_counted() {
        let config = instance();
        let mut other = instance();
        other
            .addresses
            .push(VirtualAddress::new("10.0.0.101/24".parse().unwrap()));
        let (result, counters) = receive(&config, &packets(&other, 100));
        assert!(result.unwrap().other_addresses);
        assert_eq!((counters.addr_list_err, counters.advert_rcvd), (1, 1));
    }

    #[test]
    fn an_authentication_header_holds_once() {
        let mut config = instance();
        config.authentication = Authentication::Ah(Key::new("secret"));
        let bytes = packets(&config, 100);
        let mut receiver = Receiver::new(Arc::new(config.clone()));
        let mut receive = |bytes: &[u8]| receiver.receive(&Datagram::ipv4(bytes).unwrap(), WALL);
        assert!(receive(&bytes).is_ok());
        assert_eq!(receive(&bytes), Err(Refusal::Authentication));
        let mut forged = bytes.clone();
        forged[46] = 200;
        assert_eq!(receive(&forged), Err(Refusal::Authentication));
        refused(&instance(), &bytes, Refusal::AuthenticationHeader);
        refused(
            &config,
            &packets(&instance(), 100),
            Refusal::AuthenticationHeader,
        );
    }

    #[test]
    fn version_3_learns_any_interval() {
        let mut config = instance();
        config.version = VrrpVersion::V3;
        let mut other = config.clone();
        other.advert_interval =
            AdvertInterval::new(VrrpVersion::V3, Duration::from_millis(30)).unwrap();
        let (result, _) = receive(&config, &packets(&other, 100));
        assert_eq!(result.unwrap().heard.interval, Duration::from_millis(30));
    }
}
