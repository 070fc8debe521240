//! Normalisation of channels by the mean and deviation that each sample has for it.

use crate::kernels::bits;
use crate::kernels::channels::{BLOCK_PIXELS, Blocks, Read, Write, at, at_mut, by_channels};
use crate::kernels::parallel::{In, Out, spread, vectorised};
use std::ops::Range;

/// n(x) = (x - mean) * inverse * weight + bias.
#[derive(Clone, Copy)]
pub(crate) struct Norm<'a> {
    /// Mean and inverse deviation of each sample [S, 2, C].
    pub(crate) stats: &'a [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) bias: &'a [f32],
}

/// It for one sample.
#[derive(Clone, Copy)]
struct OfSample<'a> {
    mean: &'a [f32],
    inverse: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
}

impl<'a> Norm<'a> {
    #[inline(always)]
    fn of(&self, sample: usize) -> OfSample<'a> {
        let channels = self.weight.len();
        let stats = &self.stats[sample * 2 * channels..][..2 * channels];
        let (mean, inverse) = stats.split_at(channels);
        OfSample {
            mean,
            inverse,
            weight: self.weight,
            bias: self.bias,
        }
    }
}

impl OfSample<'_> {
    /// Distances from the mean, and n(x).
    #[inline(always)]
    fn values<const L: usize>(&self, x: &[f32; L], channel: usize) -> ([f32; L], [f32; L]) {
        let (mean, inverse) = (at::<L>(self.mean, channel), at::<L>(self.inverse, channel));
        let (weight, bias) = (at::<L>(self.weight, channel), at::<L>(self.bias, channel));
        let (mut distance, mut value) = ([0.0; L], [0.0; L]);
        for lane in 0..L {
            distance[lane] = x[lane] - mean[lane];
            value[lane] = distance[lane] * (inverse[lane] * weight[lane]) + bias[lane];
        }
        (distance, value)
    }
}

/// What comes after the normalisation.
#[derive(Clone, Copy)]
pub(crate) struct After<'a> {
    /// Added to it, when it does not lie in y already.
    pub(crate) skip: Option<&'a [f32]>,
    /// Whether something is added.
    pub(crate) adds: bool,
    /// What is less becomes this.
    pub(crate) floor: f32,
}

impl Default for After<'_> {
    /// Nothing.
    fn default() -> Self {
        Self {
            skip: None,
            adds: false,
            floor: f32::NEG_INFINITY,
        }
    }
}

/// y = max(n(x) + skip, floor), with a bit for every element that is greater than 0, where there is
/// room for them.
pub(crate) fn forward(
    y: &mut [f32],
    bits: Option<&mut [i32]>,
    x: &[f32],
    norm: Norm<'_>,
    after: After<'_>,
    (blocks, threads): (Blocks, usize),
) {
    // Blocks of one sample are whole words, but for the last.
    let bits = bits.map(|bits| Out(bits, bits_of_a_block(blocks.channels)));
    let skip = after.skip.map(|skip| blocks.read(skip));
    let work = (
        blocks.write(y),
        blocks.read(x),
        0..blocks.count(),
        skip,
        bits,
    );
    spread(threads, x.len(), work, |(y, x, units, skip, bits)| {
        forward_blocks(y, (x, skip, bits), (units, blocks), norm, after);
    });
}

fn bits_of_a_block(channels: usize) -> usize {
    bits::words(BLOCK_PIXELS * channels)
}

vectorised! {
    fn forward_blocks(
        y: Write<'a>,
        beside: (Read<'a>, Option<Read<'a>>, Option<Out<'a, i32>>),
        units: (Range<usize>, Blocks),
        norm: Norm<'a>,
        after: After<'a>,
    ) {
        let ((x, mut skip, bits), (units, blocks)) = (beside, units);
        let channels = norm.weight.len();
        let mut bits = bits.map(|bits| bits.0.chunks_mut(bits.1));
        for ((y, x), sample) in y.zip(x).zip(blocks.samples_of(units)) {
            let norm = norm.of(sample);
            if let Some(skip) = skip.as_mut().and_then(Iterator::next) {
                y.copy_from_slice(skip);
            }
            for (y, x) in y.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                by_channels!(channels, |channel| forward_some(y, x, norm, after, channel));
            }
            if let Some(words) = bits.as_mut().and_then(Iterator::next) {
                bits::pack(words, y);
            }
        }
    }
}

