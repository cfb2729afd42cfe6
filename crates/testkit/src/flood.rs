//! Frames as a wire brings them: made in the kernel, put into the far end's ring without a socket buffer, and at
//! last counted and thrown away by XDP. A host that sends and receives them costs several times as much, and would
//! hide what stands between.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::netns::checked;
use crate::xdp::{self, Mode, bpf, instruction};
use crate::{Error, Netns};

const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;
const BPF_FUNC_GET_PRANDOM_U32: i32 = 7;
const BPF_FUNC_REDIRECT: i32 = 23;

/// Bytes of every frame: with its check sequence, 64, the shortest that Ethernet carries.
pub const FRAME: usize = 60;
/// Frames that are made at once, the most that the kernel takes. So many pages are also kept for when they come back:
/// with fewer, as many as are forwarded are freed and made anew, and that is what would be measured.
const BATCH: u32 = 256;
/// Frames of the first system call, and the fewest of another.
const TURN: u64 = 1 << 14;

/// Where things lie in an Ethernet frame with an IPv4 header without options.
mod field {
    pub const TYPE: i16 = 12;
    pub const ID: i16 = 18;
    pub const PROTOCOL: usize = 23;
    /// The low half of the source's address.
    pub const SOURCE: i16 = 28;
    pub const SOURCE_PORT: i16 = 34;
    pub const DESTINATION_PORT: i16 = 36;
    /// TCP's sequence number.
    pub const SEQUENCE: i16 = 38;
    /// UDP's payload.
    pub const PAYLOAD: i16 = 42;
}

/// The instructions that are used, as the kernel numbers them (`linux/bpf.h`).
mod op {
    pub const LOAD_WORD: u8 = 0x61;
    pub const LOAD_HALF: u8 = 0x69;
    pub const STORE_HALF: u8 = 0x6b;
    pub const SET_WORD: u8 = 0x62;
    pub const MOVE: u8 = 0xbf;
    pub const MOVE_NUMBER: u8 = 0xb7;
    pub const ADD_NUMBER: u8 = 0x07;
    pub const AND_NUMBER: u8 = 0x54;
    pub const OR_NUMBER: u8 = 0x44;
    pub const XOR_NUMBER: u8 = 0xa4;
    pub const SHIFT_RIGHT: u8 = 0x74;
    pub const IF_GREATER: u8 = 0x2d;
    pub const UNLESS_NUMBER: u8 = 0x55;
    pub const CALL: u8 = 0x85;
    pub const EXIT: u8 = 0x95;
}

/// A generator of frames of many flows.
#[derive(Debug)]
pub struct Flood<'a> {
    netns: &'a Netns,
    program: OwnedFd,
    frame: Vec<u8>,
}

/// The argument of `BPF_PROG_TEST_RUN`.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    verdict: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    _padding: u32,
}

impl<'a> Flood<'a> {
    /// Makes one that sends `frame`, of UDP or TCP over IPv4 as [`frames`](crate::frames) builds it, out of an
    /// interface, padded to [`FRAME`] bytes and from ever other sources: random bits go where `flows` has ones and the
    /// frame zeros, in the low half of the source's address and in the source port, as they lie in the frame.
    /// Checksums stay right: the complement goes into the identification and into what else is free, the sequence
    /// number or the payload.
    ///
    /// The interface must have an XDP program, and what is at its far end one too, or GRO: without, the kernel
    /// takes no frame there. The sender's `lo` is of no other use from then on.
    ///
    /// # Errors
    /// When there is no such interface, or the kernel does not take the program.
    ///
    /// # Panics
    /// When the frame is longer than [`FRAME`].
    pub fn open(
        netns: &'a Netns,
        interface: &str,
        frame: &[u8],
        flows: [u8; 4],
    ) -> Result<Self, Error> {
        assert!(frame.len() <= FRAME, "one length for all");
        let mut frame = frame.to_vec();
        frame.resize(FRAME, 0);
        let index = netns.index(interface)?;
        let program = xdp::load(&generator(&frame, flows, index))?;
        // On an interface that nothing uses. Each run of a program that is nowhere patches the kernel's dispatcher of
        // XDP at its begin and end, under the feet of those who receive: that takes long, and kills emulated kernels.
        xdp::put(netns, "lo", &program, Mode::Generic)?;
        Ok(Self {
            netns,
            program,
            frame,
        })
    }

