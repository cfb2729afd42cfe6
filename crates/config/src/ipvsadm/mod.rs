//! The command line of `ipvsadm` 1.31: grammar, listings, rule files, messages and exit codes, to
//! the byte.
//!
//! ```text
//! words ─ parse ─▶ Command ─ run ─▶ Director (changes, questions)
//!                                └─▶ print, rules ─▶ standard output
//! ```
//!
//! * [`parse`] reads one command line. What is wrong with it by itself is a [`UsageError`], which
//!   carries its text and exit code. The whole grammar is read, also what a director may not be
//!   able to do yet.
//! * [`run`] performs a [`Command`] on a [`Director`], and words its refusals as `ipvsadm` does.
//! * [`Names`] turns addresses and ports into names and back, so that tests need no name server.
//!
//! How it was checked: `tests/oracle/ipvsadm.transcript` holds what the original said to hundreds
//! of commands over the kernel; a test replays them all.

mod address;
mod args;
mod check;
mod command;
mod connections;
mod help;
mod json;
mod listing;
mod messages;
mod names;
mod options;
mod program;
mod rule_file;
mod rules;
mod run;
mod sort;

pub use args::parse;
pub(crate) use args::sched_flags;
pub use command::{Command, DaemonOptions, Format, Listing, MulticastGroup, ServiceRule, View};
pub use connections::print_connections;
pub use help::{VERSION, print_help};
pub use listing::{
    Layout, list_local_addresses, print_daemons, print_local_addresses, print_services,
    print_timeouts,
};
pub use messages::{UsageError, refusal};
pub use names::{Names, Numeric};
pub use program::Program;
pub use rule_file::{BadLine, Rule, read_rules};
pub use rules::{print_rules, split_line};
pub use run::{Director, DirectorError, run};
