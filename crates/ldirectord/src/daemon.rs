//! The daemon: what surrounds the engine.
//!
//! One thread owns the engine and the client of the director; checks run beside it and send their
//! answers, signals and time do the same. Commands and mails are handed to an outbox and never
//! waited for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use pointsman_api::Client;
use pointsman_config::ldirectord::{Config, Severity, read};
use pointsman_model::Change;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::engine::{Answer, Effect, Engine};
use crate::files::Watch;
use crate::log::{Sink, append, now};
use crate::mailer::{Outbox, shell};
use crate::probes::{Answered, Probes};
use crate::report::Report;
use crate::surroundings::System;
use crate::table::Table;

/// What the original calls itself; scripts look for it in the log.
pub(crate) const BANNER: &str = "Linux Director v1.186-ha";

/// How a daemon runs.
pub struct Options {
    /// The configuration.
    pub file: PathBuf,
    /// Its name in log lines.
    pub instance: String,
    /// Where its log goes, how it is in the foreground.
    pub foreground: Option<Foreground>,
    /// The program that runs other configurations: `PROGRAM FILE start`.
    pub program: String,
    /// The director, started where none runs.
    pub connect: Box<dyn Fn() -> Result<Client, String>>,
}

/// In the foreground, without a pid file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreground {
    /// `-d`.
    Debug,
    /// `supervised = yes`.
    Supervised,
}

/// What the daemon reacts to.
pub(crate) enum Event {
    Answer {
        generation: u64,
        check: usize,
        answer: Answered,
        took: Duration,
    },
    Stop(&'static str),
    Reload,
}

/// Runs until a signal ends it.
///
/// # Errors
/// Where no director can be had, or the system refuses threads or signals.
pub fn run(options: Options, config: Config) -> Result<(), String> {
    let sink = match options.foreground {
        Some(Foreground::Debug) => Sink::Stderr,
        Some(Foreground::Supervised) => Sink::Stdout,
        None => Sink::Configured {
            log: config.globals.log.clone(),
            instance: options.instance.clone(),
        },
    };
    let how = match options.foreground {
        Some(_) => format!("with pid: {}", std::process::id()),
        None => "as daemon".into(),
    };
    sink.line(&format!(
        "Starting {BANNER} (Pointsman {}) {how}",
        env!("CARGO_PKG_VERSION")
    ));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let (sender, events) = channel();
    listen(&runtime, &sender).map_err(|error| error.to_string())?;
    let client = (options.connect)()?;
    let engine = Engine::new(config);
    let mut daemon = Daemon {
        outbox: Outbox::start(runtime.handle(), sink.clone()),
        report: Report::new(&engine),
        engine,
        probes: None,
        generation: 0,
        unanswered: BTreeSet::new(),
        watch: Watch::default(),
        began: Instant::now(),
        runtime,
        sender,
        client,
        sink,
        options,
    };
    daemon.start();
    let signal = daemon.follow(&events);
    daemon.stop(signal);
    Ok(())
}

struct Daemon {
    options: Options,
    sink: Sink,
    client: Client,
    outbox: Outbox,
    engine: Engine,
    report: Report,
    probes: Option<Probes>,
    /// Answers of checks of an earlier configuration are not heard.
    generation: u64,
    /// Checks of the first round that have not answered yet.
    unanswered: BTreeSet<usize>,
    watch: Watch,
    began: Instant,
    runtime: Runtime,
    sender: Sender<Event>,
}

impl Daemon {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn start(&mut self) {
        let _ = self.watch.changed(&self.options.file);
        for child in self.engine.config().globals.execute.clone() {
            self.child(&child, "start");
        }
        let mut table = self.table();
        let effects = self.engine.start(&mut table, self.now());
        self.carry_out(effects);
        self.probe();
        self.tell();
    }

