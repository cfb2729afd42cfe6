use std::io;
use std::path::PathBuf;

use pointsman_dataplane::Error as DataPlaneError;

/// Why a director could not start, run or stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Anybody but root.
    #[error("a director loads eBPF programs and changes interfaces: it must run as root")]
    NotRoot,
    /// The kernel lacks what nothing can replace.
    #[error("this kernel cannot host a director: it lacks {what}; {remedy}")]
    Kernel {
        /// What.
        what: &'static str,
        /// What to do about it.
        remedy: &'static str,
    },
    /// One is enough.
    #[error("another director (pid {pid}) runs in this network namespace")]
    AnotherDirector {
        /// Its process, 0 while it is just starting.
        pid: u32,
    },
    /// `--interface` names what is not there.
    #[error("no interface {name} in this network namespace (there are: {known})")]
    NoSuchInterface {
        /// As given.
        name: String,
        /// Those that exist.
        known: String,
    },
    /// Maps of another version are pinned and perhaps in use.
    #[error(
        "{source} (it may still be forwarding). This version's `pointsman director stop` ends it, \
         too, and drops its connections"
    )]
    OtherLayout {
        /// The data plane's words.
        source: DataPlaneError,
    },
    /// Nothing of a configuration can be used.
    #[error("the configuration cannot be used:\n{problems}")]
    Configuration {
        /// Every problem with its place.
        problems: String,
    },
    /// The address for metrics cannot be listened on.
    #[error("listening on {address} for metrics: {source}")]
    Metrics {
        /// As given.
        address: std::net::SocketAddr,
        /// Cause.
        source: io::Error,
    },
    /// The data plane could not do something.
    #[error(transparent)]
    DataPlane(DataPlaneError),
    /// The network namespace has no name.
    #[error(transparent)]
    Location(#[from] pointsman_api::LocationError),
    /// A running director could not be asked.
    #[error(transparent)]
    Api(#[from] pointsman_api::Error),
    /// The kernel's network configuration could not be read or followed.
    #[error("{doing} over netlink: {source}")]
    Netlink {
        /// What was being done.
        doing: &'static str,
        /// Cause.
        source: rtnetlink::Error,
    },
    /// A file or directory.
    #[error("{doing} {}: {source}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// Something else the system refused.
    #[error("{doing}: {source}")]
    Os {
        /// What was being done.
        doing: &'static str,
        /// Cause.
        source: io::Error,
    },
    /// A director in the background gave up before it answered.
    #[error("the director did not start ({how}){}", log_excerpt(log))]
    DidNotStart {
        /// How it ended.
        how: String,
        /// Its last words.
        log: Vec<String>,
    },
    /// It answered the stop but is still there.
    #[error("the director (pid {pid}) was told to end but is still there after {secs} seconds")]
    DidNotEnd {
        /// Its process.
        pid: u32,
        /// How long was waited.
        secs: u64,
    },
}

impl From<DataPlaneError> for Error {
    fn from(source: DataPlaneError) -> Self {
        match source {
            DataPlaneError::Layout { .. } => Self::OtherLayout { source },
            _ => Self::DataPlane(source),
        }
    }
}

/// Names what was being done to a file.
pub(crate) fn file(
    doing: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::File {
        doing,
        path,
        source,
    }
}

fn log_excerpt(log: &[String]) -> String {
    if log.is_empty() {
        String::new()
    } else {
        format!("; it said:\n  {}", log.join("\n  "))
    }
}
