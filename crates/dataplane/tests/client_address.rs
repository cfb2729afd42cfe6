//! Servers behind FULLNAT see the client: real sockets, and segments as a director sends them.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use pointsman_dataplane::toa::{self, ClientReader};
use pointsman_testkit::frames::{ACK, Ethernet, IPV4, IPV6, SYN, Segment};
use pointsman_testkit::{Capture, Captured, Names, Netns, send_frame, wire};

const PSH: u8 = 0x08;

/// A server, and a director that is no more than its address: segments are made by hand, and nobody
/// answers there.
struct Net {
    server: Netns,
    director: Netns,
    pins: PathBuf,
}

impl Net {
    fn new(allowed: &[&str]) -> Self {
        let names = Names::transient();
        let server = Netns::new(&names, "server").unwrap();
        let director = Netns::new(&names, "director").unwrap();
        wire::cable((&server, "eth0"), (&director, "eth0")).unwrap();
        server
            .sysctl("net.ipv6.conf.eth0.disable_ipv6", "0")
            .unwrap();
        let mac = mac(&director);
        for (own, of_director) in [
            ("10.9.0.1/24", "10.9.0.9"),
            ("2001:db8::1/64", "2001:db8::9"),
        ] {
            let nodad = if own.contains(':') { "nodad" } else { "" };
            server
                .ip(&format!("addr add {own} dev eth0 {nodad}"))
                .unwrap();
            server
                .ip(&format!(
                    "neigh replace {of_director} lladdr {mac} dev eth0 nud permanent"
                ))
                .unwrap();
        }
        let pins = PathBuf::from(format!("/sys/fs/bpf/pointsman/test-{}", server.cookie()));
        std::fs::create_dir_all(&pins).unwrap();
        let net = Self {
            server,
            director,
            pins,
        };
        let allowed: Vec<_> = allowed.iter().map(|net| net.parse().unwrap()).collect();
        let mut reader = ClientReader::load(&net.pins, net.server.cookie(), &allowed).unwrap();
        reader.attach().unwrap();
        assert!(toa::is_attached(&net.pins));
        net
    }

    /// Opens a connection as a director would, with `options` in the last segment of the handshake and
    /// `first` in the one with data; tells whom the server saw, and asks again after the data.
    fn connect(
        &self,
        listen: &str,
        lip: &str,
        options: &[u8],
        first: &[u8],
    ) -> (SocketAddr, SocketAddr) {
        let listener = self.server.run(|| TcpListener::bind(listen).unwrap());
        let port = listener.local_addr().unwrap().port();
        let lip: IpAddr = lip.parse().unwrap();
        let server: IpAddr = if lip.is_ipv4() {
            "10.9.0.1"
        } else {
            "2001:db8::1"
        }
        .parse()
        .unwrap();
        let (from, to) = (SocketAddr::new(lip, 7777), SocketAddr::new(server, port));
        let (ethertype, header) = if lip.is_ipv4() {
            (IPV4, 20)
        } else {
            (IPV6, 40)
        };
        let ethernet = Ethernet {
            destination: self.server.mac("eth0").unwrap(),
            source: self.director.mac("eth0").unwrap(),
            vlan: None,
        };
        let send = |segment: Segment<'_>| {
            let frame = ethernet.frame(ethertype, &segment.packet(from, to));
            send_frame(&self.director, "eth0", &frame).unwrap();
        };
        let capture = Capture::start(&self.director, "eth0").unwrap();
        send(Segment {
            flags: SYN,
            sequence: 100,
            ..Segment::default()
        });
        let tcp = 14 + header;
        let is_answer = |seen: &Captured| {
            seen.frame.get(tcp + 13) == Some(&(SYN | ACK))
                && seen.frame[tcp..tcp + 2] == port.to_be_bytes()
        };
        let answer = capture
            .wait_for("SYN-ACK", Duration::from_secs(10), is_answer)
            .unwrap();
        let theirs = u32::from_be_bytes(answer.frame[tcp + 4..tcp + 8].try_into().unwrap());
        let open = Segment {
            flags: ACK,
            sequence: 101,
            acknowledgement: theirs + 1,
            ..Segment::default()
        };
        send(Segment { options, ..open });
        let (stream, accepted) = listener.accept().unwrap();
        send(Segment {
            flags: ACK | PSH,
            options: first,
            payload: b"hello",
            ..open
        });
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        assert_eq!(stream.peek(&mut [0; 5]).unwrap(), 5);
        (accepted, stream.peer_addr().unwrap())
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = toa::detach(&self.pins);
        let _ = std::fs::remove_dir(&self.pins);
    }
}

