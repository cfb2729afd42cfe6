//! What can be tracked: `vrrp_script`, `track_file`, `vrrp_track_process`, `bfd_instance`; and the
//! lists that say who tracks it.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use pointsman_model::vrrp::{
    BfdInstance, FileInit, ParameterMatch, TrackFile, TrackProcess, TrackScript, TrackWeight,
    Tracked, Tracking,
};
use pointsman_model::{Script, ScriptUser};

use super::checker::LONGEST;
use super::keyword::{Args, Keyword, Reader};
use super::lex::{Word, script_words};
use super::tree::Statement;
use crate::diag::{Place, Severity, nearest};

/// Everything that can be tracked, as far as it is defined.
#[derive(Debug, Default)]
pub struct Trackable {
    /// Scripts, and what their failure does unless who tracks them says otherwise.
    pub scripts: Vec<(TrackScript, TrackWeight, Place)>,
    /// Files.
    pub files: Vec<(TrackFile, TrackWeight)>,
    /// Processes.
    pub processes: Vec<(TrackProcess, TrackWeight)>,
    /// BFD sessions.
    pub sessions: Vec<(BfdInstance, TrackWeight)>,
}

/// `vrrp_script` as it stands in the file.
#[derive(Default)]
pub struct ScriptDraft {
    script: Option<Script>,
    user: Option<ScriptUser>,
    interval: Option<Duration>,
    timeout: Option<Duration>,
    weight: TrackWeight,
    rise: Option<NonZeroU32>,
    fall: Option<NonZeroU32>,
    init_fail: bool,
}

/// Its keywords.
pub const SCRIPT: &[Keyword<ScriptDraft>] = &[
    Keyword::sets("script", "COMMAND [USER [GROUP]]", |r, d, a| {
        d.script = r.script(a)
    }),
    Keyword::sets("interval", "SECS", |r, d, a| {
        let interval = r.timer(a, 0.0..=LONGEST);
        let second = Duration::from_secs(1);
        d.interval = interval.map(|i| if i.is_zero() { second } else { i });
    }),
    Keyword::sets("timeout", "SECS", |r, d, a| {
        d.timeout = r.timer(a, 0.000001..=LONGEST)
    }),
    Keyword::sets("weight", "N [reverse|noreverse]", |r, d, a| {
        d.weight = weight_of(r, a, 253).unwrap_or(d.weight);
    }),
    Keyword::sets("rise", "N", |r, d, a| {
        d.rise = r
            .small::<u32>(a, 1..=i32::MAX.into())
            .and_then(NonZeroU32::new);
    }),
    Keyword::sets("fall", "N", |r, d, a| {
        d.fall = r
            .small::<u32>(a, 1..=i32::MAX.into())
            .and_then(NonZeroU32::new);
    }),
    Keyword::sets("user", "USER [GROUP]", |r, d, a| d.user = r.user(a)),
    Keyword::sets("init_fail", "", |_, d, _| d.init_fail = true),
];

/// `vrrp_script NAME { … }`.
pub fn script(reader: &mut Reader<'_>, trackable: &mut Trackable, args: &mut Args<'_>) {
    let at = args.at();
    let block = args.block();
    let Some(name) = reader.text(args, "a name") else {
        return;
    };
    let mut draft = ScriptDraft::default();
    reader.block(&mut draft, block, &[SCRIPT], "vrrp_script");
    let Some(mut script) = draft.script else {
        return reader.error(
            &at,
            format!("vrrp_script `{name}` has no `script`, and is left out"),
        );
    };
    if trackable
        .scripts
        .iter()
        .any(|(known, ..)| known.name == name)
    {
        return reader.error(&at, format!("vrrp_script `{name}` is there already"));
    }
    script.user = script.user.or(draft.user);
    let interval = draft.interval.unwrap_or(Duration::from_secs(1));
    let made = TrackScript {
        name,
        script,
        interval,
        timeout: draft.timeout.unwrap_or(interval),
        rise: draft.rise.unwrap_or(NonZeroU32::MIN),
        fall: draft.fall.unwrap_or(NonZeroU32::MIN),
        starts_failed: draft.init_fail,
    };
    trackable.scripts.push((made, draft.weight, at));
}

/// `track_file` as it stands in the file.
pub struct FileDraft {
    path: Option<String>,
    weight: TrackWeight,
    init: Option<FileInit>,
}

