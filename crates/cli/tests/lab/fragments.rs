//! Fragments through the whole director: whatever order they come in, whole datagrams arrive.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use pointsman_testkit::frames::{Ethernet, IPV4, checksum, udp};
use pointsman_testkit::{EchoServer, Hook, Method, send_frame};

use crate::common::{ECHO, Stage};
use crate::on_both_hooks;

on_both_hooks! { by_nat, by_direct_routing }

fn by_nat(hook: Hook) {
    any_order_will_do(&Stage::new(Method::Nat, hook), "-m");
}

fn by_direct_routing(hook: Hook) {
    any_order_will_do(&Stage::new(Method::DirectRouting, hook), "-g");
}

/// An IPv4 packet in fragments whose payloads have `size` bytes.
fn fragments(packet: &[u8], id: u16, size: usize) -> Vec<Vec<u8>> {
    let (header, payload) = packet.split_at(20);
    let cut = |(i, part): (usize, &[u8])| {
        let more = (i + 1) * size < payload.len();
        let offset = (i * size / 8) as u16 | if more { 0x2000 } else { 0 };
        let mut header = header.to_vec();
        header[2..4].copy_from_slice(&(20 + part.len() as u16).to_be_bytes());
        header[4..6].copy_from_slice(&id.to_be_bytes());
        header[6..8].copy_from_slice(&offset.to_be_bytes());
        header[10..12].fill(0);
        let sum = checksum(&[&header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        [&header, part].concat()
    };
    payload.chunks(size).enumerate().map(cut).collect()
}

fn any_order_will_do(stage: &Stage, flag: &str) {
    const PORT: u16 = 40_000;
    let service = stage.net.service(ECHO);
    let server = &stage.net.servers[0];
    let listen = if flag == "-m" {
        server.addr
    } else {
        stage.net.vip
    };
    let echo = EchoServer::start(&server.netns, &server.name, server.addr, listen, ECHO).unwrap();
    stage.ipvsadm(&format!("-A -u {service} -s rr"));
    stage.ipvsadm(&format!("-a -u {service} -r {}:{ECHO} {flag}", server.addr));

    let client = &stage.net.client;
    let gateway = if flag == "-m" {
        &stage.net.director
    } else {
        stage.net.other("router")
    };
    let socket = client.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap();
        socket.connect(service).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        // The neighbour is known from here on, and the socket's address.
        socket.send(b"first").unwrap();
        socket.recv(&mut [0; 100]).unwrap();
        socket
    });
    let std::net::SocketAddr::V4(own) = socket.local_addr().unwrap() else {
        panic!("IPv4")
    };
    let frame = Ethernet {
        destination: gateway.mac("eth0").unwrap(),
        source: client.mac("eth0").unwrap(),
        vlan: None,
    };
    let orders: [&[usize]; 4] = [&[0, 1, 2, 3], &[3, 2, 1, 0], &[1, 0, 3, 2], &[2, 3, 0, 1]];
    for (id, order) in orders.iter().enumerate() {
        let text = vec![b'a' + id as u8; 4000];
        let packet = udp((*own.ip(), PORT), (stage.net.vip, ECHO), &text);
        let parts = fragments(&packet, 7000 + id as u16, 1024);
        for &part in *order {
            send_frame(client, "eth0", &frame.frame(IPV4, &parts[part])).unwrap();
        }
        let mut answer = vec![0; 65_536];
        let len = socket.recv(&mut answer).unwrap_or_else(|error| {
            panic!(
                "order {order:?}: {error}\n{:#}",
                stage.director().status().unwrap()
            )
        });
        assert!(answer[..len].ends_with(&text), "order {order:?}");
    }
    assert_eq!(echo.served(), 1 + orders.len() as u64);
    let status = stage.director().status().unwrap();
    assert!(status["tables"]["fragments_held"].as_u64().unwrap() > 0);
    assert!(
        !status["drops"].to_string().contains("fragment"),
        "{}",
        status["drops"]
    );
}
