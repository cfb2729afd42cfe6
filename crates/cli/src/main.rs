//! `pointsman`: the Linux Virtual Server rebuilt in Rust on eBPF.
//!
//! One program under several names: called as `ipvsadm`, `ipvsadm-save` or `ipvsadm-restore` it is
//! that command. This file only chooses who runs; each subcommand has a file of its own that
//! parses, calls and prints.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

mod check;
mod convert;
mod director;
mod doctor;
mod heartbeat;
mod import;
mod ipvsadm;
mod lab;
mod ldirectord;
mod local_address;
mod mark;
mod proc;
mod realserver;
mod reload;
mod restore;
mod status;
mod sysctl;

/// Layer-4 load balancer: the Linux Virtual Server rebuilt in Rust on eBPF.
#[derive(Debug, Parser)]
#[command(
    name = "pointsman",
    version,
    arg_required_else_help = true,
    after_help = "To see it work: `pointsman lab nat`, as root. Manual: pointsman(8), ipvsadm(8)."
)]
struct Cli {
    /// Work in this network namespace: a name as `ip netns` knows it, or a path.
    #[arg(long, global = true, value_name = "NAME|PATH")]
    netns: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The daemon: start, stop and ask it.
    Director(director::Args),
    /// What an operator has to know: virtual servers, real servers, VRRP; the worst first.
    Status(status::StatusArgs),
    /// Have the director read its configuration again; a bad file changes nothing.
    Reload(reload::ReloadArgs),
    /// The whole ipvsadm command line (also as the program name `ipvsadm`).
    #[command(disable_help_flag = true)]
    Ipvsadm(RawArgs),
    /// Print all rules, for `ipvsadm-restore`.
    #[command(disable_help_flag = true)]
    IpvsadmSave(RawArgs),
    /// Replace all rules by those on standard input.
    #[command(disable_help_flag = true)]
    IpvsadmRestore(RawArgs),
    /// Print another configuration, or the running state, as keepalived.conf.
    Convert(convert::Args),
    /// heartbeat: groups of resources that move between two nodes.
    Heartbeat(heartbeat::Args),
    /// ldirectord: health checks by its own configuration file (also as the program name `ldirectord`).
    #[command(disable_help_flag = true)]
    Ldirectord(RawArgs),
    /// Replace all rules by those of a file in one go: all of them, or nothing is changed.
    Restore(restore::Args),
    /// Take over services, real servers and timeouts in one go: all of them, or nothing is changed.
    Import(import::Args),
    /// Print what the kernel's IPVS shows in /proc/net, from the director's state.
    Proc(proc::Args),
    /// Make this machine a real server: VIP on lo, ARP silent, tunnels decapsulated.
    Realserver(realserver::RealserverArgs),
    /// Find what keeps this director or real server from working, and what mends it.
    Doctor(doctor::DoctorArgs),
    /// Rules that give packets firewall marks, for services of marks.
    Mark(mark::MarkArgs),
    /// Addresses of the director that FULLNAT puts in the client's place.
    LocalAddress(local_address::LocalAddressArgs),
    /// Show or set the variables of net.ipv4.vs.
    Sysctl(sysctl::SysctlArgs),
    /// Say what is wrong with a configuration file.
    Check(check::Args),
    /// Build client, router, director and real servers on this machine and run traffic.
    Lab(lab::LabArgs),
}

/// Arguments that another grammar reads.
#[derive(Debug, clap::Args)]
struct RawArgs {
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGUMENTS"
    )]
    args: Vec<OsString>,
}

