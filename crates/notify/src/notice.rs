use pointsman_model::Script;

use crate::Letter;

/// What happened, in the forms in which it is told. Whatever is empty is not told that way.
#[derive(Clone, Debug, Default)]
pub struct Notice {
    /// What it is about.
    pub topic: Topic,
    /// Commands to start, in this order, side by side.
    pub scripts: Vec<Script>,
    /// A line for FIFOs, without its end.
    pub line: Option<String>,
    /// A mail.
    pub letter: Option<Letter>,
    /// The object that webhooks get.
    pub event: Option<serde_json::Value>,
}

/// What a notice is about; it decides which FIFOs get the line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Topic {
    /// Virtual and real servers.
    #[default]
    Lvs,
    /// VRRP instances and groups.
    Vrrp,
}
