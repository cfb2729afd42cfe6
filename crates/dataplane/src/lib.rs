//! Loads, pins and attaches the eBPF programs and keeps their tables.
//!
//! [`DataPlane`] is the kernel side of a director in one network namespace. Programs, links and maps
//! are pinned under a directory of bpffs: they forward with or without this process. Opening a
//! directory that holds maps adopts them; the programs are replaced, link by link.
//!
//! [`tables::Tables`] are IPVS's operations on the maps. No other crate of the workspace knows maps
//! or eBPF.

mod attach;
mod clock;
mod driver;
mod error;
mod fragments;
mod interface;
mod load;
pub mod memory;
mod object;
mod pinned;
pub mod quiet;
pub mod realserver;
pub mod tables;
pub mod test_run;
pub mod toa;

pub use error::Error;
pub use interface::{Attachment, DropCount, Hook, HookChoice, Interface};
pub use load::{DataPlane, Options, Programs};
pub use tables::{Sweep, Tables};