/// Its keywords.
pub const FILE: &[Keyword<FileDraft>] = &[
    Keyword::sets("file", "PATH", |r, d, a| d.path = r.quoted(a, "a path")),
    Keyword::sets("weight", "N [reverse|noreverse]", |r, d, a| {
        d.weight = weight_of(r, a, 254).unwrap_or(d.weight);
    }),
    Keyword::sets("init_file", "[VALUE] [overwrite]", |r, d, a| {
        let mut init = FileInit {
            value: 0,
            overwrite: false,
        };
        for word in a.rest() {
            if word.text == "overwrite" {
                init.overwrite = true;
            } else if let Some(value) = r.number_of(word, i32::MIN.into()..=i32::MAX.into()) {
                init.value = value as i32;
            }
        }
        d.init = Some(init);
    }),
];

/// `track_file NAME { … }`.
pub fn file(reader: &mut Reader<'_>, trackable: &mut Trackable, args: &mut Args<'_>) {
    let at = args.at();
    let block = args.block();
    let Some(name) = reader.text(args, "a name") else {
        return;
    };
    let mut draft = FileDraft {
        path: None,
        weight: TrackWeight {
            points: 1,
            reverse: false,
        },
        init: None,
    };
    reader.block(&mut draft, block, &[FILE], "track_file");
    let Some(path) = draft.path else {
        return reader.error(
            &at,
            format!("track_file `{name}` has no `file`, and is left out"),
        );
    };
    if trackable.files.iter().any(|(known, _)| known.name == name) {
        return reader.error(&at, format!("track_file `{name}` is there already"));
    }
    let made = TrackFile {
        name,
        path: PathBuf::from(path),
        init: draft.init,
    };
    trackable.files.push((made, draft.weight));
}

/// `vrrp_track_process` as it stands in the file.
#[derive(Default)]
pub struct ProcessDraft {
    command: Vec<String>,
    matching: Option<ParameterMatch>,
    weight: TrackWeight,
    quorum: Option<u32>,
    quorum_max: Option<u32>,
    fork_delay: Duration,
    terminate_delay: Duration,
    full_command: bool,
}

/// Its keywords.
pub const PROCESS: &[Keyword<ProcessDraft>] = &[
    Keyword::sets("process", "COMMAND [PARAMETER …]", |r, d, a| {
        let statement = a.statement;
        r.need(a, "a command");
        a.rest();
        match script_words(&statement.text, &statement.source) {
            // Parameters may stand beside the command, or with it in quotes.
            Ok(words) if words.len() > 1 => {
                let inner = super::lex::Text::of_line(&words[1].text);
                let first = script_words(&inner, &statement.source).unwrap_or_default();
                d.command = first
                    .into_iter()
                    .chain(words.into_iter().skip(2))
                    .map(|w| w.text)
                    .collect();
            }
            _ => r.error(&statement.at(), "this is no command"),
        }
    }),
    Keyword::sets("param_match", "initial|partial", |r, d, a| {
        let known = [
            ("initial", ParameterMatch::Initial),
            ("partial", ParameterMatch::Partial),
        ];
        d.matching = r.choice(a, &known);
    }),
    Keyword::sets("weight", "N [reverse|noreverse]", |r, d, a| {
        d.weight = weight_of(r, a, 254).unwrap_or(d.weight);
    }),
    Keyword::sets("quorum", "N", |r, d, a| d.quorum = r.small(a, 1..=65535)),
    Keyword::sets("quorum_max", "N", |r, d, a| {
        d.quorum_max = r.small(a, 0..=65535)
    }),
    Keyword::sets("delay", "SECS", |r, d, a| {
        let delay = r.timer(a, 0.000001..=3600.0).unwrap_or_default();
        (d.fork_delay, d.terminate_delay) = (delay, delay);
    }),
    Keyword::sets("fork_delay", "SECS", |r, d, a| {
        d.fork_delay = r.timer(a, 0.000001..=3600.0).unwrap_or_default();
    }),
    Keyword::sets("terminate_delay", "SECS", |r, d, a| {
        d.terminate_delay = r.timer(a, 0.000001..=3600.0).unwrap_or_default();
    }),
    Keyword::sets("full_command", "", |_, d, _| d.full_command = true),
];