fn main() -> ExitCode {
    let mut args = env::args_os();
    let name = args.next().unwrap_or_default();
    match Path::new(&name).file_name().and_then(OsStr::to_str) {
        Some("ipvsadm") => return ipvsadm::run(args.collect()),
        Some("ipvsadm-save") => return ipvsadm::save(args.collect()),
        Some("ipvsadm-restore") => return ipvsadm::restore(args.collect()),
        Some("ldirectord") => return ldirectord::run(&args.collect::<Vec<_>>()),
        _ => {}
    }
    let cli = Cli::parse();
    log_to_stderr();
    // Before any thread starts: a namespace is a thread's, and threads inherit it.
    if let Some(netns) = &cli.netns
        && let Err(error) = pointsman_api::Location::enter_netns(netns)
    {
        eprintln!("pointsman: {error}");
        return ExitCode::FAILURE;
    }
    match cli.command {
        Command::Director(args) => director::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Ipvsadm(raw) => ipvsadm::run(raw.args),
        Command::IpvsadmSave(raw) => ipvsadm::save(raw.args),
        Command::IpvsadmRestore(raw) => ipvsadm::restore(raw.args),
        Command::Convert(args) => convert::run(&args),
        Command::Heartbeat(args) => heartbeat::run(&args),
        Command::Ldirectord(raw) => ldirectord::run(&raw.args),
        Command::Import(args) => import::run(&args),
        Command::Proc(args) => proc::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::Realserver(args) => realserver::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Mark(args) => mark::run(&args),
        Command::LocalAddress(args) => local_address::run(&args),
        Command::Sysctl(args) => sysctl::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Lab(args) => lab::run(&args),
    }
}

/// Prints; a reader that has seen enough (`| head`) is no reason to complain.
fn say(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// The exit status, and the error with those of its causes that it does not name itself.
fn report(done: anyhow::Result<ExitCode>) -> ExitCode {
    match done {
        Ok(status) => status,
        Err(error) => {
            eprintln!("pointsman: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

fn with_causes(error: &anyhow::Error) -> String {
    error
        .chain()
        .skip(1)
        .fold(error.to_string(), |text, cause| {
            let cause = cause.to_string();
            if text.contains(&cause) {
                text
            } else {
                format!("{text}: {cause}")
            }
        })
}

/// Logs as `RUST_LOG` asks; `info` of Pointsman's own crates by default.
fn log_to_stderr() {
    let default = || {
        EnvFilter::new(
            "warn,pointsman=info,pointsman_director=info,pointsman_dataplane=info,pointsman_vrrp=info",
        )
    };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| default()))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(line: &str) -> (Option<String>, Vec<OsString>) {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        match cli.command {
            Command::Ipvsadm(raw) => (cli.netns, raw.args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn the_manual_page_names_every_command_and_option() {
        use clap::CommandFactory;
        let page = include_str!("../../../man/pointsman.8").replace("\\-", "-");
        let mut commands = vec![Cli::command()];
        while let Some(command) = commands.pop() {
            assert!(page.contains(command.get_name()), "{}", command.get_name());
            for option in command.get_arguments().filter_map(clap::Arg::get_long) {
                assert!(page.contains(&format!("--{option}")), "--{option}");
            }
            commands.extend(
                command
                    .get_subcommands()
                    .filter(|c| !c.is_hide_set())
                    .cloned(),
            );
        }
    }

    #[test]
    fn ipvsadm_gets_its_arguments_as_they_were_typed() {
        for line in [
            "-L -n",
            "--help",
            "-h",
            "-V",
            "-A -t 192.0.2.1:80 -s rr",
            "-C --netns x",
        ] {
            let (netns, args) = raw(&format!("pointsman ipvsadm {line}"));
            assert_eq!(netns, None, "{line}");
            assert_eq!(args, line.split(' ').collect::<Vec<_>>(), "{line}");
        }
    }

    #[test]
    fn the_namespace_may_stand_on_either_side_of_the_subcommand() {
        for line in [
            "pointsman --netns blue ipvsadm -L",
            "pointsman ipvsadm --netns blue -L",
        ] {
            let (netns, args) = raw(line);
            assert_eq!((netns.as_deref(), args.len()), (Some("blue"), 1), "{line}");
        }
    }
}
