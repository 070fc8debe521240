//! Fetching into the caches what will be needed soon.
#![allow(unsafe_code)]

use super::BLOCK;
use super::pack::Lines;
use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

/// Numbers of f32 in a line of the cache.
const CACHE_LINE: usize = 16;

/// Stretches of memory, fetched a little with every pull.
pub(in crate::kernels) struct Ahead {
    stretch: *const f32,
    /// Cache lines of a stretch, and those of them that are fetched.
    length: usize,
    done: usize,
    /// From one stretch to the next, in numbers, and how many are left.
    step: isize,
    left: usize,
    each: usize,
}

impl Ahead {
    pub(in crate::kernels) fn nothing() -> Self {
        Self {
            stretch: std::ptr::null(),
            length: 0,
            done: 0,
            step: 0,
            left: 0,
            each: 0,
        }
    }

    fn new(first: *const f32, numbers: usize, step: isize, count: usize, pulls: usize) -> Self {
        let length = numbers.div_ceil(CACHE_LINE);
        let each = (length * count).div_ceil(pulls.max(1));
        Self {
            stretch: first,
            length,
            done: 0,
            step,
            left: if length == 0 { 0 } else { count },
            each,
        }
    }

    /// Lines with this many numbers, within so many pulls.
    pub(in crate::kernels) fn of(lines: Lines, inner: usize, pulls: usize) -> Self {
        match lines.step {
            1 => Self::new(lines.first, inner, lines.line, lines.count, pulls),
            _ if lines.count == 0 => Self::nothing(),
            step => Self::new(lines.first, lines.count, step, inner, pulls),
        }
    }

    /// Packed numbers.
    pub(super) fn of_packed(first: *const u16, numbers: usize, pulls: usize) -> Self {
        Self::new(first.cast(), numbers / 2, 0, 1, pulls)
    }

    /// A block of the destination.
    pub(super) fn of_block(c: *const f32, stride: isize, rows: usize, pulls: usize) -> Self {
        Self::new(c, BLOCK, stride, rows, pulls)
    }

    #[inline(always)]
    pub(super) fn pull(&mut self) {
        for _ in 0..self.each {
            if self.left == 0 {
                return;
            }
            // SAFETY: fetching is a hint, whatever the address.
            unsafe {
                let at = self.stretch.wrapping_add(self.done * CACHE_LINE);
                _mm_prefetch::<_MM_HINT_T1>(at.cast());
            }
            self.done += 1;
            if self.done == self.length {
                self.done = 0;
                self.left -= 1;
                self.stretch = self.stretch.wrapping_offset(self.step);
            }
        }
    }
}
