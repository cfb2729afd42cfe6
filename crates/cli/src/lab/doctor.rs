//! `pointsman lab doctor`.

use pointsman_testkit::{Netns, Topology};

use super::lesson::{Lesson, PORT, Stop};

/// Teaches it on a network that stands.
pub fn teach(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    lesson.step("A set-up that works");
    lesson.say(
        "Director and real servers share one segment, the VIP is on all of them, and only the
        director answers ARP for it. Where nothing is wrong the doctor says so, and exits with 0.",
    );
    lesson.serve(net, PORT)?;
    let vip = net.vip;
    lesson.shell(&net.director, &format!("ip addr add {vip}/32 dev lo"))?;
    for server in &net.servers {
        let line = format!("pointsman realserver up --vip {vip}");
        lesson.pointsman(&server.netns, &line)?;
    }
    lesson.start_director(net)?;
    lesson.make_service(net, "-g")?;
    lesson.requests_alternate(net)?;
    let server = &net.servers[0].netns;
    is_healthy(lesson, &net.director, "the director")?;
    is_healthy(lesson, server, "rs1")?;

    lesson.step("Somebody undoes the silence");
    lesson.say(
        "A reboot, another tool, a colleague: rs1 answers ARP for the VIP again. Clients notice only
        now and then, when their router happens to believe rs1.",
    );
    for scope in ["all", "eth0"] {
        let line = format!("sysctl -w net.ipv4.conf.{scope}.arp_ignore=0");
        lesson.shell(server, &line)?;
    }
    finds(lesson, server, "rs1", "arp-not-silent")?;
    lesson.say("The director sees it from outside, and names who it is:");
    finds(
        lesson,
        &net.director,
        "the director",
        "vip-claimed-by-another",
    )?;
    lesson.say("What it proposes mends it:");
    lesson.pointsman(server, &format!("pointsman realserver up --vip {vip}"))?;
    is_healthy(lesson, server, "rs1")?;
    is_healthy(lesson, &net.director, "the director")?;

    lesson.step("A VIP with the wrong prefix");
    lesson.say(
        "With /24 on lo, every neighbour of rs1 becomes one of its own addresses, and its replies to
        them never leave it.",
    );
    lesson.shell(server, &format!("ip addr del {vip}/32 dev lo"))?;
    finds(lesson, server, "rs1", "vip-missing")?;
    lesson.shell(server, &format!("ip addr add {vip}/24 dev lo"))?;
    finds(lesson, server, "rs1", "vip-prefix")?;
    lesson.shell(server, &format!("ip addr del {vip}/24 dev lo"))?;
    lesson.shell(server, &format!("ip addr add {vip}/32 dev lo"))?;
    is_healthy(lesson, server, "rs1")?;

    lesson.step("A rule that keeps nobody out");
    lesson.say(
        "Packets are balanced before netfilter sees them. A rule of the INPUT chain that worked with
        the kernel's IPVS does nothing here, and the doctor says so.",
    );
    let rule = "INPUT -p tcp --dport 80 -s 203.0.113.0/24 -j DROP";
    lesson.shell(&net.director, &format!("iptables -A {rule}"))?;
    finds(
        lesson,
        &net.director,
        "the director",
        "input-rules-bypassed",
    )?;
    lesson.shell(&net.director, &format!("iptables -D {rule}"))?;
    is_healthy(lesson, &net.director, "the director")
}

fn is_healthy(lesson: &mut Lesson, host: &Netns, who: &str) -> Result<(), Stop> {
    let text = lesson.pointsman_finds(host, "pointsman doctor")?;
    let fine = text.contains("nothing found");
    lesson.check(&format!("nothing is wrong with {who}"), fine, || {
        text.clone()
    });
    Ok(())
}

fn finds(lesson: &mut Lesson, host: &Netns, who: &str, name: &str) -> Result<(), Stop> {
    let text = lesson.pointsman_finds(host, "pointsman doctor")?;
    let found = text.lines().any(|line| line == name);
    lesson.check(&format!("{who}: {name}"), found, || text.clone());
    Ok(())
}
