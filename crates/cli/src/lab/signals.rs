//! Ctrl-C during a lesson: remembered, so that everything is cleaned up on the way out.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn remember(_signal: i32) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From now on SIGINT, SIGTERM and SIGHUP are only remembered.
pub fn watch() {
    let action = SigAction::new(
        SigHandler::Handler(remember),
        SaFlags::empty(),
        SigSet::empty(),
    );
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler stores to an atomic and does nothing else.
        let set = unsafe { sigaction(signal, &action) };
        set.expect("these signals can be handled");
    }
}

/// True once one of them came.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
