//! Running the real programs on single packets (`BPF_PROG_TEST_RUN`): tests and benches.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
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

    /// Runs TC ingress on a packet whose bytes the network card has summed (`CHECKSUM_COMPLETE`).
    ///
    /// # Errors
    /// `EBADMSG` when that sum is not the packet's afterwards; `EINVAL` of kernels that do not check it, before
    /// Linux 6.17.
    pub fn run_summed(&self, packet: &[u8], ingress: u32) -> Result<(), Error> {
        const BPF_PROG_TEST_RUN: libc::c_long = 10;
        const CHECKSUM_COMPLETE: u32 = 1 << 2;
        /// The part of `union bpf_attr` for this command.
        #[repr(C)]
        #[derive(Default)]
        struct Attributes {
            program: u32,
            verdict: u32,
            size_in: u32,
            size_out: u32,
            data_in: u64,
            data_out: u64,
            repeat: u32,
            duration: u32,
            context_size_in: u32,
            context_size_out: u32,
            context_in: u64,
            context_out: u64,
            flags: u32,
            cpu: u32,
            batch_size: u32,
            padding: u32,
        }
        let program = self.classifier(entry::TC)?;
        let fd = program
            .fd()
            .map_err(|e| Error::bpf("running a program on a packet", e))?;
        let context = received_by(ingress);
        let mut attributes = Attributes {
            program: fd.as_fd().as_raw_fd() as u32,
            size_in: packet.len() as u32,
            data_in: packet.as_ptr() as u64,
            repeat: 1,
            context_size_in: context.len() as u32,
            context_in: context.as_ptr() as u64,
            flags: CHECKSUM_COMPLETE,
            ..Attributes::default()
        };
        let size = size_of::<Attributes>();
        // SAFETY: the attributes are as large as stated; packet, context and program outlive the call.
        let code =
            unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw mut attributes, size) };
        if code == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        Err(Error::os("running a program on a summed packet", error))
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
    let context = received_by(ingress);
    let context = (ingress != 0).then_some(&context[..]);
    run(packet, context, |options| program.test_run(options))
}

/// `struct __sk_buff`: only interfaces matter. The kernel fills in the rest as on receipt.
fn received_by(ingress: u32) -> [u8; 192] {
    let mut context = [0; 192];
    context[36..40].copy_from_slice(&ingress.to_ne_bytes());
    context[40..44].copy_from_slice(&ingress.to_ne_bytes());
    context
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
