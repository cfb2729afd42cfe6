//! VRRP of a site: its engine, and the words for those who are told.

use pointsman_health::BfdSessions;
use pointsman_model::vrrp::{VrrpEvent, VrrpNotify, VrrpSite, VrrpSubject, VrrpView, VrrpWord};
use pointsman_model::{Globals, Script};
use pointsman_notify::{Notice, Topic, keepalived};
use pointsman_script::Policy;
use pointsman_vrrp::{Error, Vrrp};
use serde_json::json;
use tokio::sync::mpsc;

/// The engine, as far as the site has anything for it.
pub(super) struct Engine {
    running: Option<Vrrp>,
    sender: mpsc::UnboundedSender<VrrpEvent>,
    /// Health checks follow these.
    sessions: BfdSessions,
    pub events: mpsc::UnboundedReceiver<VrrpEvent>,
}

impl Engine {
    /// Starts it.
    ///
    /// # Errors
    /// Why the site cannot run.
    pub fn start(site: &VrrpSite, policy: Policy, sessions: BfdSessions) -> Result<Self, Error> {
        let (sender, events) = mpsc::unbounded_channel();
        let mut engine = Self {
            running: None,
            sender,
            sessions,
            events,
        };
        if !is_empty(site) {
            engine.running = Some(engine.run(site, policy)?);
        }
        Ok(engine)
    }

    fn run(&self, site: &VrrpSite, policy: Policy) -> Result<Vrrp, Error> {
        let sessions = self.sessions.clone();
        let tell = Box::new(move |name: &str, up| sessions.set(name, up));
        Vrrp::start_with(site.clone(), policy, self.sender.clone(), tell)
    }

    /// Goes over to another site.
    ///
    /// # Errors
    /// Why that cannot run; then the old one runs on.
    pub async fn reload(&mut self, site: &VrrpSite, policy: Policy) -> Result<(), Error> {
        match &self.running {
            Some(vrrp) => vrrp.reload(site.clone(), policy).await,
            None if is_empty(site) => Ok(()),
            None => {
                self.running = Some(self.run(site, policy)?);
                Ok(())
            }
        }
    }

    /// How it stands.
    pub async fn view(&self) -> VrrpView {
        match &self.running {
            Some(vrrp) => vrrp.view().await.unwrap_or_default(),
            None => VrrpView::default(),
        }
    }

    /// Ends it; what is told of the end waits in [`Engine::events`].
    pub async fn stop(&mut self) {
        if let Some(vrrp) = self.running.take() {
            vrrp.stop().await;
        }
    }
}

fn is_empty(site: &VrrpSite) -> bool {
    let nothing = VrrpSite::default();
    site.instances.is_empty()
        && site.bfd_instances.is_empty()
        && site.static_addresses == nothing.static_addresses
        && site.static_routes == nothing.static_routes
        && site.static_rules == nothing.static_rules
}

/// The notice of an event.
pub(super) fn notice(
    event: &VrrpEvent,
    site: &VrrpSite,
    before: Option<&VrrpSite>,
    globals: &Globals,
    router: &str,
) -> Notice {
    let (kind, name) = match &event.subject {
        VrrpSubject::Instance(name) => ("INSTANCE", name),
        VrrpSubject::Group(name) => ("GROUP", name),
    };
    // What a reload removed is told as it was configured.
    let found = notify_of(&event.subject, site);
    let Some(notify) = found.or_else(|| notify_of(&event.subject, before?)) else {
        return Notice::default();
    };
    let word = event.word;
    let own = match word {
        VrrpWord::Master => &notify.master,
        VrrpWord::Backup => &notify.backup,
        VrrpWord::Fault => &notify.fault,
        VrrpWord::Stop => &notify.stop,
        VrrpWord::Deleted => &notify.deleted,
        VrrpWord::MasterRxLowerPri => &notify.master_rx_lower_priority,
        VrrpWord::MasterPriority | VrrpWord::BackupPriority => &None,
    };
    let is_change = !matches!(
        word,
        VrrpWord::MasterRxLowerPri | VrrpWord::MasterPriority | VrrpWord::BackupPriority
    );
    let priority = event.priority;
    let generic = notify.any.as_ref().filter(|_| is_change).map(|any| {
        let arguments = [kind, name, word.name()].map(str::to_owned);
        any.with_args(arguments.into_iter().chain([priority.to_string()]))
    });
    let scripts: Vec<Script> = own.iter().cloned().chain(generic).collect();
    let is_priority = matches!(word, VrrpWord::MasterPriority | VrrpWord::BackupPriority);
    let mailed = notify.mail && is_change && !(word == VrrpWord::Fault && globals.no_email_faults);
    Notice {
        topic: Topic::Vrrp,
        scripts,
        line: (!is_priority || notify.priority_changes)
            .then(|| keepalived::vrrp_line(kind, name, word.name(), priority)),
        letter: mailed.then(|| letter(event, word, name, router)),
        event: Some(json!({
            "event": "vrrp",
            "router": router,
            "kind": kind,
            "name": name,
            "state": word.name(),
            "priority": priority,
        })),
    }
}

