//! The real eBPF object under `BPF_PROG_TEST_RUN`. Needs root.
//!
//! Rows are played by [`world::World::play`]: description, tables, frames in, what becomes of them.

mod choices;
mod corpus;
mod decapsulation;
mod encapsulation;
mod errors;
mod forwarding;
mod fragments;
mod frame;
mod ftp;
mod fullnat;
mod ipv6;
mod local;
mod malformed;
mod one_packet;
mod packet;
mod persistence;
mod pressure;
mod related;
mod schedulers;
mod sctp;
mod sip;
mod states;
mod user;
mod world;
mod wrap;

#[test]
fn every_program_passes_the_verifier() {
    world::with_plane(4096, |plane| {
        for (name, count) in plane.verified_instructions() {
            println!("verified {name} {count} insns");
        }
    });
}
