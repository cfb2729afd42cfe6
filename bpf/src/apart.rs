//! What XDP and TC share beyond the tables: reaching bytes, and the functions that run in stack frames
//! of their own because they are off the way of established packets. Those take the context as a bare
//! pointer; a reference to it would be taken apart by the optimiser in ways the verifier refuses.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::{bpf_csum_diff, bpf_tail_call};
use aya_ebpf::maps::ProgramArray;
use pointsman_core::director::call;
use pointsman_core::forward::tunnel::{self, Seal};
use pointsman_core::host::{Packet, Tables};
use pointsman_core::mask::masked;
use pointsman_core::wire::ethernet;

/// The packet pointer in the context's field at `FIELD`.
///
/// The field is 32 bits wide and reads as 64: a compiler that knew the first would copy pointers in
/// halves, which the verifier refuses.
#[inline(always)]
pub fn packet_pointer<C, const FIELD: usize>(ctx: *const C) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let value: usize;
        // SAFETY: the field is one of the context's.
        unsafe {
            core::arch::asm!(
                "{0} = *(u32 *)({1} + {2})",
                out(reg) value,
                in(reg) ctx,
                const FIELD,
                options(pure, readonly, nostack),
            );
        }
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: the field is one of the context's.
    unsafe {
        ctx.byte_add(FIELD).cast::<u32>().read() as usize
    }
}

/// A pointer to the `T` at `at` between two ends of packet memory.
#[inline(always)]
pub fn pointer<T>(start: usize, end: usize, at: usize) -> Option<*mut T> {
    if start + at + size_of::<T>() > end {
        return None;
    }
    Some((start + at) as *mut T)
}

/// Goes on in one of the director's programs; returns only where there is none.
///
/// The kernel makes a call whose number is a constant a plain jump. With another it jumps indirectly, which where
/// speculation is to be kept in check takes as long as a look-up.
///
/// # Safety
/// Called from a program's entry function with its context and programs of its kind.
#[inline(always)]
pub unsafe fn tail_call(ctx: *mut c_void, programs: &ProgramArray, program: u32) {
    // SAFETY: passed on to the caller.
    unsafe {
        match program {
            call::DIRECTOR => tail_call_constant::<{ call::DIRECTOR }>(ctx, programs),
            call::OPEN => tail_call_constant::<{ call::OPEN }>(ctx, programs),
            call::NARROW => tail_call_constant::<{ call::NARROW }>(ctx, programs),
            call::WIDE => tail_call_constant::<{ call::WIDE }>(ctx, programs),
            _ => {
                bpf_tail_call(ctx, (&raw const *programs).cast_mut().cast(), program);
            }
        }
    }
}

/// By an instruction of its own, or the compiler would make one call of all.
///
/// # Safety
/// As [`tail_call`].
#[inline(always)]
unsafe fn tail_call_constant<const PROGRAM: u32>(ctx: *mut c_void, programs: &ProgramArray) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: passed on to the caller; helpers leave r6 to r9 as they are.
    unsafe {
        core::arch::asm!(
            "r3 = {program}",
            "call 12",
            program = const PROGRAM,
            inlateout("r1") ctx => _,
            inlateout("r2") programs => _,
            lateout("r0") _,
            lateout("r3") _,
            lateout("r4") _,
            lateout("r5") _,
        );
    }
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: passed on to the caller.
    unsafe {
        bpf_tail_call(ctx, (&raw const *programs).cast_mut().cast(), PROGRAM);
    }
}

/// Bytes that [`sum`] looks at in one go.
const CHUNK: u32 = 32;
/// No packet has more bytes.
const LONGEST: u32 = 1 << 16;

