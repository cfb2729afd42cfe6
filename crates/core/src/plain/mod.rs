//! The way of most packets: without tags and options, of a connection that is there, to a neighbour that is known.
//!
//! A program of its own, in which every offset is a constant and nothing has to be kept for what might be: whatever else
//! a packet turns out to be or to need, [`crate::director`]'s pipeline starts over with it, to which it is as it came.

use crate::atomic;
use crate::conn::{
    self, Found, KIND_FTP, KIND_METHOD, KIND_REWRITE, KIND_TO_LOOPBACK, KIND_TO_STACK, NO_SLOT,
    Tag, Word,
};
use crate::director::{self, Mode, Narrow, Verdict, Wide, call};
use crate::drop::Drop;
use crate::forward::{self, direct, nat, tunnel};
use crate::host::{Host, Packet};
use crate::layout::{EGRESS_WRAPPED, NextHop, Runtime};
use crate::open::want;
use crate::parse::{self, Flow, Parsed};
use crate::reuse;
use crate::wide;

mod open;

use open::Opened;

/// What is not done here: text to be read, the director's own stack and clients, what else changes on the way.
const UNUSUAL: u32 = KIND_FTP | KIND_TO_STACK | KIND_TO_LOOPBACK | KIND_REWRITE;

/// A packet that came in: request of a client, or reply of a remote real server.
#[inline(always)]
pub fn ingress<H: Host, P: Packet>(host: &H, packet: &mut P) -> Verdict {
    let Some(runtime) = host.runtime() else {
        return Verdict::Pass;
    };
    // SAFETY: the runtime record lives as long as the maps.
    let seed = unsafe { atomic::load(&raw const (*runtime).seed) };
    match parse::plain(packet) {
        Parsed::Flow(flow) => balance::<H, P, Narrow>(host, packet, &flow, runtime, seed),
        Parsed::Other => Verdict::Pass,
        Parsed::Wide => match parse::plain_wide(packet, seed) {
            Some(flow) => balance::<H, P, Wide>(host, packet, &flow, runtime, seed),
            None => Verdict::Call(call::WIDE),
        },
        Parsed::Rare => Verdict::Call(call::NARROW),
    }
}

/// Forwards a packet of a connection, or says who goes on with it.
#[inline(always)]
fn balance<H: Host, P: Packet, M: Mode>(
    host: &H,
    packet: &mut P,
    flow: &Flow,
    runtime: *mut Runtime,
    seed: [u64; 2],
) -> Verdict {
    let hash = flow.key.hash(seed);
    let now = host.now();
    let preferred = conn::preferred(host, hash);
    let mut found = conn::check(host, preferred, hash, &flow.key, now);
    // Most that are not there lie beside it, and are spared the search; what opens a connection lies nowhere, mostly.
    if found.is_none() && !director::opens(flow) {
        found = conn::check(host, conn::beside(preferred), hash, &flow.key, now);
    }
    let found = match found {
        Some(found) => found,
        None => {
            let Some(mut near) = conn::nearby(host, hash) else {
                return Verdict::Pass;
            };
            let mut index = NO_SLOT;
            if near.point(hash, NO_SLOT) {
                index = host.search_apart(hash, &flow.key, now, NO_SLOT);
                // Where there was one like it, a new one does not show.
                near.hints = [0; 4];
            }
            if index == NO_SLOT {
                index = match open::open(host, packet, flow, runtime, hash, near.hints) {
                    Opened::Made(index) => index,
                    Opened::Wanted => return Verdict::Call(call::OPEN),
                    Opened::Pass => return Verdict::Pass,
                    Opened::NoDestination => {
                        host.count_drop(Drop::NoDestination);
                        return Verdict::Call(call::UNREACHABLE);
                    }
                    Opened::Unusual => {
                        return director::unknown(host, flow, runtime, hash, call::DIRECTOR);
                    }
                };
            }
            // Under a tag of its own, as in [`conn::find`].
            match conn::check(host, index, hash, &flow.key, now) {
                Some(found) => found,
                None => return Verdict::Call(M::ORIGIN),
            }
        }
    };
    if (M::WIDE && !wide::is_of(host, packet, flow, &found))
        || (director::opens(flow) && reuse::may_give_way(runtime, &found))
    {
        return Verdict::Call(M::ORIGIN);
    }
    established::<H, P, M>(host, packet, flow, runtime, &found, now)
        .unwrap_or(Verdict::Call(M::ORIGIN))
}

/// Forwards a packet of a connection; `None`, with nothing counted or changed, where it takes more than is done here.
#[inline(always)]
fn established<H: Host, P: Packet, M: Mode>(
    host: &H,
    packet: &mut P,
    flow: &Flow,
    runtime: *mut Runtime,
    found: &Found,
    now: u32,
) -> Option<Verdict> {
    let slot = found.slot;
    // SAFETY: slot and runtime live as long as the maps; a reading of a slot that was reused
    // meanwhile is discovered by its tag below.
    let (word, server, to, epoch, hop, present, tag) = unsafe {
        (
            Word(atomic::load(&raw const (*slot).word)),
            atomic::load(&raw const (*slot).server),
            director::rewrite_of(slot),
            atomic::load(&raw const (*slot).epoch),
            NextHop::new(
                atomic::load(&raw const (*slot).way),
                atomic::load(&raw const (*slot).mtu),
            ),
            atomic::load(&raw const (*runtime).epoch),
            atomic::load(&raw const (*slot).tag),
        )
    };
    let kind = word.kind();
    let method = (kind & KIND_METHOD) as u8;
    // The director's own stack is a way that looks wrapped.
    if tag != found.tag
        || kind & UNUSUAL != 0
        || epoch != Tag::stamp(tag, present)
        || hop.way & u64::from(EGRESS_WRAPPED) != 0
        || flow.ttl <= 1
        || packet.exceeds(flow.total_len, flow.headers, hop.mtu)
    {
        return None;
    }
    if method >= forward::FULLNAT_TELLS {
        let program = if M::WIDE {
            call::FULLNAT_WIDE
        } else {
            call::FULLNAT
        };
        return want(host, flow, 0, call::DIRECTOR).map(|_| Verdict::Call(program));
    }
    let egress = host.egress(hop.egress())?;
    // SAFETY: egress entries live as long as the maps.
    if H::HANDS_UP && unsafe { atomic::load(&raw const (*egress).xdp_ifindex) } == 0 {
        return None;
    }
    director::account(host, runtime, found, word, server, flow, now);
    // SAFETY: as above.
    let done = unsafe {
        if method == forward::TUNNEL {
            if M::WIDE {
                tunnel::send_wide(host, packet, flow, server, hop, egress)
            } else {
                tunnel::send(packet, flow, to.addresses, hop, egress)
            }
        } else {
            let done = match (forward::translates(method), M::WIDE) {
                (true, true) => wide::rewrite_of(host, flow, found.index, word, server, to.ports)
                    .and_then(|to| nat::rewrite_wide::<P, M>(packet, flow, &to, word, 1)),
                (true, false) => nat::rewrite::<P, M>(packet, flow, &to, 1),
                (false, true) => forward::decrement_hops(packet, flow),
                (false, false) => direct::forward(packet, flow),
            };
            done.and_then(|()| forward::address(packet, hop, egress))
        }
    };
    Some(match done {
        Some(()) => Verdict::Send(egress, false),
        None => director::refuse(host, Drop::Headroom),
    })
}

const _: () = assert!(crate::layout::EGRESS_LOCAL & EGRESS_WRAPPED != 0);
