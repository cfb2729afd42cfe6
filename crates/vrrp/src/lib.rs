//! VRRP, versions 2 and 3 (RFC 3768, RFC 9568), as keepalived speaks it: which of several
//! directors holds the virtual addresses.
//!
//! What decides is pure and knows no socket: [`packet`] and [`auth`] (bytes), [`receive`] (which
//! adverts are believed), [`transmit`], [`fsm`] (one instance), [`group`] (all instances of a node),
//! [`track`] (what else has a say). Around it an engine ([`Vrrp`]) owns the sockets, the addresses and
//! a thread.

mod address;
pub mod announce;
pub mod auth;
pub mod bfd;
mod engine;
mod firewall;
pub mod fsm;
pub mod group;
mod links;
mod netlink;
mod note;
pub mod packet;
pub mod receive;
mod route;
mod rule;
mod run;
mod socket;
mod sysctl;
mod time;
pub mod track;
pub mod transmit;
mod vmac;
mod watch;

pub use note::Note;
pub use run::{BfdListener, Error, Vrrp};
pub use time::Time;
