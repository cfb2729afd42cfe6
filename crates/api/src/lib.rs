//! The director's API: HTTP+JSON over a unix socket that only root can reach, one per network
//! namespace.
//!
//! [`Location`] says where a namespace's director lives, [`Client`] talks to it (blocking, for
//! commands), [`serve`] answers on its behalf by sending [`Command`]s to whoever owns the state.
//! The nouns are [`pointsman_model`]'s; only what concerns the daemon itself is defined here.
//!
//! | request | meaning |
//! |---|---|
//! | `GET POST DELETE /v1/services` | list, add one, flush |
//! | `GET PUT DELETE /v1/services/{service}` | one service: `tcp,192.0.2.1,80`, `udp,2001:db8::1,53`, `mark,3,v4` |
//! | `POST /v1/services/{service}/servers` | add a real server |
//! | `PUT DELETE /v1/services/{service}/servers/{server}` | one real server: `10.0.0.2,80` |
//! | `POST /v1/batch` | a list of [`Change`]s in order; answers a list, `null` for each that was made |
//! | `POST /v1/transaction` | a list of changes, all or nothing; a refusal also names its `change`, from 0 |
//! | `POST /v1/zero` | zero the counters of all, or of `{"service": …}` |
//! | `GET PATCH /v1/timeouts` | protocol timeouts |
//! | `GET PUT POST DELETE /v1/marks` | mark rules in order: all, replace all by a list, add `{"at": 1, "rule": {…}}`, flush |
//! | `DELETE /v1/marks/{number}` | one mark rule, counted from 1 |
//! | `GET /v1/sysctl`, `PUT /v1/sysctl/{variable}` | `net.ipv4.vs.*`: all, or set one by `{"value": "3"}` |
//! | `GET /v1/connections` | the connection table |
//! | `GET /v1/totals`, `/v1/drops?all=true`, `/v1/status`, `/v1/table` | counters, losses, the daemon, table sizes |
//! | `GET /v1/site` | the configuration that the director follows: virtual servers, checks, VRRP; `null` without one |
//! | `GET POST DELETE /v1/ldirectord` | what each ldirectord told of its servers; one tells; `{"file": …}` told for the last time |
//! | `POST /v1/reload` | read it again, or `{"file": …}`: a [`Reloaded`]; 422 when it is refused |
//! | `GET /metrics` | everything counted, as Prometheus reads it |
//! | `POST /v1/stop` | end the director, `{"keep_forwarding": true}` leaves the kernel side in place |
//!
//! A refusal is a [`pointsman_model::Error`] as JSON under a 4xx or 5xx status.

mod client;
mod location;
mod metrics;
mod server;
mod site;
mod text;
mod types;

pub use client::{Client, Error};
pub use location::{Location, LocationError};
pub use pointsman_model::Change;
pub use server::{Command, Reply, serve, serve_metrics};
pub use site::{
    CheckView, LdirectordView, LostNotices, ProbeTotals, RealServerView, RefusedFile, Reloaded,
    SiteView, VirtualServerView,
};
pub use types::{
    DropCount, Hook, InterfaceStatus, NextHopStatus, RefusedChange, Status, StopReport, Table,
    TableStatus, Totals,
};
