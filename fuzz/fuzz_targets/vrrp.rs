//! VRRP packets of strangers, with time passing between them.
//!
//! The first byte chooses a configuration. Then come records: milliseconds of pause (times 16), a
//! length, and so many bytes of a packet; with the top bit of the pause set its checksum is put right
//! first, so that what lies behind that check is reached.

#![no_main]

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use pointsman_model::Family;
use pointsman_model::vrrp::{
    Authentication, HmacKey, HmacMode, HmacTrailer, Key, Peers, Unicast, UnicastPeer,
    VirtualAddress, Vrid, VrrpCounters, VrrpInstance, VrrpState, VrrpVersion,
};
use pointsman_vrrp::Time;
use pointsman_vrrp::fsm::Effect;
use pointsman_vrrp::group::{Action, Input, Router};
use pointsman_vrrp::packet::{Covers, write_checksum};
use pointsman_vrrp::receive::{Datagram, Receiver};
use pointsman_vrrp::transmit::Transmitter;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, mut records)) = data.split_first() else {
        return;
    };
    let config = Arc::new(configuration(choice));
    let source: IpAddr = match config.family {
        Family::V4 => IpAddr::from([10, 0, 0, 5]),
        Family::V6 => "fe80::5".parse().expect("an address"),
    };
    let mut receiver = Receiver::new(Arc::clone(&config));
    let mut transmitter = Transmitter::default();
    let mut router = Router::default();
    router.add(Arc::clone(&config), Some(source));
    let mut now = Time::from_boot(Duration::from_secs(1));
    router.start(0, now, now);
    let mut offered = 0;
    while let [pause, len, rest @ ..] = records {
        let len = usize::from(*len).min(rest.len());
        let (bytes, rest) = rest.split_at(len);
        records = rest;
        now = now + Duration::from_millis(u64::from(pause & 0x7f) * 16);
        let wall = Duration::from_secs(1_700_000_000) + now.since_boot();
        let mut actions = router.tick(now);
        let mut bytes = bytes.to_vec();
        let from: IpAddr = match config.family {
            Family::V4 => IpAddr::from([10, 0, 0, 9]),
            Family::V6 => "fe80::9".parse().expect("an address"),
        };
        let to = match &config.peers {
            Peers::Multicast(group) => *group,
            Peers::Unicast(_) => source,
        };
        if pause & 0x80 != 0 {
            mend(&config, &mut bytes, from, to);
        }
        let datagram = match config.family {
            Family::V4 => Datagram::ipv4(&bytes).ok(),
            Family::V6 => Some(Datagram::ipv6(&bytes, from, to, 255)),
        };
        if let Some(datagram) = datagram {
            offered += 1;
            if let Ok(accepted) = receiver.receive(&datagram, wall) {
                actions.extend(router.on(0, Input::Heard(accepted.heard), now));
            }
        }
        for action in actions {
            let Action::Instance(_, Effect::Advert(priority)) = action else {
                continue;
            };
            // Whatever we were told, what we say can be read.
            for packet in transmitter.packets(&config, source, priority, &mut receiver, wall) {
                match config.family {
                    Family::V4 => assert!(Datagram::ipv4(&packet.bytes).is_ok()),
                    Family::V6 => assert!(packet.bytes.len() >= 8),
                }
            }
        }
        let state = router.instance(0).state();
        assert!(matches!(state, VrrpState::Backup | VrrpState::Master));
        assert!(router.deadline().is_some(), "somebody always wakes it");
        assert!(seen(&receiver.counters) <= offered * 2);
    }
});

fn configuration(choice: u8) -> VrrpInstance {
    let family = if choice & 1 == 0 {
        Family::V4
    } else {
        Family::V6
    };
    let mut config = VrrpInstance::new("VI", "eth0", Vrid::new(51).expect("in range"), family);
    let vip = match family {
        Family::V4 => "10.0.0.100/24",
        Family::V6 => "fe80::100/64",
    };
    config.addresses = vec![VirtualAddress::new(vip.parse().expect("an address"))];
    if choice & 2 != 0 {
        config.version = VrrpVersion::V3;
    }
    if choice & 4 != 0 {
        config.peers = Peers::Unicast(Unicast {
            peers: vec![UnicastPeer {
                address: IpAddr::from([10, 0, 0, 9]),
                min_ttl: 3,
                max_ttl: 255,
            }],
            ttl: None,
            check_source: choice & 8 != 0,
        });
    }
    match choice >> 4 & 3 {
        1 => config.authentication = Authentication::Pass(Key::new("secret12")),
        2 if family == Family::V4 => config.authentication = Authentication::Ah(Key::new("key")),
        3 => {
            config.hmac = Some(HmacTrailer {
                keys: vec![HmacKey {
                    id: 1,
                    key: Key::new([7; 32]),
                }],
                active_key: 1,
                monotonic: false,
                time_window: Duration::from_secs(5),
                mode: HmacMode::Permissive,
            });
        }
        _ => {}
    }
    config.skips_address_check = choice & 64 != 0;
    config
}

/// Puts the checksum of the VRRP message right, where there is one.
fn mend(config: &VrrpInstance, bytes: &mut [u8], from: IpAddr, to: IpAddr) {
    let (from, to, start) = match config.family {
        Family::V6 => (from, to, 0),
        Family::V4 if bytes.len() >= 20 => {
            let address =
                |at: usize| IpAddr::from([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            let start = usize::from(bytes[0] & 0x0f) * 4 + if bytes[9] == 51 { 24 } else { 0 };
            (address(12), address(16), start)
        }
        Family::V4 => return,
    };
    let Some(message) = bytes.get_mut(start..).filter(|message| message.len() >= 8) else {
        return;
    };
    let covers = match (config.family, config.version) {
        (Family::V4, VrrpVersion::V2) => Covers::Message,
        _ => Covers::PseudoHeader(from, to),
    };
    write_checksum(message, covers);
}

/// Everything a packet can be counted as.
fn seen(counters: &VrrpCounters) -> u64 {
    counters.advert_rcvd
        + counters.packet_len_err
        + counters.ip_ttl_err
        + counters.invalid_type_rcvd
        + counters.addr_list_err
        + counters.invalid_authtype
        + counters.authtype_mismatch
        + counters.auth_failure
        + counters.checksum_err
        + counters.version_err
        + counters.advert_interval_err
}
