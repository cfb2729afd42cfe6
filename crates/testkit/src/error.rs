//! What can go wrong while building a network or talking in it.

use std::io;
use std::time::Duration;

/// Why a namespace, a link or a conversation did not come about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program failed.
    #[error("{command}: {status}: {stderr}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
        /// What it said.
        stderr: String,
    },
    /// The operating system refused something.
    #[error("{doing}: {source}")]
    Os {
        /// What was being done.
        doing: String,
        /// Cause.
        source: io::Error,
    },
    /// A condition did not come true in time.
    #[error("{what}: not within {after:?}")]
    Timeout {
        /// The condition.
        what: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// A namespace of that name stands already.
    #[error("network namespace {name} exists already; remove it with `ip netns del {name}`")]
    Exists {
        /// Its name.
        name: String,
    },
    /// The program needs root.
    #[error("network namespaces need root")]
    NotRoot,
    /// An answer that is not HTTP.
    #[error("not an HTTP answer: {start:?}")]
    NotHttp {
        /// How it begins.
        start: String,
    },
    /// An HTTP answer other than 200.
    #[error("HTTP status {status}: {body}")]
    Status {
        /// The status.
        status: u16,
        /// The page.
        body: String,
    },
}

impl Error {
    /// Wraps an [`io::Error`] with what was being done.
    pub fn os(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Os { doing, source }
    }

    /// The same for `errno`.
    pub(crate) fn errno(doing: impl Into<String>) -> impl FnOnce(nix::errno::Errno) -> Self {
        let doing = doing.into();
        move |errno| Self::Os {
            doing,
            source: errno.into(),
        }
    }
}
