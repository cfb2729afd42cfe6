//! Which words the command line knows, and how they are cut out of it: the rules of `popt`, which
//! the original uses, without its aliases and expansions.

use std::collections::VecDeque;

use super::messages::UsageError;

/// What a command option asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    AddService,
    EditService,
    DeleteService,
    Flush,
    List,
    Zero,
    AddServer,
    EditServer,
    DeleteServer,
    AddLocalAddress,
    DeleteLocalAddress,
    ListLocalAddresses,
    Set,
    StartDaemon,
    StopDaemon,
    Restore,
    Save,
    Help,
    Version,
}

impl Verb {
    /// How messages call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AddService => "add-service",
            Self::EditService => "edit-service",
            Self::DeleteService => "delete-service",
            Self::Flush => "flush",
            Self::List => "list",
            Self::Zero => "zero",
            Self::AddServer => "add-server",
            Self::EditServer => "edit-server",
            Self::DeleteServer => "delete-server",
            Self::AddLocalAddress => "add-laddr",
            Self::DeleteLocalAddress => "del-laddr",
            Self::ListLocalAddresses => "get-laddr",
            Self::Set => "set",
            Self::StartDaemon => "start-daemon",
            Self::StopDaemon => "stop-daemon",
            Self::Restore => "restore",
            Self::Save => "save",
            Self::Help => "help",
            Self::Version => "version",
        }
    }
}

/// What an option is for. Several options may be of one kind, which may be given once; the order
/// here is the order in which misuse is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Numeric,
    Connection,
    ServiceAddress,
    Scheduler,
    Persistent,
    Netmask,
    RealServer,
    ForwardingMethod,
    Weight,
    UThreshold,
    LThreshold,
    McastInterface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    Nosort,
    Syncid,
    Exact,
    Ops,
    Pe,
    SchedFlags,
    McastGroup,
    McastPort,
    McastTtl,
    SyncMaxlen,
    /// Ours; the original does not know it.
    Json,
    /// FULLNAT's, which the mainline's tool does not know; named as in DPVS's.
    LocalAddress,
    Toa,
    ProxyProtocol,
    TunInfo,
    TunType,
    TunPort,
    TunNocsum,
    TunCsum,
    TunRemcsum,
}

impl Kind {
    /// Every kind, in order.
    pub(super) const ALL: [Self; 38] = [
        Self::Numeric,
        Self::Connection,
        Self::ServiceAddress,
        Self::Scheduler,
        Self::Persistent,
        Self::Netmask,
        Self::RealServer,
        Self::ForwardingMethod,
        Self::Weight,
        Self::UThreshold,
        Self::LThreshold,
        Self::McastInterface,
        Self::Timeout,
        Self::Daemon,
        Self::Stats,
        Self::Rate,
        Self::Thresholds,
        Self::PersistentConn,
        Self::Nosort,
        Self::Syncid,
        Self::Exact,
        Self::Ops,
        Self::Pe,
        Self::SchedFlags,
        Self::McastGroup,
        Self::McastPort,
        Self::McastTtl,
        Self::SyncMaxlen,
        Self::Json,
        Self::LocalAddress,
        Self::Toa,
        Self::ProxyProtocol,
        Self::TunInfo,
        Self::TunType,
        Self::TunPort,
        Self::TunNocsum,
        Self::TunCsum,
        Self::TunRemcsum,
    ];

    /// How messages call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Numeric => "numeric",
            Self::Connection => "connection",
            Self::ServiceAddress => "service-address",
            Self::Scheduler => "scheduler",
            Self::Persistent => "persistent",
            Self::Netmask => "netmask",
            Self::RealServer => "real-server",
            Self::ForwardingMethod => "forwarding-method",
            Self::Weight => "weight",
            Self::UThreshold => "u-threshold",
            Self::LThreshold => "l-threshold",
            Self::McastInterface => "mcast-interface",
            Self::Timeout => "timeout",
            Self::Daemon => "daemon",
            Self::Stats => "stats",
            Self::Rate => "rate",
            Self::Thresholds => "thresholds",
            Self::PersistentConn => "persistent-conn",
            Self::Nosort => "nosort",
            Self::Syncid => "syncid",
            Self::Exact => "exact",
            Self::Ops => "ops",
            Self::Pe => "pe",
            Self::SchedFlags => "sched-flags",
            Self::McastGroup => "mcast-group",
            Self::McastPort => "mcast-port",
            Self::McastTtl => "mcast-ttl",
            Self::SyncMaxlen => "sync-maxlen",
            Self::Json => "json",
            Self::LocalAddress => "local-address",
            Self::Toa => "toa",
            Self::ProxyProtocol => "proxy-protocol",
            Self::TunInfo => "tun-info",
            Self::TunType => "tun-type",
            Self::TunPort => "tun-port",
            Self::TunNocsum => "tun-nocsum",
            Self::TunCsum => "tun-csum",
            Self::TunRemcsum => "tun-remcsum",
        }
    }
}