    /// Sends from the processor `cpu` until so many are sent or the time is over; how many were, and in what time.
    /// Those that find the far end's ring full are lost.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn send(&self, cpu: usize, most: u64, limit: Duration) -> Result<(u64, Duration), Error> {
        let send = || {
            pin(Pid::from_raw(0), cpu)?;
            let (mut sent, start, mut turn) = (0, Instant::now(), TURN);
            while sent < most && start.elapsed() < limit {
                turn = turn.min(most - sent).min(u32::MAX.into());
                let begin = Instant::now();
                self.run(turn as u32)?;
                sent += turn;
                // All the rest at once: a call makes its pages first.
                let left = limit.saturating_sub(start.elapsed()).as_secs_f64();
                turn = (turn as f64 / begin.elapsed().as_secs_f64() * left) as u64;
                turn = turn.max(TURN);
            }
            Ok((sent, start.elapsed()))
        };
        self.netns.run(send).map_err(Error::os("sending frames"))
    }

    fn run(&self, repeat: u32) -> io::Result<()> {
        let mut run = TestRun {
            program: self.program.as_raw_fd() as u32,
            data_size_in: self.frame.len() as u32,
            data_in: self.frame.as_ptr() as u64,
            repeat,
            flags: BPF_F_TEST_XDP_LIVE_FRAMES,
            batch_size: BATCH,
            ..TestRun::default()
        };
        // SAFETY: the kernel reads the frame, which outlives the call.
        match unsafe { bpf(BPF_PROG_TEST_RUN, &mut run) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// The program that writes the frame, for pages come back as others left them, and sends it away.
fn generator(frame: &[u8], flows: [u8; 4], index: u32) -> Vec<u64> {
    use op::*;
    let half = |at: i16| {
        i32::from(u16::from_le_bytes([
            frame[at as usize],
            frame[at as usize + 1],
        ]))
    };
    let rest = match frame[field::PROTOCOL] {
        6 => field::SEQUENCE,
        _ => field::PAYLOAD,
    };
    let mut code = vec![
        instruction(LOAD_WORD, 6, 1, 0, 0),
        instruction(LOAD_WORD, 3, 1, 4, 0),
        instruction(MOVE, 2, 6, 0, 0),
        instruction(ADD_NUMBER, 2, 0, 0, FRAME as i32),
        instruction(MOVE_NUMBER, 0, 0, 0, 0),
        // To the end.
        instruction(IF_GREATER, 2, 3, FRAME as i16 / 4 + 17, 0),
    ];
    for (at, word) in frame.chunks_exact(4).enumerate() {
        let word = i32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        code.push(instruction(SET_WORD, 6, 0, at as i16 * 4, word));
    }
    code.extend([
        instruction(CALL, 0, 0, 0, BPF_FUNC_GET_PRANDOM_U32),
        instruction(AND_NUMBER, 0, 0, 0, i32::from_le_bytes(flows)),
        instruction(MOVE, 7, 0, 0, 0),
        instruction(OR_NUMBER, 0, 0, 0, half(field::SOURCE)),
        instruction(STORE_HALF, 6, 0, field::SOURCE, 0),
        instruction(MOVE, 0, 7, 0, 0),
        instruction(SHIFT_RIGHT, 0, 0, 0, 16),
        instruction(OR_NUMBER, 0, 0, 0, half(field::SOURCE_PORT)),
        instruction(STORE_HALF, 6, 0, field::SOURCE_PORT, 0),
        // The same bits the other way round: together they sum to all ones, which is nothing.
        instruction(XOR_NUMBER, 7, 0, 0, -1),
        instruction(STORE_HALF, 6, 7, field::ID, 0),
        instruction(STORE_HALF, 6, 7, rest, 0),
        instruction(SHIFT_RIGHT, 7, 0, 0, 16),
        instruction(STORE_HALF, 6, 7, rest + 2, 0),
        instruction(MOVE_NUMBER, 1, 0, 0, index as i32),
        instruction(MOVE_NUMBER, 2, 0, 0, 0),
        instruction(CALL, 0, 0, 0, BPF_FUNC_REDIRECT),
        instruction(EXIT, 0, 0, 0, 0),
    ]);
    code
}

/// Counts and throws away what comes to a port, by native XDP; all else passes.
#[derive(Debug)]
pub struct Sink<'a> {
    netns: &'a Netns,
    interface: &'a str,
}

impl<'a> Sink<'a> {
    /// Puts it on an interface, in the place of any other XDP program; it stays as long as the interface, or until
    /// another takes its place.
    ///
    /// # Errors
    /// When the kernel refuses the program or the interface cannot carry it.
    pub fn open(netns: &'a Netns, interface: &'a str, port: u16) -> Result<Self, Error> {
        xdp::put(netns, interface, &xdp::load(&dropper(port))?, Mode::Native)?;
        Ok(Self { netns, interface })
    }

    /// How many frames XDP has thrown away here, ever.
    ///
    /// # Errors
    /// When `ethtool` does not tell.
    pub fn count(&self) -> Result<u64, Error> {
        let text = self.netns.exec("ethtool", &["-S", self.interface])?;
        let counts = text.lines().filter_map(|line| line.split_once(": "));
        let drops = counts.filter(|(name, _)| name.ends_with("xdp_drops"));
        Ok(drops
            .filter_map(|(_, count)| count.parse::<u64>().ok())
            .sum())
    }
}

fn dropper(port: u16) -> Vec<u64> {
    use op::*;
    const XDP_DROP: i32 = 1;
    const XDP_PASS: i32 = 2;
    let big = |number: u16| i32::from(number.to_be());
    vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(LOAD_WORD, 3, 1, 4, 0),
        instruction(MOVE, 4, 2, 0, 0),
        instruction(ADD_NUMBER, 4, 0, 0, i32::from(field::DESTINATION_PORT) + 2),
        instruction(MOVE_NUMBER, 0, 0, 0, XDP_PASS),
        instruction(IF_GREATER, 4, 3, 5, 0),
        instruction(LOAD_HALF, 5, 2, field::TYPE, 0),
        instruction(UNLESS_NUMBER, 5, 0, 3, big(crate::frames::IPV4)),
        instruction(LOAD_HALF, 5, 2, field::DESTINATION_PORT, 0),
        instruction(UNLESS_NUMBER, 5, 0, 1, big(port)),
        instruction(MOVE_NUMBER, 0, 0, 0, XDP_DROP),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}

/// Leaves what an interface receives to one processor: to a thread of the kernel that is kept there (threaded NAPI).
/// Otherwise whoever sends into a veth does the work of the host at its other end as well.
///
/// # Errors
/// When the interface has no receive queue of its own to poll.
pub fn receive_on(netns: &Netns, interface: &str, cpu: usize) -> Result<(), Error> {
    let prefix = format!("napi/{interface}-");
    let threads = || -> Vec<i32> {
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let name = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm"));
        pids.filter(|pid| name(pid).is_ok_and(|name| name.starts_with(&prefix)))
            .collect()
    };
    // GRO gives a veth such a queue.
    netns.exec("ethtool", &["-K", interface, "gro", "on"])?;
    let before = threads();
    let write = format!("echo 1 >/sys/class/net/{interface}/threaded");
    // The one way to the namespace's own /sys.
    checked(std::process::Command::new("ip").args([
        "netns",
        "exec",
        netns.name(),
        "sh",
        "-c",
        &write,
    ]))?;
    for thread in threads()
        .into_iter()
        .filter(|thread| !before.contains(thread))
    {
        pin(Pid::from_raw(thread), cpu).map_err(Error::os(format!("keeping {prefix} on {cpu}")))?;
    }
    Ok(())
}

/// Keeps a thread (0: the calling one) on a processor.
fn pin(thread: Pid, cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(thread, &set)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    use super::*;
    use crate::frames::{Ethernet, IPV4, SYN, View, checksum, tcp, udp};
    use crate::{Capture, Names, pass_everything, wait_until, wire};

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 0);
    const B: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
    const LIMIT: Duration = Duration::from_secs(5);

    /// Two hosts, whose cable takes frames both ways.
    fn hosts() -> (Netns, Netns) {
        let names = Names::transient();
        let [a, b] = ["a", "b"].map(|name| Netns::new(&names, name).unwrap());
        wire::cable((&a, "eth0"), (&b, "eth0")).unwrap();
        for host in [&a, &b] {
            pass_everything(host, "eth0").unwrap();
        }
        (a, b)
    }

    fn frame(packet: &[u8]) -> Vec<u8> {
        let ethernet = Ethernet {
            destination: [2; 6],
            source: [4; 6],
            vlan: None,
        };
        ethernet.frame(IPV4, packet)
    }

    #[test]
    fn every_frame_is_of_another_flow_and_whole() {
        let (a, b) = hosts();
        for (packet, flows, distinct) in [
            // By chance two may be the same.
            (
                tcp((A, 1024), (B, 9), SYN, 0),
                [255, 255, 0xfb, 255],
                60..=64,
            ),
            (udp((A, 1024), (B, 9), &[0; 18]), [0, 0, 0, 15], 9..=16),
        ] {
            let capture = Capture::start(&b, "eth0").unwrap();
            let flood = Flood::open(&a, "eth0", &frame(&packet), flows).unwrap();
            assert_eq!(flood.send(0, 64, LIMIT).unwrap().0, 64);
            let seen = || Some(capture.frames()).filter(|seen| seen.len() == 64);
            let mut sources = BTreeSet::new();
            for captured in wait_until("64 frames", LIMIT, seen).unwrap() {
                let ip = View::of(&captured.frame).unwrap().ip.unwrap();
                assert!(ip.checksum_ok && ip.destination == B);
                let (from, to) = ip.ports.unwrap();
                assert!(from >= 1024 && to == 9);
                let segment = &captured.frame[34..14 + packet.len()];
                let length = (segment.len() as u16).to_be_bytes();
                let pseudo = [&captured.frame[26..34], &[0, ip.protocol], &length].concat();
                assert_eq!(checksum(&[&pseudo, segment]), 0);
                sources.insert((ip.source, from));
            }
            assert!(distinct.contains(&sources.len()), "{}", sources.len());
        }
    }

    #[test]
    fn a_sink_counts_what_it_swallows() {
        let (a, b) = hosts();
        receive_on(&b, "eth0", 0).unwrap();
        let sink = Sink::open(&b, "eth0", 9).unwrap();
        for port in [9, 10] {
            let packet = udp((A, 1024), (B, port), &[0; 18]);
            let flood = Flood::open(&a, "eth0", &frame(&packet), [0, 0, 0, 255]).unwrap();
            flood.send(0, 100, LIMIT).unwrap();
            let counted = || (sink.count().unwrap() == 100).then_some(());
            wait_until("100 frames", LIMIT, counted).unwrap();
        }
    }
}