fn letter(event: &VrrpEvent, word: VrrpWord, name: &str, router: &str) -> pointsman_notify::Letter {
    let group = matches!(event.subject, VrrpSubject::Group(_));
    let kind = if group { "Group" } else { "Instance" };
    let state = word.name();
    let (doing, text) = match word {
        VrrpWord::Stop if group => (
            "Stopping".to_owned(),
            "All VRRP group instances are now stopping".to_owned(),
        ),
        VrrpWord::Stop => ("Stopping".to_owned(), "VRRP Instance stopping".to_owned()),
        VrrpWord::Deleted => ("Deleted".to_owned(), "VRRP Deleted at reload".to_owned()),
        _ if group => (
            format!("Entering {state} state"),
            format!("All VRRP group instances are now in {state} state"),
        ),
        VrrpWord::Master => (
            format!("Entering {state} state"),
            "VRRP Instance is now owning VRRP VIPs".to_owned(),
        ),
        _ => (
            format!("Entering {state} state"),
            "VRRP Instance is no longer owning VRRP VIPs".to_owned(),
        ),
    };
    keepalived::vrrp_letter(router, kind, name, &doing, &text)
}

fn notify_of<'a>(subject: &VrrpSubject, site: &'a VrrpSite) -> Option<&'a VrrpNotify> {
    match subject {
        VrrpSubject::Instance(name) => {
            let mut instances = site.instances.iter();
            Some(&instances.find(|instance| instance.name == *name)?.notify)
        }
        VrrpSubject::Group(name) => {
            let mut groups = site.sync_groups.iter();
            Some(&groups.find(|group| group.name == *name)?.notify)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_model::Family;
    use pointsman_model::vrrp::{Vrid, VrrpInstance, VrrpState};

    #[test]
    fn an_instance_is_told_of_as_keepalived_tells() {
        let vrid = Vrid::new(51).unwrap();
        let mut instance = VrrpInstance::new("VI_1", "eth0", vrid, Family::V4);
        instance.notify.master = Some(Script::new(["own"]));
        instance.notify.any = Some(Script::new(["any", "x"]));
        instance.notify.mail = true;
        let site = VrrpSite {
            instances: vec![instance],
            ..VrrpSite::default()
        };
        let told = |word| {
            let event = VrrpEvent {
                subject: VrrpSubject::Instance("VI_1".into()),
                from: VrrpState::Backup,
                to: VrrpState::Master,
                word,
                priority: 100,
            };
            notice(&event, &site, None, &Globals::default(), "lb")
        };
        let master = told(VrrpWord::Master);
        let scripts: Vec<_> = master.scripts.iter().map(Script::to_string).collect();
        assert_eq!(scripts, ["own", "any x INSTANCE VI_1 MASTER 100"]);
        assert_eq!(master.line.as_deref(), Some("INSTANCE \"VI_1\" MASTER 100"));
        let letter = master.letter.unwrap();
        assert_eq!(
            letter.subject,
            "[lb] VRRP Instance VI_1 - Entering MASTER state"
        );
        // Only FIFOs are told of priorities, and only where that is asked for.
        let priority = told(VrrpWord::MasterPriority);
        assert!(priority.line.is_none() && priority.scripts.is_empty());
        let lower = told(VrrpWord::MasterRxLowerPri);
        assert!(lower.letter.is_none() && lower.scripts.is_empty() && lower.line.is_some());
    }
}
