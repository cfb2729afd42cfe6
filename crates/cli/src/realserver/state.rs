//! What `up` did, remembered so that `down` can undo it.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::ValueEnum;
use ipnet::IpNet;
use pointsman_api::Location;
use serde::{Deserialize, Serialize};

use super::arp::Arp;

/// How packets arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Direct routing: as they left the client
    #[default]
    Dr,
    /// Tunnelling: inside another packet (IP in IP, GUE, GRE), to be decapsulated
    Tun,
    /// FULLNAT: from an address of the director, which names the client in a TCP option
    Fullnat,
    /// NAT: as the client's; replies must go back through the director
    Nat,
}

impl Mode {
    /// The word of the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Dr => "dr",
            Self::Tun => "tun",
            Self::Fullnat => "fullnat",
            Self::Nat => "nat",
        }
    }

    /// True where packets come with the VIP as their destination.
    pub fn has_vips(self) -> bool {
        matches!(self, Self::Dr | Self::Tun)
    }
}

/// What `up` did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// How packets arrive.
    pub mode: Mode,
    /// How ARP is silenced.
    #[serde(default)]
    pub arp: Arp,
    /// Where they arrive.
    pub interfaces: Vec<String>,
    /// VIPs on `lo`.
    pub vips: Vec<IpAddr>,
    /// Where tunnelled packets, or connections that name a client, may come from; anywhere if empty.
    /// In NAT, who must be the gateway.
    #[serde(default)]
    pub directors: Vec<IpNet>,
    /// Where GUE comes to; the registered port if empty.
    #[serde(default)]
    pub gue_ports: Vec<u16>,
    /// Largest segments that clients of a tunnel are asked for, over IPv4 and IPv6.
    #[serde(default)]
    pub mss: Option<[u16; 2]>,
    /// The gateway that was set.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// Default routes as they were before, in the words of `ip route`.
    #[serde(default)]
    pub previous_routes: Vec<String>,
    /// Those of `vips` that were not on `lo` before.
    pub added: Vec<IpAddr>,
    /// Sysctls as they were, by path below `/proc/sys`.
    pub previous: BTreeMap<String, String>,
}

impl State {
    /// What is remembered of this network namespace.
    pub fn load(here: &Location) -> Result<Option<Self>> {
        let path = file(here);
        match fs::read(&path) {
            Ok(text) => Ok(Some(
                serde_json::from_slice(&text).with_context(|| path.display().to_string())?,
            )),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Remembers it.
    pub fn save(&self, here: &Location) -> Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        let directory = here.run_dir();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .with_context(|| directory.display().to_string())?;
        let path = file(here);
        let fresh = path.with_extension("json.new");
        fs::write(&fresh, serde_json::to_vec_pretty(self)?)
            .and_then(|()| fs::rename(&fresh, &path))
            .with_context(|| path.display().to_string())
    }

    /// Forgets it, and what else lies in the namespace's directories, which a director may share.
    pub fn forget(here: &Location) -> Result<()> {
        fs::remove_file(file(here)).context("removing the remembered state")?;
        let _ = fs::remove_file(drain_mark(here));
        let _ = fs::remove_dir(here.run_dir());
        let _ = fs::remove_dir(pin_dir(here));
        let _ = fs::remove_dir(here.pin_dir());
        Ok(())
    }
}

fn file(here: &Location) -> PathBuf {
    here.run_dir().join("realserver.json")
}

/// There while the server takes no new connections.
pub fn drain_mark(here: &Location) -> PathBuf {
    here.run_dir().join("realserver.drain")
}

/// Where programs and counters are pinned.
pub fn pin_dir(here: &Location) -> PathBuf {
    here.pin_dir().join("realserver")
}
