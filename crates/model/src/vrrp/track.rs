use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::Script;

/// What an instance or a sync group tracks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tracking {
    /// Interfaces by name.
    pub interfaces: Vec<Tracked>,
    /// Scripts by name.
    pub scripts: Vec<Tracked>,
    /// Files by name.
    pub files: Vec<Tracked>,
    /// Processes by name.
    pub processes: Vec<Tracked>,
    /// BFD sessions by name.
    pub bfd: Vec<Tracked>,
}

/// One tracked object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tracked {
    /// Its name.
    pub name: String,
    /// What it does to the priority: the entry's own weight, else that of the object.
    pub weight: TrackWeight,
}

/// What a tracked object does to the priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TrackWeight {
    /// Added while the object is well if positive, while it has failed if negative. 0: its failure
    /// is a fault.
    pub points: i16,
    /// The other way round.
    pub reverse: bool,
}

/// `vrrp_script`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrackScript {
    /// Its name.
    pub name: String,
    /// What is run; exit status 0 is success.
    pub script: Script,
    /// Time from start to start.
    pub interval: Duration,
    /// A run that takes longer is ended and has failed.
    pub timeout: Duration,
    /// How many successes make it well again.
    pub rise: NonZeroU32,
    /// How many failures make it fail.
    pub fall: NonZeroU32,
    /// `init_fail`: counts as failed until it has run.
    pub starts_failed: bool,
}

/// `track_file`: a file whose number changes the priority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrackFile {
    /// Its name.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// `init_file`: what is written at start.
    pub init: Option<FileInit>,
}

/// What a tracked file holds at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FileInit {
    /// The number.
    pub value: i32,
    /// Also when the file is there.
    pub overwrite: bool,
}

/// `vrrp_track_process`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrackProcess {
    /// Its name.
    pub name: String,
    /// Name of the program: compared with the kernel's 15 bytes of it, or with the first word of
    /// the command line when that is looked at.
    pub program: String,
    /// Its parameters.
    pub parameters: Vec<String>,
    /// How parameters are compared; `None` when they do not matter.
    pub parameter_match: Option<ParameterMatch>,
    /// `full_command`: the whole command line is looked at.
    pub full_command: bool,
    /// `quorum`: this many must run.
    pub quorum: u32,
    /// `quorum_max`: more than this may not.
    pub quorum_max: Option<u32>,
    /// How long there must be enough before that counts.
    pub fork_delay: Duration,
    /// How long there must be too few before that counts.
    pub terminate_delay: Duration,
}

/// `param_match`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ParameterMatch {
    /// All of them, and no others.
    Exact,
    /// They are the first ones.
    Initial,
    /// They are the first ones, and the last of them is the beginning of a word.
    Partial,
}
