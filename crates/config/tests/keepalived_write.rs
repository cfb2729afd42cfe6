//! What is written reads as what was written.

mod support;

use pointsman_config::diag::Severity;
use pointsman_config::keepalived::{Loaded, Options, write};
use proptest::prelude::*;
use support::memory::Memory;

fn read(text: &str) -> Loaded {
    Memory::new(&[("/k.conf", text)]).read("/k.conf", &Options::default())
}

fn comes_back(text: &str) {
    let site = read(text).site;
    let written = write(&site);
    let again = read(&written);
    if again.site != site {
        let (before, after) = (format!("{site:#?}"), format!("{:#?}", again.site));
        let (before, after): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
        let at = before
            .iter()
            .zip(&after)
            .position(|(a, b)| a != b)
            .unwrap_or(0);
        let around = at.saturating_sub(12)..at + 3;
        panic!(
            "not the same:\n{:#?}\nbecame {:?}\n{written}",
            before.get(around).unwrap_or(&before),
            after.get(at)
        );
    }
}

#[test]
fn a_configuration_with_everything_in_it_comes_back() {
    let text = include_str!("keepalived_everything.conf");
    let loaded = read(text);
    assert_eq!(loaded.diagnostics.render(Severity::Warning), "");
    comes_back(text);
    let written = write(&loaded.site);
    assert_eq!(
        read(&written).diagnostics.render(Severity::Warning),
        "",
        "{written}"
    );
}

#[test]
fn what_nobody_asked_for_is_not_written() {
    let text = "vrrp_instance a {\ninterface lan\nvirtual_router_id 7\nvirtual_ipaddress {\n192.0.2.1/24\n}\n}\n";
    let site = read(text).site;
    let written = write(&site);
    for word in ["eth0", "default_interface", "vmac", "nftables"] {
        assert!(!written.contains(word), "{word}: {written}");
    }
    comes_back(&format!(
        "global_defs {{\ndefault_interface lan\nnftables t\n}}\n{text}"
    ));
}

/// Lines as they may stand in each kind of block, good ones and bad ones.
const GLOBAL: &[&str] = &[
    "router_id \"a b#c\"",
    "vrrp_strict",
    "vrrp_version 3",
    "vrrp_min_garp",
    "smtp_alert",
    "lvs_flush_on_stop VS",
    "notification_email { \"A B <a@b>\" }",
    "smtp_server mail 2525",
    "umask IRWXG|IRWXO",
    "lvs_timeouts tcp 5 udp 7",
    "lvs_sync_daemon eth0 VI_1 id 3 port 99",
    "notify_fifo /f a b",
    "script_user x:y",
    "vrrp_garp_interval 0.000001",
    "webhook http://x/y 2.5",
    "smtp_tls always",
    "smtp_tls starttls",
    "default_interface lan",
    "vmac_prefix v",
    "vmac_addr_prefix vrrp",
    "nftables",
    "nftables_priority 3",
    "bogus",
];
const INSTANCE: &[&str] = &[
    "state MASTER",
    "state BACKUP",
    "priority 255",
    "priority 7",
    "version 3",
    "advert_int 0.25",
    "nopreempt",
    "preempt_delay 3.5",
    "authentication { \nauth_type PASS\nauth_pass 0123456789\n}",
    "use_vmac",
    "use_vmac vrrp.9",
    "use_ipvlan ip.1 10.9.9.9/24 private",
    "strict_mode",
    "unicast_peer { 10.9.9.1 }",
    "unicast_src_ip 10.9.9.2",
    "unicast_peer {\n fe80::9 min_ttl 3\n}",
    "track_interface {\n eth1 weight -5\n eth0\n}",
    "track_script {\n S weight 3 reverse\n}",
    "virtual_ipaddress { 10.0.0.1/24 dev eth2 label eth2:x }",
    "virtual_ipaddress { 2001:db8::1/64 -nodad }",
    "virtual_ipaddress { fe80::5 }",
    "virtual_ipaddress_excluded { 10.0.0.2 peer 10.0.0.3/31 }",
    "virtual_rules { from 10.0.0.0/8 table 7 }",
    "virtual_routes {\n 10.1.0.0/16 via 10.0.0.9 dev eth0 mtu lock 1400\n default nexthop via 10.0.0.1 nexthop via 10.0.0.2 weight 2\n}",
    "notify \"/bin/x 'a b' \\\"c\\\"\" u g",
    "notify_master /bin/\\$x",
    "notify_deleted",
    "smtp_alert off",
    "garp_master_delay 0",
    "accept",
    "no_accept",
    "advert_int 300",
    "no_virtual_ipaddress",
    "wat",
];
const VIRTUAL: &[&str] = &[
    "protocol TCP",
    "protocol udp",
    "lb_algo mh\nmh-port",
    "lb_kind DR",
    "lb_kind TUN type gue port 5555 csum",
    "persistence_timeout 9",
    "persistence_granularity 255.255.255.0",
    "persistence_granularity 64",
    "quorum 3",
    "hysteresis 7",
    "alpha",
    "omega",
    "sorry_server 10.0.0.9 81",
    "sorry_server_inhibit",
    "inhibit_on_failure",
    "delay_loop 2.5",
    "retry 4",
    "warmup 0",
    "virtualhost v.example",
    "weight 3",
    "smtp_alert",
    "ops",
    "ha_suspend",
    "quorum_up \"/bin/q up\"",
    "ip_family inet6",
    "real_server 10.0.0.7 82 { weight 0 }",
];
const REAL: &[&str] = &[
    "weight 5",
    "lvs_method NAT",
    "uthreshold 10",
    "alpha off",
    "inhibit_on_failure off",
    "notify_down /bin/d",
    "retry 9",
    "TCP_CHECK { connect_port 81\n bindto 10.0.0.2 }",
    "HTTP_GET {\n url { path \"/a b\"\n status_code 200 300-305 }\n}",
    "SSL_GET {\n enable_sni\n virtualhost w\n url {\n path /\n regex \"a{2}\\\\d \\\"\"\n regex_options caseless\n }\n}",
    "SMTP_CHECK {\n host { connect_ip 10.0.0.3 }\n host { connect_port 26 }\n}",
    "DNS_CHECK { type A }",
    "PING_CHECK { }",
    "MISC_CHECK {\n user u\n misc_path \"/bin/c 'x'\"\n misc_dynamic\n}",
    "UDP_CHECK {\n payload 0a1\n require_reply x1\n}",
    "FILE_CHECK {\n track_file F\n}",
    "PASSIVE_CHECK { streak 5\n hold 2.5 }",
    "AGENT_CHECK { agent_send hi }",
    "true_path",
];

