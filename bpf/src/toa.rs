//! The real server's side of FULLNAT: servers see the client's address instead of the director's.
//!
//! The handshake's last segment, or the first one with data, carries the client in an option
//! ([`pointsman_core::wire::toa`]). A `sock_ops` program remembers it with the socket; `accept` and
//! `getpeername` then answer with it. Connections that do not come from a director are left alone, so
//! that nobody else can claim to be somebody.

use aya_ebpf::EbpfContext;
use aya_ebpf::Global;
use aya_ebpf::bindings::{
    BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE, BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG,
    BPF_SOCK_OPS_PARSE_HDR_OPT_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, bpf_sock_addr,
    bpf_sock_ops,
};
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::helpers::generated::{
    bpf_get_netns_cookie, bpf_sk_storage_get, bpf_sock_ops_cb_flags_set,
};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::programs::{SockAddrContext, SockOpsContext};
use pointsman_core::realserver::{Claim, MAX_DIRECTORS, TOA_COUNTERS};
use pointsman_core::wire::toa::{self, Client, Segment};

/// The client of a connection, with its socket.
#[btf_map]
pub static CLIENTS: SkStorage<Client> = SkStorage::new();

/// Connections by [`Claim`].
#[map]
pub static CLAIMS: PerCpuArray<u64> = PerCpuArray::with_max_entries(TOA_COUNTERS, 0);

/// The network namespace whose connections count. Set when the programs are loaded.
#[unsafe(no_mangle)]
static NETNS_COOKIE: Global<u64> = Global::new(0);
/// Addresses of directors (LIPs), each as address and mask, IPv4 mapped into IPv6.
#[unsafe(no_mangle)]
static LOCAL_ADDRESSES: [[u32; 8]; MAX_DIRECTORS] = [[0; 8]; MAX_DIRECTORS];
/// Number of them; 0 if anybody may name a client.
#[unsafe(no_mangle)]
static LOCAL_ADDRESS_COUNT: Global<u32> = Global::new(0);

const AF_INET: u32 = 2;
/// Bytes of a TCP header without options.
const HEADER: u32 = 20;

/// The segment a `sock_ops` program is told of.
struct Arrived(*mut bpf_sock_ops);

impl Segment for Arrived {
    #[inline(always)]
    fn read<T: Copy>(&self, at: usize) -> Option<T> {
        // SAFETY: the context is the program's own. Volatile, or the compiler would keep half a pointer.
        let (start, end) = unsafe {
            (
                (&raw const (*self.0).__bindgen_anon_3.skb_data).read_volatile() as usize,
                (&raw const (*self.0).__bindgen_anon_4.skb_data_end).read_volatile() as usize,
            )
        };
        if start + at + size_of::<T>() > end {
            return None;
        }
        // SAFETY: within the segment, as just checked; the kernel allows any alignment.
        Some(unsafe { ((start + at) as *const T).read() })
    }
}

/// Remembers the client that a director names.
#[inline(always)]
pub fn remember(ctx: &SockOpsContext) -> u32 {
    let op = ctx.op();
    let established = op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB;
    if (established || op == BPF_SOCK_OPS_PARSE_HDR_OPT_CB) && is_here(ctx) {
        look(ctx, established);
    }
    1
}

#[inline(always)]
fn look(ctx: &SockOpsContext, established: bool) {
    let asked = BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG as i32;
    let flags = ctx.cb_flags() as i32;
    if let Some(client) = toa::find(&Arrived(ctx.ops)) {
        if comes_from_director(ctx) {
            keep(ctx, client);
            count(Claim::Taken);
        } else {
            count(Claim::Stranger);
        }
        set_flags(ctx, flags & !asked);
    } else if established {
        // It may still come along with the first data.
        if comes_from_director(ctx) {
            set_flags(ctx, flags | asked);
        }
    } else if has_data(ctx) {
        // The kernel asks only about segments whose options are out of the ordinary.
        set_flags(ctx, flags & !asked);
    }
}

#[inline(always)]
fn keep(ctx: &SockOpsContext, client: Client) {
    let mut client = client;
    // SAFETY: the context is the program's own; the kernel checks the socket, which the verifier makes
    // us do, too.
    unsafe {
        let socket = (&raw const (*ctx.ops).__bindgen_anon_2.sk).read_volatile();
        if socket.is_null() {
            return;
        }
        bpf_sk_storage_get(
            (&raw const CLIENTS).cast_mut().cast(),
            socket.cast(),
            (&raw mut client).cast(),
            u64::from(BPF_SK_STORAGE_GET_F_CREATE),
        );
    }
}

