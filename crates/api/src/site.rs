//! What a director that follows a configuration tells about it. Times are Unix seconds.

use pointsman_model::vrrp::VrrpView;
use pointsman_model::{ServerKey, ServiceKey};
use serde::{Deserialize, Serialize};

/// A whole site as it stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SiteView {
    /// The file that it was read from.
    pub file: String,
    /// When it was read.
    pub read_at: u64,
    /// What was said about it when it was read: warnings, and errors that leave the rest usable.
    pub remarks: String,
    /// The last file that was refused since.
    pub refused: Option<RefusedFile>,
    /// Virtual servers, in configuration order.
    pub virtual_servers: Vec<VirtualServerView>,
    /// VRRP: instances, sync groups and what is tracked.
    pub vrrp: VrrpView,
    /// Probes since the start.
    pub probes: ProbeTotals,
    /// Notifications that did not fit since the start.
    pub lost: LostNotices,
    /// Times that somebody else's changes of the table were undone.
    pub repairs: u64,
}

/// A file that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedFile {
    /// When.
    pub at: u64,
    /// Which.
    pub file: String,
    /// Why: every problem with its place.
    pub problems: String,
}

/// A virtual server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VirtualServerView {
    /// `[192.0.2.1]:tcp:80`.
    pub name: String,
    /// Its services of the table.
    pub services: Vec<ServiceKey>,
    /// Whether it has its quorum.
    pub up: bool,
    /// Since when.
    pub since: u64,
    /// Weight of live servers.
    pub live_weight: u64,
    /// Weight it wants.
    pub quorum: u32,
    /// How far below it may fall once it is up.
    pub hysteresis: u32,
    /// The sorry server, if there is one.
    pub sorry_server: Option<ServerKey>,
    /// Whether that stands in for the pool.
    pub sorry_in_use: bool,
    /// Whether its checks are suspended (`ha_suspend`).
    pub suspended: bool,
    /// Its real servers, in configuration order.
    pub real_servers: Vec<RealServerView>,
}

/// Virtual servers that a `pointsman ldirectord` checks and keeps in the director's table, as it told last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LdirectordView {
    /// Its configuration.
    pub file: String,
    /// Its process.
    pub pid: u32,
    /// It tells at least so often, in seconds.
    pub every_secs: u64,
    /// When it told this. The director sets it, and what is known of the table.
    #[serde(default)]
    pub told_at: u64,
    /// Its virtual servers, in configuration order; a fallback server is their sorry server.
    pub virtual_servers: Vec<VirtualServerView>,
}

impl LdirectordView {
    /// Whether it should have told again long before `now`.
    pub fn is_silent(&self, now: u64) -> bool {
        now.saturating_sub(self.told_at) > 3 * self.every_secs + 5
    }
}

/// A real server of a virtual server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RealServerView {
    /// Address and port.
    pub server: ServerKey,
    /// Whether its checks let it take part.
    pub up: bool,
    /// Since when.
    pub since: u64,
    /// Its weight, with what checks add.
    pub weight: u32,
    /// The weight with which it stands in the table; `None` when it is not there.
    pub table_weight: Option<u32>,
    /// Why an operator keeps it out.
    pub held: Option<String>,
    /// Connections in an active state, over all its services.
    pub active: u32,
    /// Other connections.
    pub inactive: u32,
    /// Its checks.
    pub checks: Vec<CheckView>,
}

/// A check of a real server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckView {
    /// `TCP_CHECK`, `HTTP_GET`, …
    pub kind: String,
    /// What it says.
    pub up: bool,
    /// Since when.
    pub since: u64,
    /// What the last probe saw, in words.
    pub reason: String,
    /// Failures in a row, forgiven so far.
    pub forgiven: u32,
    /// Failures in a row that take the server out.
    pub tries: u32,
    /// Probes made.
    pub probes: u64,
    /// Of these, failed.
    pub failures: u64,
    /// How long the last one took, in milliseconds.
    pub took_ms: f64,
    /// Seconds to the next one.
    pub next_secs: Option<f64>,
    /// Whether it waits for `ha_suspend`.
    pub suspended: bool,
    /// Times the checker was made anew after it hung or panicked.
    pub restarts: u64,
}

/// Probes since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProbeTotals {
    /// Made.
    pub probes: u64,
    /// Of these, failed.
    pub failures: u64,
    /// Begun later than due by more than 5 % of their interval.
    pub late: u64,
    /// Checkers made anew after they hung or panicked.
    pub restarts: u64,
}

/// Notifications that did not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostNotices {
    /// Scripts not started.
    pub scripts: u64,
    /// Lines of FIFOs.
    pub lines: u64,
    /// Mails.
    pub letters: u64,
    /// Events of webhooks.
    pub events: u64,
}

/// What became of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Reloaded {
    /// The file counts.
    Done {
        /// Which.
        file: String,
        /// Changes of the table.
        changes: usize,
        /// What was said about the file.
        remarks: String,
    },
    /// Nothing has changed.
    Refused {
        /// Which.
        file: String,
        /// Every problem with its place.
        problems: String,
    },
    /// The director follows no configuration.
    NoSite,
}
