//! `pointsman lab tun`.

use std::net::Ipv4Addr;
use std::time::Duration;

use pointsman_testkit::frames::{Ip, View};
use pointsman_testkit::{Capture, Captured, Topology};

use super::dr::is_between;
use super::lesson::{Lesson, PORT, Stop, column};

/// IP in IP.
const IPIP: u8 = 4;

/// Teaches it on a network that stands.
pub fn teach(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    the_network(lesson, net)?;
    the_servers(lesson, net)?;

    lesson.step("The director and the virtual service");
    lesson.say(
        "The VIP is an address of the director, which is where the router delivers packets for it.
        -i says tunnelling (ipip): each packet goes to its real server inside another packet.",
    );
    lesson.shell(&net.director, &format!("ip addr add {}/32 dev lo", net.vip))?;
    lesson.start_director(net)?;
    lesson.make_service(net, "-i")?;

    lesson.step("The client asks four times");
    lesson.requests_alternate(net)?;
    a_packet_in_a_packet(lesson, net)?;

    lesson.step("Weights");
    lesson.say("Schedulers do not care how packets are forwarded; weights work as with NAT.");
    lesson.weights(net, "-i")?;
    lesson.pointsman(&net.director, "ipvsadm -Ln")?;
    Ok(())
}

fn the_network(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    lesson.step("The network");
    lesson.say(
        "Direct routing needs the director and its servers on one segment. With tunnelling the
        servers may be anywhere: here they are in another network, behind a router. Replies go
        from them to the client without passing the director.",
    );
    lesson.draw(
        "
client ───────────────── router ────── director  192.168.0.200, VIP 192.168.0.100
172.25.254.10   172.25.254.1 │  192.168.0.1
                             │
                    10.9.0.1 └─────┬── rs1  10.9.0.11   ┐
                                   └── rs2  10.9.0.12   ┴ VIP on lo",
    );
    lesson.shell(&net.director, "ip route get 10.9.0.11")?;
    lesson.serve(net, PORT)
}

fn the_servers(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    lesson.step("The real servers");
    lesson.say(
        "A real server must take the outer packet off and accept the inner one, whose destination
        is the VIP. `realserver up --mode tun` attaches an eBPF program that decapsulates (no
        tunnel device or kernel module needed), puts the VIP on lo, and keeps ARP silent. Reverse
        path filtering must not be strict, because inner packets come from anywhere.",
    );
    for server in &net.servers {
        let line = format!("pointsman realserver up --vip {} --mode tun", net.vip);
        lesson.pointsman(&server.netns, &line)?;
    }
    let status = lesson.pointsman(&net.servers[0].netns, "pointsman realserver status")?;
    let fit = !status.contains("MISSING");
    lesson.check("rs1 is fit to receive tunnelled packets", fit, || {
        status.clone()
    });
    Ok(())
}

fn a_packet_in_a_packet(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    lesson.step("A packet in a packet");
    lesson.say(
        "Listening on the cable between the servers' switch and the router while the client asks
        once more. Requests come in wrapped, from the director to the real server; replies leave
        as they are, from the VIP to the client, and never pass the director.",
    );
    let farm = net.other("farm");
    let at_farm = Capture::start(farm, "router")?;
    let at_director = Capture::start(net.other("lan"), "director")?;
    lesson.ask(&net.client, net.vip, 1)?;
    let wrapped = at_farm.wait_for("a tunnelled request", Duration::from_secs(3), |seen| {
        outer_and_inner(seen).is_some()
    })?;
    let reply = |seen: &Captured| is_between(seen, net.vip, net.client_addr);
    let unwrapped = at_farm.wait_for("a reply", Duration::from_secs(3), reply)?;
    let mut lines = String::new();
    let inner = outer_and_inner(&wrapped).map(|(outer, inner)| {
        lines += &format!("request   {} [ {} ]\n", show(&outer), show(&inner));
        (outer.source, inner.source, inner.destination)
    });
    if let Some(ip) = View::of(&unwrapped.frame).and_then(|view| view.ip) {
        lines += &format!("reply     {}\n", show(&ip));
    }
    lesson.show(farm, "frames seen", &lines);
    let expected = (Ipv4Addr::new(192, 168, 0, 200), net.client_addr, net.vip);
    lesson.check(
        "the request came from the director, with the client's packet inside",
        inner == Some(expected),
        || lines.clone(),
    );
    let replies = at_director.count(reply);
    lesson.check("no reply passed the director", replies == 0, || {
        format!("{replies} frames")
    });

    lesson.step("What the director knows");
    lesson.pointsman(&net.director, "ipvsadm -Lnc")?;
    let stats = lesson.stats(net, &net.service(PORT).to_string(), 5)?;
    let connections = column(&stats, &net.service(PORT).to_string(), 2);
    lesson.check(
        "the service counted five connections",
        connections == Some(5),
        || format!("{connections:?}"),
    );
    lesson.say(
        "The outer header takes 20 bytes, so a tunnel's MTU is 1480 where the network's is 1500.
        The director tells clients whose packets are too long (ICMP \"fragmentation needed\"), and
        they send smaller ones.",
    );
    Ok(())
}

fn show(ip: &Ip) -> String {
    let protocol = match ip.protocol {
        IPIP => "IPIP",
        6 => "TCP",
        _ => "other",
    };
    match ip.ports {
        Some((source, destination)) => format!(
            "{protocol} {}:{source} → {}:{destination}",
            ip.source, ip.destination
        ),
        None => format!("{protocol} {} → {}", ip.source, ip.destination),
    }
}

/// Both headers of a tunnelled packet.
fn outer_and_inner(seen: &Captured) -> Option<(Ip, Ip)> {
    let view = View::of(&seen.frame)?;
    let outer = view.ip.filter(|ip| ip.protocol == IPIP)?;
    let start = if view.vlan.is_some() { 18 } else { 14 };
    Some((outer, Ip::of(seen.frame.get(start + 20..)?)?))
}
