//! SIP: sipp calls through the VIP, one datagram at a time.

use std::net::Ipv4Addr;
use std::process::{Child, Stdio};
use std::time::Duration;

use pointsman_testkit::{Hook, Method, Netns, wait_until};

use crate::common::{Stage, until_bound};
use crate::on_both_hooks;

on_both_hooks! {
    every_call_stays_with_its_server,
}

const SIP: u16 = 5060;

/// A sipp that answers calls.
struct Answering(Child);

impl Answering {
    fn start(netns: &Netns, addr: Ipv4Addr) -> Self {
        let mut sipp = netns.command("sipp");
        sipp.args(["-sn", "uas", "-nostdin", "-i", &addr.to_string()])
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let started = Self(sipp.spawn().expect("sipp (Debian package sip-tester)"));
        until_bound(netns, SIP);
        started
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Each call is an INVITE, an ACK and a BYE: were they not to meet in one server, the call would fail.
/// All calls at once come from one port (`u1`), or each from its own (`un`).
fn every_call_stays_with_its_server(hook: Hook) {
    let stage = Stage::new(Method::Nat, hook);
    let servers = stage.net.servers.iter();
    let _answering: Vec<_> = servers
        .map(|server| Answering::start(&server.netns, server.addr))
        .collect();
    let service = stage.net.service(SIP);
    stage.ipvsadm(&format!("-A -u {service} -s rr -p 60 -o --pe sip"));
    for server in &stage.net.servers {
        stage.ipvsadm(&format!("-a -u {service} -r {}:{SIP} -m", server.addr));
    }
    let client = stage.net.client_addr.to_string();
    for (n, transport) in ["u1", "un"].into_iter().enumerate() {
        let output = stage
            .net
            .client
            .command("sipp")
            .args(["-sn", "uac", "-nostdin", "-i", &client, "-t", transport])
            .args([
                "-m",
                "20",
                "-r",
                "20",
                "-d",
                "300",
                "-timeout",
                "30",
                "-max_socket",
                "100",
            ])
            .arg(service.to_string())
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let end = &said[said.len().saturating_sub(4000)..];
        assert!(
            output.status.success(),
            "{transport}: {end}{}\n{}\n{}",
            String::from_utf8_lossy(&output.stderr),
            stage.ipvsadm("-Ln --stats"),
            stage.ipvsadm("-Lnc --persistent-conn"),
        );
        // Ten calls each, of three requests and three answers; sipp repeats what takes long.
        let calls = 10 * (n as u64 + 1);
        wait_until("totals", Duration::from_secs(10), || {
            let stats = stage.ipvsadm("-Ln --stats --exact");
            let right = |number| (3 * calls..4 * calls).contains(&number);
            let counted = stage.net.servers.iter().all(|server| {
                let name = format!("{}:{SIP}", server.addr);
                (3..5).all(|index| right(Stage::column(&stats, &name, index)))
            });
            counted.then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", stage.ipvsadm("-Ln --stats")));
        let listed = stage.ipvsadm("-Lnc --persistent-conn");
        let mut templates: Vec<_> = listed.lines().filter(|l| l.starts_with("UDP")).collect();
        assert_eq!(templates.len() as u64, 2 * calls, "{listed}");
        for line in &templates {
            let words: Vec<_> = line.split_whitespace().collect();
            assert_eq!(words[3], format!("{client}:0"), "{line}");
            assert_eq!((words[4], words[6]), (&*service.to_string(), "sip"));
            assert!(words[7].ends_with(&format!("@{client}")), "{line}");
        }
        templates.sort_by_key(|line| line.split_whitespace().nth(5));
        let first = templates[0].split_whitespace().nth(5);
        let of_one = templates
            .iter()
            .filter(|line| line.split_whitespace().nth(5) == first);
        assert_eq!(of_one.count() as u64, calls, "{listed}");
    }
    let listed = stage.pointsman(&stage.net.director, "proc ip_vs_conn");
    assert_eq!(listed.matches(" sip ").count(), 40, "{listed}");
}
