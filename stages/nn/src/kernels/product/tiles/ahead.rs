//! Fetching into the caches what will be needed soon.
#![allow(unsafe_code)]

use super::pack::Lines;
use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

/// Numbers of f32 in a line of the cache.
const CACHE_LINE: usize = 16;

/// Fetches a line into the second cache: a hint, whatever the address.
#[inline(always)]
pub(super) fn fetch(number: *const f32) {
    // SAFETY: fetching neither reads nor faults.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(number.cast()) }
}

/// Stretches of memory, fetched a little with every pull.
pub(super) struct Ahead {
    at: *const f32,
    /// Where this stretch ends; from there to the next one, and from one's end to the next one's.
    end: *const f32,
    skip: isize,
    step: isize,
    /// Lines of the cache that are fetched with every pull, and pulls that are left.
    each: usize,
    pulls: usize,
}

impl Ahead {
    pub(super) fn nothing() -> Self {
        Self::new(std::ptr::null(), 0, 0, 0, 0)
    }

    /// `count` stretches of so many numbers, `step` apart.
    fn new(first: *const f32, numbers: usize, step: isize, count: usize, pulls: usize) -> Self {
        let numbers = numbers.next_multiple_of(CACHE_LINE);
        let lines = numbers / CACHE_LINE * count;
        let each = lines.div_ceil(pulls.max(1));
        Self {
            at: first,
            end: first.wrapping_add(numbers),
            skip: step - numbers as isize,
            step,
            each,
            pulls: lines.checked_div(each).unwrap_or(0),
        }
    }

    /// Lines with this many numbers, within so many pulls.
    pub(super) fn of(lines: Lines, inner: usize, pulls: usize) -> Self {
        match lines.step {
            _ if lines.count == 0 => Self::nothing(),
            1 => Self::new(lines.first, inner, lines.line, lines.count, pulls),
            step => Self::new(lines.first, lines.count, step, inner, pulls),
        }
    }

    /// Blocks of so many packed numbers.
    pub(super) fn of_packed(
        first: *const u16,
        step: usize,
        [blocks, numbers]: [usize; 2],
        pulls: usize,
    ) -> Self {
        Self::new(first.cast(), numbers / 2, step as isize / 2, blocks, pulls)
    }

    #[inline(always)]
    pub(super) fn pull(&mut self) {
        if self.pulls == 0 {
            return;
        }
        self.pulls -= 1;
        for _ in 0..self.each {
            fetch(self.at);
            self.at = self.at.wrapping_add(CACHE_LINE);
            if self.at == self.end {
                self.at = self.at.wrapping_offset(self.skip);
                self.end = self.end.wrapping_offset(self.step);
            }
        }
    }
}
