//! VRRP, versions 2 and 3 (RFC 3768, RFC 9568), as keepalived speaks it: which of several
//! directors holds the virtual addresses.
//!
//! What decides is pure and knows no socket: [`packet`] and [`auth`] (bytes), [`receive`] (which
//! adverts are believed), [`transmit`], [`fsm`] (one instance), [`group`] (all instances of a node),
//! [`track`] (what else has a say). Around it an engine owns the sockets and the addresses.

pub mod auth;
pub mod fsm;
pub mod group;
mod note;
pub mod packet;
pub mod receive;
mod time;
pub mod track;
pub mod transmit;

pub use note::Note;
pub use time::Time;
