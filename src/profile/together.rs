//! Several threads that measure the same thing at the same time: each finds memory as busy as a
//! pipeline's nodes make it.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How far the threads are.
#[derive(Debug)]
pub(super) struct Together {
    members: usize,
    ready: AtomicUsize,
    done: AtomicUsize,
}

/// One thread's place among them. Whoever gives up by dropping it keeps nobody waiting.
#[derive(Debug)]
pub(super) struct Member<'a> {
    all: &'a Together,
    is_ready: bool,
    is_done: bool,
}

impl Together {
    pub(super) fn new(members: usize) -> Self {
        Self {
            members,
            ready: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
        }
    }

    pub(super) fn member(&self) -> Member<'_> {
        Member {
            all: self,
            is_ready: false,
            is_done: false,
        }
    }
}

impl Member<'_> {
    /// Waits until all are ready.
    pub(super) fn ready(&mut self) {
        self.say_ready();
        while self.all.ready.load(Ordering::Acquire) < self.all.members {
            std::thread::yield_now();
        }
    }

    /// Has measured enough: goes on with `busy` as long as others have not.
    pub(super) fn done<E>(&mut self, mut busy: impl FnMut() -> Result<(), E>) -> Result<(), E> {
        self.say_done();
        while self.all.done.load(Ordering::Acquire) < self.all.members {
            busy()?;
        }
        Ok(())
    }

    fn say_ready(&mut self) {
        if !std::mem::replace(&mut self.is_ready, true) {
            self.all.ready.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn say_done(&mut self) {
        if !std::mem::replace(&mut self.is_done, true) {
            self.all.done.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        self.say_ready();
        self.say_done();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_one_that_gave_up() {
        let all = Together::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| drop(all.member()));
            let mut member = all.member();
            member.ready();
            member.done(|| Ok::<(), ()>(())).unwrap();
        });
    }
}
