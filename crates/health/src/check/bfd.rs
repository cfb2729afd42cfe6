//! `BFD_CHECK`: up and down with a BFD session, which somebody else speaks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::Outcome;

/// The BFD sessions of a director, by name. Whoever speaks BFD sets them; checks look.
#[derive(Clone, Debug, Default)]
pub struct BfdSessions(Arc<Mutex<HashMap<String, watch::Sender<Option<bool>>>>>);

impl BfdSessions {
    /// A session came up or went down.
    pub fn set(&self, name: &str, up: bool) {
        self.with(name, |session| _ = session.send_replace(Some(up)));
    }

    fn watch(&self, name: &str) -> watch::Receiver<Option<bool>> {
        self.with(name, watch::Sender::subscribe)
    }

    fn with<T>(&self, name: &str, f: impl FnOnce(&watch::Sender<Option<bool>>) -> T) -> T {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f(sessions
            .entry(name.to_owned())
            .or_insert_with(|| watch::Sender::new(None)))
    }
}

/// One session, watched.
#[derive(Debug)]
pub(super) struct Bfd {
    name: String,
    session: tokio::sync::Mutex<watch::Receiver<Option<bool>>>,
}

impl Bfd {
    pub(super) fn new(name: &str, sessions: &BfdSessions) -> Self {
        Self {
            name: name.to_owned(),
            session: tokio::sync::Mutex::new(sessions.watch(name)),
        }
    }

    pub(super) async fn changed(&self) {
        if self.session.lock().await.changed().await.is_err() {
            std::future::pending().await
        }
    }

    pub(super) async fn probe(&self) -> Outcome {
        let state = *self.session.lock().await.borrow();
        match state {
            Some(true) => Outcome::up(format!("BFD session {} is up", self.name)),
            Some(false) => Outcome::down(format!("BFD session {} is down", self.name)),
            None => Outcome::nothing(format!("BFD session {} has no state yet", self.name)),
        }
    }
}