#[inline(always)]
fn forward_some<const L: usize>(
    y: &mut [f32],
    x: &[f32],
    norm: OfSample<'_>,
    after: After<'_>,
    channel: usize,
) {
    let (_, values) = norm.values(at::<L>(x, channel), channel);
    let y = at_mut::<L>(y, channel);
    for lane in 0..L {
        let value = if after.adds {
            values[lane] + y[lane]
        } else {
            values[lane]
        };
        y[lane] = if value < after.floor {
            after.floor
        } else {
            value
        };
    }
}

/// Sums of dy * (x - mean) * inverse and of dy over each block: its share of dweight and dbias. If
/// `gated`, dy is 0 where n(x) is not greater than 0.
///
/// # Shapes
/// sums [blocks, 2, C].
pub(crate) fn sums(
    sums: &mut [f32],
    (dy, x): (&[f32], &[f32]),
    (norm, gated): (Norm<'_>, bool),
    (blocks, threads): (Blocks, usize),
) {
    let sums = Out(sums, 2 * blocks.channels);
    let work = (sums, blocks.read(dy), blocks.read(x), 0..blocks.count());
    spread(threads, x.len(), work, |(sums, dy, x, units)| {
        sums_of_blocks(sums.0, (dy, x), (units, blocks), norm, gated);
    });
}

vectorised! {
    fn sums_of_blocks(
        sums: &'a mut [f32],
        of: (Read<'a>, Read<'a>),
        units: (Range<usize>, Blocks),
        norm: Norm<'a>,
        gated: bool,
    ) {
        let channels = norm.weight.len();
        let blocks = of.0.zip(of.1).zip(units.1.samples_of(units.0));
        for (sums, (of, sample)) in sums.chunks_exact_mut(2 * channels).zip(blocks) {
            let norm = (norm.of(sample), gated);
            by_channels!(channels, |channel| sums_of_some(sums, of, norm, channel));
        }
    }
}

/// As [`sums`], after elements of dy without a bit became 0. Of one sample.
pub(crate) fn masked_sums(
    sums: &mut [f32],
    (dy, bits, x): (&mut [f32], &[i32], &[f32]),
    norm: Norm<'_>,
    (blocks, threads): (Blocks, usize),
) {
    let bits = In(bits, bits_of_a_block(blocks.channels));
    let sums = Out(sums, 2 * blocks.channels);
    let work = (sums, blocks.write(dy), bits, blocks.read(x));
    spread(threads, x.len(), work, |(sums, dy, bits, x)| {
        masked_sums_of_blocks(sums.0, dy, bits, x, norm);
    });
}

vectorised! {
    fn masked_sums_of_blocks(
        sums: &'a mut [f32],
        dy: Write<'a>,
        bits: In<'a, i32>,
        x: Read<'a>,
        norm: Norm<'a>,
    ) {
        let channels = norm.weight.len();
        let norm = (norm.of(0), false);
        let blocks = dy.zip(bits.0.chunks(bits.1)).zip(x);
        for (sums, ((dy, bits), x)) in sums.chunks_exact_mut(2 * channels).zip(blocks) {
            bits::mask_some(dy, bits);
            by_channels!(channels, |channel| sums_of_some(sums, (dy, x), norm, channel));
        }
    }
}

#[inline(always)]
fn sums_of_some<const L: usize>(
    sums: &mut [f32],
    (dy, x): (&[f32], &[f32]),
    (norm, gated): (OfSample<'_>, bool),
    channel: usize,
) {
    let channels = norm.weight.len();
    let (mut across, mut along) = ([0.0; L], [0.0; L]);
    for (dy, x) in dy.chunks_exact(channels).zip(x.chunks_exact(channels)) {
        let dy = at::<L>(dy, channel);
        let (distance, value) = norm.values(at::<L>(x, channel), channel);
        for lane in 0..L {
            let dy = gate(dy[lane], value[lane], gated);
            across[lane] += dy * distance[lane];
            along[lane] += dy;
        }
    }
    let (dweight, dbias) = sums.split_at_mut(channels);
    let inverse = at::<L>(norm.inverse, channel);
    let dweight = at_mut::<L>(dweight, channel);
    for lane in 0..L {
        dweight[lane] = across[lane] * inverse[lane];
    }
    *at_mut(dbias, channel) = along;
}

#[inline(always)]
fn gate(dy: f32, value: f32, gated: bool) -> f32 {
    let open = (value > 0.0) | !gated;
    if open { dy } else { 0.0 }
}

/// What the gradient of a sample's channels is centred by, and what is gated away of it before.
#[derive(Clone, Copy)]
pub(crate) struct Centre<'a> {
    /// Means of dy * weight * (x - mean) * inverse and of dy * weight [S, 2, C].
    pub(crate) means: &'a [f32],
    pub(crate) gated: bool,
}

/// dx = inverse * (dy * weight - its mean - (x - mean) * inverse * the mean of their products), of
/// the `dy` given, or of what lies in dx.
pub(crate) fn backward(
    dx: &mut [f32],
    (dy, x): (Option<&[f32]>, &[f32]),
    norm: Norm<'_>,
    centre: Centre<'_>,
    (blocks, threads): (Blocks, usize),
) {
    let dy = dy.map(|dy| blocks.read(dy));
    let work = (blocks.write(dx), blocks.read(x), 0..blocks.count(), dy);
    spread(threads, x.len(), work, |(dx, x, units, dy)| {
        backward_blocks(dx, (dy, x), (units, blocks), norm, centre);
    });
}

vectorised! {
    fn backward_blocks(
        dx: Write<'a>,
        of: (Option<Read<'a>>, Read<'a>),
        units: (Range<usize>, Blocks),
        norm: Norm<'a>,
        centre: Centre<'a>,
    ) {
        let ((mut dy, x), (units, blocks)) = (of, units);
        let channels = norm.weight.len();
        for ((dx, x), sample) in dx.zip(x).zip(blocks.samples_of(units)) {
            let norm = norm.of(sample);
            let means = &centre.means[sample * 2 * channels..][..2 * channels];
            if let Some(dy) = dy.as_mut().and_then(Iterator::next) {
                dx.copy_from_slice(dy);
            }
            for (dx, x) in dx.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                let by = (means, centre.gated);
                by_channels!(channels, |channel| backward_some(dx, x, norm, by, channel));
            }
        }
    }
}

