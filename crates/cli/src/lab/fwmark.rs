//! `pointsman lab fwmark`.

use pointsman_testkit::{Topology, http};

use super::lesson::{Lesson, PORT, Stop, column};

/// The second port of the service.
const TLS: u16 = 443;
/// Its mark.
const MARK: u32 = 666;

/// Teaches it on a network that stands.
pub fn teach(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    the_network(lesson, net)?;
    the_rule(lesson, net)?;
    the_service(lesson, net)?;

    lesson.step("Two ports, one service");
    lesson.say(
        "The client asks port 80, then 443, and so on. Were these two services, each would begin
        with its own first server. It is one, and takes turns over both ports.",
    );
    takes_turns(lesson, net)?;
    counted(lesson, net, 4)?;

    back_to_the_programs(lesson, net)?;

    lesson.step("Staying with one server");
    lesson.say(
        "What firewall marks are mostly for: a shop's pages on port 80 and its till on 443 must
        be the same server for one client. -p makes the service persistent, over all its ports.",
    );
    lesson.pointsman(&net.director, &format!("ipvsadm -E -f {MARK} -s rr -p 300"))?;
    let pages = lesson.ask_ports(&net.client, net.vip, &[PORT, TLS, PORT, TLS])?;
    let one = pages.iter().all(|page| *page == pages[0]);
    lesson.check("one server answered on both ports", one, || {
        pages.join(", ")
    });
    let line = format!("ipvsadm -E -f {MARK} -s rr");
    lesson.pointsman(&net.director, &line)?;

    without_netfilter(lesson, net)
}

fn the_network(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    lesson.step("The network");
    lesson.say(
        "As in the NAT lab: a director with a leg in two networks is the gateway of two real
        servers. They serve a page on port 80 and on port 443.",
    );
    lesson.draw(
        "
client ─────────────────────── director ────────────┬── rs1  192.168.0.10   80, 443
172.25.254.10   172.25.254.100  │  192.168.0.100    └── rs2  192.168.0.20   80, 443
                     VIP ───────┘",
    );
    lesson.serve(net, PORT)?;
    lesson.serve(net, TLS)
}

fn the_rule(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    lesson.step("The mark");
    lesson.say(
        "A rule of the firewall marks what shall be one service: here TCP to two ports of the
        VIP. Whatever netfilter can match may be a service. The director must forward, because
        that is how a marked packet gets back to the programs.",
    );
    let rule = rule(net, "-A");
    lesson.shell(&net.director, &rule)?;
    let forward = lesson.shell(&net.director, "sysctl net.ipv4.ip_forward")?;
    let on = forward.trim_end().ends_with("= 1");
    lesson.check("the director forwards", on, || forward.clone());
    Ok(())
}

/// The firewall's rule, to be added (`-A`) or deleted (`-D`).
fn rule(net: &Topology, action: &str) -> String {
    format!(
        "iptables -t mangle {action} PREROUTING -d {} -p tcp -m multiport --dports {PORT},{TLS} \
         -j MARK --set-mark {MARK}",
        net.vip
    )
}

fn the_service(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    lesson.step("The virtual service");
    lesson.say(
        "-f says the mark in place of address and port. Real servers are added without a port,
        for each packet keeps its own.",
    );
    lesson.start_director(net)?;
    lesson.pointsman(&net.director, &format!("ipvsadm -A -f {MARK} -s rr"))?;
    for server in &net.servers {
        let line = format!("ipvsadm -a -f {MARK} -r {} -m", server.addr);
        lesson.pointsman(&net.director, &line)?;
    }
    let listing = lesson.pointsman(&net.director, "ipvsadm -Ln")?;
    let listed = listing.contains(&format!("FWM  {MARK} rr"));
    lesson.check("the service is listed by its mark", listed, || {
        listing.clone()
    });
    Ok(())
}

fn takes_turns(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    let pages = lesson.ask_ports(&net.client, net.vip, &[PORT, TLS, PORT, TLS])?;
    let page_of = |n: usize| http::page(&net.servers[n].name, net.servers[n].addr);
    let alternate = (0..4).all(|n| pages[n] == page_of(0) || pages[n] == page_of(1))
        && pages[0] != pages[1]
        && pages[0] == pages[2]
        && pages[1] == pages[3];
    lesson.check("the servers take turns over both ports", alternate, || {
        pages.join(", ")
    });
    Ok(())
}

fn counted(lesson: &mut Lesson, net: &Topology, expected: u64) -> Result<(), Stop> {
    let stats = lesson.stats(net, &MARK.to_string(), expected)?;
    let connections = column(&stats, &MARK.to_string(), 2);
    let what = format!("the service counted {expected} connections");
    lesson.check(&what, connections == Some(expected), || stats.clone());
    Ok(())
}

fn back_to_the_programs(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    lesson.step("How a marked packet comes back");
    lesson.say(
        "The programs stand before netfilter and cannot see marks it will set. So the director
        has rules by which the kernel routes new packets with that mark out of lo, where a
        program meets them. Only the first packet of a connection makes this detour.",
    );
    let rules = lesson.shell(&net.director, "ip rule")?;
    let steered = rules.contains(&format!("fwmark {MARK:#x} lookup"));
    lesson.check(
        "a routing rule leads the mark to the program",
        steered,
        || rules.clone(),
    );
    Ok(())
}

fn without_netfilter(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    lesson.step("Without netfilter");
    lesson.say(
        "The programs can give marks themselves, before netfilter: then there is no detour, and
        the director need not forward. First the firewall's rule goes.",
    );
    lesson.shell(&net.director, &rule(net, "-D"))?;
    let pages = lesson.ask_ports(&net.client, net.vip, &[PORT])?;
    let refused = pages.iter().all(|page| page.starts_with('('));
    lesson.check("without a mark there is no service", refused, || {
        pages.join(", ")
    });
    let line = format!(
        "pointsman mark add to {} protocol tcp port {PORT},{TLS} mark {MARK}",
        net.vip
    );
    lesson.pointsman(&net.director, &line)?;
    lesson.pointsman(&net.director, "pointsman mark list")?;
    lesson.shell(&net.director, "sysctl -w net.ipv4.ip_forward=0")?;
    takes_turns(lesson, net)
}
