//! Who is told when something changes, and how: scripts, FIFOs, mail, webhooks.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A user's command, as the configuration words it: nothing is resolved yet.
///
/// It runs without a shell, unless its first word begins with `</` (an input redirection, as
/// keepalived allows) or the file has no `#!` line.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Script {
    /// Program and arguments; never empty. A relative program is looked for in `PATH`.
    pub argv: Vec<String>,
    /// As whom it runs; `None` for the site's [`script_user`](crate::Globals::script_user).
    #[serde(default)]
    pub user: Option<ScriptUser>,
}

/// A user, and perhaps a group, by name or number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ScriptUser {
    /// User.
    pub user: String,
    /// Group; `None` for the user's own.
    #[serde(default)]
    pub group: Option<String>,
}

impl Script {
    /// A command that runs as the site's script user.
    pub fn new(argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            user: None,
        }
    }

    /// The same command with more arguments at its end.
    #[must_use]
    pub fn with_args(&self, more: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut script = self.clone();
        script.argv.extend(more.into_iter().map(Into::into));
        script
    }
}

/// The command as a log shows it: words separated by blanks.
impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.argv.join(" "))
    }
}

/// A FIFO that events are written to, one line each, and the program that reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fifo {
    /// Path; made when it is missing, and then removed at the end.
    pub path: String,
    /// Owner of a FIFO that is made here.
    #[serde(default)]
    pub owner: Option<ScriptUser>,
    /// Started once, with the path as its last argument.
    #[serde(default)]
    pub script: Option<Script>,
}

/// How mail leaves. There is none without a server and a recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// Name or address of the SMTP server; `None` for the local mail command (`sendmail`), as
    /// ldirectord does.
    pub server: Option<String>,
    /// Its port, host order.
    pub port: u16,
    /// Whether the dialogue is encrypted.
    #[serde(default)]
    pub tls: MailTls,
    /// What HELO says; `None` for the host's name.
    #[serde(default)]
    pub helo: Option<String>,
    /// Header and envelope sender, `Name <user@host>` allowed.
    pub from: String,
    /// Recipients, `Name <user@host>` allowed.
    pub to: Vec<String>,
    /// Bound on each step of the dialogue.
    pub timeout: Duration,
}

/// Whether an SMTP server is spoken to by TLS. Its certificate must be of the name it is called by, and signed by somebody
/// the system trusts; nothing is sent otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// In clear text, as keepalived does.
    #[default]
    Off,
    /// From STARTTLS on (port 25 or 587).
    Starttls,
    /// From the first byte (port 465).
    Always,
}

/// An HTTP address that each event is posted to as one JSON object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Webhook {
    /// `http://HOST[:PORT]/PATH`.
    pub url: String,
    /// Bound on the whole exchange.
    pub timeout: Duration,
}
