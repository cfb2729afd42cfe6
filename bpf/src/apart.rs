//! What XDP and TC share beyond the tables: reaching bytes, and the functions that run in stack frames
//! of their own because they are off the way of established packets. Those take the context as a bare
//! pointer; a reference to it would be taken apart by the optimiser in ways the verifier refuses.

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