/// The meaning of one option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Verb(Verb),
    TcpService,
    UdpService,
    SctpService,
    FwmarkService,
    Ipv6,
    Gatewaying,
    Ipip,
    Masquerading,
    FullNat,
    /// Accepted, and nothing more.
    Sort,
    /// The only option of its kind.
    Plain(Kind),
}

/// Whether an option takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    None,
    Required,
    /// The next word, unless it begins with `-`.
    Optional,
}

struct Spec {
    long: &'static str,
    shorts: &'static str,
    value: Value,
    meaning: Meaning,
}

const fn verb(long: &'static str, shorts: &'static str, verb: Verb) -> Spec {
    let value = match verb {
        Verb::StartDaemon | Verb::StopDaemon => Value::Required,
        _ => Value::None,
    };
    Spec {
        long,
        shorts,
        value,
        meaning: Meaning::Verb(verb),
    }
}

const fn flag(long: &'static str, shorts: &'static str, kind: Kind) -> Spec {
    Spec {
        long,
        shorts,
        value: Value::None,
        meaning: Meaning::Plain(kind),
    }
}

const fn valued(long: &'static str, shorts: &'static str, kind: Kind) -> Spec {
    Spec {
        long,
        shorts,
        value: Value::Required,
        meaning: Meaning::Plain(kind),
    }
}

const fn other(long: &'static str, shorts: &'static str, value: Value, meaning: Meaning) -> Spec {
    Spec {
        long,
        shorts,
        value,
        meaning,
    }
}

const OPTIONS: &[Spec] = &[
    verb("add-service", "A", Verb::AddService),
    verb("edit-service", "E", Verb::EditService),
    verb("delete-service", "D", Verb::DeleteService),
    verb("clear", "C", Verb::Flush),
    verb("list", "Ll", Verb::List),
    verb("zero", "Z", Verb::Zero),
    verb("add-server", "a", Verb::AddServer),
    verb("edit-server", "e", Verb::EditServer),
    verb("delete-server", "d", Verb::DeleteServer),
    verb("add-laddr", "P", Verb::AddLocalAddress),
    verb("del-laddr", "Q", Verb::DeleteLocalAddress),
    verb("get-laddr", "G", Verb::ListLocalAddresses),
    verb("set", "", Verb::Set),
    verb("start-daemon", "", Verb::StartDaemon),
    verb("stop-daemon", "", Verb::StopDaemon),
    verb("restore", "R", Verb::Restore),
    verb("save", "S", Verb::Save),
    verb("help", "h", Verb::Help),
    verb("version", "v", Verb::Version),
    other("tcp-service", "t", Value::Required, Meaning::TcpService),
    other("udp-service", "u", Value::Required, Meaning::UdpService),
    other("sctp-service", "", Value::Required, Meaning::SctpService),
    other(
        "fwmark-service",
        "f",
        Value::Required,
        Meaning::FwmarkService,
    ),
    other("ipv6", "6", Value::None, Meaning::Ipv6),
    valued("scheduler", "s", Kind::Scheduler),
    other(
        "persistent",
        "p",
        Value::Optional,
        Meaning::Plain(Kind::Persistent),
    ),
    valued("netmask", "M", Kind::Netmask),
    valued("pe", "", Kind::Pe),
    valued("sched-flags", "b", Kind::SchedFlags),
    flag("ops", "o", Kind::Ops),
    valued("real-server", "r", Kind::RealServer),
    other("gatewaying", "g", Value::None, Meaning::Gatewaying),
    other("ipip", "i", Value::None, Meaning::Ipip),
    other("masquerading", "m", Value::None, Meaning::Masquerading),
    other("fullnat", "", Value::None, Meaning::FullNat),
    valued("local-address", "z", Kind::LocalAddress),
    flag("toa", "", Kind::Toa),
    flag("proxy-protocol", "", Kind::ProxyProtocol),
    valued("tun-type", "", Kind::TunType),
    valued("tun-port", "", Kind::TunPort),
    flag("tun-nocsum", "", Kind::TunNocsum),
    flag("tun-csum", "", Kind::TunCsum),
    flag("tun-remcsum", "", Kind::TunRemcsum),
    valued("weight", "w", Kind::Weight),
    valued("u-threshold", "x", Kind::UThreshold),
    valued("l-threshold", "y", Kind::LThreshold),
    flag("connection", "c", Kind::Connection),
    flag("timeout", "", Kind::Timeout),
    flag("daemon", "", Kind::Daemon),
    flag("stats", "", Kind::Stats),
    flag("rate", "", Kind::Rate),
    flag("thresholds", "", Kind::Thresholds),
    flag("persistent-conn", "", Kind::PersistentConn),
    flag("tun-info", "", Kind::TunInfo),
    flag("nosort", "", Kind::Nosort),
    other("sort", "", Value::None, Meaning::Sort),
    flag("exact", "X", Kind::Exact),
    flag("numeric", "n", Kind::Numeric),
    flag("json", "", Kind::Json),
    valued("syncid", "", Kind::Syncid),
    valued("sync-maxlen", "", Kind::SyncMaxlen),
    valued("mcast-interface", "", Kind::McastInterface),
    valued("mcast-group", "", Kind::McastGroup),
    valued("mcast-port", "", Kind::McastPort),
    valued("mcast-ttl", "", Kind::McastTtl),
];