    /// Starts the checks of the present configuration.
    fn probe(&mut self) {
        self.generation += 1;
        let engine = &self.engine;
        let checks = engine
            .checks()
            .iter()
            .map(|check| (check, engine.service(check)));
        self.unanswered = checks
            .clone()
            .enumerate()
            .filter(|(_, (check, service))| engine.config().check(service, &check.real).is_some())
            .map(|(place, _)| place)
            .collect();
        self.probes = Some(Probes::start(
            self.runtime.handle(),
            engine.config(),
            checks,
            self.generation,
            &self.sender,
        ));
        if self.unanswered.is_empty() {
            self.engine.runs();
        }
    }

    /// Until a signal asks for the end; its name.
    fn follow(&mut self, events: &Receiver<Event>) -> &'static str {
        let mut next = Instant::now() + self.pause();
        loop {
            let wait = next.saturating_duration_since(Instant::now());
            match events.recv_timeout(wait) {
                Ok(Event::Stop(name)) => return name,
                Ok(Event::Reload) => {
                    self.sink
                        .line("Reloading Linux Director Daemon config on signal");
                    self.reload();
                }
                Ok(Event::Answer {
                    generation,
                    check,
                    answer,
                    took,
                }) if generation == self.generation => self.answered(check, &answer, took),
                Ok(Event::Answer { .. }) => {}
                Err(RecvTimeoutError::Timeout) => {
                    self.look_around();
                    next = Instant::now() + self.pause();
                }
                // We hold a sender ourselves.
                Err(RecvTimeoutError::Disconnected) => return "TERM",
            }
        }
    }

    fn pause(&self) -> Duration {
        let seconds = self.engine.config().globals.check_interval;
        Duration::from_secs(seconds.max(1).into())
    }

    fn answered(&mut self, check: usize, answered: &Answered, took: Duration) {
        self.report.answered(check, answered, took);
        let answer = match answered {
            Answered::Maintenance => Answer::Maintenance,
            Answered::Outcome(outcome) if outcome.up => Answer::Up(&outcome.reason),
            Answered::Outcome(outcome) => Answer::Down(&outcome.reason),
        };
        let now = self.now();
        let (client, sink) = (&self.client, &self.sink);
        let mut table = || read_table(client, sink);
        let effects = self.engine.answer(check, answer, &mut table, now);
        let changed = effects.iter().any(|e| matches!(e, Effect::Change(_)));
        self.carry_out(effects);
        if changed {
            self.tell();
        }
        if self.unanswered.remove(&check) && self.unanswered.is_empty() {
            self.engine.runs();
        }
    }

    /// Once a round: the file, the table, mails that are due.
    fn look_around(&mut self) {
        match self.watch.changed(&self.options.file) {
            Ok(true) => self.file_changed(),
            Ok(false) => {}
            Err(_) => {
                let file = self.options.file.display();
                let pid = std::process::id();
                self.sink.line(&format!(
                    "Warning [{pid}]: can not open file {file} for checking"
                ));
            }
        }
        match self.client.services() {
            Ok(services) => {
                let mut table = Table::of(&services);
                let effects = self.engine.repair(&mut table, self.now());
                self.carry_out(effects);
            }
            Err(error) => self.reconnect(&error.to_string()),
        }
        let effects = self.engine.remind(self.now());
        self.carry_out(effects);
        self.tell();
    }

    /// Tells the director how the servers stand, for whoever asks it. A director that does not hear it is gone, and
    /// hears it again at the next look.
    fn tell(&mut self) {
        let view = self.report.view(&self.engine, &self.options.file);
        let _ = self.client.ldirectord_tells(&view);
    }

    /// The director is gone: another is started, and gets everything at the next look.
    fn reconnect(&mut self, why: &str) {
        self.sink.line(&format!("{why}; starting a director"));
        match (self.options.connect)() {
            Ok(client) => self.client = client,
            Err(error) => self.sink.line(&error),
        }
    }

    fn file_changed(&mut self) {
        let file = self.options.file.display().to_string();
        self.sink
            .line(&format!("Configuration file '{file}' has changed on disk"));
        let globals = self.engine.config().globals.clone();
        if globals.auto_reload {
            self.sink.line(" - reread new configuration");
            self.reload();
        } else {
            self.sink.line(" - ignore new configuration");
        }
        let callback = self.engine.config().globals.callback.clone();
        if let Some(callback) = callback.filter(|callback| is_executable(Path::new(callback))) {
            self.outbox.command(format!("{callback} {file}"));
        }
    }