fn mac(host: &Netns) -> String {
    host.mac("eth0")
        .unwrap()
        .map(|byte| format!("{byte:02x}"))
        .join(":")
}

/// 192.0.2.7:12345
const V4: [u8; 8] = [254, 8, 0x30, 0x39, 192, 0, 2, 7];

fn v6() -> Vec<u8> {
    let client: std::net::Ipv6Addr = "2001:db8:7::7".parse().unwrap();
    [&[254, 20, 0x1f, 0x90][..], &client.octets()].concat()
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn accept_and_getpeername_answer_with_the_client() {
    let net = Net::new(&["10.9.0.0/24", "2001:db8::9/128"]);
    let v6 = v6();
    let none: &[u8] = &[];
    /// Where the server listens, where the director sends from, the options of the handshake's last
    /// segment and of the first with data; whom `accept` names, and `getpeername` later.
    struct Case<'a> {
        what: &'a str,
        listen: &'a str,
        lip: &'a str,
        options: [&'a [u8]; 2],
        seen: [&'a str; 2],
    }
    let case = |what, listen, lip, options, seen| Case {
        what,
        listen,
        lip,
        options,
        seen,
    };
    let cases = [
        case(
            "in the handshake",
            "0.0.0.0:0",
            "10.9.0.9",
            [&V4, none],
            ["192.0.2.7:12345"; 2],
        ),
        case(
            "with the first data",
            "0.0.0.0:0",
            "10.9.0.9",
            [none, &V4],
            ["10.9.0.9:7777", "192.0.2.7:12345"],
        ),
        case(
            "no client named",
            "0.0.0.0:0",
            "10.9.0.9",
            [none, none],
            ["10.9.0.9:7777"; 2],
        ),
        case(
            "IPv6",
            "[::]:0",
            "2001:db8::9",
            [&v6, none],
            ["[2001:db8:7::7]:8080"; 2],
        ),
        case(
            "an IPv6 socket, an IPv4 client",
            "[::]:0",
            "10.9.0.9",
            [&V4, none],
            ["[::ffff:192.0.2.7]:12345"; 2],
        ),
        case(
            "an IPv4 socket cannot show an IPv6 client",
            "0.0.0.0:0",
            "10.9.0.9",
            [&v6, none],
            ["10.9.0.9:7777"; 2],
        ),
    ];
    for Case {
        what,
        listen,
        lip,
        options: [handshake, first],
        seen,
    } in cases
    {
        let saw = net.connect(listen, lip, handshake, first);
        assert_eq!(saw, (addr(seen[0]), addr(seen[1])), "{what}");
    }
    let counts: Vec<_> = toa::counts(&net.pins)
        .unwrap()
        .into_iter()
        .map(|c| (c.name, c.packets))
        .collect();
    assert_eq!(
        counts,
        [("client-known", 5), ("client-named-by-stranger", 0),]
    );
}

#[test]
fn who_is_no_director_cannot_name_a_client() {
    let net = Net::new(&["10.9.0.8/32"]);
    let saw = net.connect("0.0.0.0:0", "10.9.0.9", &V4, &V4);
    assert_eq!(saw, (addr("10.9.0.9:7777"), addr("10.9.0.9:7777")));
    assert_eq!(toa::counts(&net.pins).unwrap()[1].packets, 1);
}

#[test]
fn connections_of_other_namespaces_and_after_the_end_are_left_alone() {
    let net = Net::new(&[]);
    let listener = net
        .director
        .run(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let to = listener.local_addr().unwrap();
    let mut client = net.director.run(move || TcpStream::connect(to).unwrap());
    client.write_all(b"x").unwrap();
    let (_, from) = listener.accept().unwrap();
    assert_eq!(from, client.local_addr().unwrap());
    assert!(
        toa::counts(&net.pins)
            .unwrap()
            .iter()
            .all(|count| count.packets == 0)
    );
    toa::detach(&net.pins).unwrap();
    let saw = net.connect("0.0.0.0:0", "10.9.0.9", &V4, &V4);
    assert_eq!(saw, (addr("10.9.0.9:7777"), addr("10.9.0.9:7777")));
}
