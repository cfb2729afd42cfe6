//! keepalived.conf: the whole language, into the model and back.
//!
//! A file goes through four stages, each with the places of everything it says:
//!
//! ```text
//! files ── expand ──▶ lines ── tree ──▶ statements ── keywords ──▶ drafts ── rules ──▶ Site
//!   include, comments,           blocks             one table          inheritance,
//!   conditions, definitions,                        per block          defaults, checks
//!   loops
//! ```
//!
//! Nothing stops at the first problem. Defaults are resolved when the whole configuration is read,
//! so that the order of its parts does not matter.

mod address;
mod auth;
mod check_resolve;
mod checker;
mod define;
mod expand;
mod global;
mod group;
mod http;
mod include;
mod instance;
mod keyword;
mod lex;
mod mail;
mod names;
mod pool;
mod process;
mod real_server;
mod root;
mod route;
mod rule;
mod sequence;
mod static_;
mod sync_group;
mod table;
mod track;
mod tree;
mod virtual_server;
mod vrrp;
mod write;

use std::collections::HashMap;
use std::path::Path;

use pointsman_model::Site;

use crate::diag::Diagnostics;

pub use include::{Disk, Files, Kind};
pub use table::{Entry, Table, tables};
pub use write::write;

/// What a configuration is read with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What `@` lines are compared with: `--config-id`, else the host's name up to its first dot.
    pub config_id: String,
    /// Name of this host, for a mail's sender that is not configured.
    pub host_name: String,
    /// What `${_ENV NAME}` finds.
    pub environment: HashMap<String, String>,
    /// Seed of `${_RANDOM}`.
    pub random_seed: u64,
    /// Every check of includes from the start, as keepalived's `--all-config`.
    pub all_include_checks: bool,
    /// The interfaces of this machine: others are warned of. `None` does not look.
    pub interfaces: Option<Vec<String>>,
}

/// A configuration as far as it can be used, and everything to be said about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The model.
    pub site: Site,
    /// Problems, in the order of the files.
    pub diagnostics: Diagnostics,
}

/// Reads a configuration and everything it includes from this machine's files. `path` may be a
/// pattern; all files that match are one configuration.
pub fn read(path: &Path, options: &Options) -> Loaded {
    read_from(path, options, &Disk)
}

/// Reads a configuration whose files lie anywhere.
pub fn read_from(path: &Path, options: &Options, files: &dyn Files) -> Loaded {
    let mut diagnostics = Diagnostics::default();
    let lines = expand::expand(path, files, options, &mut diagnostics);
    let statements = tree::build(&lines, table::Context::Root, &mut diagnostics);
    let site = root::read(&statements, options, files, &mut diagnostics);
    diagnostics.sort();
    Loaded { site, diagnostics }
}
