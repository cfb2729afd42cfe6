//! `pointsman lab`: a director with its clients and servers on this machine, as a lesson.
//!
//! A lab builds its network from namespaces, runs the commands an operator would type, shows what
//! they print, says why, and checks each claim it makes. Nothing is left behind, also after
//! Ctrl-C, unless `--keep` asks for it.

mod doctor;
mod dr;
mod failover;
mod fullnat;
mod fwmark;
mod lesson;
mod nat;
mod report;
mod signals;
mod tun;

use std::net::Ipv4Addr;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use pointsman_testkit::{self as testkit, Error, Method, Names, Plan, Topology, http};

use lesson::{Lesson, Stop};
use report::Report;

/// Which lab, and how.
#[derive(Args, Debug)]
pub struct LabArgs {
    #[command(subcommand)]
    lab: Lab,
}

#[derive(Subcommand, Debug)]
enum Lab {
    /// NAT: the director rewrites addresses and is the servers' gateway
    Nat(Options),
    /// Direct routing: servers answer clients themselves, on the director's own segment
    Dr(Options),
    /// Tunnelling: servers in another network, packets travel inside IPIP
    Tun(Options),
    /// FULLNAT: the director rewrites both ends, servers need no way back
    Fullnat(Options),
    /// Firewall marks: several ports as one service, by a rule of iptables and without
    Fwmark(Options),
    /// What commonly goes wrong, and how `pointsman doctor` finds it
    Doctor(Options),
    /// Failover: two directors, a VIP that moves, and how long clients notice
    Failover(Options),
    /// Remove what `--keep` left standing
    Remove {
        /// The lab's name, as `--name` said [default: those of all labs]
        name: Option<String>,
    },
    /// A page server of a lab
    #[command(hide = true)]
    Serve {
        name: String,
        addr: Ipv4Addr,
        port: u16,
    },
}

#[derive(Args, Clone, Debug)]
struct Options {
    /// Leave it standing to play with, and print how to enter and remove it
    #[arg(long)]
    keep: bool,
    /// What a kept lab is called, so that several can stand [default: the lab's word]
    #[arg(long, requires = "keep")]
    name: Option<String>,
    /// Print steps and results as JSON instead of a lesson
    #[arg(long)]
    json: bool,
    /// Where the director's programs run
    #[arg(long, value_enum, default_value_t = HookWord::Auto)]
    hook: HookWord,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum HookWord {
    Auto,
    Xdp,
    Tc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LabName {
    Nat,
    Dr,
    Tun,
    Fullnat,
    Fwmark,
    Doctor,
    Failover,
}

impl LabName {
    const ALL: [Self; 7] = [
        Self::Nat,
        Self::Dr,
        Self::Tun,
        Self::Fullnat,
        Self::Fwmark,
        Self::Doctor,
        Self::Failover,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::Dr => "dr",
            Self::Tun => "tun",
            Self::Fullnat => "fullnat",
            Self::Fwmark => "fwmark",
            Self::Doctor => "doctor",
            Self::Failover => "failover",
        }
    }

    fn method(self) -> Method {
        match self {
            Self::Nat | Self::Fullnat | Self::Fwmark => Method::Nat,
            Self::Dr | Self::Doctor | Self::Failover => Method::DirectRouting,
            Self::Tun => Method::Tunnel,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Nat => "Load balancing by network address translation",
            Self::Dr => "Load balancing by direct routing",
            Self::Tun => "Load balancing by tunnelling",
            Self::Fullnat => "Load balancing by NAT of both ends",
            Self::Fwmark => "One service of several ports, by firewall mark",
            Self::Doctor => "What goes wrong, and how to find it",
            Self::Failover => "Two directors, and what happens when one ends",
        }
    }
}

/// Runs the lab and tells by its status whether everything it claimed was so.
pub fn run(args: &LabArgs) -> ExitCode {
    match &args.lab {
        Lab::Nat(options) => teach(LabName::Nat, options),
        Lab::Dr(options) => teach(LabName::Dr, options),
        Lab::Tun(options) => teach(LabName::Tun, options),
        Lab::Fullnat(options) => teach(LabName::Fullnat, options),
        Lab::Fwmark(options) => teach(LabName::Fwmark, options),
        Lab::Doctor(options) => teach(LabName::Doctor, options),
        Lab::Failover(options) => teach(LabName::Failover, options),
        Lab::Remove { name } => remove(name.as_deref()),
        Lab::Serve { name, addr, port } => match http::serve(name, *addr, *port) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("pointsman lab serve: port {port}: {error}");
                ExitCode::FAILURE
            }
        },
    }
}

fn teach(lab: LabName, options: &Options) -> ExitCode {
    signals::watch();
    let mut lesson = Lesson::new(
        Report::new(lab.word(), lab.title(), options.json),
        options.hook,
    );
    let ended = take_place(lab, options, &mut lesson);
    if let Err(stop) = &ended {
        lesson.stopped(stop);
    }
    let fine = lesson.finish();
    match ended {
        Err(Stop::Interrupted) => ExitCode::from(130),
        _ if fine => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn take_place(lab: LabName, options: &Options, lesson: &mut Lesson) -> Result<(), Stop> {
    let name = options.name.as_deref().unwrap_or(lab.word());
    let names = if options.keep {
        Names::kept(name)
    } else {
        Names::transient()
    };
    let plan = Plan {
        names,
        method: lab.method(),
        native_xdp: options.hook == HookWord::Xdp,
        ready: false,
    };
    let built = match lab {
        LabName::Failover => Topology::build_pair(&plan),
        _ => Topology::build(&plan),
    };
    let mut net = built.map_err(|error| match error {
        Error::Exists { name: netns } => Stop::Standing {
            netns,
            name: name.into(),
        },
        error => Stop::Failed(error),
    })?;
    let taught = match lab {
        LabName::Nat => nat::teach(lesson, &net),
        LabName::Dr => dr::teach(lesson, &net),
        LabName::Tun => tun::teach(lesson, &net),
        LabName::Fullnat => fullnat::teach(lesson, &net),
        LabName::Fwmark => fwmark::teach(lesson, &net),
        LabName::Doctor => doctor::teach(lesson, &net),
        LabName::Failover => failover::teach(lesson, &net),
    };
    if !options.keep || matches!(taught, Err(Stop::Interrupted)) {
        for host in net.hosts() {
            let _ = std::fs::remove_file(failover::file_of(host));
        }
    }
    if matches!(taught, Err(Stop::Interrupted)) {
        return taught;
    }
    if options.keep {
        lesson.stays(name, &net);
        net.keep();
        return taught;
    }
    taught?;
    lesson.tidy_up(&net)
}

fn remove(name: Option<&str>) -> ExitCode {
    let names = match name {
        Some(name) => vec![name],
        None => LabName::ALL.map(LabName::word).to_vec(),
    };
    let mut removed = 0;
    for netns in names.iter().flat_map(|name| testkit::kept(name)) {
        println!("removing {}", netns.name());
        let _ = std::fs::remove_file(failover::file_of(&netns));
        removed += 1;
    }
    if removed == 0 {
        println!("no such lab is standing");
    }
    ExitCode::SUCCESS
}
