//! Ways out, as the director itself would send: `bpf_fib_lookup` from `lo`, which is what a route
//! lookup for local output is. (It needs forwarding enabled on `lo` alone; the director sees to it.)

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_NOT_FWDED, BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup,
};
use aya_ebpf::helpers::generated::bpf_fib_lookup as fib_lookup;
use pointsman_core::addr::{Address, Be32};
use pointsman_core::connect::LOOPBACK;
use pointsman_core::host::Route;
use pointsman_core::layout::NextHop;

use crate::maps::{EGRESS_IDS, WANTED};
use crate::tables::cpu;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// What the subprograms below found.
#[repr(C)]
struct Answer {
    code: i32,
    ifindex: u32,
    gateway: u32,
    mac: [u16; 3],
    mtu: u16,
}

/// The helper's question, at the alignment that clearing it by words of 64 bits needs.
#[repr(align(8))]
struct Question(MaybeUninit<bpf_fib_lookup>);

impl Question {
    /// All zero. Word by word: clearing it in one go would be a call, with a stack frame.
    #[inline(always)]
    fn clear(&mut self) -> &mut bpf_fib_lookup {
        for i in 0..size_of::<bpf_fib_lookup>() / 8 {
            // SAFETY: within the struct, which is aligned.
            unsafe { self.0.as_mut_ptr().cast::<u64>().add(i).write_volatile(0) };
        }
        // SAFETY: all bits zero is a valid value of this plain struct.
        unsafe { self.0.assume_init_mut() }
    }
}

/// Looks the way to `destination` up in the kernel's tables.
#[inline(always)]
pub fn lookup(ctx: *mut c_void, destination: Be32) -> Route {
    let mut answer = MaybeUninit::uninit();
    ask(ctx, destination.raw(), &mut answer);
    // SAFETY: ask() writes the whole of it.
    let answer = unsafe { answer.assume_init_ref() };
    let next = Be32::from_raw(answer.gateway);
    judge(answer, Route::Unresolved(answer.ifindex, next))
}

/// As [`lookup`] for an IPv6 address that lies in a map. The next address of an unresolved way is left in
/// this CPU's [`WANTED`] record.
///
/// `lo` must forward IPv6 (`net.ipv6.conf.lo.forwarding`, which the director sees to), or there is no way
/// to anywhere. What the kernel calls not forwarded, here "the director itself", is as for IPv4 an address
/// of its own or one that no route leads to, and also every link-local address, which has no way unless
/// an interface is named.
#[inline(always)]
pub fn lookup_wide(ctx: *mut c_void, destination: *const Address) -> Route {
    let mut answer = MaybeUninit::uninit();
    ask_wide(ctx, destination, &mut answer);
    // SAFETY: ask_wide() writes the whole of it.
    let answer = unsafe { answer.assume_init_ref() };
    judge(answer, Route::UnresolvedWide(answer.ifindex))
}

/// What an answer means.
#[inline(always)]
fn judge(answer: &Answer, unresolved: Route) -> Route {
    match answer.code as u32 {
        BPF_FIB_LKUP_RET_SUCCESS => {}
        BPF_FIB_LKUP_RET_NO_NEIGH => return unresolved,
        BPF_FIB_LKUP_RET_NOT_FWDED => return Route::Resolved(NextHop::LOCAL),
        _ => return Route::Unreachable,
    }
    // Kernels before 6.7 report neighbours that are not resolved yet as all zero.
    if answer.mac == [0; 3] {
        return unresolved;
    }
    // SAFETY: values are only ever inserted and removed, never changed.
    let Some(&egress) = (unsafe { EGRESS_IDS.get(answer.ifindex) }) else {
        return unresolved;
    };
    let mtu = if answer.mtu == 0 {
        u16::MAX
    } else {
        answer.mtu
    };
    Route::Resolved(NextHop::remote(egress as u16, answer.mac, mtu))
}

/// The helper's question in a frame of its own: its 64 bytes would not fit beside the pipeline's.
#[inline(never)]
extern "C" fn ask(ctx: *mut c_void, destination: u32, answer: &mut MaybeUninit<Answer>) {
    let mut question = Question(MaybeUninit::uninit());
    let params = question.clear();
    params.family = AF_INET;
    params.__bindgen_anon_4.ipv4_dst = destination;
    put(ctx, params, 20, answer);
}

/// [`ask`] for IPv6.
#[inline(never)]
extern "C" fn ask_wide(
    ctx: *mut c_void,
    destination: *const Address,
    answer: &mut MaybeUninit<Answer>,
) {
    let mut question = Question(MaybeUninit::uninit());
    let params = question.clear();
    params.family = AF_INET6;
    for i in 0..4 {
        // SAFETY: the pointer is into a map; both are four words.
        unsafe {
            params.__bindgen_anon_4.ipv6_dst[i] = (&raw const (*destination).0[i]).read_volatile();
        }
    }
    put(ctx, params, 40, answer);
    if let Some(wanted) = WANTED.get_ptr_mut(cpu()) {
        for i in 0..4 {
            // SAFETY: the record is this CPU's; the helper wrote a gateway or left the destination.
            unsafe {
                let word = params.__bindgen_anon_4.ipv6_dst[i];
                (&raw mut (*wanted).next.0[i]).write_volatile(word);
            }
        }
    }
}

/// Asks. A packet's length, here the least there is, makes the helper tell the route's MTU.
#[inline(always)]
fn put(ctx: *mut c_void, params: &mut bpf_fib_lookup, len: u16, answer: &mut MaybeUninit<Answer>) {
    params.ifindex = LOOPBACK;
    params.__bindgen_anon_1.tot_len = len;
    // SAFETY: the struct is whole and its size is given.
    let code =
        unsafe { fib_lookup(ctx, &raw mut *params, size_of::<bpf_fib_lookup>() as i32, 0) } as i32;
    let mac = params.dmac;
    // SAFETY: the helper wrote the unions or left them as they were.
    let (gateway, mtu) = unsafe {
        (
            params.__bindgen_anon_4.ipv4_dst,
            params.__bindgen_anon_1.mtu_result,
        )
    };
    answer.write(Answer {
        code,
        ifindex: params.ifindex,
        gateway,
        mac: [
            u16::from_ne_bytes([mac[0], mac[1]]),
            u16::from_ne_bytes([mac[2], mac[3]]),
            u16::from_ne_bytes([mac[4], mac[5]]),
        ],
        mtu,
    });
}
