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

use crate::maps::{EGRESS_IDS, WANTED};
use crate::tables::cpu;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// What the subprogram below found.
#[repr(C)]
struct Answer {
    ifindex: u32,
    gateway: u32,
    mac: [u16; 3],
    mtu: u16,
}

/// Looks the way to `destination` up in the kernel's tables.
#[inline(always)]
pub fn lookup(ctx: *mut c_void, destination: Be32) -> Route {
    let mut answer = Answer {
        ifindex: 0,
        gateway: 0,
        mac: [0; 3],
        mtu: 0,
    };
    let code = ask(ctx, destination.raw(), &mut answer);
    let unresolved = Route::Unresolved(answer.ifindex, Be32::from_raw(answer.gateway));
    route(code as u32, &answer, unresolved)
}

/// Looks the way to the IPv6 address at `destination` up, which lies in a map. The address of a neighbour
/// that is not resolved goes into [`Wanted::next`].
#[inline(always)]
pub fn lookup_wide(ctx: *mut c_void, destination: *const Address) -> Route {
    let mut answer = Answer {
        ifindex: 0,
        gateway: 0,
        mac: [0; 3],
        mtu: 0,
    };
    let Some(wanted) = WANTED.get_ptr_mut(cpu()) else {
        return Route::Unreachable;
    };
    let code = ask_wide(ctx, destination, wanted, &mut answer);
    route(code as u32, &answer, Route::UnresolvedWide(answer.ifindex))
}

#[inline(always)]
fn route(code: u32, answer: &Answer, unresolved: Route) -> Route {
    match code {
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
extern "C" fn ask(ctx: *mut c_void, destination: u32, answer: &mut Answer) -> i32 {
    let mut params = MaybeUninit::<bpf_fib_lookup>::uninit();
    // Word by word: clearing it in one go would be a call, with a stack frame.
    for i in 0..size_of::<bpf_fib_lookup>() / 8 {
        // SAFETY: within the struct.
        unsafe { params.as_mut_ptr().cast::<u64>().add(i).write_volatile(0) };
    }
    // SAFETY: all bits zero is a valid value of this plain struct.
    let params = unsafe { params.assume_init_mut() };
    params.family = AF_INET;
    params.ifindex = LOOPBACK;
    // A length makes the helper tell the route's MTU.
    params.__bindgen_anon_1.tot_len = 20;
    params.__bindgen_anon_4.ipv4_dst = destination;
    // SAFETY: the struct is whole and its size is given.
    let code =
        unsafe { fib_lookup(ctx, &raw mut *params, size_of::<bpf_fib_lookup>() as i32, 0) } as i32;
    answer.ifindex = params.ifindex;
    // SAFETY: the helper wrote the unions or left them as they were.
    unsafe {
        answer.gateway = params.__bindgen_anon_4.ipv4_dst;
        answer.mtu = params.__bindgen_anon_1.mtu_result;
    }
    let mac = params.dmac;
    answer.mac = [
        u16::from_ne_bytes([mac[0], mac[1]]),
        u16::from_ne_bytes([mac[2], mac[3]]),
        u16::from_ne_bytes([mac[4], mac[5]]),
    ];
    code
}

/// As [`ask`], about an IPv6 address.
#[inline(never)]
extern "C" fn ask_wide(
    ctx: *mut c_void,
    destination: *const Address,
    wanted: *mut Wanted,
    answer: &mut Answer,
) -> i32 {
    let mut params = MaybeUninit::<bpf_fib_lookup>::uninit();
    // Word by word: clearing it in one go would be a call, with a stack frame.
    for i in 0..size_of::<bpf_fib_lookup>() / 8 {
        // SAFETY: within the struct.
        unsafe { params.as_mut_ptr().cast::<u64>().add(i).write_volatile(0) };
    }
    // SAFETY: all bits zero is a valid value of this plain struct.
    let params = unsafe { params.assume_init_mut() };
    params.family = AF_INET6;
    params.ifindex = LOOPBACK;
    // A length makes the helper tell the route's MTU.
    params.__bindgen_anon_1.tot_len = 40;
    // SAFETY: both addresses lie in maps; the struct is whole and its size is given.
    let code = unsafe {
        let to = (&raw mut params.__bindgen_anon_4).cast::<u32>();
        for i in 0..4 {
            to.add(i)
                .write_volatile((&raw const (*destination).0[i]).read_volatile());
        }
        let code = fib_lookup(ctx, &raw mut *params, size_of::<bpf_fib_lookup>() as i32, 0) as i32;
        for i in 0..4 {
            (&raw mut (*wanted).next.0[i]).write_volatile(to.add(i).read_volatile());
        }
        answer.mtu = params.__bindgen_anon_1.mtu_result;
        code
    };
    answer.ifindex = params.ifindex;
    let mac = params.dmac;
    answer.mac = [
        u16::from_ne_bytes([mac[0], mac[1]]),
        u16::from_ne_bytes([mac[2], mac[3]]),
        u16::from_ne_bytes([mac[4], mac[5]]),
    ];
    code
}