/// An option as it stood on the command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) meaning: Meaning,
    pub(super) value: Option<String>,
}

/// Cuts words into options and positional words.
pub(super) struct Words<'a> {
    words: &'a [String],
    /// The next word to look at.
    next: usize,
    /// Rest of a cluster of short options.
    cluster: Option<&'a str>,
    only_positional: bool,
    positional: VecDeque<&'a str>,
}

impl<'a> Words<'a> {
    pub(super) fn new(words: &'a [String]) -> Self {
        Self {
            words,
            next: 0,
            cluster: None,
            only_positional: false,
            positional: VecDeque::new(),
        }
    }

    /// The word that messages quote: the last one taken.
    pub(super) fn last(&self) -> String {
        self.words[self.next.saturating_sub(1)].clone()
    }

    /// The next option, or `None` after the last; positional words before it are put aside.
    pub(super) fn option(&mut self) -> Result<Option<Given>, UsageError> {
        loop {
            if let Some(rest) = self.cluster.take() {
                return self.short(rest).map(Some);
            }
            let Some(word) = self.words.get(self.next) else {
                return Ok(None);
            };
            self.next += 1;
            if self.only_positional || !word.starts_with('-') || word == "-" {
                self.positional.push_back(word);
            } else if word == "--" {
                self.only_positional = true;
            } else if let Some(long) = word.strip_prefix("--") {
                return self.long(long).map(Some);
            } else {
                self.cluster = Some(&word[1..]);
            }
        }
    }

    /// The next positional word that was put aside.
    pub(super) fn positional(&mut self) -> Option<&'a str> {
        self.positional.pop_front()
    }

    fn long(&mut self, word: &'a str) -> Result<Given, UsageError> {
        let (name, attached) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        match OPTIONS.iter().find(|o| o.long == name) {
            Some(spec) => self.with_value(spec, attached),
            None => Err(UsageError::UnknownOption(self.last())),
        }
    }

    fn short(&mut self, cluster: &'a str) -> Result<Given, UsageError> {
        let mut chars = cluster.chars();
        let letter = chars.next().unwrap_or('\0');
        let rest = chars.as_str();
        let Some(spec) = OPTIONS.iter().find(|o| o.shorts.contains(letter)) else {
            return Err(UsageError::UnknownOption(self.last()));
        };
        if rest.is_empty() {
            return self.with_value(spec, None);
        }
        if spec.value == Value::None && !rest.starts_with('=') {
            self.cluster = Some(rest);
            return self.with_value(spec, None);
        }
        self.with_value(spec, Some(rest.strip_prefix('=').unwrap_or(rest)))
    }

    fn with_value(&mut self, spec: &Spec, attached: Option<&str>) -> Result<Given, UsageError> {
        let value = match (spec.value, attached) {
            (Value::None, None) => None,
            (Value::None, Some(_)) => return Err(UsageError::UnwantedArgument(self.last())),
            (_, Some(value)) => Some(value.to_owned()),
            (Value::Optional, None) => match self.words.get(self.next) {
                Some(word) if !word.starts_with('-') => {
                    self.next += 1;
                    Some(word.clone())
                }
                _ => None,
            },
            (Value::Required, None) => {
                let Some(word) = self.words.get(self.next) else {
                    return Err(UsageError::MissingArgument(self.last()));
                };
                self.next += 1;
                Some(word.clone())
            }
        };
        Ok(Given {
            meaning: spec.meaning,
            value,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_page_names_every_option() {
        let page = include_str!("../../../../man/ipvsadm.8").replace("\\-", "-");
        for option in OPTIONS {
            let long = format!("--{}", option.long);
            assert!(page.contains(&long), "{long}");
            for letter in option.shorts.chars() {
                assert!(page.contains(&format!("-{letter}")), "-{letter}");
            }
        }
    }
}