#[inline(always)]
fn backward_some<const L: usize>(
    dx: &mut [f32],
    x: &[f32],
    norm: OfSample<'_>,
    (means, gated): (&[f32], bool),
    channel: usize,
) {
    let (distance, value) = norm.values(at::<L>(x, channel), channel);
    let (across, along) = means.split_at(means.len() / 2);
    let (across, along) = (at::<L>(across, channel), at::<L>(along, channel));
    let weight = at::<L>(norm.weight, channel);
    let inverse = at::<L>(norm.inverse, channel);
    let dx = at_mut::<L>(dx, channel);
    for lane in 0..L {
        let dy = gate(dx[lane], value[lane], gated) * weight[lane];
        let normal = distance[lane] * inverse[lane];
        dx[lane] = inverse[lane] * (dy - along[lane] - normal * across[lane]);
    }
}

/// Where n(x) is not greater than 0, dy becomes 0.
pub(crate) fn close(dy: &mut [f32], x: &[f32], norm: Norm<'_>, (blocks, threads): (Blocks, usize)) {
    let work = (blocks.write(dy), blocks.read(x));
    spread(threads, x.len(), work, |(dy, x)| close_blocks(dy, x, norm));
}

/// dx = dy * weight * inverse, in place: where mean and deviation do not depend on x.
pub(crate) fn scale(dx: &mut [f32], norm: Norm<'_>, threads: usize) {
    let (elements, unit) = (dx.len(), BLOCK_PIXELS * norm.weight.len());
    spread(threads, elements, Out(dx, unit), |dx| {
        scale_rows(dx.0, norm)
    });
}

vectorised! {
    fn close_blocks(dy: Write<'a>, x: Read<'a>, norm: Norm<'a>) {
        let (channels, norm) = (norm.weight.len(), norm.of(0));
        for (dy, x) in dy.zip(x) {
            for (dy, x) in dy.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                by_channels!(channels, |channel| close_some(dy, x, norm, channel));
            }
        }
    }

    fn scale_rows(dx: &'a mut [f32], norm: Norm<'a>) {
        let OfSample { weight, inverse, .. } = norm.of(0);
        for dx in dx.chunks_exact_mut(weight.len()) {
            for ((dx, weight), inverse) in dx.iter_mut().zip(weight).zip(inverse) {
                *dx *= weight * inverse;
            }
        }
    }
}

#[inline(always)]
fn close_some<const L: usize>(dy: &mut [f32], x: &[f32], norm: OfSample<'_>, channel: usize) {
    let (_, value) = norm.values(at::<L>(x, channel), channel);
    let dy = at_mut::<L>(dy, channel);
    for lane in 0..L {
        dy[lane] = gate(dy[lane], value[lane], true);
    }
}