/// [`pointsman_core::host::Packet::sum`], of bytes that `load` copies from wherever they lie (offset,
/// where to, how many; 0 for success). [`NO_SUM`] if it cannot.
#[inline(always)]
pub fn sum(at: u32, len: u32, load: impl Fn(u32, *mut c_void, u32) -> i64) -> u64 {
    let mut buffer = MaybeUninit::<[u64; CHUNK as usize / 8]>::uninit();
    let bytes = buffer.as_mut_ptr();
    let (mut at, mut left, mut sum) = (at, len, 0);
    if left == 0 || left > LONGEST {
        return if left == 0 { 0 } else { NO_SUM };
    }
    // No counter besides: it would be a word more of the stack, of which TC programs have none left here.
    while left > CHUNK {
        if load(at, bytes.cast(), CHUNK) != 0 {
            return NO_SUM;
        }
        sum = add(bytes.cast(), sum);
        at += CHUNK;
        left -= CHUNK;
    }
    // What was not copied counts as zero. One by one: clearing all in one go would be a call.
    for i in 0..CHUNK as usize / 8 {
        // SAFETY: within the buffer.
        unsafe { bytes.cast::<u64>().add(i).write_volatile(0) };
    }
    let left = masked::<{ CHUNK - 1 }>(left as usize - 1) as u32 + 1;
    if load(at, bytes.cast(), left) != 0 {
        return NO_SUM;
    }
    add(bytes.cast(), sum).into()
}

/// Adds a chunk to a sum.
#[inline(always)]
fn add(bytes: *mut u32, sum: u32) -> u32 {
    // SAFETY: the chunk is as long as is said.
    unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, bytes, CHUNK, sum) as u32 }
}

/// No sum.
pub const NO_SUM: u64 = u64::MAX;

/// An offset of a network header, of which the verifier knows nothing: no link-layer header has more than
/// two tags.
#[inline(always)]
fn network_offset(l3: u32) -> Option<usize> {
    let l3 = masked::<31>(l3 as usize);
    (l3 >= ethernet::LEN).then_some(l3)
}

/// [`tunnel::payload`], or [`NO_SUM`].
#[inline(always)]
pub fn payload<P: Packet>(packet: &P, l3: u32) -> u64 {
    let sum = network_offset(l3).and_then(|l3| tunnel::payload(packet, l3));
    sum.map_or(NO_SUM, u64::from)
}

/// [`tunnel::seal`], or [`Seal::NONE`].
#[inline(always)]
pub fn seal<T: Tables, P: Packet>(tables: &T, packet: &P, l3: u32, server: u32, sum: u32) -> u64 {
    let seal = network_offset(l3).and_then(|l3| tunnel::seal(tables, packet, l3, server, sum));
    seal.map_or(Seal::NONE, Seal::to_word)
}

/// [`tunnel::wrap`]; 0 if it did.
#[inline(always)]
pub fn wrap<T: Tables, P: Packet>(
    tables: &T,
    packet: &mut P,
    l3: u32,
    server: u32,
    seal: u64,
) -> u32 {
    let seal = Seal::from_word(seal);
    let wrapped = network_offset(l3).and_then(|l3| tunnel::wrap(tables, packet, l3, server, seal));
    wrapped.is_none().into()
}

/// Makes `refresh` and `answer` for a hook's context and packet.
macro_rules! apart {
    ($context:ident, $packet:ident) => {
        /// [`pointsman_core::next_hop::refresh`].
        #[inline(never)]
        extern "C" fn refresh(
            ctx: *mut core::ffi::c_void,
            index: u32,
            tag: u64,
            epoch: u32,
            found: &mut core::mem::MaybeUninit<pointsman_core::next_hop::Refreshed>,
        ) {
            let ctx = $context::new(ctx.cast());
            let kernel = $crate::tables::Kernel(&ctx);
            found.write(pointsman_core::next_hop::refresh(
                &kernel, index, tag, epoch,
            ));
        }

        /// [`pointsman_core::icmp::answer`].
        #[inline(never)]
        extern "C" fn answer(ctx: *mut core::ffi::c_void, l3: usize, message: u32) -> u32 {
            let ctx = $context::new(ctx.cast());
            pull(&ctx, QUOTED);
            let message = pointsman_core::wire::icmp4::Message::from_word(message);
            pointsman_core::icmp::answer(&mut $packet(&ctx), l3, message)
                .is_some()
                .into()
        }

        /// [`pointsman_core::icmp::answer_wide`].
        #[inline(never)]
        extern "C" fn answer_wide(ctx: *mut core::ffi::c_void, l3: usize, message: u32) -> u32 {
            let ctx = $context::new(ctx.cast());
            pull(&ctx, QUOTED);
            let message = pointsman_core::wire::icmp4::Message::from_word(message);
            pointsman_core::icmp::answer_wide(&mut $packet(&ctx), l3, message)
                .is_some()
                .into()
        }

        /// [`pointsman_core::forward::nat::sctp_ports`].
        #[inline(never)]
        extern "C" fn sctp_ports(
            ctx: *mut core::ffi::c_void,
            l3: usize,
            l4: usize,
            total_len: u32,
            ports: u32,
        ) -> u32 {
            let ctx = $context::new(ctx.cast());
            let mut packet = $packet(&ctx);
            pointsman_core::forward::nat::sctp_ports(&mut packet, l3, l4, total_len as u16, ports)
                .is_some()
                .into()
        }
    };
}
pub(crate) use apart;

