//! What XDP and TC share beyond the tables: reaching bytes, and the functions that run in stack frames
//! of their own because they are off the way of established packets. Those take the context as a bare
//! pointer; a reference to it would be taken apart by the optimiser in ways the verifier refuses.

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
            let message = pointsman_core::wire::icmp4::Message::from_word(message);
            pointsman_core::icmp::answer(&mut $packet(&ctx), l3, message)
                .is_some()
                .into()
        }
    };
}
pub(crate) use apart;
