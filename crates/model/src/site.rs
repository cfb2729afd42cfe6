//! Everything a director is configured to do, whichever file says so.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::vrrp::VrrpSite;
use crate::{DaemonSpec, Fifo, Mail, Script, ScriptUser, Timeouts, VirtualServer, Webhook};

/// A whole configuration: virtual servers with their checks, VRRP, and who is told. Serialised for
/// status views only: secrets are not in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Site {
    /// What holds for all of it.
    pub globals: Globals,
    /// Virtual servers, in configuration order; no two of one [`VirtualServer::id`].
    pub virtual_servers: Vec<VirtualServer>,
    /// Virtual routers, and what they track.
    pub vrrp: VrrpSite,
}

/// What holds for a whole site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Globals {
    /// Tag of mail subjects, `router_id`; `None` for the host's name.
    pub router_id: Option<String>,
    /// Mail; `None` without server or recipient.
    pub mail: Option<Mail>,
    /// No mails about VRRP faults.
    pub no_email_faults: bool,
    /// Mails only when a real server comes or goes, not for each of its checkers.
    pub no_checker_emails: bool,
    /// Everything gets these events.
    pub notify_fifo: Option<Fifo>,
    /// Only VRRP's events.
    pub vrrp_notify_fifo: Option<Fifo>,
    /// Only virtual and real servers' events.
    pub lvs_notify_fifo: Option<Fifo>,
    /// VRRP states are written to FIFOs again after a reload.
    pub fifo_write_vrrp_states_on_reload: bool,
    /// Real servers are announced at the start too.
    pub rs_init_notifies: bool,
    /// Where events are posted to.
    pub webhooks: Vec<Webhook>,
    /// As whom scripts run that do not say; `None` for `keepalived_script` where that user exists,
    /// else root.
    pub script_user: Option<ScriptUser>,
    /// Scripts that somebody else than root could change do not run as root.
    pub script_security: bool,
    /// Symbolic links in a script's path are kept.
    pub use_symlink_paths: bool,
    /// File mode bits that scripts and files do not get.
    pub umask: Option<u32>,
    /// Run before anything else.
    pub startup_script: Option<BoundedScript>,
    /// Run when everything has ended.
    pub shutdown_script: Option<BoundedScript>,
    /// All services are removed before the site's are made.
    pub lvs_flush: bool,
    /// What a stop removes.
    pub lvs_flush_on_stop: FlushOnStop,
    /// Protocol timeouts; 0 keeps the present value.
    pub lvs_timeouts: Timeouts,
    /// Connection synchronisation.
    pub lvs_sync_daemon: Option<SyncDaemon>,
}

/// A script that something waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundedScript {
    /// The command.
    pub script: Script,
    /// How long it may take.
    pub timeout: Duration,
}

/// `lvs_flush_on_stop`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlushOnStop {
    /// The site's servers and services go one by one.
    #[default]
    Off,
    /// Every service of the table goes.
    Everything,
    /// The site's services go, without their servers first (`VS`).
    VirtualServers,
}

/// `lvs_sync_daemon`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncDaemon {
    /// How it runs; its role is decided by the instance.
    pub spec: DaemonSpec,
    /// The VRRP instance whose state decides between sending and receiving; `None` for both.
    pub instance: Option<String>,
}

impl Default for Globals {
    fn default() -> Self {
        Self {
            router_id: None,
            mail: None,
            no_email_faults: false,
            no_checker_emails: false,
            notify_fifo: None,
            vrrp_notify_fifo: None,
            lvs_notify_fifo: None,
            fifo_write_vrrp_states_on_reload: false,
            rs_init_notifies: false,
            webhooks: Vec::new(),
            script_user: None,
            script_security: false,
            use_symlink_paths: false,
            umask: None,
            startup_script: None,
            shutdown_script: None,
            lvs_flush: false,
            lvs_flush_on_stop: FlushOnStop::Off,
            lvs_timeouts: Timeouts {
                tcp: 0,
                tcp_fin: 0,
                udp: 0,
            },
            lvs_sync_daemon: None,
        }
    }
}
