//! Text formats in and out: the `ipvsadm` command line, its listings and its rule files, and the
//! files of the kernel's IPVS in `/proc`.
//!
//! Text becomes values of [`pointsman_model`], and back. Nothing here opens a file, asks a name
//! server or talks to a director; where one of these is needed, a trait says so.

pub mod convert;
pub mod diag;
pub mod heartbeat;
pub mod ipvsadm;
pub mod keepalived;
pub mod ldirectord;
pub mod proc;
