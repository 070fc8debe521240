//! Ctrl-C and a polite request to end: the first is heeded after the step, the second at once. The
//! program itself may want to end too.

use super::failure::Failure;
use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether somebody wants the program to end.
pub(super) struct Interrupt {
    /// By a signal or by the program.
    asked: Arc<AtomicBool>,
    registered: Vec<SigId>,
}

impl Interrupt {
    /// Listens from here on, until this is dropped.
    pub(super) fn listen() -> Result<Self, Failure> {
        let [asked, signalled] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let mut registered = Vec::new();
        for signal in [SIGINT, SIGTERM] {
            // In this order: a signal that finds the flag up ends the program, the first raises it.
            let at_once = signal_hook::flag::register_conditional_shutdown(
                signal,
                128 + signal,
                signalled.clone(),
            );
            let the_first = signal_hook::flag::register(signal, signalled.clone());
            let after_the_step = signal_hook::flag::register(signal, asked.clone());
            for id in [at_once, the_first, after_the_step] {
                let fail = |error| Failure::Other(format!("cannot listen for Ctrl-C: {error}"));
                registered.push(id.map_err(fail)?);
            }
        }
        Ok(Self { asked, registered })
    }

    /// The flag that goes up when somebody does.
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        self.asked.clone()
    }

    /// The program wants to end.
    pub(super) fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    pub(super) fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}
