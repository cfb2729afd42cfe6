//! The real server's side of tunnels, on TC ingress: the kernel's packets, with offloads.

use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext;
use aya_ebpf::Global;
use aya_ebpf::bindings::{
    BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_RECOMPUTE_CSUM, BPF_FIB_LKUP_RET_FWD_DISABLED,
    BPF_FIB_LKUP_RET_NOT_FWDED, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, bpf_fib_lookup,
};
use aya_ebpf::helpers::generated::{
    bpf_fib_lookup as fib_lookup, bpf_skb_adjust_room, bpf_skb_change_proto, bpf_skb_store_bytes,
};
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::programs::TcContext;
use pointsman_core::addr::Be16;
use pointsman_core::host::Packet;
use pointsman_core::inner::Version;
use pointsman_core::realserver::{
    COUNTERS, MAX_DIRECTORS, MAX_GUE_PORTS, Outcome, RealServer, Wrapped, decapsulate,
};
use pointsman_core::wire::{ethernet, ipv4, ipv6};

use crate::tables::Context as _;
use crate::tc::{NEXT, SHOT, Skb, pull};

/// Packets by [`Outcome`].
#[map]
pub static DECAPSULATED: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// UDP ports GUE comes to, in wire order; 0 where there are fewer. Set when the program is loaded.
#[unsafe(no_mangle)]
static GUE_PORTS: [u16; MAX_GUE_PORTS] = [0; MAX_GUE_PORTS];
/// Who may send tunnelled packets, the first [`DIRECTOR_COUNT`] of them.
#[unsafe(no_mangle)]
static DIRECTORS: [[u32; 4]; MAX_DIRECTORS] = [[0; 4]; MAX_DIRECTORS];
/// Number of directors; 0 if anybody may.
#[unsafe(no_mangle)]
static DIRECTOR_COUNT: Global<u32> = Global::new(0);

/// Bytes that are looked at: outer IPv4 with all options or IPv6, GUE with options, inner IPv4 with all
/// options or IPv6, and as much of TCP as its checksum needs.
const PULL: u32 = 14 + 60 + 8 + 36 + 60 + 20;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The host, as one packet sees it.
struct Kernel<'a>(&'a TcContext);

impl RealServer for Kernel<'_> {
    #[inline(always)]
    fn is_gue_port(&self, port: Be16) -> bool {
        let ports = (&raw const GUE_PORTS).cast::<u16>();
        // SAFETY: within the array. Volatile, or the compiler would take it to be zero.
        (0..MAX_GUE_PORTS).any(|i| unsafe { ports.add(i).read_volatile() } == port.raw())
            && port.raw() != 0
    }

    #[inline(always)]
    fn is_director(&self, address: [u32; 4]) -> bool {
        let count = DIRECTOR_COUNT.load() as usize;
        let words = (&raw const DIRECTORS).cast::<u32>();
        count == 0
            || (0..MAX_DIRECTORS).any(|i| {
                // SAFETY: within the array. Volatile as above.
                let word = |j| unsafe { words.add(4 * i + j).read_volatile() };
                let [a, b, c, d] = address;
                i < count && word(0) == a && word(1) == b && word(2) == c && word(3) == d
            })
    }

    /// By the kernel's routes, if it forwards at all. What it does not forward is for the host.
    #[inline(always)]
    fn is_own<P: Packet>(&self, packet: &P, version: Version, l3: usize) -> bool {
        let mut params = MaybeUninit::<bpf_fib_lookup>::uninit();
        // Word by word: clearing it in one go would be a call, with a stack frame.
        for i in 0..size_of::<bpf_fib_lookup>() / 8 {
            // SAFETY: within the struct.
            unsafe { params.as_mut_ptr().cast::<u64>().add(i).write_volatile(0) };
        }
        // SAFETY: all bits zero is a valid value of this plain struct.
        let params = unsafe { params.assume_init_mut() };
        params.ifindex = self.0.ingress();
        let read = match version {
            Version::V4 => {
                params.family = AF_INET;
                packet
                    .read(l3 + ipv4::SOURCE)
                    .zip(packet.read(l3 + ipv4::DESTINATION))
                    .map(|(source, destination)| {
                        params.__bindgen_anon_3.ipv4_src = source;
                        params.__bindgen_anon_4.ipv4_dst = destination;
                    })
            }
            Version::V6 => {
                params.family = AF_INET6;
                packet
                    .read(l3 + ipv6::SOURCE)
                    .zip(packet.read(l3 + ipv6::DESTINATION))
                    .map(|(source, destination)| {
                        params.__bindgen_anon_3.ipv6_src = source;
                        params.__bindgen_anon_4.ipv6_dst = destination;
                    })
            }
        };
        let size = size_of::<bpf_fib_lookup>() as i32;
        // SAFETY: the struct is whole and its size is given.
        let code = unsafe { fib_lookup(self.0.as_ptr(), &raw mut *params, size, 0) } as i32;
        read.is_some()
            && (code < 0
                || code as u32 == BPF_FIB_LKUP_RET_NOT_FWDED
                || code as u32 == BPF_FIB_LKUP_RET_FWD_DISABLED)
    }
}

impl Wrapped for Skb<'_> {
    #[inline(always)]
    fn amend(&mut self, at: usize, value: u16) -> Option<()> {
        let flags = u64::from(BPF_F_RECOMPUTE_CSUM);
        // SAFETY: the context is the program's own, the value as long as is said.
        let code = unsafe {
            bpf_skb_store_bytes(self.raw(), at as u32, (&raw const value).cast(), 2, flags)
        };
        (code == 0).then_some(())
    }

    #[inline(always)]
    fn strip(&mut self, l3: usize, len: usize, outer: Version, inner: Version) -> Option<()> {
        // Makes the packet one of the other version, also in the kernel's eyes, by inserting or removing
        // what their headers differ by.
        let len = if outer == inner {
            len
        } else {
            let (protocol, len) = match inner {
                Version::V4 => (ethernet::IPV4, len - (ipv6::LEN - ipv4::MIN_LEN)),
                Version::V6 => (ethernet::IPV6, len + (ipv6::LEN - ipv4::MIN_LEN)),
            };
            // SAFETY: the context is the program's own.
            if unsafe { bpf_skb_change_proto(self.raw(), protocol.raw(), 0) } != 0 {
                return None;
            }
            self.write(ethernet::TYPE, protocol.raw())?;
            len
        };
        debug_assert!(l3 == ethernet::LEN);
        // Segments of an aggregate stay as long as they were made.
        let flags = u64::from(BPF_F_ADJ_ROOM_FIXED_GSO);
        // SAFETY: the context is the program's own.
        let code =
            unsafe { bpf_skb_adjust_room(self.raw(), -(len as i32), BPF_ADJ_ROOM_MAC, flags) };
        (code == 0).then_some(())
    }
}

/// Takes the outer headers off tunnelled packets.
#[inline(always)]
pub fn ingress(ctx: &TcContext) -> i32 {
    if !ctx.is_for_us() {
        return NEXT;
    }
    pull(ctx, PULL);
    let outcome = decapsulate(&Kernel(ctx), &mut Skb(ctx));
    if outcome == Outcome::Untouched {
        return NEXT;
    }
    if let Some(counter) = DECAPSULATED.get_ptr_mut(outcome as u32) {
        // SAFETY: this CPU's counter.
        unsafe { *counter = (*counter).wrapping_add(1) };
    }
    if outcome == Outcome::Decapsulated {
        NEXT
    } else {
        SHOT
    }
}
