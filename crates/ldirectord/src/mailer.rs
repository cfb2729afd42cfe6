//! Mails and commands, which nobody waits for.

use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use pointsman_model::Globals;
use pointsman_notify::{Letter, Notice, Notifier};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::Mail;
use crate::log::Sink;
use crate::surroundings::host_name;

/// Each step of the dialogue with a mail server.
const MAIL_STEP: Duration = Duration::from_secs(30);
const SMTP_PORT: u16 = 25;

/// Sends mails, and runs commands one after the other.
pub(crate) struct Outbox {
    mails: UnboundedSender<Mail>,
    commands: Option<Sender<String>>,
    worker: Option<std::thread::JoinHandle<()>>,
}

impl Outbox {
    pub fn start(runtime: &Handle, sink: Sink) -> Self {
        let (mails, mut waiting) = unbounded_channel::<Mail>();
        runtime.spawn(async move {
            // It belongs to the runtime in which it is made, and bounds what waits.
            let mut notifier = Notifier::new(&Globals::default());
            while let Some(mail) = waiting.recv().await {
                notifier.tell(Notice {
                    letter: Some(letter(&mail)),
                    ..Notice::default()
                });
            }
        });
        let (commands, queue) = channel::<String>();
        let worker = std::thread::spawn(move || {
            for command in queue {
                shell(&command, &sink);
            }
        });
        Self {
            mails,
            commands: Some(commands),
            worker: Some(worker),
        }
    }

    pub fn mail(&self, mail: Mail) {
        let _ = self.mails.send(mail);
    }

    /// Runs after those asked for before it.
    pub fn command(&self, command: String) {
        if let Some(commands) = &self.commands {
            let _ = commands.send(command);
        }
    }
}

/// Waits for the commands that were asked for.
impl Drop for Outbox {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

/// Runs a line in the shell and logs its failure, as the original words it.
pub(crate) fn shell(line: &str, sink: &Sink) -> bool {
    let status = std::process::Command::new("/bin/sh")
        .args(["-c", line])
        .stdin(std::process::Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => true,
        Ok(status) => {
            sink.line(&format!("system({line}) failed: {status}"));
            false
        }
        Err(error) => {
            sink.line(&format!("system({line}) failed: {error}"));
            false
        }
    }
}

fn letter(mail: &Mail) -> Letter {
    let host = host_name();
    let user = nix::unistd::User::from_uid(nix::unistd::getuid())
        .ok()
        .flatten();
    let us = || format!("{}@{host}", user.map_or("root".into(), |user| user.name));
    Letter {
        subject: mail.subject.clone(),
        body: mail.body(&host),
        mail: Some(pointsman_model::Mail {
            server: mail.server.clone(),
            port: SMTP_PORT,
            tls: pointsman_model::MailTls::Off,
            helo: None,
            from: mail.from.clone().unwrap_or_else(us),
            to: mail.to.split(',').map(|to| to.trim().to_owned()).collect(),
            timeout: MAIL_STEP,
        }),
    }
}
