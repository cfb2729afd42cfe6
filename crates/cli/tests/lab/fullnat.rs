//! FULLNAT: servers see the director as their client, and need no way back to anybody else.

use pointsman_testkit::{Hook, Method};

use crate::common::{self, PORT, Stage};
use crate::on_both_hooks;

on_both_hooks! {
    rr, transfers, udp, client_on_director, load,
    a_pool_is_listed_saved_and_restored,
}

/// What servers see.
pub const LOCAL: &str = "192.168.0.150";

/// The network of NAT, but the servers know no gateway.
pub fn stage(hook: Hook) -> Stage {
    let stage = Stage::new(Method::Nat, hook);
    for server in &stage.net.servers {
        server.netns.ip("route del default").unwrap();
    }
    let director = &stage.net.director;
    director
        .ip(&format!("address add {LOCAL}/32 dev eth1"))
        .unwrap();
    Stage {
        flag: "--fullnat",
        local: Some(LOCAL),
        ..stage
    }
}

fn rr(hook: Hook) {
    common::rr_spreads_exactly(&stage(hook));
}

fn transfers(hook: Hook) {
    common::big_transfers_arrive_whole(&stage(hook));
}

fn udp(hook: Hook) {
    common::datagrams_are_echoed(&stage(hook));
}

fn client_on_director(hook: Hook) {
    common::a_client_on_the_director_is_served(&stage(hook));
}

fn load(hook: Hook) {
    common::parallel_load_has_no_errors(&stage(hook));
}

fn a_pool_is_listed_saved_and_restored(hook: Hook) {
    let stage = stage(hook);
    stage.balance("rr");
    stage.ask(4);
    let service = stage.service();
    let listed = stage.ipvsadm("-G -n");
    let line = listed.lines().find(|line| line.contains(LOCAL)).unwrap();
    assert!(line.ends_with(" 4"), "four connections by it:\n{listed}");
    let (one, two) = (&stage.net.servers[0].addr, &stage.net.servers[1].addr);
    let rules = stage.ipvsadm("-S -n");
    let expected = format!(
        "-A -t {service} -s rr\n-P -t {service} -z {LOCAL}\n\
         -a -t {service} -r {one}:{PORT} --fullnat -w 1\n\
         -a -t {service} -r {two}:{PORT} --fullnat -w 1\n"
    );
    assert_eq!(rules, expected);
    assert!(stage.ipvsadm("-Ln").contains("FullNat"));
    // A second address that nobody has is told of.
    stage.pointsman(
        &stage.net.director,
        &format!("local-address add tcp/{service} 192.168.0.151"),
    );
    let status = stage.director().status().unwrap();
    let warnings = status["warnings"].as_array().unwrap();
    let told = |w: &&serde_json::Value| w.as_str().unwrap().contains("192.168.0.151");
    assert_eq!(warnings.iter().filter(told).count(), 1, "{warnings:?}");
    stage.pointsman(
        &stage.net.director,
        &format!("local-address del tcp/{service} 192.168.0.151"),
    );
    assert_eq!(stage.ipvsadm("-S -n"), expected);
}
