//! Running the real programs on single packets (`BPF_PROG_TEST_RUN`): tests and benches.

use std::time::Duration;

use aya::programs::{TestRun as _, TestRunOptions};

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
        let mut out = vec![0; packet.len() + 256];
        let len = (packet.len() as u32).to_ne_bytes();
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress.
        let mut xdp_md = [0u8; 24];
        xdp_md[4..8].copy_from_slice(&len);
        xdp_md[12..16].copy_from_slice(&ingress.to_ne_bytes());
        // struct __sk_buff: only interfaces matter. The kernel fills in the rest as on receipt.
        let mut sk_buff = [0u8; 192];
        sk_buff[36..40].copy_from_slice(&ingress.to_ne_bytes());
        sk_buff[40..44].copy_from_slice(&ingress.to_ne_bytes());
        let mut options = TestRunOptions {
            data_in: Some(packet),
            data_out: Some(&mut out),
            repeat: 1,
            ..TestRunOptions::default()
        };
        if ingress != 0 {
            options.ctx_in = Some(match entry {
                Entry::Xdp => &xdp_md[..],
                Entry::TcIngress | Entry::TcEgress => &sk_buff[..],
            });
        }
        let result = match entry {
            Entry::Xdp => self.xdp(entry::XDP)?.test_run(options),
            Entry::TcIngress => self.classifier(entry::TC)?.test_run(options),
            Entry::TcEgress => self.classifier(entry::OUT)?.test_run(options),
        }
        .map_err(|e| Error::bpf("running a program on a packet", e))?;
        out.truncate(result.data_size_out as usize);
        Ok(Run {
            verdict: result.return_value as i32,
            packet: out,
            duration: result.duration,
        })
    }
}
