//! `ha.cf`: who is there, how they hear each other, and how long silence is borne.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Problem, Word, words};
use crate::diag::nearest;

/// The whole file. What has no meaning here is accepted and listed in `ignored`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaCf {
    /// `node`, in lower case, in the order of the file.
    pub nodes: Vec<String>,
    /// How nodes hear each other.
    pub media: Vec<Medium>,
    /// `keepalive`: between two heartbeats.
    pub keepalive: Duration,
    /// `deadtime`: silence until a node is dead.
    pub dead_time: Duration,
    /// `warntime`: silence until a heartbeat is late.
    pub warn_time: Option<Duration>,
    /// `initdead`: `deadtime` right after the start.
    pub init_dead: Duration,
    /// `auto_failback`.
    pub auto_failback: AutoFailback,
    /// `ping` and `ping_group`: addresses, of which one must answer for the group to be alive.
    pub ping: Vec<Vec<IpAddr>>,
    /// `deadping`: silence until one of these is dead.
    pub dead_ping: Duration,
    /// `respawn USER COMMAND`.
    pub respawn: Vec<(String, Vec<String>)>,
    /// `stonith` and `stonith_host`, as they stand.
    pub stonith: Vec<String>,
    /// `logfile`.
    pub log_file: Option<String>,
    /// `logfacility`; `None` also for `none`.
    pub log_facility: Option<String>,
    /// `debugfile`.
    pub debug_file: Option<String>,
    /// `watchdog`.
    pub watchdog: Option<String>,
    /// `crm` or `pacemaker` other than off: resources are not those of `haresources`.
    pub crm: bool,
    /// Directives without effect here.
    pub ignored: Vec<String>,
}

/// A way between the nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Medium {
    /// Broadcast on an interface.
    Bcast {
        /// Interface.
        interface: String,
        /// UDP port.
        port: u16,
    },
    /// Multicast.
    Mcast {
        /// Interface.
        interface: String,
        /// Group.
        group: Ipv4Addr,
        /// UDP port.
        port: u16,
        /// Time to live.
        ttl: u8,
        /// Whether the sender hears itself.
        looped: bool,
    },
    /// To one peer; a node ignores the line that names itself.
    Ucast {
        /// Interface.
        interface: String,
        /// Peer.
        peer: IpAddr,
        /// UDP port.
        port: u16,
    },
    /// A serial line; there is none here.
    Serial {
        /// Device.
        device: String,
    },
}

/// Whether a group goes back to the node that likes to have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AutoFailback {
    /// Yes.
    On,
    /// No, until an operator says so.
    Off,
    /// As `On`; said when nothing is.
    #[default]
    Legacy,
}

impl Default for HaCf {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            media: Vec::new(),
            keepalive: Duration::from_secs(2),
            dead_time: Duration::from_secs(30),
            warn_time: None,
            init_dead: Duration::from_secs(60),
            auto_failback: AutoFailback::default(),
            ping: Vec::new(),
            dead_ping: Duration::from_secs(30),
            respawn: Vec::new(),
            stonith: Vec::new(),
            log_file: None,
            log_facility: None,
            debug_file: None,
            watchdog: None,
            crm: false,
            ignored: Vec::new(),
        }
    }
}

/// Directives that heartbeat has and that mean nothing here.
const IGNORED: [&str; 23] = [
    "apiauth",
    "autojoin",
    "baud",
    "cluster",
    "compression",
    "compression_threshold",
    "conn_logd_time",
    "coredumps",
    "crm_daemon_dir",
    "crmd_spawns_pengine",
    "debug",
    "hbaping",
    "hbgenmethod",
    "hbversion",
    "hopfudge",
    "memreserve",
    "msgfmt",
    "quorum_server",
    "realtime",
    "rtprio",
    "traditional_compression",
    "use_logd",
    "uuidfrom",
];

struct Reader {
    file: HaCf,
    port: u16,
    init_dead: Option<Word0>,
    said_failback: bool,
}

/// Where a value stood.
#[derive(Clone, Copy)]
struct Word0 {
    line: usize,
    column: usize,
}

/// Reads a file.
pub fn read(text: &str) -> (HaCf, Vec<Problem>) {
    let mut reader = Reader {
        file: HaCf::default(),
        port: 694,
        init_dead: None,
        said_failback: false,
    };
    let mut problems = Vec::new();
    let mut last = 1;
    for (n, line) in text.lines().enumerate() {
        last = n + 1;
        if let [directive, args @ ..] = &words(line, last)[..] {
            let result = reader.directive(directive, args, &mut problems);
            problems.extend(result.err());
        }
    }
    let end = Word {
        text: "",
        line: last,
        column: 1,
    };
    reader.finish(&end, &mut problems);
    (reader.file, problems)
}

