//! Runs users' commands: checkers, notify scripts, trackers.
//!
//! A [`Program`] is a command that was looked at when the configuration was read ([`Policy`]): its
//! file exists, may be executed by its user, and, where root runs it, cannot be changed by anybody
//! else. Running it starts a process group of its own that dies with the director, with nothing on
//! stdin and stdout; what it says on stderr is kept for the log. It ends by itself, or at its
//! timeout by SIGTERM and two seconds later by SIGKILL. A command that cannot be started has failed
//! (in keepalived it would have succeeded).

mod program;
mod run;
mod security;

pub use program::{Policy, Program, Unfit};
pub use run::{Ended, Run, Started};