/// `vrrp_track_process NAME { … }`.
pub fn process(reader: &mut Reader<'_>, trackable: &mut Trackable, args: &mut Args<'_>) {
    let at = args.at();
    let block = args.block();
    let Some(name) = reader.text(args, "a name") else {
        return;
    };
    let mut draft = ProcessDraft::default();
    reader.block(&mut draft, block, &[PROCESS], "vrrp_track_process");
    let mut command = draft.command.into_iter();
    let Some(program) = command.next() else {
        let message = format!("vrrp_track_process `{name}` has no `process`, and is left out");
        return reader.error(&at, message);
    };
    if trackable
        .processes
        .iter()
        .any(|(known, _)| known.name == name)
    {
        return reader.error(&at, format!("vrrp_track_process `{name}` is there already"));
    }
    let quorum = draft
        .quorum
        .unwrap_or(if draft.quorum_max == Some(0) { 0 } else { 1 });
    let mut quorum_max = draft.quorum_max;
    if quorum_max.is_some_and(|max| max < quorum) {
        reader.error(&at, "quorum_max is less than quorum, and is left out");
        quorum_max = None;
    }
    let parameters: Vec<String> = command.collect();
    let exact = (!parameters.is_empty()).then_some(ParameterMatch::Exact);
    let made = TrackProcess {
        name,
        program,
        full_command: draft.full_command || !parameters.is_empty() || draft.matching.is_some(),
        parameter_match: draft.matching.or(exact),
        parameters,
        quorum,
        quorum_max,
        fork_delay: draft.fork_delay,
        terminate_delay: draft.terminate_delay,
    };
    trackable.processes.push((made, draft.weight));
}

/// `bfd_instance` as it stands in the file.
pub struct BfdDraft {
    instance: BfdInstance,
    neighbour: bool,
    ttl: Option<u8>,
    weight: TrackWeight,
    multihop: bool,
}

/// Its keywords.
pub const BFD: &[Keyword<BfdDraft>] = &[
    Keyword::sets("neighbor_ip", "IP", neighbour),
    Keyword::sets("neighbour_ip", "IP", neighbour),
    Keyword::sets("source_ip", "IP", |r, d, a| {
        d.instance.source = r.address(a)
    }),
    Keyword::sets("min_rx", "MSECS", |r, d, a| {
        d.instance.min_rx = millis(r, a).unwrap_or(d.instance.min_rx);
    }),
    Keyword::sets("min_tx", "MSECS", |r, d, a| {
        d.instance.min_tx = millis(r, a).unwrap_or(d.instance.min_tx);
    }),
    Keyword::sets("idle_tx", "MSECS", |r, d, a| {
        d.instance.idle_tx = millis(r, a).unwrap_or(d.instance.idle_tx);
    }),
    Keyword::sets("multiplier", "1-255", |r, d, a| {
        d.instance.multiplier = r.small(a, 1..=255).unwrap_or(d.instance.multiplier);
    }),
    Keyword::sets("passive", "", |_, d, _| d.instance.passive = true),
    Keyword::sets("ttl", "1-255", |r, d, a| d.ttl = r.small(a, 1..=255)),
    Keyword::sets("hoplimit", "1-255", |r, d, a| d.ttl = r.small(a, 1..=255)),
    Keyword::sets("max_hops", "0-254", |r, d, a| {
        d.instance.max_hops = r.small(a, 0..=254).unwrap_or(d.instance.max_hops);
    }),
    Keyword::sets("multihop", "[BOOL]", |r, d, a| {
        d.multihop = r.flag(a).unwrap_or(true)
    }),
    Keyword::sets("weight", "N [reverse|noreverse]", |r, d, a| {
        d.weight = weight_of(r, a, 253).unwrap_or(d.weight);
    }),
    Keyword::sets("vrrp", "", |_, d, _| d.instance.for_vrrp = true),
    Keyword::sets("checker", "", |_, d, _| d.instance.for_checkers = true),
];