impl Reader {
    fn directive(
        &mut self,
        directive: &Word<'_>,
        args: &[Word<'_>],
        problems: &mut Vec<Problem>,
    ) -> Result<(), Problem> {
        let expected =
            |what: &str| Problem::error(directive, format!("{}: expected {what}", directive.text));
        let texts = || args.iter().map(|arg| arg.text.to_owned());
        let one = |what: &str| match args {
            [value] => Ok(*value),
            _ => Err(expected(what)),
        };
        let time = || one("one time").and_then(|word| duration(&word));
        let file = &mut self.file;
        match directive.text {
            "node" if args.is_empty() => {
                return Err(expected("names of nodes, as `uname -n` says them"));
            }
            "node" => file
                .nodes
                .extend(args.iter().map(|arg| arg.text.to_ascii_lowercase())),
            "keepalive" => file.keepalive = time()?,
            "deadtime" => file.dead_time = time()?,
            "warntime" => file.warn_time = Some(time()?),
            "initdead" => {
                file.init_dead = time()?;
                self.init_dead = Some(Word0 {
                    line: directive.line,
                    column: directive.column,
                });
            }
            "deadping" => file.dead_ping = time()?,
            "udpport" => self.port = port(&one("one port")?)?,
            "bcast" if args.is_empty() => return Err(expected("interfaces")),
            "bcast" => {
                let port = self.port;
                file.media
                    .extend(texts().map(|interface| Medium::Bcast { interface, port }));
            }
            "mcast" => {
                let [interface, group, udp, ttl, looped] = args else {
                    return Err(expected("INTERFACE GROUP PORT TTL LOOP"));
                };
                file.media.push(Medium::Mcast {
                    interface: interface.text.to_owned(),
                    group: parsed::<Ipv4Addr>(group, "a multicast address").and_then(|addr| {
                        match addr.is_multicast() {
                            true => Ok(addr),
                            false => Err(wrong(group, "a multicast address")),
                        }
                    })?,
                    port: port(udp)?,
                    ttl: parsed(ttl, "a number from 0 to 255")?,
                    looped: match looped.text {
                        "0" => false,
                        "1" => true,
                        _ => return Err(wrong(looped, "0 or 1")),
                    },
                });
            }
            "ucast" => {
                let [interface, peer] = args else {
                    return Err(expected("INTERFACE ADDRESS"));
                };
                file.media.push(Medium::Ucast {
                    interface: interface.text.to_owned(),
                    peer: parsed(peer, "an address")?,
                    port: self.port,
                });
            }
            "serial" if args.is_empty() => return Err(expected("devices")),
            "serial" => {
                problems.push(Problem::warning(directive, "serial: there are no serial lines here; nodes hear each other by the other media"));
                file.media
                    .extend(texts().map(|device| Medium::Serial { device }));
            }
            "auto_failback" => {
                let word = one("on, off or legacy")?;
                self.said_failback = true;
                file.auto_failback = match word.text {
                    "legacy" => AutoFailback::Legacy,
                    _ if boolean(&word)? => AutoFailback::On,
                    _ => AutoFailback::Off,
                };
            }
            "ping" if args.is_empty() => return Err(expected("addresses")),
            "ping" => {
                for arg in args {
                    file.ping.push(vec![parsed(arg, "an address")?]);
                }
            }
            "ping_group" => {
                let [_name, members @ ..] = args else {
                    return Err(expected("a name and addresses"));
                };
                if members.is_empty() {
                    return Err(expected("a name and addresses"));
                }
                let addrs = members.iter().map(|member| parsed(member, "an address"));
                file.ping.push(addrs.collect::<Result<_, _>>()?);
            }
            "respawn" => {
                let [user, command @ ..] = args else {
                    return Err(expected("a user and a command"));
                };
                if command.is_empty() {
                    return Err(expected("a user and a command"));
                }
                let command = command.iter().map(|word| word.text.to_owned()).collect();
                file.respawn.push((user.text.to_owned(), command));
            }
            "stonith" | "stonith_host" => {
                let least = if directive.text == "stonith" { 2 } else { 3 };
                if args.len() < least {
                    return Err(expected("a type and its parameters"));
                }
                problems.push(Problem::warning(
                    directive,
                    format!("{}: nodes are not fenced here", directive.text),
                ));
                let all: Vec<_> = std::iter::once(directive.text.to_owned())
                    .chain(texts())
                    .collect();
                file.stonith.push(all.join(" "));
            }
            "logfile" => file.log_file = Some(one("a file")?.text.to_owned()),
            "debugfile" => file.debug_file = Some(one("a file")?.text.to_owned()),
            "logfacility" => {
                let name = one("a facility, or none")?.text;
                file.log_facility = (name != "none").then(|| name.to_owned());
            }
            "watchdog" => {
                file.watchdog = Some(one("a device")?.text.to_owned());
                problems.push(Problem::warning(
                    directive,
                    "watchdog: no watchdog is fed here",
                ));
            }
            "crm" | "pacemaker" => {
                let word = one("off, on or respawn")?;
                file.crm = match word.text.to_ascii_lowercase().as_str() {
                    "respawn" | "manual" => true,
                    _ => boolean(&word)?,
                };
                if file.crm {
                    return Err(Problem::error(
                        &word,
                        "a cluster resource manager is asked for: haresources does not count then; expected off",
                    ));
                }
            }
            name if IGNORED.contains(&name) => {
                if args.is_empty() {
                    return Err(expected("a value"));
                }
                file.ignored.push(name.to_owned());
            }
            name => {
                let near = near(name).map(|near| format!("; is {near} meant?"));
                return Err(Problem::error(
                    directive,
                    format!("{name}: unknown directive{}", near.unwrap_or_default()),
                ));
            }
        }
        Ok(())
    }

    /// What no single line shows.
    fn finish(&mut self, end: &Word<'_>, problems: &mut Vec<Problem>) {
        let file = &mut self.file;
        match self.init_dead {
            None => file.init_dead = file.dead_time * 2,
            Some(place) if file.init_dead < file.dead_time * 2 => {
                let word = Word {
                    text: "",
                    line: place.line,
                    column: place.column,
                };
                problems.push(Problem::warning(
                    &word,
                    "initdead should be at least twice deadtime",
                ));
            }
            Some(_) => {}
        }
        if file.keepalive >= file.dead_time {
            problems.push(Problem::error(
                end,
                "deadtime must be longer than keepalive",
            ));
        }
        if !self.said_failback {
            problems.push(Problem::warning(
                end,
                "auto_failback is not set: legacy, which is as on",
            ));
        }
        if !file
            .media
            .iter()
            .any(|medium| !matches!(medium, Medium::Serial { .. }))
        {
            problems.push(Problem::error(end, "expected a line bcast, mcast or ucast"));
        }
        if file.nodes.len() != 2 {
            let text = format!(
                "{} nodes: expected two, each named by a line `node`",
                file.nodes.len()
            );
            problems.push(Problem::error(end, text));
        }
    }
}

fn wrong(word: &Word<'_>, expected: &str) -> Problem {
    Problem::error(word, format!("{}: expected {expected}", word.text))
}

fn parsed<T: std::str::FromStr>(word: &Word<'_>, expected: &str) -> Result<T, Problem> {
    word.text.parse().map_err(|_| wrong(word, expected))
}

fn port(word: &Word<'_>) -> Result<u16, Problem> {
    let port = word.text.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| wrong(word, "a port from 1 to 65535"))
}

