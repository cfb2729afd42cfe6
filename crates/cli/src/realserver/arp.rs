//! Three ways to keep VIPs out of ARP.

use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::network;

/// How ARP is silenced about VIPs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arp {
    /// By arp_ignore and arp_announce, for all addresses of lo
    #[default]
    Sysctl,
    /// By rules of nftables, for the VIPs alone
    Nft,
    /// By programs on the interfaces, for the VIPs alone
    Ebpf,
}

impl Arp {
    /// The word of the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Sysctl => "sysctl",
            Self::Nft => "nft",
            Self::Ebpf => "ebpf",
        }
    }
}

const TABLE: &str = "pointsman-realserver";

/// Replaces the table by one that keeps these VIPs out of ARP.
pub fn set_rules(vips: &[IpAddr], interfaces: &[String]) -> Result<()> {
    let mut own = Vec::new();
    for interface in interfaces {
        if let Some(address) = network::own_address(interface, vips)? {
            own.push((interface.clone(), address.to_string()));
        }
    }
    nft(&rules(vips, &own))
}

/// The rules: questions for a VIP are not heard; what would name one as its sender names the interface's
/// own address, or is not said.
fn rules(vips: &[IpAddr], own: &[(String, String)]) -> String {
    let vips: Vec<_> = vips
        .iter()
        .filter(|vip| vip.is_ipv4())
        .map(IpAddr::to_string)
        .collect();
    let mut text = format!("add table arp {TABLE}\ndelete table arp {TABLE}\n");
    text += &format!("table arp {TABLE} {{\n");
    if !vips.is_empty() {
        let vips = vips.join(", ");
        text += &format!("  set vips {{ type ipv4_addr; elements = {{ {vips} }} }}\n");
        text += "  chain input {\n    type filter hook input priority 0;\n";
        text += "    arp operation request arp daddr ip @vips drop\n  }\n";
        text += "  chain output {\n    type filter hook output priority 0;\n";
        text += "    arp saddr ip @vips arp daddr ip @vips drop\n";
        for (interface, address) in own {
            text += &format!(
                "    oifname \"{interface}\" arp operation request arp saddr ip @vips arp saddr ip set {address}\n"
            );
        }
        text += "    arp saddr ip @vips drop\n  }\n";
    }
    text + "}\n"
}

/// True when the table is there.
pub fn has_rules() -> bool {
    let mut command = Command::new("nft");
    command.args(["list", "table", "arp", TABLE]);
    command.output().is_ok_and(|done| done.status.success())
}

/// Removes the table, if it is there.
pub fn remove_rules() -> Result<()> {
    nft(&format!(
        "add table arp {TABLE}\ndelete table arp {TABLE}\n"
    ))
}

fn nft(script: &str) -> Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("nft (Debian: apt install nftables; or choose --arp sysctl or ebpf)")?;
    // If it ended early its own words say why.
    let _ = child
        .stdin
        .take()
        .map(|mut stdin| stdin.write_all(script.as_bytes()));
    let done = child.wait_with_output().context("nft")?;
    if !done.status.success() {
        bail!("nft: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}