fn some(lines: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::sample::subsequence(lines, 0..=lines.len().min(9))
        .prop_shuffle()
        .prop_map(|lines| lines.join("\n"))
}

fn name() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "10.0.0.100 80",
        "10.0.0.100",
        "2001:db8::100 80",
        "fwmark 7",
        "group G",
        "group H",
        "group none",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_was_read_comes_back(
        globals in some(GLOBAL), instance in some(INSTANCE), other in some(INSTANCE), virtuals in some(VIRTUAL),
        real in some(REAL), second in some(REAL), name in name(),
    ) {
        comes_back(&format!(
            "vrrp_script S {{\nscript /bin/s\nweight 2\n}}\ntrack_file F {{ file /f }}\n\
             global_defs {{\n{globals}\n}}\n\
             vrrp_instance VI_1 {{\ninterface eth0\nvirtual_router_id 5\n{instance}\n}}\n\
             vrrp_instance VI_2 {{\ninterface eth9\nvirtual_router_id 6\n{other}\n}}\n\
             vrrp_sync_group SG {{ group {{ VI_1\n VI_2 }} }}\n\
             virtual_server_group G {{\n10.0.0.1-3 80\nfwmark 9\n}}\nvirtual_server_group H {{ fwmark 3 inet6\n}}\n\
             virtual_server {name} {{\n{virtuals}\nreal_server 10.0.0.1 80 {{\n{real}\n}}\nreal_server 2001:db8::1 80 {{\n{second}\n}}\n}}\n"
        ));
    }
}

/// What files are made of: every keyword, and whatever may stand around them.
fn pieces() -> Vec<String> {
    let keywords = pointsman_config::keepalived::tables()
        .into_iter()
        .flat_map(|t| t.entries);
    let mut pieces: Vec<String> = keywords.map(|entry| entry.name.to_owned()).collect();
    pieces.sort();
    pieces.dedup();
    let rest = [
        "{",
        "}",
        "\n",
        " ",
        "\"",
        "'",
        "\\",
        "#",
        "!",
        "$A",
        "${A}",
        "$A=",
        "\n$A=\\\n",
        "@id ",
        "@^id ",
        "~SEQ(A,1,3) ",
        "~SEQx(A,-9,0x7fffffffffffffff,9223372036854775807) ",
        "~LST({A,B},{1},{2,3}) ",
        "include more\n",
        "include k.conf\n",
        "include *\n",
        "10.0.0.1",
        "10.0.0.1/33",
        "10.0.0.1-255.255.255.255",
        "::1",
        "fe80::/10",
        "0",
        "1",
        "255",
        "256",
        "-1",
        "99999999999999999999",
        "0.0000001",
        "4294967295",
        "ä",
        "\u{0}",
        "hex:zz",
        "x",
        "MASTER",
        "TUN",
        "type gue port 7",
        "${_RANDOM 9 1}",
        "${_RANDOM 18446744073709551615}",
        "${_ENV X}",
        "/",
        "-",
        "lock",
        "weight",
        "\r\n",
        "\t",
    ];
    pieces.extend(rest.map(str::to_owned));
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn whatever_stands_in_a_file_can_be_read(
        words in proptest::collection::vec((proptest::sample::select(pieces()), any::<bool>()), 0..120),
        more in proptest::collection::vec(proptest::sample::select(pieces()), 0..20),
        block in proptest::sample::select(vec![
            "", "global_defs {\n", "vrrp_instance V {\ninterface e\nvirtual_router_id 1\n", "virtual_server 10.0.0.1 80 {\n",
            "virtual_server 10.0.0.1 80 {\nreal_server 10.0.0.2 80 {\n", "vrrp_instance V {\nvirtual_routes {\n",
            "vrrp_instance V {\nvirtual_ipaddress {\n", "static_rules {\n", "vrrp_sync_group V {\n", "bfd_instance b {\n",
            "virtual_server 10.0.0.1 80 {\nreal_server 10.0.0.2 80 {\nSSL_GET {\nurl {\n",
        ]),
    ) {
        let mut text = block.to_owned();
        for (word, ends) in words {
            text.push_str(&word);
            text.push(if ends { '\n' } else { ' ' });
        }
        let files = [("/k.conf", text.as_str()), ("/more", &more.join(" "))];
        let loaded = Memory::new(&files).read("/k.conf", &Options::default());
        loaded.diagnostics.render(Severity::NoEffect);
        let again = read(&write(&loaded.site)).site;
        prop_assert_eq!(again.vrrp.instances.len(), loaded.site.vrrp.instances.len());
        prop_assert_eq!(again.virtual_servers.len(), loaded.site.virtual_servers.len());
    }
}
