//! Other programs' configurations as a [`Site`], in what keepalived's language can say.
//!
//! What it has no words for comes back as remarks, each about one thing and where it stood.

mod checks;
mod heartbeat;
mod ldirectord;
mod rules;

pub use heartbeat::heartbeat;
pub use ldirectord::ldirectord;
pub use rules::{changes, services};

use pointsman_model::Site;

/// A site, and what of its source is not in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Converted {
    /// The site.
    pub site: Site,
    /// What could not be said, a line each.
    pub remarks: Vec<String>,
}

#[cfg(test)]
mod tests;
