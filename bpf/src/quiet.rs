//! The real server's manners, on TC.

use aya_ebpf::macros::map;
use aya_ebpf::maps::HashMap;
use aya_ebpf::programs::TcContext;
use pointsman_core::quiet::{self, MAX_VIPS, Manners, Polite};

use crate::tc::{NEXT, SHOT, Skb, pull};

/// What holds on an interface, by its index.
#[map]
pub static MANNERS: HashMap<u32, Manners> = HashMap::with_max_entries(256, 0);

/// VIPs, IPv4 mapped into IPv6.
#[map]
pub static VIPS: HashMap<[u32; 4], u8> = HashMap::with_max_entries(MAX_VIPS, 0);

/// Bytes that are looked at: IPv6 and TCP with its first option; more than ARP.
const HEADERS: u32 = 14 + 40 + 24;

/// The host, on one interface.
struct Host<'a>(&'a TcContext);

impl Polite for Host<'_> {
    #[inline(always)]
    fn manners(&self) -> Manners {
        // SAFETY: the context is the program's own.
        let interface = unsafe { (*self.0.skb.skb).ifindex };
        // SAFETY: only user space writes it, before the program is attached.
        unsafe { MANNERS.get(interface) }
            .copied()
            .unwrap_or_default()
    }

    #[inline(always)]
    fn is_vip(&self, address: [u32; 4]) -> bool {
        // SAFETY: nobody looks at the value.
        unsafe { VIPS.get(address) }.is_some()
    }
}

/// Takes questions for VIPs away.
#[inline(always)]
pub fn ingress(ctx: &TcContext) -> i32 {
    pull(ctx, HEADERS);
    if quiet::arrives(&Host(ctx), &Skb(ctx)) {
        NEXT
    } else {
        SHOT
    }
}

/// Never names a VIP in ARP; asks clients of VIPs for smaller segments.
#[inline(always)]
pub fn egress(ctx: &TcContext) -> i32 {
    pull(ctx, HEADERS);
    if quiet::leaves(&Host(ctx), &mut Skb(ctx)) {
        NEXT
    } else {
        SHOT
    }
}
