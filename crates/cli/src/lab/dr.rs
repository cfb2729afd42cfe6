//! `pointsman lab dr`.

use std::net::Ipv4Addr;
use std::time::Duration;

use pointsman_testkit::frames::View;
use pointsman_testkit::{Capture, Captured, Netns, Topology, arp};

use super::lesson::{Lesson, PORT, Stop, column};

/// Teaches it on a network that stands.
pub fn teach(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    the_network(lesson, net)?;
    the_vip_everywhere(lesson, net)?;
    the_arp_problem(lesson, net)?;
    silence(lesson, net)?;

    lesson.step("The director and the virtual service");
    lesson.say(
        "As with NAT, except for -g (gatewaying): the director changes no address. It only puts
        the real server's hardware address on the frame and sends it back into the segment. So
        the port cannot change either.",
    );
    lesson.start_director(net)?;
    lesson.make_service(net, "-g")?;

    lesson.step("The client asks four times");
    lesson.requests_alternate(net)?;
    replies_bypass_the_director(lesson, net)?;

    lesson.step("Weights");
    lesson.say("Schedulers do not care how packets are forwarded; weights work as with NAT.");
    lesson.weights(net, "-g")?;
    lesson.pointsman(&net.director, "ipvsadm -Ln")?;
    Ok(())
}

fn the_network(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    lesson.step("The network");
    lesson.say(
        "Director and real servers share one segment behind a router. Requests go client, router,
        director, real server; replies go straight from the real server to the router. Replies
        are much the bigger part of most traffic, and the director never sees them.",
    );
    lesson.draw(
        "
client ───────────────── router ───┬── director  192.168.0.200   ┐
172.25.254.10   172.25.254.1  │    ├── rs1       192.168.0.101   ├ VIP 192.168.0.100 on lo
                   192.168.0.1┘    └── rs2       192.168.0.102   ┘",
    );
    lesson.shell(&net.director, "ip -brief -4 addr")?;
    lesson.serve(net, PORT)
}

fn the_vip_everywhere(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    lesson.step("The VIP on every host");
    lesson.say(
        "The packets arrive at a real server with the VIP as their destination, as the client sent
        them. The real server accepts them only if the VIP is one of its own addresses, so the
        VIP goes on the loopback interface of the director and of every real server.",
    );
    let line = format!("ip addr add {}/32 dev lo", net.vip);
    for host in sharers(net) {
        lesson.shell(host, &line)?;
    }
    Ok(())
}

/// Director and real servers.
fn sharers(net: &Topology) -> impl Iterator<Item = &Netns> {
    [&net.director]
        .into_iter()
        .chain(net.servers.iter().map(|server| &server.netns))
}

fn the_arp_problem(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    lesson.step("The ARP problem");
    lesson.say(
        "Now three hosts own the same address, and Linux answers ARP for any address it owns, on
        any interface. When the router asks who has the VIP, all three answer, and the traffic
        goes to whoever was fastest: perhaps to a real server, past the director.",
    );
    let owners = who_has_the_vip(lesson, net)?;
    lesson.check(
        "three hosts claim the VIP: this is the ARP problem",
        owners.len() == 3,
        || format!("{owners:?}"),
    );
    Ok(())
}

fn silence(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    lesson.step("The real servers fall silent");
    lesson.say(
        "arp_ignore=1: answer only for addresses of the interface the question came in on, so not
        for those of lo. arp_announce=2: never name the VIP as one's own address when asking for
        others. `realserver up` sets both, remembers what they were, and would have put the VIP on
        lo as well; `realserver down` undoes it.",
    );
    for server in &net.servers {
        let line = format!("pointsman realserver up --vip {} --mode dr", net.vip);
        lesson.pointsman(&server.netns, &line)?;
    }
    let keys = "sysctl net.ipv4.conf.all.arp_ignore net.ipv4.conf.all.arp_announce";
    lesson.shell(&net.servers[0].netns, keys)?;
    let router = net.other("router");
    lesson.shell(router, "ip neigh flush dev eth1")?;
    let owners = who_has_the_vip(lesson, net)?;
    lesson.check(
        "only the director claims the VIP",
        owners == ["director"],
        || format!("{owners:?}"),
    );
    Ok(())
}