/// `bfd_instance NAME { … }`.
pub fn bfd(reader: &mut Reader<'_>, trackable: &mut Trackable, args: &mut Args<'_>) {
    let at = args.at();
    let block = args.block();
    let Some(name) = reader.text(args, "a name") else {
        return;
    };
    let mut draft = BfdDraft {
        instance: BfdInstance {
            name,
            neighbour: std::net::Ipv4Addr::UNSPECIFIED.into(),
            source: None,
            min_rx: Duration::from_millis(10),
            min_tx: Duration::from_millis(10),
            idle_tx: Duration::from_secs(1),
            multiplier: 5,
            passive: false,
            ttl: 255,
            max_hops: 0,
            multihop: false,
            for_vrrp: false,
            for_checkers: false,
        },
        neighbour: false,
        ttl: None,
        weight: TrackWeight::default(),
        multihop: false,
    };
    reader.block(&mut draft, block, &[BFD], "bfd_instance");
    let mut made = draft.instance;
    if !draft.neighbour {
        let message = format!(
            "bfd_instance `{}` has no neighbor_ip, and is left out",
            made.name
        );
        return reader.error(&at, message);
    }
    if trackable
        .sessions
        .iter()
        .any(|(known, _)| known.name == made.name)
    {
        return reader.error(
            &at,
            format!("bfd_instance `{}` is there already", made.name),
        );
    }
    if made
        .source
        .is_some_and(|source| source.is_ipv4() != made.neighbour.is_ipv4())
    {
        reader.error(&at, "source_ip is of the other family, and is left out");
        made.source = None;
    }
    made.multihop = draft.multihop;
    made.ttl = draft.ttl.unwrap_or(255);
    if !made.for_vrrp && !made.for_checkers {
        (made.for_vrrp, made.for_checkers) = (true, true);
    }
    trackable.sessions.push((made, draft.weight));
}

fn neighbour(reader: &mut Reader<'_>, draft: &mut BfdDraft, args: &mut Args<'_>) {
    if let Some(address) = reader.address(args) {
        draft.instance.neighbour = address;
        draft.neighbour = true;
    }
}

fn millis(reader: &mut Reader<'_>, args: &mut Args<'_>) -> Option<Duration> {
    Some(Duration::from_millis(reader.small(args, 1..=1_000_000)?))
}

/// `N [reverse|noreverse]` behind a keyword.
fn weight_of(reader: &mut Reader<'_>, args: &mut Args<'_>, most: i64) -> Option<TrackWeight> {
    let points = reader.small(args, -most..=most)?;
    let reverse = args.take_word("reverse");
    args.take_word("noreverse");
    Some(TrackWeight { points, reverse })
}

/// An entry of a tracking list: a name, and perhaps a weight of its own.
#[derive(Clone, Debug)]
pub struct TrackEntry {
    /// What is tracked.
    pub name: Word,
    /// Its own weight.
    pub weight: Option<TrackWeight>,
}

/// Which lists of a `vrrp_instance` or `vrrp_sync_group` say what.
#[derive(Clone, Debug, Default)]
pub struct TrackingDraft {
    /// `track_interface`.
    pub interfaces: Vec<TrackEntry>,
    /// `track_script`.
    pub scripts: Vec<TrackEntry>,
    /// `track_file`.
    pub files: Vec<TrackEntry>,
    /// `track_process`.
    pub processes: Vec<TrackEntry>,
    /// `track_bfd`.
    pub sessions: Vec<TrackEntry>,
}

/// The entries of a list. `weight` may be left out before a number, as old files have it.
pub fn entries(reader: &mut Reader<'_>, block: &[Statement], most: i64) -> Vec<TrackEntry> {
    block
        .iter()
        .filter_map(|entry| entry_of(reader, entry, most))
        .collect()
}

fn entry_of(reader: &mut Reader<'_>, entry: &Statement, most: i64) -> Option<TrackEntry> {
    let mut words = Args::of_entry(entry);
    let name = words.take()?.clone();
    let mut weight = None;
    while let Some(word) = words.take() {
        match word.text.as_str() {
            "weight" => {
                let value = reader.value(&mut words, word)?;
                let points = reader.number_of(value, -most..=most)? as i16;
                weight.get_or_insert(TrackWeight::default()).points = points;
            }
            "reverse" => weight.get_or_insert(TrackWeight::default()).reverse = true,
            "noreverse" => weight.get_or_insert(TrackWeight::default()).reverse = false,
            other => {
                let hint = nearest(other, ["weight", "reverse", "noreverse"]);
                let hint = hint.map(|near| format!("did you mean `{near}`?"));
                let message = format!("`{other}` is no option of a tracked object");
                reader.say(Severity::Error, word.at.clone(), message, hint);
                break;
            }
        }
    }
    Some(TrackEntry { name, weight })
}