#[inline(always)]
fn set_flags(ctx: &SockOpsContext, flags: i32) {
    // SAFETY: the context is the program's own.
    unsafe { bpf_sock_ops_cb_flags_set(ctx.ops, flags) };
}

/// True for a segment with more than a header.
#[inline(always)]
fn has_data(ctx: &SockOpsContext) -> bool {
    let words = Arrived(ctx.ops).read::<u8>(12).unwrap_or(0) >> 4;
    // SAFETY: the context is the program's own.
    let len = unsafe { (*ctx.ops).skb_len };
    len > (u32::from(words) * 4).max(HEADER)
}

#[inline(always)]
fn is_here(ctx: &SockOpsContext) -> bool {
    // SAFETY: the context is the program's own.
    unsafe { bpf_get_netns_cookie(ctx.as_ptr()) == NETNS_COOKIE.load() }
}

#[inline(always)]
fn comes_from_director(ctx: &SockOpsContext) -> bool {
    let count = LOCAL_ADDRESS_COUNT.load() as usize;
    if count == 0 {
        return true;
    }
    let [a, b, c, d] = if ctx.family() == AF_INET {
        [0, 0, 0xffff_u32.to_be(), ctx.remote_ip4()]
    } else {
        // Word by word: the verifier wants accesses of the context as they are declared.
        let words = unsafe { (&raw const (*ctx.ops).remote_ip6).cast::<u32>() };
        // SAFETY: within the context.
        unsafe {
            [
                words.read_volatile(),
                words.add(1).read_volatile(),
                words.add(2).read_volatile(),
                words.add(3).read_volatile(),
            ]
        }
    };
    let words = (&raw const LOCAL_ADDRESSES).cast::<u32>();
    (0..MAX_DIRECTORS).any(|i| {
        // SAFETY: within the array. Volatile, or the compiler would take it to be zero.
        let word = |j| unsafe { words.add(8 * i + j).read_volatile() };
        i < count
            && a & word(4) == word(0)
            && b & word(5) == word(1)
            && c & word(6) == word(2)
            && d & word(7) == word(3)
    })
}

#[inline(always)]
fn count(claim: Claim) {
    if let Some(counter) = CLAIMS.get_ptr_mut(claim as u32) {
        // SAFETY: this CPU's counter.
        unsafe { *counter = (*counter).wrapping_add(1) };
    }
}

/// `getpeername` and `accept` of IPv4 sockets. An address they cannot show stays the director's.
#[inline(always)]
pub fn peer4(ctx: &SockAddrContext) -> i32 {
    if let Some(client) = client(ctx)
        && client.wide == 0
    {
        // SAFETY: the context is the program's own.
        unsafe {
            (&raw mut (*ctx.sock_addr).user_ip4).write_volatile(client.addr[3]);
            set_port(ctx.sock_addr, client);
        }
    }
    1
}

/// The same of IPv6 sockets, which may have either kind of client.
#[inline(always)]
pub fn peer6(ctx: &SockAddrContext) -> i32 {
    if let Some(client) = client(ctx) {
        // SAFETY: the context is the program's own; word by word, as the verifier wants it.
        unsafe {
            let words = (&raw mut (*ctx.sock_addr).user_ip6).cast::<u32>();
            words.write_volatile(client.addr[0]);
            words.add(1).write_volatile(client.addr[1]);
            words.add(2).write_volatile(client.addr[2]);
            words.add(3).write_volatile(client.addr[3]);
            set_port(ctx.sock_addr, client);
        }
    }
    1
}

/// # Safety
/// The context is the program's own.
#[inline(always)]
unsafe fn set_port(ctx: *mut bpf_sock_addr, client: Client) {
    // SAFETY: passed on to the caller.
    unsafe { (&raw mut (*ctx).user_port).write_volatile(u32::from(client.port.raw())) };
}

#[inline(always)]
fn client(ctx: &SockAddrContext) -> Option<Client> {
    // SAFETY: the socket is the context's; the kernel checks it.
    unsafe {
        let found = CLIENTS.get_ptr_mut(ctx);
        if found.is_null() { None } else { Some(*found) }
    }
}

// Socket storage cannot be allocated beforehand; the map's definition says so.
const _: () = assert!(BPF_F_NO_PREALLOC == 1);
