use std::io;

/// What could not be done with the kernel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel lacks something.
    #[error("this kernel lacks {what} (needs {since} or newer)")]
    Unsupported {
        /// What.
        what: String,
        /// Since which kernel.
        since: String,
    },
    /// Pins of another layout version.
    #[error(
        "pinned maps in {dir} have layout {found}, this program needs {wanted}; stop the director \
         that made them with its own version"
    )]
    Layout {
        /// Pin directory.
        dir: String,
        /// Found.
        found: u32,
        /// Wanted.
        wanted: u32,
    },
    /// The interface vanished or cannot carry the program.
    #[error("interface {name}: {reason}")]
    Interface {
        /// Name.
        name: String,
        /// Why.
        reason: String,
    },
    /// Anything else, with what was being done.
    #[error("{doing}: {source}")]
    Os {
        /// What was being done.
        doing: String,
        /// Cause.
        source: io::Error,
    },
}

impl Error {
    /// A failed step.
    pub(crate) fn os(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Os {
            doing: doing.into(),
            source,
        }
    }

    /// A failed step of the eBPF library; the whole chain of causes becomes the text.
    pub(crate) fn bpf(doing: impl Into<String>, error: impl std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            let inner_text = inner.to_string();
            if !text.contains(&inner_text) {
                text.push_str(": ");
                text.push_str(&inner_text);
            }
            cause = inner.source();
        }
        Self::os(doing, io::Error::other(text))
    }
}
