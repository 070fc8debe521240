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

    pub(crate) fn add(&mut self, kernel: &'static str, since: Instant) {
        let taken = since.elapsed();
        match self.times.iter_mut().find(|time| time.kernel == kernel) {
            Some(time) => {
                time.calls += 1;
                time.total += taken;
            }
            None => self.times.push(KernelTime {
                kernel: kernel.into(),
                calls: 1,
                total: taken,
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
