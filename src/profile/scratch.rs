//! What the rest of a node's share leaves of the caches.

use brigade_layer::{Pool, TensorMut};

/// More would not change what is in the caches.
const MOST_BYTES: u64 = 64 << 20;
/// Of `f32`, as many as a line of a cache holds.
const LINE: usize = 16;

/// A buffer that is gone through before a call is timed: as the node's other layers go through
/// their weights and states between two calls of this one.
pub(super) struct Scratch(Option<TensorMut>);

impl Scratch {
    /// As many bytes as these, as far as they make sense.
    pub(super) fn new(pool: &Pool, bytes: u64) -> Self {
        let elements = (bytes.min(MOST_BYTES) / 4) as usize;
        Self(match elements < LINE {
            true => None,
            false => pool.zeros([elements]).ok(),
        })
    }

    /// Reads and writes a number of every line.
    pub(super) fn sweep(&mut self) {
        let Some(buffer) = &mut self.0 else { return };
        for number in buffer.data().iter_mut().step_by(LINE) {
            *number = 1.0 - *number;
        }
        std::hint::black_box(buffer.data());
    }
}
