//! Running the real programs on single packets (`BPF_PROG_TEST_RUN`): tests and benches.

use std::time::Duration;

use aya::programs::{
    ProgramError, SchedClassifier, TestRun as _, TestRunOptions, TestRunResult, Xdp,
};

use crate::load::entry;
use crate::{DataPlane, Error};

/// A program of the director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// XDP.
    Xdp,
    /// TC ingress.
    TcIngress,
    /// TC egress.
    TcEgress,
}

/// What a program did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The program's return value (`XDP_*`, or TC's, as the program's `i32`).
    pub verdict: i32,
    /// The packet afterwards.
    pub packet: Vec<u8>,
    /// Mean time of a run.
    pub duration: Duration,
}

impl DataPlane {
    /// Runs a program on a packet that came in by interface `ingress` (0: as the kernel likes).
    /// XDP takes only interfaces that some XDP program is attached to.
    ///
    /// # Errors
    /// What the kernel refuses, such as a frame under 14 bytes.
    pub fn run(&self, entry: Entry, packet: &[u8], ingress: u32) -> Result<Run, Error> {
        match entry {
            Entry::Xdp => run_xdp(self.xdp(entry::XDP)?, packet, ingress),
            Entry::TcIngress => run_classifier(self.classifier(entry::TC)?, packet, ingress),
            Entry::TcEgress => run_classifier(self.classifier(entry::OUT)?, packet, ingress),
        }
    }
}

fn run_xdp(program: &Xdp, packet: &[u8], ingress: u32) -> Result<Run, Error> {
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress.
    let mut context = [0u8; 24];
    context[4..8].copy_from_slice(&(packet.len() as u32).to_ne_bytes());
    context[12..16].copy_from_slice(&ingress.to_ne_bytes());
    let context = (ingress != 0).then_some(&context[..]);
    run(packet, context, |options| program.test_run(options))
}

/// Runs a TC program on a packet that came in by interface `ingress` (0: as the kernel likes).
pub(crate) fn run_classifier(
    program: &SchedClassifier,
    packet: &[u8],
    ingress: u32,
) -> Result<Run, Error> {
    // struct __sk_buff: only interfaces matter. The kernel fills in the rest as on receipt.
    let mut context = [0u8; 192];
    context[36..40].copy_from_slice(&ingress.to_ne_bytes());
    context[40..44].copy_from_slice(&ingress.to_ne_bytes());
    let context = (ingress != 0).then_some(&context[..]);
    run(packet, context, |options| program.test_run(options))
}

fn run(
    packet: &[u8],
    context: Option<&[u8]>,
    test_run: impl FnOnce(TestRunOptions<'_>) -> Result<TestRunResult, ProgramError>,
) -> Result<Run, Error> {
    let mut out = vec![0; packet.len() + 256];
    let options = TestRunOptions {
        data_in: Some(packet),
        data_out: Some(&mut out),
        ctx_in: context,
        repeat: 1,
        ..TestRunOptions::default()
    };
    let result = test_run(options).map_err(|e| Error::bpf("running a program on a packet", e))?;
    out.truncate(result.data_size_out as usize);
    Ok(Run {
        verdict: result.return_value as i32,
        packet: out,
        duration: result.duration,
    })
}
