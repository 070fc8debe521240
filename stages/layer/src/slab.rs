//! Large stretches of memory from the system, from which buffers are cut.
//!
//! They are asked for in huge pages: arithmetic walks through megabytes of buffers, and a processor
//! knows the addresses of only a few thousand pages. Where the system has none to give, pages are
//! small as everywhere else.
#![allow(unsafe_code)]

use memmap2::MmapMut;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Buffers of fewer bytes come from the allocator.
pub(crate) const LEAST: usize = 64 << 10;
/// A slab has at least and, unless a buffer is larger, at most so many bytes: each twice those of
/// the one before.
const SIZES: [usize; 2] = [4 << 20, 64 << 20];
/// Where a buffer begins: at a cache line.
const ALIGN: usize = 64;

/// A stretch of memory.
#[derive(Debug)]
struct Slab {
    map: MmapMut,
    /// What nobody has, by where it begins: how many bytes.
    free: Mutex<BTreeMap<usize, usize>>,
}

impl Slab {
    fn new(bytes: usize) -> Option<Self> {
        let map = MmapMut::map_anon(bytes).ok()?;
        // A wish; whatever comes of it.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        let free = Mutex::new(BTreeMap::from([(0, bytes)]));
        Some(Self { map, free })
    }

    fn free(&self) -> MutexGuard<'_, BTreeMap<usize, usize>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts off the first stretch that is large enough.
    fn cut(&self, bytes: usize) -> Option<usize> {
        let mut free = self.free();
        let (&at, &length) = free.iter().find(|(_, length)| **length >= bytes)?;
        free.remove(&at);
        if length > bytes {
            free.insert(at + bytes, length - bytes);
        }
        Some(at)
    }

    /// Takes a stretch back, joined with free ones beside it.
    fn give_back(&self, mut at: usize, mut bytes: usize) {
        let mut free = self.free();
        if let Some(after) = free.remove(&(at + bytes)) {
            bytes += after;
        }
        if let Some((&before, &length)) = free.range(..at).next_back()
            && before + length == at
        {
            at = before;
            bytes += length;
        }
        free.insert(at, bytes);
    }
}

/// All slabs of a pool.
#[derive(Debug, Default)]
pub(crate) struct Slabs(Vec<Arc<Slab>>);

impl Slabs {
    /// Memory for so many bytes, which are 0 or what was left there; none when the system has none.
    pub(crate) fn take(&mut self, bytes: usize) -> Option<Part> {
        let length = bytes.checked_next_multiple_of(ALIGN)?;
        let found = self
            .0
            .iter()
            .find_map(|slab| Some((slab.clone(), slab.cut(length)?)));
        let (slab, at) = match found {
            Some(found) => found,
            None => {
                let last = self.0.last().map_or(0, |slab| slab.map.len());
                let size = (2 * last).clamp(SIZES[0], SIZES[1]);
                let slab = Arc::new(Slab::new(size.max(length))?);
                let at = slab.cut(length)?;
                self.0.push(slab.clone());
                (slab, at)
            }
        };
        Some(Part {
            slab,
            at,
            length,
            bytes,
        })
    }

    /// Gives slabs of which nobody has a part back to the system.
    pub(crate) fn trim(&mut self) {
        self.0.retain(|slab| Arc::strong_count(slab) > 1);
    }
}

/// A part of a slab, and nobody else's.
#[derive(Debug)]
pub(crate) struct Part {
    slab: Arc<Slab>,
    at: usize,
    length: usize,
    bytes: usize,
}

/// What may be read from any bytes.
pub(crate) trait Plain: Copy {}
impl Plain for f32 {}
impl Plain for i32 {}

impl Part {
    fn first<T: Plain>(&self) -> *mut T {
        const { assert!(ALIGN.is_multiple_of(align_of::<T>())) }
        self.slab
            .map
            .as_ptr()
            .wrapping_add(self.at)
            .cast_mut()
            .cast()
    }

    pub(crate) fn numbers<T: Plain>(&self) -> &[T] {
        // SAFETY: the map is page-aligned, lives as long as the slab, and has these bytes, which
        // were initialised with 0; they belong to this part alone, which is borrowed.
        unsafe { std::slice::from_raw_parts(self.first(), self.bytes / size_of::<T>()) }
    }

    pub(crate) fn numbers_mut<T: Plain>(&mut self) -> &mut [T] {
        // SAFETY: as in `numbers`, borrowed mutably. The map is writable and is never borrowed
        // itself: only its address is used.
        unsafe { std::slice::from_raw_parts_mut(self.first(), self.bytes / size_of::<T>()) }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.slab.give_back(self.at, self.length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_their_own_and_come_back() {
        let mut slabs = Slabs::default();
        let mut parts: Vec<_> = (1..40).map(|n| slabs.take(n * 10_000).unwrap()).collect();
        for (number, part) in parts.iter_mut().enumerate() {
            assert!(part.numbers::<i32>().iter().all(|n| *n == 0));
            part.numbers_mut::<i32>().fill(number as i32 + 1);
        }
        for (number, part) in parts.iter().enumerate() {
            assert_eq!(part.numbers::<f32>().as_ptr() as usize % ALIGN, 0);
            assert!(
                part.numbers::<i32>()
                    .iter()
                    .all(|n| *n == number as i32 + 1)
            );
        }
        // Every second one first, so that there are holes to be joined.
        let mut number = 0;
        parts.retain(|_| {
            number += 1;
            number % 2 == 0
        });
        drop(parts);
        for slab in &slabs.0 {
            assert_eq!(*slab.free(), BTreeMap::from([(0, slab.map.len())]));
        }
        slabs.trim();
        assert!(slabs.0.is_empty());
    }

    #[test]
    fn what_is_larger_than_a_slab_has_one_of_its_own() {
        let mut slabs = Slabs::default();
        let part = slabs.take(SIZES[1] + 1).unwrap();
        assert_eq!(part.numbers::<i32>().len(), SIZES[1] / 4);
        assert!(slabs.take(1 << 60).is_none());
    }
}
