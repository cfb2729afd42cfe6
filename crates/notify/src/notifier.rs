use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::body::Bytes;
use pointsman_model::{Fifo as FifoConfig, Globals, Mail, Script, Webhook};
use pointsman_script::{Policy, Program};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::fifo::Fifo;
use crate::{Letter, Notice, Topic, mail, webhook};

/// Mails and events that wait, each.
const QUEUE: usize = 256;
/// Scripts that run at a time.
const SCRIPTS: usize = 128;
/// How long a script may take at the end, as in keepalived.
const LAST_SCRIPT: Duration = Duration::from_secs(1);
/// How long mails and events may take that still wait at the end.
const LAST_QUEUE: Duration = Duration::from_secs(2);

/// Tells everybody. It belongs to the runtime in which it was made.
#[derive(Debug)]
pub struct Notifier {
    policy: Policy,
    mail: Option<Mail>,
    fifos: Fifos,
    letters: Option<mpsc::Sender<(Letter, Mail)>>,
    hooks: Vec<(Webhook, mpsc::Sender<Bytes>)>,
    permits: Arc<Semaphore>,
    running: JoinSet<()>,
    queues: JoinSet<()>,
    lost: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Fifos {
    all: Option<Fifo>,
    lvs: Option<Fifo>,
    vrrp: Option<Fifo>,
}

#[derive(Debug, Default)]
struct Counts {
    scripts: AtomicU64,
    lines: AtomicU64,
    letters: AtomicU64,
    events: AtomicU64,
}

/// What did not fit, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Scripts not started.
    pub scripts: u64,
    /// Lines of FIFOs.
    pub lines: u64,
    /// Mails not queued.
    pub letters: u64,
    /// Events of webhooks not queued.
    pub events: u64,
}

impl Notifier {
    /// A notifier for a site; FIFOs are open and their programs run.
    pub fn new(globals: &Globals) -> Self {
        let mut notifier = Self {
            policy: Policy::default(),
            mail: None,
            fifos: Fifos::default(),
            letters: None,
            hooks: Vec::new(),
            permits: Arc::new(Semaphore::new(SCRIPTS)),
            running: JoinSet::new(),
            queues: JoinSet::new(),
            lost: Arc::default(),
        };
        notifier.configure(globals);
        notifier
    }

    /// Takes a new configuration. Programs of FIFOs are started anew; what waits in queues leaves
    /// as it was meant to.
    pub fn configure(&mut self, globals: &Globals) {
        self.policy = Policy::of(globals);
        self.mail.clone_from(&globals.mail);
        let all = globals.notify_fifo.as_ref();
        let own = |fifo: &Option<FifoConfig>| {
            fifo.clone()
                .filter(|fifo| all.is_none_or(|all| all.path != fifo.path))
        };
        // The old ones go first: with them goes what they made.
        self.fifos = Fifos::default();
        self.fifos = Fifos {
            lvs: self.open(own(&globals.lvs_notify_fifo).as_ref()),
            vrrp: self.open(own(&globals.vrrp_notify_fifo).as_ref()),
            all: self.open(all),
        };
        self.hooks
            .retain(|(hook, _)| globals.webhooks.contains(hook));
        for hook in &globals.webhooks {
            if !self.hooks.iter().any(|(known, _)| known == hook) {
                let (sender, events) = mpsc::channel(QUEUE);
                self.queues.spawn(webhook::post_all(hook.clone(), events));
                self.hooks.push((hook.clone(), sender));
            }
        }
    }

    fn open(&self, fifo: Option<&FifoConfig>) -> Option<Fifo> {
        let config = fifo?;
        match Fifo::open(config, &self.policy) {
            Ok(fifo) => Some(fifo),
            Err(error) => {
                tracing::warn!("FIFO {}: {error}", config.path);
                None
            }
        }
    }

    /// Tells it. Returns at once.
    pub fn tell(&mut self, notice: Notice) {
        for script in &notice.scripts {
            self.start(script);
        }
        self.tell_others(notice);
    }

    /// Tells it at the end: waits for each script, a second at most.
    pub async fn tell_last(&mut self, notice: Notice) {
        for script in &notice.scripts {
            if let Some(program) = self.prepare(script) {
                log(&program.to_string(), &program.run(Some(LAST_SCRIPT)).await);
            }
        }
        self.tell_others(notice);
    }

    fn tell_others(&mut self, notice: Notice) {
        if let Some(line) = &notice.line {
            let own = match notice.topic {
                Topic::Lvs => &mut self.fifos.lvs,
                Topic::Vrrp => &mut self.fifos.vrrp,
            };
            for fifo in [&mut self.fifos.all, own].into_iter().flatten() {
                if !fifo.write(line) {
                    self.lost.lines.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        if let Some(letter) = notice.letter {
            self.send(letter);
        }
        if let Some(event) = &notice.event {
            let bytes = Bytes::from(event.to_string());
            for (_, hook) in &self.hooks {
                if hook.try_send(bytes.clone()).is_err() {
                    self.lost.events.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// What did not fit so far.
    pub fn lost(&self) -> Lost {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Lost {
            scripts: read(&self.lost.scripts),
            lines: read(&self.lost.lines),
            letters: read(&self.lost.letters),
            events: read(&self.lost.events),
        }
    }

    /// Paths of the FIFOs that are open.
    pub fn fifos(&self) -> impl Iterator<Item = &str> {
        let fifos = [&self.fifos.all, &self.fifos.lvs, &self.fifos.vrrp];
        fifos.into_iter().flatten().map(Fifo::path)
    }

    /// Ends: mails and events under way get two seconds, scripts and programs of FIFOs a SIGTERM.
    pub async fn end(mut self) {
        self.letters = None;
        self.hooks.clear();
        let all = async { while self.queues.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_QUEUE, all).await.is_err() {
            tracing::warn!("mails or events that still waited are lost");
        }
    }

    fn prepare(&self, script: &Script) -> Option<Program> {
        Program::prepare(script, &self.policy)
            .inspect_err(|error| tracing::warn!("notify script {script}: {error}"))
            .ok()
    }

    fn start(&mut self, script: &Script) {
        while self.running.try_join_next().is_some() {}
        let Some(program) = self.prepare(script) else {
            return;
        };
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            let lost = self.lost.scripts.fetch_add(1, Ordering::Relaxed);
            if lost.is_power_of_two() || lost == 0 {
                tracing::warn!("{SCRIPTS} notify scripts run; not started: {script}");
            }
            return;
        };
        self.running.spawn(async move {
            log(&program.to_string(), &program.run(None).await);
            drop(permit);
        });
    }

    fn send(&mut self, letter: Letter) {
        let Some(mail) = letter.mail.clone().or_else(|| self.mail.clone()) else {
            return;
        };
        let letters = self.letters.get_or_insert_with(|| {
            let (sender, letters) = mpsc::channel(QUEUE);
            self.queues.spawn(mail::send_all(letters));
            sender
        });
        if letters.try_send((letter, mail)).is_err() {
            let lost = self.lost.letters.fetch_add(1, Ordering::Relaxed);
            if lost.is_power_of_two() || lost == 0 {
                tracing::warn!("too many mails wait; {} are lost", lost + 1);
            }
        }
    }
}

fn log(script: &str, run: &pointsman_script::Run) {
    if run.succeeded() {
        tracing::debug!("notify script {script}: {run}");
    } else {
        tracing::warn!("notify script {script}: {run}");
    }
}
