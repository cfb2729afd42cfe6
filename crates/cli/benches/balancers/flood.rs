//! Packets per second of a director: what one of its processors forwards while more comes than it can take.
//!
//! On the client's cable (by direct routing, on the segment's to the director) a generator puts frames of 64 bytes into
//! the ring of the director's interface, from the first processor. A thread of the kernel that has the last processor for itself
//! takes them out and does all that the director does. At the far end of the cable by which they leave for the
//! real servers, XDP counts and drops them, on the same processor. All balancers pay the same for these two ends.

use std::thread::sleep;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use pointsman_testkit::frames::{self, Ethernet, IPV4, SYN};
use pointsman_testkit::{
    Flood, Method, Netns, Sink, Topology, pass_everything, receive_on, wait_until,
};
use serde_json::Value;

use crate::measure::{PACKETS, SECONDS};

/// First packets that are sent at most: of those that are forwarded, some in ten, the tables have room for all.
const CONNECTIONS: u64 = 1 << 22;
/// Frames of a try: as many as a ring has places.
const TRY: u64 = 256;

/// Packets of 256 connections: how many are forwarded, of how many that were sent.
pub fn packets(net: &Topology) -> Vec<(&'static str, f64)> {
    let packet = frames::udp((net.client_addr, 1024), (net.vip, PACKETS), &[0; 18]);
    let (forwarded, sent) = flood(net, &packet, [0, 0, 0, 0xff], u64::MAX);
    vec![("Mpps", forwarded / 1e6), ("Mpps sent", sent / 1e6)]
}

/// First packets of TCP connections, each of another.
pub fn connections(net: &Topology) -> Vec<(&'static str, f64)> {
    let from = ([10, 0, 0, 0].into(), 1024);
    let packet = frames::tcp(from, (net.vip, PACKETS), SYN, 0);
    let flows = [0xff, 0xff, 0xfb, 0xff];
    let (forwarded, _) = flood(net, &packet, flows, CONNECTIONS);
    vec![("new connections/s", forwarded)]
}

/// Frames per second that are forwarded, and that are sent.
fn flood(net: &Topology, packet: &[u8], flows: [u8; 4], most: u64) -> (f64, f64) {
    let lan = net.other("lan");
    let (from, interface) = match net.method {
        Method::Nat => (&net.client, "eth0"),
        Method::DirectRouting | Method::Tunnel => (lan, "director"),
    };
    let ethernet = Ethernet {
        destination: net.director.mac("eth0").expect("an address"),
        source: from.mac(interface).expect("an address"),
        vlan: None,
    };
    let frame = ethernet.frame(IPV4, packet);
    let flood = Flood::open(from, interface, &frame, flows).expect("a generator");
    let send = |most, limit| flood.send(processors().0, most, limit).expect("frames");
    receive_on(&net.director, "eth0", processors().1).expect("a thread that receives");

    // The director knows its neighbours, and chooses both.
    pass_everything(lan, "director").expect("XDP");
    let before: Vec<u64> = net.servers.iter().map(|rs| received(&rs.netns)).collect();
    let all_have = || {
        send(TRY, Duration::MAX);
        sleep(Duration::from_millis(50));
        let mut servers = net.servers.iter().zip(&before);
        let have = servers.all(|(rs, &before)| received(&rs.netns) > before + TRY / 4);
        have.then_some(())
    };
    let patience = Duration::from_secs(60);
    wait_until("frames at every server", patience, all_have).expect("a director");

    let sink = Sink::open(lan, "director", PACKETS).expect("a sink");
    let count = || sink.count().expect("a count") as f64;
    let before = count();
    let (sent, time) = send(most, Duration::from_secs(SECONDS));
    // What is under way, of less than a millisecond.
    sleep(Duration::from_millis(200));
    let [forwarded, sent] = [count() - before, sent as f64].map(|n| n / time.as_secs_f64());
    (forwarded, sent)
}

/// Packets that a host has received.
fn received(netns: &Netns) -> u64 {
    let links = netns.ip("-s -json link show eth0").expect("ip");
    let links: Value = serde_json::from_str(&links).expect("json");
    let count = links[0]["stats64"]["rx"]["packets"].as_u64();
    count.expect("a count")
}

/// The first and the last processor that we may use.
fn processors() -> (usize, usize) {
    let set = sched_getaffinity(Pid::from_raw(0)).expect("a set");
    let mut ours = (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false));
    let first = ours.next().expect("a processor");
    (first, ours.next_back().unwrap_or(first))
}