fn who_has_the_vip(lesson: &mut Lesson, net: &Topology) -> Result<Vec<String>, Stop> {
    let router = net.other("router");
    let mut present = vec![Ipv4Addr::new(192, 168, 0, 200)];
    present.extend(net.servers.iter().map(|server| server.addr));
    let macs = arp::who_has(
        router,
        "eth1",
        Ipv4Addr::new(192, 168, 0, 1),
        net.vip,
        &present,
    )?;
    let mut owners = Vec::new();
    let mut output = String::new();
    for mac in macs {
        let owner = sharers(net).find(|host| host.mac("eth0").is_ok_and(|own| own == mac));
        let owner = owner.map_or("somebody", Netns::label);
        output += &format!("{} is at {}  ({owner})\n", net.vip, hex(mac));
        owners.push(owner.to_owned());
    }
    lesson.show(router, &format!("ARP: who has {}?", net.vip), &output);
    Ok(owners)
}

fn hex(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn replies_bypass_the_director(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    lesson.step("Replies bypass the director");
    lesson.say(
        "Listening on two ports of the switch, the director's and the router's, while the client
        asks once more:",
    );
    let lan = net.other("lan");
    let at_director = Capture::start(lan, "director")?;
    let at_router = Capture::start(lan, "router")?;
    lesson.ask(&net.client, net.vip, 1)?;
    // The client has its page, so its request and the reply have passed both ports; the server's
    // last acknowledgement may still be on its way.
    let reply = |seen: &Captured| is_between(seen, net.vip, net.client_addr);
    let request = |seen: &Captured| is_between(seen, net.client_addr, net.vip);
    let first = at_router.wait_for("a reply at the router", Duration::from_secs(3), reply)?;
    let (requests, replies) = (at_director.count(request), at_director.count(reply));
    let table = format!(
        "port of the director   client → VIP: {requests} frames   VIP → client: {replies} frames\n\
         port of the router     client → VIP: {} frames   VIP → client: {} frames",
        at_router.count(request),
        at_router.count(reply),
    );
    lesson.show(lan, "frames seen", &table);
    lesson.check("requests passed the director", requests > 0, || {
        table.clone()
    });
    lesson.check("no reply passed the director", replies == 0, || {
        table.clone()
    });
    let sender = View::of(&first.frame).map(|view| view.source);
    let from_server = net
        .servers
        .iter()
        .any(|server| server.netns.mac("eth0").ok() == sender);
    lesson.check(
        "the router got the reply from a real server's own card",
        from_server,
        || format!("{sender:?}"),
    );

    lesson.step("What the director knows");
    lesson.say(
        "The director tracks connections by their requests alone. OutPkts stay 0: there is nothing
        to count.",
    );
    lesson.pointsman(&net.director, "ipvsadm -Lnc")?;
    let stats = lesson.stats(net, &net.service(PORT).to_string(), 5)?;
    let service = net.service(PORT).to_string();
    let (connections, replies) = (column(&stats, &service, 2), column(&stats, &service, 4));
    let expected = (Some(5), Some(0));
    lesson.check(
        "the service counted five connections and no packet of a server",
        (connections, replies) == expected,
        || format!("{connections:?} connections, {replies:?} packets"),
    );
    Ok(())
}

/// A TCP segment between the two, to or from the service's port.
pub fn is_between(seen: &Captured, source: Ipv4Addr, destination: Ipv4Addr) -> bool {
    let Some(ip) = View::of(&seen.frame).and_then(|view| view.ip) else {
        return false;
    };
    ip.source == source && ip.destination == destination && ip.protocol == 6
}
