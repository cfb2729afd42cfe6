//! What is tracked besides interfaces: scripts, files, processes, BFD sessions. Each watcher tells the engine by a
//! channel and ends when it is dropped.

mod bfd;
mod files;
mod processes;
mod scripts;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

pub(crate) use bfd::watch_bfd;
pub(crate) use files::watch_files;
pub(crate) use processes::watch_processes;
pub(crate) use scripts::watch_script;

/// What a watcher tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A run of this script ended.
    Script {
        name: String,
        success: bool,
        said: String,
    },
    /// This file holds this number.
    File { name: String, number: i64 },
    /// This BFD session is up or down.
    Bfd { name: String, up: bool },
    /// So many processes of this kind run.
    Processes { name: String, count: u32 },
}

/// Where watchers tell it.
pub(crate) type Teller = UnboundedSender<Seen>;

/// A task that ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Watcher(JoinHandle<()>);

impl Watcher {
    pub fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.abort();
    }
}
