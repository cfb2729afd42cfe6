//! Where a scenario plays: a director between two cables, over the kernel's IPVS or Pointsman.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use pointsman_api::{Change, Client};
use pointsman_model::{Counters, Rates, Timeouts, Variable, VariableView};
use pointsman_testkit::wire::{cable, complete_frames};
use pointsman_testkit::{Director, Hook, Names, Netns, pass_everything};

use crate::ends::Ends;

/// Who balances.
#[derive(Clone, Debug)]
pub enum World {
    /// The kernel's IPVS, driven by the original ipvsadm.
    Kernel,
    /// Pointsman: this program, on this hook.
    Pointsman {
        /// The executable.
        program: PathBuf,
        /// Where its programs run.
        hook: Hook,
    },
}

/// Modules that the kernel would load only when asked, or not at all in a namespace.
const MODULES: [&str; 15] = [
    "ip_vs",
    "ip_vs_rr",
    "ip_vs_wrr",
    "ip_vs_lc",
    "ip_vs_wlc",
    "ip_vs_sed",
    "ip_vs_nq",
    "ip_vs_fo",
    "ip_vs_ovf",
    "ip_vs_dh",
    "ip_vs_sh",
    "ip_vs_mh",
    "ip_vs_lblc",
    "ip_vs_lblcr",
    "ip_vs_twos",
];

/// What makes the director a plain router that answers everything it is asked.
const SYSCTLS: &[(&str, &str)] = &[
    ("net.ipv4.ip_forward", "1"),
    ("net.ipv4.icmp_ratelimit", "0"),
    ("net.ipv6.icmp.ratelimit", "0"),
    ("net.ipv6.conf.all.disable_ipv6", "0"),
    ("net.ipv6.conf.default.disable_ipv6", "0"),
    ("net.ipv6.conf.default.accept_dad", "0"),
    ("net.ipv6.conf.default.router_solicitations", "0"),
    ("net.ipv6.conf.all.forwarding", "1"),
    ("net.ipv4.conf.all.rp_filter", "0"),
    ("net.ipv4.conf.default.rp_filter", "0"),
    ("net.ipv4.conf.all.send_redirects", "0"),
    ("net.ipv4.conf.default.send_redirects", "0"),
];

/// The director's addresses. Virtual ones are whole networks, so that scenarios choose freely.
const ADDRESSES: &str = "\
addr add 10.1.255.254/16 dev eth0
addr add 10.2.255.254/16 dev eth1
addr add fd00:1::fffe/64 dev eth0 nodad
addr add fd00:2::fffe/64 dev eth1 nodad
addr add 10.1.100.1/32 dev lo
addr add fd00:100::1/128 dev lo nodad
route add local 10.1.100.0/24 dev lo
-6 route add local fd00:100::/64 dev lo
";

/// A director with its two cables; everything ends when it is dropped.
pub struct Stage {
    /// The far ends.
    pub ends: Ends,
    world: World,
    director: Netns,
    _far: Netns,
    /// How Pointsman is right after its start.
    fresh: Option<Fresh>,
}

/// What scenarios may change in a director, but for what the change of it removes as well.
#[derive(Debug, PartialEq)]
struct Fresh {
    variables: Vec<VariableView>,
    timeouts: Timeouts,
    counted: (Counters, Rates),
}

impl Fresh {
    fn read(client: &Client) -> Result<Self> {
        let totals = client.totals()?;
        Ok(Self {
            variables: client.variables()?,
            timeouts: client.timeouts()?,
            // Not those of each processor, which nothing zeroes and no scenario reads.
            counted: (totals.counters, totals.rates),
        })
    }
}

