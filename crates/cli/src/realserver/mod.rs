//! `pointsman realserver`: makes a host a fit real server, and an ordinary host again.
//!
//! Direct routing and tunnelling deliver packets whose destination is still the VIP, so the VIP
//! must be an address of every real server, yet nobody on the segment may learn that it is: only
//! the director answers ARP for it. `up` silences ARP first and then puts the VIP on `lo`; `down`
//! goes the other way and restores everything as it was. Behind FULLNAT, `up` lets servers see the
//! client's address; behind NAT it leads replies back through the director. What `up` changed is
//! remembered in `/run/pointsman/<netns cookie>/realserver.json`, written before anything is touched.

mod agent;
pub(crate) mod arp;
pub(crate) mod connections;
mod drain;
mod file;
pub(crate) mod network;
pub(crate) mod state;
mod status;
pub(crate) mod sysctl;
mod up;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use arp::Arp;
use state::Mode;

/// What to do with this real server.
#[derive(Args, Debug)]
pub struct RealserverArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Accept what the director sends, without claiming its addresses on the network
    Up(UpCommand),
    /// Undo everything `up` did
    Down,
    /// Show what is set up; exit status 1 if nothing is, or not all of it
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Take no new connections (the agent says so), and wait for the last one to end
    Drain {
        /// Seconds to wait; exit status 1 if there are connections left then [default: for ever]
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
        /// Port that clients are served on; may be repeated [default: every connection to a VIP]
        #[arg(long)]
        port: Vec<u16>,
    },
    /// Take new connections again
    Ready,
    /// Tell directors how much this server can take, in HAProxy's agent-check words
    Agent {
        /// Where to listen
        #[arg(long, value_name = "ADDRESS:PORT", default_value = "[::]:8777")]
        listen: SocketAddr,
        /// Print it once instead
        #[arg(long)]
        once: bool,
    },
}

#[derive(Args, Debug)]
struct UpCommand {
    /// Read the options from a file instead [default file: /etc/pointsman/realserver.toml]
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        default_missing_value = file::DEFAULT,
        exclusive = true
    )]
    config: Option<PathBuf>,
    #[command(flatten)]
    wish: Wish,
}

/// How a real server is to be set up: the options of `up`, and what its file says.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Wish {
    /// How the director forwards to this server
    #[arg(long, value_enum, default_value_t = Mode::Dr)]
    mode: Mode,
    /// Virtual address; may be repeated (modes dr and tun)
    #[arg(long)]
    vip: Vec<IpAddr>,
    /// How ARP is kept silent about VIPs (modes dr and tun)
    #[arg(long, value_enum, default_value_t = Arp::Sysctl)]
    arp: Arp,
    /// Address that tunnelled packets (tun), or connections that name a client (fullnat), may come from, or
    /// a network of them; the gateway that replies must take (nat); may be repeated [default: any]
    #[arg(long, value_parser = address_or_network)]
    #[serde(with = "file::networks")]
    director: Vec<IpNet>,
    /// UDP port that carries GUE (tun); may be repeated [default: 6080]
    #[arg(long)]
    gue_port: Vec<u16>,
    /// Largest TCP segment to ask clients for, in bytes (tun) [default: what fits through the tunnel;
    /// 0: leave it alone]
    #[arg(long)]
    mss: Option<u16>,
    /// Make the director the default route (nat)
    #[arg(long)]
    gateway: Option<IpAddr>,
    /// Interface that packets from the director arrive on; may be repeated [default: every
    /// Ethernet interface]
    #[arg(long)]
    interface: Vec<String>,
}

fn address_or_network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpAddr>()
        .map(IpNet::from)
        .or_else(|_| text.parse())
        .map_err(|_| "expected an address, or a network such as 10.0.0.0/24".to_owned())
}

/// Runs the subcommand in the calling thread's network namespace.
pub fn run(args: &RealserverArgs) -> ExitCode {
    let done = match &args.action {
        Action::Up(args) => args.up().map(|()| true),
        Action::Down => up::down().map(|()| true),
        Action::Status { json } => status::show(*json),
        Action::Drain { timeout, port } => drain::drain(*timeout, port),
        Action::Ready => drain::ready().map(|()| true),
        Action::Agent { once: true, .. } => agent::once().map(|()| true),
        Action::Agent { listen, .. } => agent::serve(*listen).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("pointsman realserver: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl UpCommand {
    fn up(&self) -> Result<()> {
        match &self.config {
            Some(path) => up::up(&file::read(path)?),
            None => up::up(&self.wish),
        }
    }
}
#[cfg(test)]
mod tests;
