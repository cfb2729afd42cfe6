//! heartbeat: groups of resources of `haresources` that move between two nodes.
//!
//! Each group is a virtual router of VRRP, which decides who has it; its addresses and scripts are
//! taken from left to right when this node becomes master, and released from right to left when it
//! no longer is. The files and the order are [`pointsman_config::heartbeat`]'s; here they are
//! carried out.
//!
//! The VRRP instances have no addresses of their own: an address is a resource like any other, so that
//! what stands left of it runs before it is there, and what stands right of it is stopped before
//! it goes.

mod address;
mod control;
mod daemon;
mod files;
mod group;
mod resource;

pub use control::ask;
pub use daemon::run;
pub use files::{Settings, problems};