impl Stage {
    /// Builds the network and starts the director.
    pub fn new(world: World) -> Result<Self> {
        if let World::Kernel = world {
            let status = Command::new("modprobe").arg("-a").args(MODULES).status()?;
            ensure!(status.success(), "this kernel's IPVS is not complete");
        }
        let names = Names::transient();
        let far = Netns::new(&names, "far")?;
        let director = Netns::new(&names, "director")?;
        for (key, value) in SYSCTLS {
            director.sysctl(key, value)?;
        }
        for (there, here) in [("client", "eth0"), ("server", "eth1")] {
            cable((&far, there), (&director, here))?;
        }
        for line in ADDRESSES.lines() {
            director.ip(line)?;
        }
        for interface in ["eth0", "eth1"] {
            complete_frames(&director, interface)?;
            let mut ethtool = director.command("ethtool");
            let status = ethtool
                .args(["-K", interface, "gro", "off", "gso", "off", "tso", "off"])
                .status()?;
            ensure!(status.success(), "ethtool -K {interface} failed");
        }
        let mut fresh = None;
        if let World::Pointsman { program, hook } = &world {
            if *hook == Hook::Xdp {
                for interface in ["client", "server"] {
                    pass_everything(&far, interface)?;
                }
            }
            let started = Director::start(program, &director, *hook)?;
            let status = started.status()?;
            for interface in status["interfaces"].as_array().into_iter().flatten() {
                if interface["name"] != "lo" {
                    ensure!(
                        interface["hook"] == hook.in_status(),
                        "{} runs {} instead of {}",
                        interface["name"],
                        interface["hook"],
                        hook.in_status()
                    );
                }
            }
            fresh = Some(Fresh::read(&Client::of_netns(director.name())?)?);
        }
        let mut ends = Ends::new(&far, &director)?;
        // The first probes teach the director its neighbours.
        ends.exchange(crate::names::Side::Client, &[])?;
        Ok(Self {
            ends,
            world,
            director,
            _far: far,
            fresh,
        })
    }

    /// Makes the director forget what a scenario did: services, connections, rules, settings, counters,
    /// neighbours and learned path MTUs. Links, addresses and routes are not looked at.
    ///
    /// # Errors
    /// When it cannot be made as it was. The stage is of no more use then.
    pub fn reset(&mut self) -> Result<()> {
        let fresh = self
            .fresh
            .as_ref()
            .context("only Pointsman's director is reset")?;
        let client = Client::of_netns(self.director.name())?;
        let mut changes = vec![
            Change::Flush,
            Change::SetMarkRules(Vec::new()),
            Change::SetTimeouts(fresh.timeouts),
        ];
        for (now, before) in client.variables()?.iter().zip(&fresh.variables) {
            if now != before {
                changes.push(Change::SetVariable {
                    name: before.name,
                    value: before.value.clone(),
                });
            }
        }
        let make = |changes: &[Change]| -> Result<()> {
            for change in client.batch(changes)? {
                change?;
            }
            Ok(())
        };
        make(&changes)?;
        client.clear_connections()?;
        // What no estimate has shown yet would outlive zeroing, as in IPVS, and come up with the next
        // one; where estimation begins anew, all is shown.
        let estimation = |value: &str| Change::SetVariable {
            name: Variable::RunEstimation,
            value: value.into(),
        };
        make(&[
            estimation("0"),
            estimation("1"),
            Change::Zero { service: None },
        ])?;
        for family in ["-4", "-6"] {
            self.director.ip(&format!("{family} route flush cache"))?;
            self.director.ip(&format!("{family} neigh flush all"))?;
        }
        // What still lies on the cables is for nobody; and as after a start, neighbours are learned.
        self.ends.exchange(crate::names::Side::Client, &[])?;
        let now = Fresh::read(&client)?;
        ensure!(
            now == *fresh,
            "it is not as after its start: {now:?} instead of {fresh:?}"
        );
        let (services, connections) = (client.services()?, client.connections()?);
        ensure!(
            services.is_empty() && connections.is_empty(),
            "something stayed: {services:?} {connections:?}"
        );
        Ok(())
    }

    /// Whether it is Pointsman's on this hook.
    pub fn is_on(&self, on: Hook) -> bool {
        matches!(self.world, World::Pointsman { hook, .. } if hook == on)
    }

    /// Whether the kernel balances.
    pub fn is_kernel(&self) -> bool {
        matches!(self.world, World::Kernel)
    }

    /// One of Pointsman's commands that stand in for programs or files: `ipvsadm`, `sysctl`.
    pub fn command(&self, name: &str) -> Command {
        match &self.world {
            World::Kernel => self.inside(name),
            World::Pointsman { program, .. } => {
                let mut command = Director::new(program, &self.director).command();
                command.arg(name);
                command
            }
        }
    }

    /// A program of the machine, in the director's namespace.
    pub fn inside(&self, program: &str) -> Command {
        let mut command = self.director.command(program);
        command.env("LC_ALL", "C");
        command
    }
}
