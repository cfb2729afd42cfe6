//! DNS by one-packet scheduling: dnsmasq answers, dig asks.

use std::process::{Child, Stdio};

use pointsman_testkit::{Hook, Method};

use crate::common::{Stage, until_bound};
use crate::on_both_hooks;

on_both_hooks! {
    queries_of_one_port_go_to_all_servers,
    through_a_tunnel,
}

const DNS: u16 = 53;
const NAME: &str = "who.lab.test";

/// A dnsmasq whose `TXT who.lab.test` is the name of its host.
struct NameServer(Child);

impl NameServer {
    fn start(stage: &Stage, n: usize) -> Self {
        let server = &stage.net.servers[n];
        let mut dnsmasq = server.netns.command("/usr/sbin/dnsmasq");
        dnsmasq
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--pid-file",
            ])
            .args([
                "--no-resolv",
                "--no-hosts",
                "--user=root",
                "--bind-interfaces",
            ])
            .arg(format!("--listen-address={}", stage.net.vip))
            .arg(format!("--port={DNS}"))
            .arg(format!("--txt-record={NAME},{}", server.name))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let started = Self(dnsmasq.spawn().expect("dnsmasq (package dnsmasq-base)"));
        until_bound(&server.netns, DNS);
        started
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What dig is told, always from one port.
#[track_caller]
fn ask(stage: &Stage) -> String {
    let mut dig = stage.net.client.command("dig");
    let output = dig
        .args(["+short", "+tries=1", "+time=10", "+nocookie", "-t", "TXT"])
        .args(["-b", &format!("{}#4053", stage.net.client_addr)])
        .args([format!("@{}", stage.net.vip), NAME.into()])
        .output()
        .expect("dig (package bind9-dnsutils)");
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(
        output.status.success(),
        "{said}\n{}",
        stage.pointsman(&stage.net.director, "director status")
    );
    said
}

/// One after the other without `-o` all go to one server, as they are one connection; with it each is
/// scheduled, and no connection is kept.
fn scheduled_one_by_one(stage: &Stage) {
    let _servers = [0, 1].map(|n| NameServer::start(stage, n));
    let service = stage.net.service(DNS);
    let balance = |option: &str| {
        stage.ipvsadm(&format!("-A -u {service} -s rr {option}"));
        for server in &stage.net.servers {
            let flag = stage.flag;
            stage.ipvsadm(&format!("-a -u {service} -r {}:{DNS} {flag}", server.addr));
        }
    };
    balance("-o");
    let answers: Vec<String> = (0..20).map(|_| ask(stage)).collect();
    let expected: Vec<String> = (0..20).map(|n| format!("\"rs{}\"", 2 - n % 2)).collect();
    assert_eq!(answers, expected);
    let connections = stage.ipvsadm("-Lnc");
    assert!(!connections.contains("UDP"), "{connections}");
    stage.stats_of(service, 2, 20);

    stage.ipvsadm("-C");
    balance("");
    let answers: Vec<String> = (0..4).map(|_| ask(stage)).collect();
    assert_eq!(answers, ["\"rs2\""; 4]);
}

fn queries_of_one_port_go_to_all_servers(hook: Hook) {
    scheduled_one_by_one(&Stage::new(Method::DirectRouting, hook));
}

fn through_a_tunnel(hook: Hook) {
    scheduled_one_by_one(&Stage::new(Method::Tunnel, hook));
}