    /// Takes the file as it is now. With an error in it, nothing changes.
    fn reload(&mut self) {
        let file = self.options.file.display().to_string();
        let text = match std::fs::read(&self.options.file) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => {
                self.sink
                    .line(&format!("can not open file {file}: {error}"));
                return;
            }
        };
        let _ = self.watch.changed(&self.options.file);
        let reading = read(&text, &System);
        for problem in &reading.problems {
            self.sink.line(&problem.original(&file, std::process::id()));
        }
        if reading
            .problems
            .iter()
            .any(|problem| problem.severity == Severity::Error)
        {
            return;
        }
        let config = reading.config;
        let (old, new) = (
            self.engine.config().globals.execute.clone(),
            config.globals.execute.clone(),
        );
        for child in old.iter().filter(|child| !new.contains(child)) {
            self.child(child, "stop");
        }
        for child in &new {
            let running = old.contains(child) && self.child(child, "reload");
            if !running {
                self.child(child, "start");
            }
        }
        if let Sink::Configured { log, .. } = &mut self.sink {
            log.clone_from(&config.globals.log);
        }
        self.probes = None;
        let mut table = self.table();
        let effects = self.engine.reload(config, &mut table, self.now());
        self.carry_out(effects);
        self.report = Report::new(&self.engine);
        self.probe();
        self.tell();
    }

    fn stop(mut self, signal: &'static str) {
        self.probes = None;
        for child in self.engine.config().globals.execute.clone() {
            self.child(&child, "stop");
        }
        let mut table = self.table();
        let effects = self.engine.stop(&mut table, self.now());
        self.carry_out(effects);
        let file = self.options.file.display().to_string();
        let _ = self.client.ldirectord_ends(&file);
        self.sink.line(&format!(
            "Linux Director Daemon terminated on signal: {signal}"
        ));
    }

    /// Another configuration's daemon.
    fn child(&self, file: &str, word: &str) -> bool {
        shell(
            &format!("{} {file} {word}", self.options.program),
            &self.sink,
        )
    }

    fn table(&self) -> Table {
        read_table(&self.client, &self.sink)
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Change(change) => self.change(&change),
                Effect::Log(line) => self.sink.line(&line),
                Effect::Mail(mail) => self.outbox.mail(mail),
                Effect::Command(command) => self.outbox.command(command),
                Effect::Monitor { path, line } => {
                    let line = format!("[{}] [{}] {line}\n", now(), std::process::id());
                    if let Err(error) = append(&path, &line) {
                        self.sink
                            .line(&format!("Error writing to monitorfile '{path}': {error}"));
                    }
                }
            }
        }
    }

    fn change(&self, change: &Change) {
        let result = match self.client.batch(std::slice::from_ref(change)) {
            Ok(results) => results
                .into_iter()
                .find_map(Result::err)
                .map(|e| e.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = result {
            self.sink.line(&format!("{change:?} failed: {error}"));
        }
    }
}

fn read_table(client: &Client, sink: &Sink) -> Table {
    match client.services() {
        Ok(services) => Table::of(&services),
        Err(error) => {
            sink.line(&error.to_string());
            Table::default()
        }
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn listen(runtime: &Runtime, events: &Sender<Event>) -> std::io::Result<()> {
    let _inside = runtime.enter();
    for (kind, name) in [
        (SignalKind::terminate(), "TERM"),
        (SignalKind::interrupt(), "INT"),
        (SignalKind::quit(), "QUIT"),
        (SignalKind::hangup(), "HUP"),
    ] {
        let mut signals = signal(kind)?;
        let events = events.clone();
        runtime.spawn(async move {
            while signals.recv().await.is_some() {
                let event = match name {
                    "HUP" => Event::Reload,
                    name => Event::Stop(name),
                };
                if events.send(event).is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}
