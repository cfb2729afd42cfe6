//! Datagrams by FULLNAT, within a family and between them: whole, in fragments, and what comes of those
//! that nobody listens for or that are too long.

use std::io;
use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use pointsman_testkit::{Hook, Netns};

use crate::client_address::{Net, stage};
use crate::common::{ECHO, Stage};
use crate::on_both_hooks;

on_both_hooks! {
    ipv4,
    ipv6,
    ipv6_clients_of_ipv4_servers,
    ipv4_clients_of_ipv6_servers,
}

fn ipv4(hook: Hook) {
    datagrams(hook, 0, 0);
}

fn ipv6(hook: Hook) {
    datagrams(hook, 1, 1);
}

fn ipv6_clients_of_ipv4_servers(hook: Hook) {
    datagrams(hook, 1, 0);
}

fn ipv4_clients_of_ipv6_servers(hook: Hook) {
    datagrams(hook, 0, 1);
}

/// Answers each datagram with itself, until the test ends.
fn echo(netns: &Netns) {
    let socket = netns.run(|| UdpSocket::bind(("::", ECHO)).unwrap());
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..len], from);
        }
    });
}

/// A service at a port with the first server at its port.
fn serve(stage: &Stage, front: &Net, back: &Net, port: u16) -> String {
    let service = format!("{}:{port}", front.vip);
    stage.ipvsadm(&format!("-A -u {service} -s rr"));
    stage.ipvsadm(&format!("-P -u {service} -z {}", back.local));
    let server = &back.servers[0];
    stage.ipvsadm(&format!("-a -u {service} -r {server}:{port} --fullnat"));
    service
}

/// A socket of the client's, connected to a service.
fn client(stage: &Stage, service: &str) -> UdpSocket {
    let any = if service.starts_with('[') {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let socket = stage.net.client.run(|| {
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect(service).unwrap();
        socket
    });
    let patience = Some(Duration::from_secs(2));
    socket.set_read_timeout(patience).unwrap();
    socket
}

/// Sends `len` bytes until they come back: who sends too much is told so, and sends less at a time.
#[track_caller]
fn comes_back(stage: &Stage, socket: &UdpSocket, len: usize) {
    let text: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
    let mut buffer = vec![0; 65_536];
    for _ in 0..10 {
        // That a datagram is too long may be told of an earlier one.
        let _ = socket.send(&text);
        match socket.recv(&mut buffer) {
            Ok(got) if buffer[..got] == text[..] => return,
            Ok(got) => assert!(got != len, "{len} bytes came back changed"),
            Err(_) => {}
        }
    }
    panic!(
        "{len} bytes did not come back:\n{:#}",
        stage.director().status().unwrap()
    );
}

fn datagrams(hook: Hook, front: usize, back: usize) {
    let (stage, nets) = stage(hook);
    let (front, back) = (&nets[front], &nets[back]);
    echo(&stage.net.servers[0].netns);
    let service = serve(&stage, front, back, ECHO);
    let socket = client(&stage, &service);
    // Whole, as long as a packet can be, and in fragments.
    for len in [1, 1000, 1452, 1472, 4000] {
        comes_back(&stage, &socket, len);
    }

    let nobody = serve(&stage, front, back, ECHO + 1);
    let socket = client(&stage, &nobody);
    socket.send(b"anybody?").unwrap();
    let refused = socket.recv(&mut [0; 10]).unwrap_err();
    assert_eq!(
        refused.kind(),
        io::ErrorKind::ConnectionRefused,
        "{refused}"
    );
}
