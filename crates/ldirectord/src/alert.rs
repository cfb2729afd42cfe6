//! Mails: who gets which, what they say, and when they are said again.

use std::collections::BTreeMap;
use std::time::Duration;

use pointsman_config::ldirectord::{Config, DaemonStatus, Virtual};
use pointsman_model::ServiceKey;

use crate::Effect;

/// A mail to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// `smtp`: the server; `None` for the local mail command.
    pub server: Option<String>,
    /// Recipients, as the file has them.
    pub to: String,
    /// `emailalertfrom`; `None` for the user's own address.
    pub from: Option<String>,
    /// Subject.
    pub subject: String,
    /// The phase of the daemon.
    pub status: DaemonStatus,
    /// `servicename`.
    pub service_name: Option<String>,
    /// `comment`.
    pub comment: Option<String>,
}

impl Mail {
    /// The text below the headers, as the original has it.
    pub fn body(&self, host: &str) -> String {
        let mut text = format!(
            "ldirectord host: {host}\nLog-Message: {}\nDaemon-Status: {}\n",
            self.subject,
            self.status.name()
        );
        if self.service_name.is_some() || self.comment.is_some() {
            text.push('\n');
        }
        if let Some(name) = &self.service_name {
            text += &format!("Service name: {name}\n");
        }
        if let Some(comment) = &self.comment {
            text += &format!("Comment: {comment}\n");
        }
        text
    }
}

/// Servers that are down and told of again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alerts {
    /// By service and label; the label's time, and how often it is told.
    told: BTreeMap<String, Told>,
}

#[derive(Clone, Debug)]
struct Told {
    service: ServiceKey,
    at: Duration,
    every: Duration,
}

impl Alerts {
    /// The mail about `subject`, if anybody wants it. `since` is the time at which the server `about`
    /// was down; `None` when it is not, or is not told of again.
    pub fn send(
        &mut self,
        config: &Config,
        service: &Virtual,
        status: DaemonStatus,
        subject: String,
        about: &str,
        since: Option<Duration>,
    ) -> Vec<Effect> {
        let email = config.email(service);
        let every = Duration::from_secs(email.repeat.unwrap_or(0).into());
        match since.filter(|_| !every.is_zero()) {
            Some(at) => {
                let told = Told {
                    service: service.key,
                    at,
                    every,
                };
                self.told.insert(about.to_owned(), told);
            }
            None => {
                self.told.remove(about);
            }
        }
        let wanted = email.statuses.is_none_or(|statuses| statuses.has(status));
        let Some(to) = email.to.filter(|to| wanted && !to.is_empty()) else {
            return Vec::new();
        };
        let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let service_name = some(&service.service_name);
        let log = format!("emailalert: {subject}");
        let subject = match &service_name {
            Some(name) => format!("[{name}] {subject}"),
            None => subject,
        };
        let mail = Mail {
            server: email.smtp,
            to,
            from: config.globals.email_from.clone(),
            subject,
            status,
            service_name,
            comment: some(&service.comment),
        };
        vec![Effect::Log(log), Effect::Mail(mail)]
    }

    /// Servers whose time to be told of again has come.
    pub fn due(&self, now: Duration) -> Vec<(ServiceKey, String)> {
        let due = self
            .told
            .iter()
            .filter(|(_, told)| now.saturating_sub(told.at) >= told.every);
        due.map(|(label, told)| (told.service, label.clone()))
            .collect()
    }

    /// No longer told of: its service is gone.
    pub fn forget(&mut self, service: ServiceKey, label: &str) {
        self.told
            .retain(|known, told| known != label || told.service != service);
    }
}