/// Looks up what lists name. `owner` is the instance or group in messages.
pub fn resolve(
    reader: &mut Reader<'_>,
    draft: &TrackingDraft,
    trackable: &Trackable,
    owner: &str,
) -> Tracking {
    let mut find = |entries: &[TrackEntry], what: &str, known: &[(&str, TrackWeight)]| {
        let mut tracked: Vec<Tracked> = Vec::new();
        for entry in entries {
            let name = entry.name.text.as_str();
            let Some((_, default)) = known.iter().find(|(known, _)| *known == name) else {
                let near = nearest(name, known.iter().map(|(known, _)| *known));
                let hint = near.map(|near| format!("did you mean `{near}`?"));
                let message = format!(
                    "({owner}) {what} `{name}` is not defined before this, and is not tracked"
                );
                reader.say(Severity::Error, entry.name.at.clone(), message, hint);
                continue;
            };
            if tracked.iter().any(|t| t.name == name) {
                reader.error(
                    &entry.name.at,
                    format!("({owner}) `{name}` is tracked already"),
                );
                continue;
            }
            tracked.push(Tracked {
                name: name.to_owned(),
                weight: entry.weight.unwrap_or(*default),
            });
        }
        tracked
    };
    let names = |entries: &[TrackEntry]| {
        let all = entries.iter().map(|e| e.name.text.clone());
        all.collect::<Vec<_>>()
    };
    let interfaces = names(&draft.interfaces);
    let interfaces: Vec<_> = interfaces
        .iter()
        .map(|name| (name.as_str(), TrackWeight::default()))
        .collect();
    let scripts: Vec<_> = trackable
        .scripts
        .iter()
        .map(|(s, w, _)| (s.name.as_str(), *w))
        .collect();
    let files: Vec<_> = trackable
        .files
        .iter()
        .map(|(f, w)| (f.name.as_str(), *w))
        .collect();
    let processes: Vec<_> = trackable
        .processes
        .iter()
        .map(|(p, w)| (p.name.as_str(), *w))
        .collect();
    let sessions: Vec<_> = trackable
        .sessions
        .iter()
        .map(|(b, w)| (b.name.as_str(), *w))
        .collect();
    Tracking {
        interfaces: find(&draft.interfaces, "interface", &interfaces),
        scripts: find(&draft.scripts, "vrrp_script", &scripts),
        files: find(&draft.files, "track_file", &files),
        processes: find(&draft.processes, "vrrp_track_process", &processes),
        bfd: find(&draft.sessions, "bfd_instance", &sessions),
    }
}

/// The keywords of tracking lists, of whatever has a `TrackingDraft` in `tracking`.
macro_rules! tracking_keywords {
    ($type:ty) => {
        &[
            Keyword::<$type>::sets(
                "track_interface",
                "{ IF [weight N] [reverse] … }",
                |r, d, a| {
                    let entries = track::entries(r, a.block(), 253);
                    entries
                        .iter()
                        .for_each(|entry| r.check_interface(&entry.name));
                    d.tracking.interfaces.extend(entries);
                },
            ),
            Keyword::<$type>::sets(
                "track_script",
                "{ NAME [weight N] [reverse] … }",
                |r, d, a| {
                    d.tracking.scripts.extend(track::entries(r, a.block(), 253));
                },
            ),
            Keyword::<$type>::sets(
                "track_file",
                "{ NAME [weight N] [reverse] … }",
                |r, d, a| {
                    d.tracking.files.extend(track::entries(r, a.block(), 254));
                },
            ),
            Keyword::<$type>::sets(
                "track_process",
                "{ NAME [weight N] [reverse] … }",
                |r, d, a| {
                    d.tracking
                        .processes
                        .extend(track::entries(r, a.block(), 254));
                },
            ),
            Keyword::<$type>::sets(
                "track_bfd",
                "{ NAME [weight N] [reverse] … }",
                |r, d, a| {
                    d.tracking
                        .sessions
                        .extend(track::entries(r, a.block(), 253));
                },
            ),
        ]
    };
}
pub(super) use tracking_keywords;
