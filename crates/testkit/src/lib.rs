//! Network namespaces, topologies and traffic for tests and labs.
//!
//! Everything happens inside namespaces that the kit makes: [`Netns`] owns one and removes it with
//! whatever still runs in it, also when a test panics; namespaces of processes that died without
//! cleaning up are removed when the next process makes its first one, and so are their [`Pins`]. [`Topology`] joins
//! namespaces to the networks of the LVS text books (NAT, direct routing, tunnelling). In them run
//! a [`PageServer`] and a UDP [`EchoServer`] that name themselves, servers that do what none should
//! ([`MisbehavingServer`]), and clients on plain sockets
//! ([`http`], [`udp`], [`load`]). [`Capture`] and [`arp`] look at frames, [`frames`] crafts them.
//!
//! A thread enters a namespace with `setns` and ends there; the process never does. `ip netns exec`
//! is not used, because it hides bpffs behind a private `/sys`.
//!
//! The kit knows the `pointsman` program only as a black box ([`Director`]), and no other crate of
//! the workspace.

pub mod arp;
mod blast;
pub mod blob;
mod capture;
mod director;
mod error;
mod flood;
pub mod frames;
pub mod http;
pub mod load;
mod misbehave;
mod netns;
mod pins;
pub mod sctp;
mod topology;
pub mod udp;
mod wait;
pub mod wire;
mod xdp;

pub use blast::Blast;
pub use capture::{Capture, Captured, FrameSocket, send_frame};
pub use director::{Director, Hook};
pub use error::Error;
pub use flood::{FRAME, Flood, Sink, receive_on};
pub use http::PageServer;
pub use misbehave::{Behaviour, MisbehavingServer};
pub use netns::{Names, Netns, kept, remove_stale};
pub use pins::Pins;
pub use topology::{Method, Plan, Server, Topology};
pub use udp::EchoServer;
pub use wait::wait_until;
pub use xdp::{attached_programs, pass_everything};
