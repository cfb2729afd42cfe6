//! ldirectord's negotiate checks, each against the server it is for.
//!
//! Needs root, and the Debian packages that `cargo xtask setup test` installs. Every test has a network
//! namespace and a directory of its own, and stops what it started by its process.

mod common;
mod databases;
mod directory;
mod files;
mod ldirectord;
mod mail;
mod misbehaving;
mod names;
mod round;
mod web;
