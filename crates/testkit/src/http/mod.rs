//! HTTP/1.0 in its plainest form: a server that names itself and a client with fresh connections.

mod client;
mod server;

pub use client::{Reply, download, get, get_from, get_with, upload};
pub use server::{PageServer, serve};

/// The page a server named `name` at `addr` shows: `rs1 - 192.168.0.10`.
pub fn page(name: &str, addr: std::net::Ipv4Addr) -> String {
    format!("{name} - {addr}")
}
