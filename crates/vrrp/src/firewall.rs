//! Packets that a firewall keeps away: to addresses of `no_accept` instances, and what a virtual
//! MAC's interface would say on its own.
//!
//! The rules stand from start to stop. A backup does not have the addresses, so that nothing of
//! these rules need change when an instance becomes master, and it loses no time to it.

use std::fmt::Write;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use pointsman_model::vrrp::VrrpGlobals;

/// What is kept away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Addresses that take no packets.
    pub deaf: Vec<IpAddr>,
    /// Interfaces that must not speak for themselves.
    pub mute: Vec<String>,
}

impl Rules {
    pub fn is_empty(&self) -> bool {
        self.deaf.is_empty() && self.mute.is_empty()
    }
}

/// Has exactly these rules in force, in one step.
pub(crate) fn apply(globals: &VrrpGlobals, rules: &Rules) -> io::Result<()> {
    run(&script(globals, rules))
}

/// Takes all of them back.
pub(crate) fn remove(globals: &VrrpGlobals) -> io::Result<()> {
    let table = &globals.nftables_table;
    run(&format!(
        "table inet {table} {{}}\ndelete table inet {table}\n"
    ))
}

fn script(globals: &VrrpGlobals, rules: &Rules) -> String {
    let table = &globals.nftables_table;
    let priority = globals.nftables_priority;
    let count = if globals.nftables_counters {
        "counter "
    } else {
        ""
    };
    let mut text =
        format!("table inet {table} {{}}\ndelete table inet {table}\ntable inet {table} {{\n");
    let _ = writeln!(
        text,
        "chain input {{ type filter hook input priority {priority}; policy accept;"
    );
    for ip in &rules.deaf {
        let _ = match ip {
            IpAddr::V4(ip) => writeln!(text, "ip daddr {ip} {count}drop"),
            // Neighbour discovery goes on (RFC 9568 §6.4.3).
            IpAddr::V6(ip) => writeln!(
                text,
                "ip6 daddr {ip} icmpv6 type != {{ 133, 134, 135, 136, 137 }} {count}drop\n\
                 ip6 daddr {ip} meta l4proto != 58 {count}drop"
            ),
        };
    }
    let _ = writeln!(
        text,
        "}}\nchain output {{ type filter hook output priority {priority}; policy accept;"
    );
    for interface in &rules.mute {
        // IGMP; MLD and router solicitations.
        let _ = writeln!(
            text,
            "oifname \"{interface}\" meta l4proto 2 {count}drop\n\
             oifname \"{interface}\" icmpv6 type {{ 130, 131, 132, 133, 143 }} {count}drop"
        );
    }
    text.push_str("}\n}\n");
    text
}

fn run(script: &str) -> io::Result<()> {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        // A signal to our group, which ends us, must not end it halfway.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("starting nft: {error}")))?;
    if let Some(mut stdin) = nft.stdin.take() {
        // What nft has to say matters more than that it would not read on.
        let _ = stdin.write_all(script.as_bytes());
    }
    let output = nft.wait_with_output()?;
    if output.status.success() {
        Ok(())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("nft: {}", said.trim())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table_is_replaced_in_one_script() {
        let rules = Rules {
            deaf: vec!["10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            mute: vec!["vrrp.51".into()],
        };
        let script = script(&VrrpGlobals::default(), &rules);
        assert!(script.starts_with("table inet keepalived {}\ndelete table inet keepalived\n"));
        assert!(script.contains("ip daddr 10.0.0.1 drop"));
        assert!(script.contains("oifname \"vrrp.51\" meta l4proto 2 drop"));
    }
}
