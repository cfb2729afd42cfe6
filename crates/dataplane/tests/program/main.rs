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
mod offloads;
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

use pointsman_dataplane::DataPlane;
use pointsman_dataplane::quiet::Quiet;
use pointsman_dataplane::realserver::{Accept, Decapsulator};
use pointsman_dataplane::toa::ClientReader;
use pointsman_testkit::Pins;

#[test]
fn every_program_passes_the_verifier() {
    let pins = Pins::new().unwrap();
    let mut plane = world::plane(&pins, 4096);
    let mut refused = String::new();
    for name in DataPlane::programs() {
        match plane.load_one(name) {
            Ok(count) => println!("verified {name} {count} insns"),
            Err(error) => {
                let log = error.to_string();
                let last = log.lines().count().saturating_sub(60);
                let log: Vec<_> = log.lines().skip(last).collect();
                println!("{name} is refused");
                refused += &format!("{name} is refused:\n{}\n", log.join("\n"));
            }
        }
    }
    assert!(refused.is_empty(), "{refused}");
}

#[test]
fn the_real_servers_programs_pass_the_verifier() {
    let pins = Pins::new().unwrap();
    let decapsulator = Decapsulator::load(pins.path(), &Accept::default());
    print(decapsulator.unwrap().verified_instructions());
    print(
        Quiet::load(pins.path(), &[])
            .unwrap()
            .verified_instructions(),
    );
    let reader = ClientReader::load(pins.path(), 0, &[]);
    print(reader.unwrap().verified_instructions());
}

/// As `cargo xtask kernels` reads it.
fn print(counts: Vec<(String, u32)>) {
    for (name, count) in counts {
        println!("verified {name} {count} insns");
    }
}
