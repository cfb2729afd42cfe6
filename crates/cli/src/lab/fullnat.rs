//! `pointsman lab fullnat`.

use std::net::Ipv4Addr;
use std::time::Duration;

use pointsman_testkit::frames::{Ip, View};
use pointsman_testkit::{Capture, Captured, Topology, http};

use super::lesson::{Lesson, PORT, Stop, column};

/// What servers see in clients' place.
const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 150);

/// Teaches it on a network that stands.
pub fn teach(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    the_network(lesson, net)?;
    the_service(lesson, net)?;

    lesson.step("The client asks four times");
    lesson.requests_alternate(net)?;

    lesson.step("What the director knows");
    lesson.say("-G lists local addresses, and how many connections go by each.");
    let listing = lesson.pointsman(&net.director, "ipvsadm -G -n")?;
    let counted = listing
        .lines()
        .any(|line| line.contains(&LOCAL.to_string()) && line.trim_end().ends_with(" 4"));
    lesson.check("four connections go by the local address", counted, || {
        listing.clone()
    });
    let stats = lesson.look(net)?;
    let replies = column(&stats, &net.service(PORT).to_string(), 4);
    lesson.check("replies passed the director", replies > Some(0), || {
        stats.clone()
    });

    both_ends(lesson, net)?;

    lesson.step("Weights");
    lesson.weights(net, "--fullnat")?;
    who_asks(lesson, net)
}

fn the_network(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    lesson.step("The network");
    lesson.say(
        "As with NAT the director stands between the client and two real servers. But the servers
        shall not be changed at all, and know no way to the client: they have no gateway.",
    );
    lesson.draw(
        "
client ─────────────────────── director ────────────┬── rs1  192.168.0.10
172.25.254.10   172.25.254.100  │  192.168.0.150    └── rs2  192.168.0.20
                     VIP ───────┘       local address",
    );
    for server in &net.servers {
        lesson.shell(&server.netns, "ip route del default")?;
    }
    let routes = lesson.shell(&net.servers[0].netns, "ip route")?;
    let away = routes.contains("default");
    lesson.check("a server has no way to the client", !away, || {
        routes.clone()
    });
    lesson.serve(net, PORT)
}

fn the_service(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    lesson.step("The director and the virtual service");
    lesson.say(
        "The director gets a local address in the servers' network that is for nothing else.
        --fullnat says NAT of both ends, and -P gives the service its local address (-z).",
    );
    let address = format!("ip addr add {LOCAL}/32 dev eth1");
    lesson.shell(&net.director, &address)?;
    lesson.start_director(net)?;
    lesson.make_service(net, "--fullnat")?;
    let service = net.service(PORT);
    let lend = format!("ipvsadm -P -t {service} -z {LOCAL}");
    lesson.pointsman(&net.director, &lend).map(drop)
}

/// Captures what a connection looks like on both sides.
fn both_ends(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    lesson.step("Both ends change");
    lesson.say(
        "Listening on both sides of the director while the client asks once more. A request's
        source becomes the local address and its destination the real server's; the server
        answers the director, which turns both back.",
    );
    let before = Capture::start(&net.client, "eth0")?;
    let behind = Capture::start(net.other("lan"), "director")?;
    lesson.ask(&net.client, net.vip, 1)?;
    let server = |seen: &Ip| net.servers.iter().any(|s| seen.destination == s.addr);
    let answer = |seen: &Ip| net.servers.iter().any(|s| seen.source == s.addr);
    let find = |capture: &Capture, what: &str, fits: &dyn Fn(&Ip) -> bool| {
        let is = |seen: &Captured| tcp(seen).is_some_and(|ip| fits(&ip));
        let found = capture.wait_for(what, Duration::from_secs(3), is)?;
        Ok::<_, Stop>(tcp(&found).map(|ip| show(&ip)).unwrap_or_default())
    };
    let lines = [
        ("request, client's side ", &before, "a request"),
        ("request, servers' side ", &behind, "a request"),
        ("reply,   servers' side ", &behind, "a reply"),
        ("reply,   client's side ", &before, "a reply"),
    ];
    let fits: [&dyn Fn(&Ip) -> bool; 4] = [
        &|ip| ip.source == net.client_addr && ip.destination == net.vip,
        &|ip| ip.source == LOCAL && server(ip),
        &|ip| answer(ip) && ip.destination == LOCAL,
        &|ip| ip.source == net.vip && ip.destination == net.client_addr,
    ];
    let mut text = String::new();
    for ((side, capture, what), fits) in lines.into_iter().zip(fits) {
        text += &format!("{side} {}\n", find(capture, what, fits)?);
    }
    lesson.show(&net.director, "packets seen", &text);
    lesson.check(
        "all four kinds of packets were there",
        text.lines().all(|line| line.contains('→')),
        || text.clone(),
    );
    Ok(())
}

/// What a segment with data says of its ends.
fn tcp(seen: &Captured) -> Option<Ip> {
    View::of(&seen.frame)?.ip.filter(|ip| ip.ports.is_some())
}

fn show(ip: &Ip) -> String {
    let (source, destination) = ip.ports.unwrap_or_default();
    format!("{}:{source} → {}:{destination}", ip.source, ip.destination)
}

fn who_asks(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    lesson.step("Who is the client?");
    lesson.say("Asked for /client, a server of this lab says whom it sees: the director.");
    let seen = ask_client(lesson, net)?;
    lesson.check(
        "the server sees the local address",
        seen == LOCAL.to_string(),
        || seen.clone(),
    );
    lesson.say(
        "With --toa the director names the client in a TCP option, and `realserver up --mode
        fullnat` has accept() and getpeername() answer with it, so that unmodified servers see
        and log the client. (With --proxy-protocol it names the client in a header before the
        data instead, for servers that expect one: nginx, HAProxy.)",
    );
    for server in &net.servers {
        let line = format!("pointsman realserver up --mode fullnat --director {LOCAL}");
        lesson.pointsman(&server.netns, &line)?;
    }
    let service = net.service(PORT);
    let edit = format!("ipvsadm -E -t {service} -s wrr --toa");
    lesson.pointsman(&net.director, &edit)?;
    let seen = ask_client(lesson, net)?;
    lesson.check(
        "the server sees the client",
        seen == net.client_addr.to_string(),
        || seen.clone(),
    );
    for server in &net.servers {
        lesson.pointsman(&server.netns, "pointsman realserver down")?;
    }
    Ok(())
}

fn ask_client(lesson: &mut Lesson, net: &Topology) -> Result<String, Stop> {
    let service = net.service(PORT);
    let reply = net.client.run(|| http::get(service, "/client"))?;
    let seen = reply.body.trim().to_owned();
    let line = format!("GET http://{}/client", net.vip);
    lesson.show(&net.client, &line, &seen);
    Ok(seen)
}
