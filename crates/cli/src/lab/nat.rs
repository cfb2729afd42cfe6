//! `pointsman lab nat`.

use pointsman_testkit::Topology;

use super::lesson::{Lesson, PORT, Stop, column};

/// Teaches it on a network that stands.
pub fn teach(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    the_network(lesson, net)?;
    the_servers(lesson, net)?;
    the_director(lesson, net)?;
    the_service(lesson, net)?;

    lesson.step("The client asks four times");
    lesson.say(
        "The client knows only the VIP. Each request is a new connection, and the scheduler rr
        (round robin) sends each new connection to the next real server.",
    );
    lesson.requests_alternate(net)?;

    lesson.step("What the director knows");
    lesson.say(
        "-Lnc lists the connections: who asked, for which virtual address, and which real server
        has it. They are closed by now and stay a while in TIME_WAIT, as in any TCP.",
    );
    let stats = lesson.look(net)?;
    lesson.say(
        "InPkts are packets of clients, OutPkts those of servers. With NAT the director counts
        both, because both directions pass through it: that is what limits NAT, and why direct
        routing (pointsman lab dr) exists.",
    );
    let replies = column(&stats, &net.service(PORT).to_string(), 4);
    lesson.check("replies passed the director", replies > Some(0), || {
        stats.clone()
    });

    lesson.step("Weights");
    lesson.say(
        "One server is twice as strong? wrr (weighted round robin) gives out connections in
        proportion to weights. -E edits the service, -e a real server; nothing is interrupted.",
    );
    lesson.weights(net, "-m")?;
    lesson.pointsman(&net.director, "ipvsadm -Ln")?;
    Ok(())
}

fn the_network(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    lesson.step("The network");
    lesson.say(
        "Five network namespaces of this machine play five boxes: a client, a director with a leg
        in two networks, a switch (lan), and two real servers that the client cannot reach.",
    );
    lesson.draw(
        "
client ─────────────────────── director ────────────┬── rs1  192.168.0.10
172.25.254.10   172.25.254.100  │  192.168.0.100    └── rs2  192.168.0.20
                     VIP ───────┘       gateway of rs1 and rs2",
    );
    for host in [&net.client, &net.director] {
        lesson.shell(host, "ip -brief -4 addr")?;
    }
    lesson.say(
        "The director must forward packets between its two legs, and the real servers must send
        their replies to it, not around it: it is their default gateway. Otherwise the client
        would get an answer from an address it never asked.",
    );
    let forward = lesson.shell(&net.director, "sysctl net.ipv4.ip_forward")?;
    lesson.check(
        "the director forwards",
        forward.trim_end().ends_with("= 1"),
        || forward.clone(),
    );
    let routes = lesson.shell(&net.servers[0].netns, "ip route")?;
    let gateway = routes.contains("default via 192.168.0.100");
    lesson.check("the director is the servers' gateway", gateway, || {
        routes.clone()
    });
    Ok(())
}

fn the_servers(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    lesson.step("The real servers");
    lesson.say(
        "Each real server serves a page that names it, so that one can see who answered. The
        director, having a leg in their network, can ask them directly.",
    );
    lesson.serve(net, PORT)?;
    for server in &net.servers {
        let pages = lesson.ask(&net.director, server.addr, 1)?;
        let expected = pointsman_testkit::http::page(&server.name, server.addr);
        let what = format!("{} names itself", server.name);
        lesson.check(&what, pages == [expected], || pages.join(", "));
    }
    Ok(())
}

fn the_director(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    lesson.step("The director");
    lesson.say(
        "The director loads its eBPF programs and attaches them to the interfaces. The status
        tells which hook of the kernel runs them on which interface, and why that one.
        (ipvsadm alone would have started it, too.)",
    );
    lesson.start_director(net)
}

fn the_service(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    lesson.step("The virtual service");
    lesson.say(
        "-A adds a virtual service: TCP (-t) to the VIP, scheduler (-s) rr. -a adds real servers
        (-r) to it; -m says masquerading, the old word for NAT: the director writes the real
        server's address over the VIP, and in replies the VIP over the server's address.",
    );
    lesson.make_service(net, "-m")
}