/// Makes the programs that both hooks have: the core's verdict, carried out by the hook's `act`.
macro_rules! programs {
    ($context:ident, $packet:ident, $action:ty) => {
        /// What packets meet first.
        #[inline(always)]
        pub fn plain(ctx: &$context) -> $action {
            let mut packet = $packet(ctx);
            let verdict = pointsman_core::plain::ingress(&Kernel(ctx), &mut packet);
            act(ctx, &mut packet, verdict)
        }

        /// Any packet of IPv4 or IPv6.
        #[inline(always)]
        pub fn director<M: pointsman_core::director::Mode>(ctx: &$context) -> $action {
            pull(ctx, HEADERS);
            let mut packet = $packet(ctx);
            let verdict = pointsman_core::director::ingress::<_, _, M>(&Kernel(ctx), &mut packet);
            act(ctx, &mut packet, verdict)
        }

        /// Packets that are rare.
        #[inline(always)]
        pub fn rare<M: pointsman_core::director::Mode>(ctx: &$context) -> $action {
            pull(ctx, RARE_HEADERS);
            let mut packet = $packet(ctx);
            let verdict = pointsman_core::rare::ingress::<_, _, M>(&Kernel(ctx), &mut packet);
            act(ctx, &mut packet, verdict)
        }

        /// What FTP control connections say.
        #[inline(always)]
        pub fn ftp<M: pointsman_core::director::Mode>(ctx: &$context) -> $action {
            let mut packet = $packet(ctx);
            let verdict = pointsman_core::ftp::ingress::<_, _, M>(&Kernel(ctx), &mut packet);
            act(ctx, &mut packet, verdict)
        }

        /// What of rare packets is a flow.
        #[inline(always)]
        pub fn rare_flow<M: pointsman_core::director::Mode>(ctx: &$context) -> $action {
            let mut packet = $packet(ctx);
            let verdict = pointsman_core::rare::flow::<_, _, M>(&Kernel(ctx), &mut packet);
            act(ctx, &mut packet, verdict)
        }

        /// By FULLNAT, where more changes than addresses and ports.
        #[inline(always)]
        pub fn full<M: pointsman_core::director::Mode>(ctx: &$context) -> $action {
            pull(ctx, RARE_HEADERS);
            let mut packet = $packet(ctx);
            let verdict = pointsman_core::director::full::<_, _, M>(&Kernel(ctx), &mut packet);
            act(ctx, &mut packet, verdict)
        }

        /// Packets whose connection is for them alone.
        #[inline(always)]
        pub fn one_packet<M: pointsman_core::director::Mode>(ctx: &$context) -> $action {
            let mut packet = $packet(ctx);
            let verdict =
                pointsman_core::director::one_packet::<_, _, M>(&Kernel(ctx), &mut packet);
            act(ctx, &mut packet, verdict)
        }

        /// Makes a connection, then starts over.
        #[inline(always)]
        pub fn open(ctx: &$context) -> $action {
            let mut packet = $packet(ctx);
            let verdict = pointsman_core::open::open(&Kernel(ctx), &packet);
            act(ctx, &mut packet, verdict)
        }

        /// Tells the sender that nobody takes its connection.
        #[inline(always)]
        pub fn unreachable(ctx: &$context) -> $action {
            let mut packet = $packet(ctx);
            let verdict = pointsman_core::director::unreachable(&Kernel(ctx), &mut packet);
            act(ctx, &mut packet, verdict)
        }
    };
}
pub(crate) use programs;