fn boolean(word: &Word<'_>) -> Result<bool, Problem> {
    match word.text.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "y" | "1" => Ok(true),
        "false" | "off" | "no" | "n" | "0" => Ok(false),
        _ => Err(wrong(word, "on or off (true, yes, y, 1; false, no, n, 0)")),
    }
}

/// A number of seconds, with decimals, or with a unit behind it. Above zero, and at most a day.
fn duration(word: &Word<'_>) -> Result<Duration, Problem> {
    let digits = |c: char| c.is_ascii_digit() || c == '.';
    let end = word.text.find(|c| !digits(c)).unwrap_or(word.text.len());
    let (number, unit) = word.text.split_at(end);
    let seconds = match unit.to_ascii_lowercase().as_str() {
        "" | "s" | "sec" => 1.0,
        "ms" | "msec" => 1e-3,
        "us" | "usec" => 1e-6,
        "m" | "min" => 60.0,
        "h" | "hr" => 3600.0,
        _ => return Err(wrong(word, "seconds, or a number with us, ms, s, m or h")),
    };
    let number: f64 = number.parse().map_err(|_| wrong(word, "a number"))?;
    let total = number * seconds;
    match total > 0.0 && total <= 86_400.0 {
        true => Ok(Duration::from_secs_f64(total)),
        false => Err(wrong(word, "a time above 0, of at most a day")),
    }
}

/// The known directive that was probably meant.
fn near(name: &str) -> Option<&'static str> {
    const EFFECTIVE: [&str; 23] = [
        "auto_failback",
        "bcast",
        "crm",
        "deadping",
        "deadtime",
        "debugfile",
        "initdead",
        "keepalive",
        "logfacility",
        "logfile",
        "mcast",
        "node",
        "pacemaker",
        "ping",
        "ping_group",
        "respawn",
        "serial",
        "stonith",
        "stonith_host",
        "ucast",
        "udpport",
        "warntime",
        "watchdog",
    ];
    nearest(name, EFFECTIVE.into_iter().chain(IGNORED))
}
