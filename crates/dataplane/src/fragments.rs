//! Fragments that came before the first one of their packet: programs cannot keep a packet, so they
//! hand a copy to user space, which puts it back on its interface when the ports are known.

use std::collections::VecDeque;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use aya::maps::{HashMap, MapData, RingBuf};
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, Pod};
use pointsman_core::fragment::{BACK_LEN, BACK_MAGIC, FragmentId, Held, LIFE_SECS, is_fresh};
use pointsman_core::host::{Packet, Shell};
use pointsman_core::inner::Version;
use pointsman_core::rare;

use crate::Error;

/// Most fragments kept at once; more are lost, as those are whose first one never comes.
const MOST: usize = 1024;
/// How soon the ports are looked for again; the longer they are not there, the more seldom.
const FIRST_WAIT: Duration = Duration::from_millis(1);

/// Fragments kept.
pub(crate) struct Fragments {
    ring: RingBuf<MapData>,
    ports: HashMap<MapData, IdBytes, u64>,
    kept: VecDeque<Kept>,
}

struct Kept {
    id: FragmentId,
    ifindex: u32,
    frame: Vec<u8>,
    since: Instant,
    next: Instant,
}

/// A fragment's identity as the eBPF library wants keys.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct IdBytes(FragmentId);

// SAFETY: forty bytes without padding, any bits are valid.
unsafe impl Pod for IdBytes {}

impl Fragments {
    pub fn open(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let mut take = |name: &str| {
            ebpf.take_map(name).ok_or_else(|| {
                Error::os(
                    format!("looking for {name} in the eBPF object"),
                    io::ErrorKind::NotFound.into(),
                )
            })
        };
        let fail = |e| Error::bpf("opening the maps of fragments", e);
        let ring = take("FRAGMENTS_HELD")?;
        let ports = take("FRAGMENT_PORTS")?;
        Ok(Self {
            ring: RingBuf::try_from(ring).map_err(fail)?,
            ports: HashMap::try_from(ports).map_err(fail)?,
            kept: VecDeque::new(),
        })
    }

    /// What becomes readable when programs hold fragments.
    pub fn readable(&self) -> io::Result<OwnedFd> {
        self.ring.as_fd().try_clone_to_owned()
    }

    /// Takes in what programs held since; how many there was no room for.
    pub fn take_in(&mut self) -> u64 {
        let mut lost = 0;
        let now = Instant::now();
        while let Some(item) = self.ring.next() {
            let kept = kept(&item, now).filter(|_| self.kept.len() < MOST);
            match kept {
                Some(kept) => self.kept.push_back(kept),
                None => lost += 1,
            }
        }
        lost
    }

    /// Forgets the ports of all packets, and gives up what is kept; how many those were.
    pub fn clear(&mut self) -> u64 {
        let lost = self.take_in() + self.kept.len() as u64;
        self.kept.clear();
        let known: Vec<IdBytes> = self.ports.keys().map_while(Result::ok).collect();
        for id in known {
            // Gone meanwhile is gone as well.
            let _ = self.ports.remove(&id);
        }
        lost
    }

    /// When [`Fragments::put_back`] has something to look at.
    pub fn due(&self) -> Option<Instant> {
        self.kept.iter().map(|kept| kept.next).min()
    }

    /// Puts back what can be forwarded now, and gives up what is too old; how many those were.
    pub fn put_back(&mut self, through: &Xdp, jiffies: u32, hz: u32) -> u64 {
        let now = Instant::now();
        let mut lost = 0;
        let ports = &self.ports;
        self.kept.retain_mut(|kept| {
            if kept.next > now {
                return true;
            }
            let known = ports.get(&IdBytes(kept.id), 0);
            if known.is_ok_and(|known| is_fresh(known, jiffies, hz)) {
                lost += u64::from(inject(through, kept).is_err());
                return false;
            }
            let age = now - kept.since;
            if age.as_secs() >= LIFE_SECS.into() {
                lost += 1;
                return false;
            }
            kept.next = now + age.max(FIRST_WAIT);
            true
        });
        lost
    }
}

/// A fragment from the ring.
fn kept(item: &[u8], now: Instant) -> Option<Kept> {
    let word = |at: usize| Some(u32::from_ne_bytes(item.get(at..at + 4)?.try_into().ok()?));
    let len = word(offset_of!(Held, len))? as usize;
    let at = offset_of!(Held, frame);
    let mut frame = item.get(at..at + len)?.to_vec();
    let id = rare::fragment_of(&Frame(&frame))?;
    let kind = word(offset_of!(Held, tag_kind))? as u16;
    if kind != 0 {
        let tag = word(offset_of!(Held, tag))? as u16;
        let tag = [kind.to_be_bytes(), tag.to_be_bytes()].concat();
        frame.splice(12..12, tag);
    }
    Some(Kept {
        id,
        ifindex: word(offset_of!(Held, ifindex))?,
        frame,
        since: now,
        next: now,
    })
}

/// Sends a frame through `lo`, where the program on TC takes it to its own interface: that works for
/// every kind of interface, with or without XDP.
fn inject(through: &Xdp, kept: &Kept) -> Result<(), aya::programs::ProgramError> {
    let mut bytes = [BACK_MAGIC.to_ne_bytes(), kept.ifindex.to_ne_bytes()].concat();
    bytes.extend_from_slice(&kept.frame);
    // struct xdp_md: where data begins behind what is said before it, and where it ends.
    let mut xdp_md = [0u8; 24];
    xdp_md[0..4].copy_from_slice(&(BACK_LEN as u32).to_ne_bytes());
    xdp_md[4..8].copy_from_slice(&(bytes.len() as u32).to_ne_bytes());
    let options = TestRunOptions {
        data_in: Some(&bytes),
        ctx_in: Some(&xdp_md),
        repeat: 1,
        attrs: TestRunAttrs::new().xdp_live_frames(1),
        ..TestRunOptions::default()
    };
    through.test_run(options).map(drop)
}

/// A frame that is only read.
struct Frame<'a>(&'a [u8]);

impl Packet for Frame<'_> {
    fn len(&self) -> u32 {
        self.0.len() as u32
    }

    fn pointer<T>(&self, at: usize) -> Option<*mut T> {
        let bytes = self.0.get(at..at.checked_add(size_of::<T>())?)?;
        Some(bytes.as_ptr().cast::<T>().cast_mut())
    }

    fn push(&mut self, _l3: usize, _len: usize, _outer: Version, _shell: Shell) -> Option<()> {
        None
    }

    unsafe fn insert(&mut self, _at: usize, _len: u32, _scratch: *mut u8) -> Option<()> {
        None
    }

    fn rehead(&mut self, _l3: usize, _old: u32, _new: u32, _to: Version) -> Option<()> {
        None
    }

    fn reshape(&mut self, _l3: usize, _bytes: u32, _len: u32) -> Option<()> {
        None
    }
}
