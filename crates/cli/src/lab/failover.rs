//! `pointsman lab failover`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use pointsman_testkit::load::Load;
use pointsman_testkit::{Director, Error, Netns, Topology, wait_until};

use super::lesson::{Lesson, PORT, Stop};

/// Adverts in the lab, in seconds: a tenth of the usual, so that nobody waits.
const INTERVAL: &str = "0.1";
/// Three adverts and the skew of priority 100: 3.609 times 0.1 s.
const MASTER_DOWN: Duration = Duration::from_millis(361);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(20);

/// The configuration of a director of the lab.
pub fn file_of(host: &Netns) -> PathBuf {
    std::env::temp_dir().join(format!("{}.conf", host.name()))
}

/// Teaches it on a network that stands.
pub fn teach(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    let Some(backup) = &net.backup else {
        unreachable!("this lab has two directors");
    };
    let directors = [&net.director, backup];
    the_network(lesson, net)?;
    the_directors(lesson, net, directors)?;
    a_clean_stop(lesson, net, directors)?;
    a_kill(lesson, net, directors)?;
    a_power_cut(lesson, net, directors)?;
    lesson.step("The backup ends");
    lesson.pointsman(backup, "pointsman director stop")?;
    let traces = Director::new("", backup).traces()?;
    lesson.check("nothing of it is left", traces.is_empty(), || {
        traces.join(", ")
    });
    Ok(())
}

fn the_network(lesson: &mut Lesson, net: &Topology) -> Result<(), Stop> {
    lesson.step("The network");
    lesson.say(
        "Two directors and two real servers share one segment behind a router, for direct routing.
        The VIP is on one director at a time, and VRRP says on which.",
    );
    lesson.draw(
        "
client ───────────────── router ───┬── director  192.168.0.200   ┐ VIP 192.168.0.100
172.25.254.10   172.25.254.1  │    ├── backup    192.168.0.201   ┘ on one of them
                   192.168.0.1┘    ├── rs1       192.168.0.101   ┐ VIP 192.168.0.100
                                   └── rs2       192.168.0.102   ┘ on lo, silent",
    );
    lesson.serve(net, PORT)?;
    for server in &net.servers {
        let line = format!("pointsman realserver up --vip {} --mode dr", net.vip);
        lesson.pointsman(&server.netns, &line)?;
    }
    Ok(())
}

fn the_directors(lesson: &mut Lesson, net: &Topology, directors: [&Netns; 2]) -> Result<(), Stop> {
    lesson.step("Two directors, one file each");
    lesson.say(
        "A keepalived.conf says what both do: the virtual server with its checks, and the VIP. The
        files differ in the priority alone: 150 here, 100 on the backup. Both directors have the
        services in their tables all the time, so that only the VIP has to move. Adverts leave ten
        times a second here; the usual is one.",
    );
    for (host, priority) in directors.into_iter().zip([150, 100]) {
        let text = configuration(net, priority);
        let file = file_of(host);
        fs::write(&file, &text).map_err(Error::os(file.display().to_string()))?;
        if priority == 150 {
            lesson.show(host, &format!("cat {}", file.display()), &text);
        }
        lesson.start_director_with(host, &file)?;
    }
    moves_to(lesson, net, directors, 0)?;
    let status = lesson.pointsman_finds(directors[0], "pointsman status")?;
    lesson.check(
        "the director says MASTER",
        status.contains("MASTER"),
        || status.clone(),
    );
    let pages = lesson.ask(&net.client, net.vip, 4)?;
    let in_turn = pages[0] != pages[1] && pages[..2] == pages[2..];
    let served = pages.iter().all(|page| page.starts_with("rs"));
    lesson.check("the real servers take turns", in_turn && served, || {
        pages.join(", ")
    });
    Ok(())
}

fn configuration(net: &Topology, priority: u8) -> String {
    let vip = net.vip;
    let mut text = format!(
        "global_defs {{
    vrrp_version 3
}}
vrrp_instance VI_1 {{
    state BACKUP
    interface eth0
    virtual_router_id 51
    priority {priority}
    advert_int {INTERVAL}
    virtual_ipaddress {{
        {vip}/32
    }}
}}
virtual_server {vip} {PORT} {{
    delay_loop 1
    lb_algo rr
    lb_kind DR
    protocol TCP
"
    );
    for server in &net.servers {
        text += &format!(
            "    real_server {} {PORT} {{
        TCP_CHECK {{
            connect_timeout 3
        }}
    }}
",
            server.addr
        );
    }
    text + "}\n"
}

