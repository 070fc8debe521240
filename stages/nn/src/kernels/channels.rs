//! Pixels in blocks, and their channels in vectors.

use crate::kernels::parallel::Split;
use std::ops::Range;

/// Pixels of a block: few enough to stay in the nearest caches from one pass over them to the next,
/// and to be summed in single precision.
pub(crate) const BLOCK_PIXELS: usize = 64;

/// Samples of so many pixels each, cut into blocks that do not reach into the next sample.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocks {
    pub(crate) samples: usize,
    /// Of one sample.
    pub(crate) pixels: usize,
    pub(crate) channels: usize,
}

impl Blocks {
    pub(crate) fn of_a_sample(&self) -> usize {
        self.pixels.div_ceil(BLOCK_PIXELS)
    }

    pub(crate) fn count(&self) -> usize {
        self.samples * self.of_a_sample()
    }

    /// Elements of all blocks.
    pub(crate) fn elements(&self) -> usize {
        self.samples * self.pixels * self.channels
    }

    /// Pixels of a block.
    pub(crate) fn pixels_of(&self, block: usize) -> usize {
        let before = block % self.of_a_sample() * BLOCK_PIXELS;
        (self.pixels - before).min(BLOCK_PIXELS)
    }

    /// Elements before a block.
    fn start(&self, block: usize) -> usize {
        let (sample, at) = (block / self.of_a_sample(), block % self.of_a_sample());
        (sample * self.pixels + at * BLOCK_PIXELS) * self.channels
    }

    /// Elements of some blocks in a row.
    fn elements_of(&self, blocks: &Range<usize>) -> usize {
        match blocks.is_empty() {
            true => 0,
            false => self.start(blocks.end - 1) - self.start(blocks.start) + self.last(blocks),
        }
    }

    fn last(&self, blocks: &Range<usize>) -> usize {
        self.pixels_of(blocks.end - 1) * self.channels
    }

    fn all(self) -> Cut {
        Cut {
            blocks: self,
            left: 0..self.count(),
        }
    }

    pub(crate) fn read(self, data: &[f32]) -> Read<'_> {
        Read(data, self.all())
    }

    pub(crate) fn write(self, data: &mut [f32]) -> Write<'_> {
        Write(data, self.all())
    }

    /// The sample of every block.
    pub(crate) fn samples_of(&self, blocks: Range<usize>) -> impl Iterator<Item = usize> {
        let each = self.of_a_sample();
        blocks.map(move |block| block / each)
    }
}

/// Some of the blocks.
#[derive(Clone)]
struct Cut {
    blocks: Blocks,
    left: Range<usize>,
}

impl Cut {
    fn split(self, units: usize) -> (usize, Self, Self) {
        let (head, tail) = self.left.split(units);
        let of = |left| Self {
            blocks: self.blocks,
            left,
        };
        (self.blocks.elements_of(&head), of(head), of(tail))
    }

    fn next(&mut self) -> Option<usize> {
        let block = self.left.next()?;
        Some(self.blocks.pixels_of(block) * self.blocks.channels)
    }
}

/// Blocks to read, one after the other.
pub(crate) struct Read<'a>(&'a [f32], Cut);

/// Blocks to write, one after the other.
pub(crate) struct Write<'a>(&'a mut [f32], Cut);

impl Split for Read<'_> {
    fn units(&self) -> usize {
        self.1.left.len()
    }
    fn split(self, units: usize) -> (Self, Self) {
        let (elements, head, tail) = self.1.split(units);
        let (before, after) = self.0.split_at(elements);
        (Self(before, head), Self(after, tail))
    }
}

impl Split for Write<'_> {
    fn units(&self) -> usize {
        self.1.left.len()
    }
    fn split(self, units: usize) -> (Self, Self) {
        let (elements, head, tail) = self.1.split(units);
        let (before, after) = self.0.split_at_mut(elements);
        (Self(before, head), Self(after, tail))
    }
}

impl<'a> Iterator for Read<'a> {
    type Item = &'a [f32];
    fn next(&mut self) -> Option<&'a [f32]> {
        let (block, rest) = self.0.split_at(self.1.next()?);
        self.0 = rest;
        Some(block)
    }
}

impl<'a> Iterator for Write<'a> {
    type Item = &'a mut [f32];
    fn next(&mut self) -> Option<&'a mut [f32]> {
        let elements = self.1.next()?;
        let (block, rest) = std::mem::take(&mut self.0).split_at_mut(elements);
        self.0 = rest;
        Some(block)
    }
}

/// So many channels from one on.
#[inline(always)]
pub(crate) fn at<const L: usize>(row: &[f32], channel: usize) -> &[f32; L] {
    let some = row[channel..].first_chunk();
    some.expect("as many channels as are left")
}

/// So many channels from one on, to write.
#[inline(always)]
pub(crate) fn at_mut<const L: usize>(row: &mut [f32], channel: usize) -> &mut [f32; L] {
    let some = row[channel..].first_chunk_mut();
    some.expect("as many channels as are left")
}

/// Calls a function of `L` channels from one on, for all of them: as many together as vectors take.
macro_rules! by_channels {
    ($channels:expr, |$channel:ident| $function:ident($($argument:expr),* $(,)?)) => {{
        let mut $channel = 0;
        while $channel + 32 <= $channels {
            $function::<32>($($argument),*);
            $channel += 32;
        }
        while $channel + 8 <= $channels {
            $function::<8>($($argument),*);
            $channel += 8;
        }
        while $channel < $channels {
            $function::<1>($($argument),*);
            $channel += 1;
        }
    }};
}
pub(crate) use by_channels;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_every_sample_and_end_with_it() {
        for (samples, pixels, channels) in
            [(1, 1, 1), (1, 130, 3), (3, 64, 2), (4, 65, 5), (5, 7, 2)]
        {
            let blocks = Blocks {
                samples,
                pixels,
                channels,
            };
            let numbers: Vec<f32> = (0..blocks.elements()).map(|i| i as f32).collect();
            let all: Vec<_> = blocks.read(&numbers).collect();
            assert_eq!(all.len(), blocks.count());
            assert_eq!(all.concat(), numbers);
            for units in 0..=blocks.count() {
                let (head, tail) = blocks.read(&numbers).split(units);
                assert_eq!(
                    (head.units(), tail.units()),
                    (units, blocks.count() - units)
                );
                assert!(head.chain(tail).eq(all.iter().copied()));
                let mut copy = vec![0.0; numbers.len()];
                let (head, tail) = blocks.write(&mut copy).split(units);
                for (to, from) in head.chain(tail).zip(&all) {
                    to.copy_from_slice(from);
                }
                assert_eq!(copy, numbers);
            }
            let samples = blocks.samples_of(0..blocks.count());
            for (block, sample) in all.iter().zip(samples) {
                let first = block[0] as usize / (pixels * channels);
                let last = block[block.len() - 1] as usize / (pixels * channels);
                assert_eq!((first, last), (sample, sample));
            }
        }
    }
}
