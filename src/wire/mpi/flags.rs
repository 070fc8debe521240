//! What the courier and everyone else in the process see: how far it is, and how the process ends.

use super::raw;
use crate::error::Cause;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// How long a process that has said goodbye, or has ended the job, waits for MPI to let it go.
const LETTING_GO: Duration = Duration::from_secs(30);

/// Of the courier, from before it starts.
static FLAGS: OnceLock<Arc<Flags>> = OnceLock::new();

/// How far the courier is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// MPI starts.
    Starting,
    /// Messages are carried.
    Carrying,
    /// All have said goodbye, and MPI ends.
    Ending,
    /// The job is ended for a failure.
    Aborting,
    /// It does nothing any more.
    Done,
}

/// What the courier and everyone else in the process see.
pub(super) struct Flags {
    /// The process wants to end.
    pub(super) exit: AtomicBool,
    /// How many nodes wait for a message from another process.
    pub(super) waiting: AtomicU32,
    phase: Mutex<(Phase, Instant)>,
    courier: OnceLock<ThreadId>,
    broken: Mutex<Option<Cause>>,
}

impl Flags {
    fn new() -> Self {
        Self {
            exit: AtomicBool::new(false),
            waiting: AtomicU32::new(0),
            phase: Mutex::new((Phase::Starting, Instant::now())),
            courier: OnceLock::new(),
            broken: Mutex::new(None),
        }
    }

    /// Those of this process, which ends only when they say so.
    pub(super) fn of_process() -> Arc<Self> {
        let flags = FLAGS.get_or_init(|| Arc::new(Self::new())).clone();
        Self::at_exit();
        flags
    }

    /// Has the exit of the process wait for the courier.
    pub(super) fn at_exit() {
        raw::at_exit(leave);
    }

    pub(super) fn enter(&self, phase: Phase) {
        let _ = self.courier.set(std::thread::current().id());
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = (phase, Instant::now());
    }

    fn phase(&self) -> (Phase, Duration) {
        let phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        (phase.0, phase.1.elapsed())
    }

    pub(super) fn break_with(&self, cause: &Cause) {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.get_or_insert_with(|| cause.clone());
    }

    /// Why MPI does not work any more, if it does not.
    pub(super) fn broken(&self) -> Option<Cause> {
        let broken = self.broken.lock();
        broken.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the process may end.
    fn leave(&self) {
        // MPI that ends the process from the courier's own thread waits for nobody.
        if self.courier.get() == Some(&std::thread::current().id()) {
            return;
        }
        self.exit.store(true, Ordering::Release);
        loop {
            match self.phase() {
                (Phase::Done, _) => return,
                // Nobody can be told yet; the launcher hears of it by the exit code.
                (Phase::Starting, _) => raw::exit_now(),
                (Phase::Ending | Phase::Aborting, since) if since > LETTING_GO => raw::exit_now(),
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

/// Lets all processes of the job end together.
extern "C" fn leave() {
    if let Some(flags) = FLAGS.get() {
        flags.leave();
    }
}
