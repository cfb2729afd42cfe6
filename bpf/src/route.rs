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
use pointsman_core::layout::{NextHop, Wanted};

use crate::maps::WANTED;
use crate::tables::{cpu, egress_of};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

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
    let Some(wanted) = WANTED.get_ptr_mut(cpu()) else {
        return Route::Unreachable;
    };
    ask(ctx, destination.raw(), wanted);
    // SAFETY: the record is this CPU's.
    unsafe {
        let next = Be32::from_raw((*wanted).next.0[0]);
        judge(wanted, Route::Unresolved((*wanted).answer.ifindex, next))
    }
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
    let Some(wanted) = WANTED.get_ptr_mut(cpu()) else {
        return Route::Unreachable;
    };
    ask_wide(ctx, destination, wanted);
    // SAFETY: the record is this CPU's.
    unsafe { judge(wanted, Route::UnresolvedWide((*wanted).answer.ifindex)) }
}

/// What the answer in a record means.
///
/// # Safety
/// The record is this CPU's.
#[inline(always)]
unsafe fn judge(wanted: *const Wanted, unresolved: Route) -> Route {
    // SAFETY: passed on to the caller.
    let answer = unsafe { (*wanted).answer };
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
    let Some((egress, _)) = egress_of(answer.ifindex) else {
        return unresolved;
    };
    let mtu = if answer.mtu == 0 {
        u16::MAX
    } else {
        answer.mtu
    };
    Route::Resolved(NextHop::remote(egress as u16, answer.mac, mtu))
}

/// The helper's question in a frame of its own: its 64 bytes would not fit beside the pipeline's, nor do
/// more. The answer goes into this CPU's record.
#[inline(never)]
extern "C" fn ask(ctx: *mut c_void, destination: u32, wanted: *mut Wanted) {
    let mut question = Question(MaybeUninit::uninit());
    let params = question.clear();
    params.family = AF_INET;
    params.__bindgen_anon_4.ipv4_dst = destination;
    put(ctx, params, 20, wanted);
}

/// [`ask`] for IPv6.
#[inline(never)]
extern "C" fn ask_wide(ctx: *mut c_void, destination: *const Address, wanted: *mut Wanted) {
    let mut question = Question(MaybeUninit::uninit());
    let params = question.clear();
    params.family = AF_INET6;
    for i in 0..4 {
        // SAFETY: the pointer is into a map; both are four words.
        unsafe {
            params.__bindgen_anon_4.ipv6_dst[i] = (&raw const (*destination).0[i]).read_volatile();
        }
    }
    put(ctx, params, 40, wanted);
}

/// Asks. A packet's length, here the least there is, makes the helper tell the route's MTU.
#[inline(always)]
fn put(ctx: *mut c_void, params: &mut bpf_fib_lookup, len: u16, wanted: *mut Wanted) {
    params.ifindex = LOOPBACK;
    params.__bindgen_anon_1.tot_len = len;
    // SAFETY: the struct is whole and its size is given; the record is this CPU's; the helper wrote the
    // unions (a gateway's address over the destination's) or left them as they were.
    unsafe {
        let size = size_of::<bpf_fib_lookup>() as i32;
        let code = fib_lookup(ctx, &raw mut *params, size, 0) as i32;
        let answer = &raw mut (*wanted).answer;
        (&raw mut (*answer).code).write_volatile(code);
        (&raw mut (*answer).ifindex).write_volatile(params.ifindex);
        (&raw mut (*answer).mtu).write_volatile(params.__bindgen_anon_1.mtu_result);
        for i in 0..3 {
            let (low, high) = (params.dmac[2 * i], params.dmac[2 * i + 1]);
            (&raw mut (*answer).mac[i]).write_volatile(u16::from_ne_bytes([low, high]));
        }
        for i in 0..4 {
            let word = params.__bindgen_anon_4.ipv6_dst[i];
            (&raw mut (*wanted).next.0[i]).write_volatile(word);
        }
    }
}
