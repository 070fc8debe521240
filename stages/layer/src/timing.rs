//! How long the kernels of a layer take: measured only while somebody asks.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::time::{Duration, Instant};

/// Time spent in one kernel of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelTime {
    /// The kernel's name, as the layer gave it to [`Ctx::timed`](crate::Ctx::timed).
    pub kernel: Cow<'static, str>,
    /// How often it ran.
    pub calls: u64,
    /// How long it took altogether.
    pub total: Duration,
    /// Floating-point operations of all calls, as far as the layer says.
    pub flops: u64,
    /// Bytes that all calls read and wrote at least, as far as the layer says.
    pub bytes: u64,
}

/// What one call of a kernel does. A name alone says nothing of how much it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelWork {
    kernel: &'static str,
    flops: u64,
    bytes: u64,
}

impl KernelWork {
    /// A call that does this many floating-point operations, and reads and writes each of its
    /// numbers, so many bytes altogether, at least once.
    pub fn new(kernel: &'static str, flops: u64, bytes: u64) -> Self {
        Self {
            kernel,
            flops,
            bytes,
        }
    }
}

impl From<&'static str> for KernelWork {
    fn from(kernel: &'static str) -> Self {
        Self::new(kernel, 0, 0)
    }
}

/// Times by kernel. Off until [`KernelTimes::start`]; off, it costs one comparison a call.
#[derive(Debug, Default)]
pub struct KernelTimes {
    on: bool,
    times: Vec<KernelTime>,
}

impl KernelTimes {
    /// Measures from here on.
    pub fn start(&mut self) {
        self.on = true;
    }

    /// Stops measuring and gives what was measured, in the order of first use.
    pub fn take(&mut self) -> Vec<KernelTime> {
        self.on = false;
        std::mem::take(&mut self.times)
    }

    pub(crate) fn is_on(&self) -> bool {
        self.on
    }

    pub(crate) fn add(&mut self, work: KernelWork, since: Instant) {
        let total = since.elapsed();
        let KernelWork {
            kernel,
            flops,
            bytes,
        } = work;
        match self.times.iter_mut().find(|time| time.kernel == kernel) {
            Some(time) => {
                time.calls += 1;
                time.total += total;
                time.flops += flops;
                time.bytes += bytes;
            }
            None => self.times.push(KernelTime {
                kernel: kernel.into(),
                calls: 1,
                total,
                flops,
                bytes,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Ctx, LayerState, Pool};

    #[test]
    fn kernels_are_timed_by_name_while_asked_for() {
        let (pool, mut state) = (Pool::default(), LayerState::default());
        assert_eq!(Ctx::new(&pool, &mut state).timed("add", |_| 1), 1);
        assert_eq!(state.kernels.take(), []);
        state.kernels.start();
        let mut cx = Ctx::new(&pool, &mut state);
        cx.timed("add", |cx| cx.threads);
        cx.part(1).timed("product", |_| ());
        cx.part(2).timed("add", |_| ());
        let times = state.kernels.take();
        let names: Vec<_> = (times.iter())
            .map(|time| (&*time.kernel, time.calls))
            .collect();
        assert_eq!(names, [("add", 2), ("product", 1)]);
        assert_eq!(state.kernels.take(), [], "taken, and off again");
    }
}
