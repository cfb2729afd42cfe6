//! Where a configuration comes from, and how it is read.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use pointsman_config::diag::Severity;
use pointsman_config::keepalived;
use pointsman_model::Site;

/// A configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file; for keepalived's language a pattern too.
    pub file: PathBuf,
    /// What `@` lines are compared with; `None` for the host's name up to its first dot.
    pub config_id: Option<String>,
}

impl Source {
    /// Where keepalived's configuration is by custom.
    pub const DEFAULT: &str = "/etc/keepalived/keepalived.conf";

    /// A file in keepalived's language.
    pub fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            config_id: None,
        }
    }

    /// The same source with another file.
    #[must_use]
    pub fn with_file(&self, file: &str) -> Self {
        Self {
            file: file.into(),
            ..self.clone()
        }
    }

    pub(super) fn read(&self) -> Read {
        let host = nix::unistd::gethostname().ok();
        let host_name = host.and_then(|name| name.into_string().ok());
        let host_name = host_name.unwrap_or_else(|| "localhost".into());
        let short = host_name.split('.').next().unwrap_or_default().to_owned();
        let options = keepalived::Options {
            config_id: self.config_id.clone().unwrap_or(short),
            host_name,
            environment: std::env::vars().collect::<HashMap<_, _>>(),
            random_seed: std::time::UNIX_EPOCH
                .elapsed()
                .map_or(0, |since| since.as_secs()),
            ..keepalived::Options::default()
        };
        let loaded = keepalived::read(&self.file, &options);
        let diagnostics = &loaded.diagnostics;
        let of = |severity| diagnostics.iter().filter(move |d| d.severity == severity);
        let fatal = diagnostics.count(Severity::Fatal) > 0;
        Read {
            fatal: fatal.then(|| diagnostics.render(Severity::Error)),
            errors: of(Severity::Error).map(|d| d.message.clone()).collect(),
            problems: diagnostics.render(Severity::Error),
            remarks: diagnostics.render(Severity::Warning),
            site: loaded.site,
        }
    }
}

/// What reading gave.
pub(super) struct Read {
    /// The configuration.
    pub site: Site,
    /// Why nothing of it can be used.
    pub fatal: Option<String>,
    /// Errors that leave the rest usable, without their places.
    pub errors: BTreeSet<String>,
    /// The same with their places.
    pub problems: String,
    /// Everything that an operator should see to.
    pub remarks: String,
}

impl Read {
    /// Why it must not take the place of `running`: what cannot be used at all, and errors that
    /// the running one has not.
    pub fn worse_than(&self, running: &Self) -> Option<&str> {
        if let Some(fatal) = &self.fatal {
            return Some(fatal);
        }
        let new = self.errors.difference(&running.errors).next();
        new.map(|_| self.problems.as_str())
    }
}
