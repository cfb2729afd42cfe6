use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::Duration;

use pointsman_api::Location;
use pointsman_testkit::frames::{ACK, ARP, Ethernet, IPV4, SYN, View, arp_request, tcp};
use pointsman_testkit::{Capture, Names, Netns, send_frame, wire};

use super::network::{addresses_of, default_routes};
use super::status::show;
use super::up::{down, up};
use super::*;

const VIP: &str = "192.0.2.100";
const OTHER: &str = "192.0.2.101";

/// A server with an address of its own, and somebody to ask.
fn server() -> (Netns, Netns) {
    let names = Names::transient();
    let (server, peer) = (
        Netns::new(&names, "server").unwrap(),
        Netns::new(&names, "peer").unwrap(),
    );
    wire::cable((&server, "eth0"), (&peer, "eth0")).unwrap();
    server.ip("addr add 192.0.2.1/24 dev eth0").unwrap();
    peer.ip("addr add 192.0.2.9/24 dev eth0").unwrap();
    (server, peer)
}

fn wish(vips: &[&str]) -> Wish {
    Wish {
        vip: vips.iter().map(|vip| vip.parse().unwrap()).collect(),
        ..Wish::default()
    }
}

fn on_lo() -> Vec<IpAddr> {
    addresses_of("lo").unwrap()
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn down_restores_what_up_found() {
    let (server, _peer) = server();
    server.sysctl("net.ipv4.conf.eth0.arp_ignore", "2").unwrap();
    server
        .sysctl("net.ipv4.conf.all.arp_announce", "1")
        .unwrap();
    server.run(|| {
        up(&wish(&[VIP])).unwrap();
        // A second VIP later must not take today's values for the original ones.
        up(&wish(&[OTHER])).unwrap();
        assert_eq!(sysctl::read("net/ipv4/conf/eth0/arp_ignore").unwrap(), "1");
        assert_eq!(sysctl::read("net/ipv4/conf/all/arp_announce").unwrap(), "2");
        assert!(on_lo().contains(&addr(VIP)));
        assert!(show(true).unwrap());
        down().unwrap();
        assert_eq!(sysctl::read("net/ipv4/conf/eth0/arp_ignore").unwrap(), "2");
        assert_eq!(sysctl::read("net/ipv4/conf/all/arp_announce").unwrap(), "1");
        assert_eq!(on_lo(), [addr("127.0.0.1")]);
        assert!(!Location::here().unwrap().run_dir().exists());
        assert!(!show(true).unwrap());
        assert!(down().is_err());
    });
}

#[test]
fn a_vip_that_was_there_before_stays() {
    let (server, _peer) = server();
    server.ip(&format!("addr add {VIP}/32 dev lo")).unwrap();
    server.run(|| {
        up(&wish(&[VIP])).unwrap();
        down().unwrap();
        assert!(on_lo().contains(&addr(VIP)));
    });
}

#[test]
fn status_names_what_somebody_else_undid() {
    let (server, _peer) = server();
    server.run(|| up(&wish(&[VIP])).unwrap());
    server
        .sysctl("net.ipv4.conf.eth0.arp_announce", "0")
        .unwrap();
    server.run(|| {
        assert!(!show(false).unwrap());
        let here = Location::here().unwrap();
        let missing = super::status::missing(&here).unwrap();
        assert_eq!(missing, "net/ipv4/conf/eth0/arp_announce = 0");
        // Doing it again mends it.
        up(&wish(&[VIP])).unwrap();
        assert!(show(false).unwrap());
        down().unwrap();
    });
}

#[test]
fn an_unknown_interface_is_refused_before_anything_changes() {
    let (server, _peer) = server();
    let wish = Wish {
        interface: vec!["eth7".into()],
        ..wish(&[VIP])
    };
    server.run(|| {
        let error = up(&wish).unwrap_err().to_string();
        assert!(error.contains("eth7") && error.contains("eth0"), "{error}");
        assert_eq!(on_lo().len(), 1);
    });
}

#[test]
fn options_of_other_modes_are_refused() {
    let with = |change: fn(&mut Wish)| {
        let mut wish = Wish::default();
        change(&mut wish);
        wish
    };
    let cases = [
        (with(|_| ()), "--vip"),
        (with(|w| w.mode = Mode::Nat), "--gateway"),
        (
            with(|w| (w.mode, w.arp) = (Mode::Fullnat, Arp::Nft)),
            "--arp is for --mode dr and tun",
        ),
        (with(|w| w.mss = Some(1400)), "--mss is for --mode tun"),
        (
            with(|w| {
                (w.mode, w.vip) = (Mode::Tun, vec!["192.0.2.1".parse().unwrap()]);
                w.director = vec!["10.0.0.0/24".parse().unwrap()];
            }),
            "--mode fullnat",
        ),
    ];
    for (wish, word) in cases {
        let error = up(&wish).unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
    }
}

/// Whether anybody behind `peer`'s cable answers for the VIP, and what the server's own question about
/// `192.0.2.50`, asked on behalf of the VIP, names as its sender.
fn what_arp_tells(server: &Netns, peer: &Netns) -> (bool, Option<String>) {
    let capture = Capture::start(peer, "eth0").unwrap();
    let owners = pointsman_testkit::arp::who_has(
        peer,
        "eth0",
        "192.0.2.9".parse().unwrap(),
        VIP.parse().unwrap(),
        &["192.0.2.1".parse().unwrap()],
    )
    .unwrap();
    capture.clear();
    // A packet from the VIP to a neighbour nobody knows yet, and one that marks the end.
    server.run(|| {
        let socket = std::net::UdpSocket::bind((VIP, 0)).unwrap();
        let _ = socket.send_to(b"x", "192.0.2.50:9");
        let mac = server.mac("eth0").unwrap();
        let ethernet = Ethernet {
            destination: [0xff; 6],
            source: mac,
            vlan: None,
        };
        let end = arp_request(
            (mac, "192.0.2.1".parse().unwrap()),
            "192.0.2.51".parse().unwrap(),
        );
        std::thread::sleep(Duration::from_millis(50));
        send_frame(server, "eth0", &ethernet.frame(ARP, &end)).unwrap();
    });
    let target =
        |frame: &[u8]| (frame.get(12..14) == Some(&[8, 6])).then(|| frame[38..42].to_vec());
    capture
        .wait_for("the end", Duration::from_secs(10), |seen| {
            target(&seen.frame) == Some(vec![192, 0, 2, 51])
        })
        .unwrap();
    let question = capture
        .frames()
        .into_iter()
        .find(|seen| target(&seen.frame) == Some(vec![192, 0, 2, 50]));
    let sender = question.map(|seen| {
        let sender: [u8; 4] = seen.frame[28..32].try_into().unwrap();
        std::net::Ipv4Addr::from(sender).to_string()
    });
    (!owners.is_empty(), sender)
}

#[test]
fn a_vip_is_kept_out_of_arp_three_ways() {
    for arp in [Arp::Sysctl, Arp::Nft, Arp::Ebpf] {
        let (server, peer) = server();
        server.ip(&format!("addr add {VIP}/32 dev lo")).unwrap();
        let before = what_arp_tells(&server, &peer);
        assert_eq!(before, (true, Some(VIP.to_owned())), "the problem itself");
        server.ip("neigh flush dev eth0").unwrap();
        let wish = Wish {
            arp,
            ..wish(&[VIP])
        };
        server.run(|| {
            up(&wish).unwrap();
            assert!(show(false).unwrap(), "{arp:?}");
        });
        let after = what_arp_tells(&server, &peer);
        assert_eq!(after, (false, Some("192.0.2.1".to_owned())), "{arp:?}");
        server.run(|| down().unwrap());
        server.ip("neigh flush dev eth0").unwrap();
        let restored = what_arp_tells(&server, &peer);
        assert_eq!(restored, (true, Some(VIP.to_owned())), "{arp:?} undone");
    }
}

#[test]
fn clients_of_a_tunnel_are_asked_for_segments_that_fit() {
    let (server, peer) = server();
    let wish = Wish {
        mode: Mode::Tun,
        ..wish(&[VIP])
    };
    server.run(|| up(&wish).unwrap());
    let listener = server.run(|| TcpListener::bind((VIP, 80)).unwrap());
    let (from, to) = (
        ("192.0.2.9".parse().unwrap(), 1234),
        (VIP.parse().unwrap(), 80),
    );
    let capture = Capture::start(&peer, "eth0").unwrap();
    let ethernet = Ethernet {
        destination: server.mac("eth0").unwrap(),
        source: peer.mac("eth0").unwrap(),
        vlan: None,
    };
    send_frame(&peer, "eth0", &ethernet.frame(IPV4, &tcp(from, to, SYN, 1))).unwrap();
    let is_answer = |frame: &[u8]| View::of(frame).and_then(|v| v.ip?.tcp_flags) == Some(SYN | ACK);
    let answer = capture
        .wait_for("SYN-ACK", Duration::from_secs(10), |seen| {
            is_answer(&seen.frame)
        })
        .unwrap();
    // 1500 less outer header, GUE, inner header and TCP's.
    assert_eq!(answer.frame[54..58], [2, 4, 0x05, 0x98]);
    assert_eq!(u16::from_be_bytes([0x05, 0x98]), 1500 - 20 - 8 - 20 - 20);
    drop(listener);
    server.run(|| down().unwrap());
}

#[test]
fn nat_leads_replies_back_and_puts_the_routes_back() {
    let (server, _peer) = server();
    server
        .ip("route add default via 192.0.2.254 metric 7")
        .unwrap();
    let before = server.run(|| default_routes(false).unwrap());
    let wish = Wish {
        mode: Mode::Nat,
        gateway: Some("192.0.2.9".parse().unwrap()),
        ..Wish::default()
    };
    server.run(|| {
        up(&wish).unwrap();
        assert_eq!(
            default_routes(false).unwrap(),
            ["default via 192.0.2.9 dev eth0"]
        );
        assert!(show(false).unwrap());
        // Twice is once.
        up(&wish).unwrap();
        down().unwrap();
        assert_eq!(default_routes(false).unwrap(), before);
    });
    let checked = Wish {
        gateway: None,
        director: vec!["192.0.2.9/32".parse().unwrap()],
        ..wish
    };
    server.run(|| {
        up(&checked).unwrap();
        assert_eq!(default_routes(false).unwrap(), before, "only looked at");
        assert!(!show(false).unwrap());
        down().unwrap();
    });
}

#[test]
fn a_drained_server_has_no_connection_left() {
    let (server, peer) = server();
    server.run(|| up(&wish(&[VIP])).unwrap());
    peer.ip(&format!("route add {VIP} via 192.0.2.1")).unwrap();
    let listener = server.run(|| TcpListener::bind((VIP, 80)).unwrap());
    let client = peer.run(|| TcpStream::connect((VIP, 80)).unwrap());
    let (stream, _) = listener.accept().unwrap();
    server.run(|| assert!(!drain::drain(Some(0), &[]).unwrap()));
    server.run(|| assert!(!drain::drain(Some(0), &[80]).unwrap()));
    server.run(|| assert!(drain::drain(Some(0), &[81]).unwrap()));
    drop((client, stream));
    server.run(|| assert!(drain::drain(Some(30), &[]).unwrap()));
    server.run(|| {
        drain::ready().unwrap();
        assert!(drain::ready().is_err());
        down().unwrap();
    });
}
