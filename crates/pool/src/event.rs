use pointsman_model::{Change, Script, ServerKey, VirtualId};

/// What a pool asks for; effects are to be carried out in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A change of the table.
    Change(Change),
    /// Somebody is to be told.
    Event(Event),
    /// A line for the log, in keepalived's words where it has one: monitoring greps them.
    Log(String),
}

/// What happened, for scripts, FIFOs, mails and webhooks.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A check of a real server changed its mind.
    Check(CheckEvent),
    /// A real server came or went.
    Server(ServerEvent),
    /// A virtual server came up or went down.
    Quorum(QuorumEvent),
}

/// A check changed its mind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckEvent {
    /// Virtual server.
    pub id: VirtualId,
    /// Real server.
    pub server: ServerKey,
    /// Place of the check in the server's list.
    pub check: usize,
    /// What it says now.
    pub up: bool,
    /// Why, in words.
    pub reason: String,
    /// Whether the server is up now, all checks taken together.
    pub server_up: bool,
    /// Whether that has changed with it.
    pub decided: bool,
    /// Whether a mail is wanted.
    pub mail: bool,
}

/// A real server came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerEvent {
    /// Virtual server.
    pub id: VirtualId,
    /// Real server.
    pub server: ServerKey,
    /// Up.
    pub up: bool,
    /// Why it is told.
    pub why: ServerWhy,
    /// `notify_up` or `notify_down`.
    pub script: Option<Script>,
    /// Whether a mail is wanted (checks mail for themselves: [`CheckEvent`]).
    pub mail: bool,
}

/// Why a real server came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerWhy {
    /// It is new, and `rs_init_notifies` is set.
    Start,
    /// Its checks say so, or an operator does.
    Checks,
    /// The configuration has it no more.
    Removed,
    /// The director stops, and `omega` is set.
    Stop,
}

/// A virtual server came up or went down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumEvent {
    /// Virtual server.
    pub id: VirtualId,
    /// Up.
    pub up: bool,
    /// Why it is told.
    pub why: QuorumWhy,
    /// Configured quorum.
    pub quorum: u32,
    /// Configured hysteresis.
    pub hysteresis: u32,
    /// The weight that decided.
    pub threshold: u32,
    /// Weight of live servers.
    pub live: u64,
    /// `quorum_up`, `quorum_down`, or ldirectord's `fallbackcommand`.
    pub script: Option<Script>,
    /// Whether a mail is wanted.
    pub mail: bool,
}

/// Why a virtual server came up or went down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuorumWhy {
    /// This is how it begins.
    Start,
    /// Enough weight is live, or too little.
    Weight,
    /// It is removed, or the director stops, and `omega` is set.
    Stop,
}