fn a_clean_stop(lesson: &mut Lesson, net: &Topology, directors: [&Netns; 2]) -> Result<(), Stop> {
    lesson.step("A clean stop");
    lesson.say(
        "Eight clients ask all the time, each time over a new connection, while the master stops.
        It resigns, goes on balancing until it hears the backup, and only then lets go.",
    );
    let silence = during(net, || {
        lesson.pointsman(directors[0], "pointsman director stop")?;
        moves_to(lesson, net, directors, 1)
    })?;
    tell(lesson, net, silence, SLACK);
    comes_back(lesson, net, directors)
}

fn a_kill(lesson: &mut Lesson, net: &Topology, directors: [&Netns; 2]) -> Result<(), Stop> {
    lesson.step("kill -9");
    lesson.say(
        "A director that is killed says nothing. Its programs stay in the kernel and go on balancing
        by the table as it was, so clients notice nothing, and the backup takes over when three
        adverts and its skew have passed. The VIP stays on the dead one, too, until a director runs
        there again: under systemd that is a second later.",
    );
    let silence = during(net, || {
        Director::new("", directors[0]).kill()?;
        lesson.show(directors[0], "kill -9 PID", "");
        reached_at(net, directors[1])
    })?;
    tell(lesson, net, silence, SLACK);
    comes_back(lesson, net, directors)
}

fn a_power_cut(lesson: &mut Lesson, net: &Topology, directors: [&Netns; 2]) -> Result<(), Stop> {
    lesson.step("The power fails");
    lesson.say(
        "Now nothing forwards and nobody says so: the master's cable is cut at the switch. Clients
        wait for as long as a master may be silent: three adverts, and a skew of 256 less the
        backup's priority, in 256ths of an advert.",
    );
    let lan = net.other("lan");
    let silence = during(net, || {
        lesson.shell(lan, "ip link set director down")?;
        reached_at(net, directors[1])
    })?;
    tell(lesson, net, silence, MASTER_DOWN + SLACK);
    lesson.say("The power is back, and so is the higher priority.");
    lesson.shell(lan, "ip link set director up")?;
    moves_to(lesson, net, directors, 0)
}

fn comes_back(lesson: &mut Lesson, net: &Topology, directors: [&Netns; 2]) -> Result<(), Stop> {
    lesson.say("It starts again, and its priority brings the VIP back.");
    lesson.start_director_with(directors[0], &file_of(directors[0]))?;
    moves_to(lesson, net, directors, 0)
}

/// The longest time without an answer to any client while `happens` goes on.
fn during(net: &Topology, happens: impl FnOnce() -> Result<(), Stop>) -> Result<Duration, Stop> {
    let rest = Duration::from_millis(5);
    // A lost SYN must not be waited for a second: another connection tries.
    let patience = Duration::from_millis(100);
    let load = Load::start_paced(&net.client, net.service(PORT), 8, patience, rest);
    load.wait_for(100, PATIENCE)?;
    load.forget_silence();
    happens()?;
    load.wait_for(100, PATIENCE)?;
    Ok(load.stop().silence)
}

fn tell(lesson: &mut Lesson, net: &Topology, silence: Duration, allowed: Duration) {
    let millis = silence.as_millis();
    let text = format!("longest time without an answer: {millis} ms");
    lesson.show(&net.client, "eight clients, new connections", &text);
    let what = format!("clients waited no longer than {} ms", allowed.as_millis());
    lesson.check(&what, silence <= allowed, || format!("{millis} ms"));
}

/// The VIP is on one director alone, and the router knows.
fn moves_to(
    lesson: &mut Lesson,
    net: &Topology,
    directors: [&Netns; 2],
    holder: usize,
) -> Result<(), Stop> {
    let vip = format!(" {}/", net.vip);
    wait_until("the VIP on one director", PATIENCE, || {
        let mut held = directors.iter().map(|host| {
            let listed = host.ip("-o -4 addr show dev eth0");
            listed.is_ok_and(|listed| listed.contains(&vip))
        });
        let first = held.next() == Some(holder == 0);
        (first && held.next() == Some(holder == 1)).then_some(())
    })?;
    reached_at(net, directors[holder])?;
    let what = format!("the VIP is on {} alone", directors[holder].label());
    lesson.check(&what, true, String::new);
    Ok(())
}

/// Waits until the router sends packets for the VIP to this host; where nobody told it, it asks.
fn reached_at(net: &Topology, host: &Netns) -> Result<(), Stop> {
    let mac = host.mac("eth0")?.map(|byte| format!("{byte:02x}"));
    let mac = mac.join(":");
    let asks = format!("neigh show {} dev eth1", net.vip);
    let address = net.service(PORT);
    wait_until("the router to know", PATIENCE, || {
        let known = net.other("router").ip(&asks).ok()?;
        if known.is_empty() {
            let _ = net
                .client
                .run(|| pointsman_testkit::http::get(address, "/"));
        }
        known.contains(&mac).then_some(())
    })?;
    Ok(())
}
