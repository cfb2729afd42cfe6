//! Everything a packet meets in a Pointsman director.
//!
//! This crate decides; its hosts act. It parses frames, finds and makes connections, schedules,
//! rewrites, and returns a [`director::Verdict`]. It runs unchanged in three places: XDP, TC, and
//! user space (tests, benches, fuzzing), each of which implements [`host::Host`] (tables, clock,
//! routes) and [`host::Packet`] (bytes).
//!
//! - `no_std`, no allocation, no panics, no recursion, loops bounded by constants: the eBPF verifier
//!   has to follow every path. Hence also `#[inline(always)]` throughout: a call costs as much as
//!   parsing a header.
//! - Shared memory (see [`layout`], [`conn`]) is read through [`atomic`] alone; whoever reads a slot
//!   checks its tag again afterwards.
//! - Nothing here reads a clock, knows a map or names a kernel helper.

#![cfg_attr(not(test), no_std)]
#![cfg_attr(
    target_arch = "bpf",
    feature(core_intrinsics, asm_experimental_arch),
    allow(internal_features)
)]

pub mod addr;
pub mod atomic;
pub mod conn;
pub mod connect;
pub mod director;
pub mod drop;
pub mod forward;
pub mod fragment;
pub mod ftp;
pub mod host;
pub mod icmp;
pub mod inner;
pub mod layout;
pub mod local;
pub mod locality;
pub mod mark;
pub mod mask;
pub mod next_hop;
pub mod open;
pub mod outgoing;
pub mod overload;
pub mod parse;
pub mod persist;
pub mod plain;
pub mod probe;
pub mod proto;
pub mod quiet;
pub mod rare;
pub mod realserver;
pub mod reuse;
pub mod sched;
pub mod sip;
pub mod siphash;
pub mod text;
pub mod track;
pub mod wide;
pub mod wire;
