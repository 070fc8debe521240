//! Mean and variance of channels: of blocks of pixels first, then of all.

use crate::kernels::channels::{Blocks, Read, at, at_mut, by_channels};
use crate::kernels::parallel::{Out, spread, vectorised};

/// Channels whose moments are merged together.
const TILE: usize = 8;

/// Mean and biased variance of each channel, of every block.
///
/// # Shapes
/// moments [blocks, 2, C], x [.., C].
pub(crate) fn of_blocks(moments: &mut [f32], x: &[f32], blocks: Blocks, threads: usize) {
    let work = (Out(moments, 2 * blocks.channels), blocks.read(x));
    spread(threads, x.len(), work, |(moments, x)| {
        moments_of_blocks(moments.0, x, blocks.channels);
    });
}

vectorised! {
    fn moments_of_blocks(moments: &'a mut [f32], x: Read<'a>, channels: usize) {
        for (moments, x) in moments.chunks_exact_mut(2 * channels).zip(x) {
            by_channels!(channels, |channel| moments_of_one(moments, x, channel, channels));
        }
    }
}

/// In two passes, the second of which also finds how far off the first one's mean is: E[x^2] -
/// E[x]^2 would cancel.
#[inline(always)]
fn moments_of_one<const L: usize>(moments: &mut [f32], x: &[f32], channel: usize, channels: usize) {
    let share = 1.0 / (x.len() / channels) as f32;
    let mut about = [0.0; L];
    for row in x.chunks_exact(channels) {
        let x = at::<L>(row, channel);
        for lane in 0..L {
            about[lane] += x[lane];
        }
    }
    about.iter_mut().for_each(|about| *about *= share);
    let (mut off, mut squares) = ([0.0; L], [0.0; L]);
    for row in x.chunks_exact(channels) {
        let x = at::<L>(row, channel);
        for lane in 0..L {
            let distance = x[lane] - about[lane];
            off[lane] += distance;
            squares[lane] += distance * distance;
        }
    }
    let (mean, variance) = moments.split_at_mut(channels);
    let (mean, variance) = (at_mut::<L>(mean, channel), at_mut::<L>(variance, channel));
    for lane in 0..L {
        let off = off[lane] * share;
        mean[lane] = about[lane] + off;
        let found = squares[lane] * share - off * off;
        // What is not a number stays none.
        variance[lane] = if found < 0.0 { 0.0 } else { found };
    }
}

/// Some of the channels of several parts taken together.
pub(crate) struct Merged<const L: usize> {
    /// Numbers of a channel.
    pub(crate) count: f64,
    pub(crate) mean: [f64; L],
    /// Sum of the squared distances from the mean.
    pub(crate) squares: [f64; L],
}

/// Parts taken together, each with how many numbers a channel of it has and its moments [2, C].
///
/// # Source
/// Chan, Golub, LeVeque: "Updating formulae and a pairwise algorithm for computing sample
/// variances", 1979, of all parts at once.
#[inline(always)]
pub(crate) fn merge<'a, const L: usize>(
    parts: impl Iterator<Item = (usize, &'a [f32])> + Clone,
    channel: usize,
) -> Merged<L> {
    let (mut count, mut mean, mut squares) = (0.0, [0.0; L], [0.0; L]);
    for (more, part) in parts.clone() {
        let (more, part) = (more as f64, at::<L>(part, channel));
        count += more;
        for lane in 0..L {
            mean[lane] += more * f64::from(part[lane]);
        }
    }
    mean.iter_mut().for_each(|mean| *mean /= count);
    for (more, part) in parts {
        let (means, variances) = part.split_at(part.len() / 2);
        let (means, variances) = (at::<L>(means, channel), at::<L>(variances, channel));
        for lane in 0..L {
            let off = f64::from(means[lane]) - mean[lane];
            squares[lane] += more as f64 * (f64::from(variances[lane]) + off * off);
        }
    }
    Merged {
        count,
        mean,
        squares,
    }
}

/// Mean and biased variance of each channel, of every sample.
///
/// # Shapes
/// moments [S, 2, C], parts [blocks, 2, C].
pub(crate) fn of_samples(moments: &mut [f32], parts: &[f32], blocks: Blocks, threads: usize) {
    let channels = blocks.channels;
    if blocks.samples == 1 {
        let (mean, variance) = moments.split_at_mut(channels);
        let tiles = 0..channels.div_ceil(TILE);
        let work = (Out(mean, TILE), Out(variance, TILE), tiles);
        spread(threads, parts.len(), work, |(mean, variance, tiles)| {
            let first = tiles.start * TILE;
            merge_blocks((mean.0, variance.0), parts, blocks, first);
        });
        return;
    }
    let work = (Out(moments, 2 * channels), 0..blocks.samples);
    spread(threads, parts.len(), work, |(moments, samples)| {
        let each = 2 * channels * blocks.of_a_sample();
        for (moments, sample) in moments.0.chunks_exact_mut(2 * channels).zip(samples) {
            let parts = &parts[sample * each..][..each];
            merge_blocks(moments.split_at_mut(channels), parts, blocks, 0);
        }
    });
}

vectorised! {
    /// As many channels as there are means, from the first on.
    fn merge_blocks(
        moments: (&'a mut [f32], &'a mut [f32]),
        parts: &'a [f32],
        blocks: Blocks,
        first: usize,
    ) {
        let (mean, variance) = moments;
        let parts = parts.chunks_exact(2 * blocks.channels);
        let parts = parts.enumerate().map(|(block, part)| (blocks.pixels_of(block), part));
        by_channels!(mean.len(), |channel| merge_one(
            at_mut(mean, channel),
            at_mut(variance, channel),
            parts.clone(),
            first + channel,
        ));
    }
}

#[inline(always)]
fn merge_one<'a, const L: usize>(
    mean: &mut [f32; L],
    variance: &mut [f32; L],
    parts: impl Iterator<Item = (usize, &'a [f32])> + Clone,
    channel: usize,
) {
    let merged = merge::<L>(parts, channel);
    for lane in 0..L {
        mean[lane] = merged.mean[lane] as f32;
        variance[lane] = (merged.squares[lane] / merged.count) as f32;
    }
}

/// The channels of a group get the moments of all of them together.
///
/// # Shapes
/// moments [S, 2, C], of which each C / groups channels in a row are a group.
pub(crate) fn join_groups(moments: &mut [f32], channels: usize, groups: usize) {
    let width = channels / groups;
    for moments in moments.chunks_exact_mut(2 * channels) {
        let (means, variances) = moments.split_at_mut(channels);
        let groups = means.chunks_exact_mut(width);
        for (means, variances) in groups.zip(variances.chunks_exact_mut(width)) {
            let average = |of: &mut dyn Iterator<Item = f64>| of.sum::<f64>() / width as f64;
            let mean = average(&mut means.iter().map(|mean| f64::from(*mean)));
            let both = means.iter().zip(&*variances);
            let variance = average(&mut both.map(|(own, variance)| {
                let off = f64::from(*own) - mean;
                f64::from(*variance) + off * off
            }));
            means.fill(mean as f32);
            variances.fill(variance as f32);
        }
    }
}

/// Variances become 1 / sqrt(variance + eps). One that is too great for a number becomes none, so
/// that it is noticed.
///
/// # Shapes
/// moments [S, 2, C].
pub(crate) fn invert(moments: &mut [f32], channels: usize, eps: f32) {
    for moments in moments.chunks_exact_mut(2 * channels) {
        for variance in &mut moments[channels..] {
            *variance = match variance.is_finite() {
                true => 1.0 / (*variance + eps).sqrt(),
                false => f32::NAN,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::channels::BLOCK_PIXELS;

    fn numbers(len: usize) -> Vec<f32> {
        let at = |i: usize| 1000.0 + libm::sinf(i as f32 * 0.7) + (i % 5) as f32;
        (0..len).map(at).collect()
    }

    /// Mean and variance of the numbers that `of` picks, in double precision.
    fn naive(x: &[f32], of: impl Fn(usize) -> bool) -> (f64, f64) {
        let picked = x.iter().enumerate().filter(|(i, _)| of(*i));
        let picked: Vec<_> = picked.map(|(_, x)| f64::from(*x)).collect();
        let average = |of: Vec<f64>| of.iter().sum::<f64>() / of.len() as f64;
        let mean = average(picked.clone());
        (
            mean,
            average(picked.iter().map(|x| (x - mean).powi(2)).collect()),
        )
    }

    /// Far from 0, where E[x^2] - E[x]^2 would have no digit left.
    #[test]
    fn moments_agree_with_the_formulas_at_odd_sizes() {
        let sizes = [(1, 1, 1), (1, 300, 43), (3, 130, 9), (1, 64, 32), (2, 7, 8)];
        for (samples, pixels, channels) in sizes {
            let blocks = Blocks {
                samples,
                pixels,
                channels,
            };
            let x = numbers(blocks.elements());
            let mut parts = vec![f32::NAN; blocks.count() * 2 * channels];
            of_blocks(&mut parts, &x, blocks, 1);
            let mut moments = vec![f32::NAN; samples * 2 * channels];
            of_samples(&mut moments, &parts, blocks, 1);
            let check = |moments: &[f32], sample: usize, channel: usize, width: usize| {
                let (mean, variance) = naive(&x, |i| {
                    let own = i % channels / width == channel / width;
                    own && i / (pixels * channels) == sample
                });
                let at = sample * 2 * channels + channel;
                let found = [moments[at], moments[at + channels]].map(f64::from);
                assert!((found[0] - mean).abs() < 1e-4, "{found:?} {mean}");
                assert!((found[1] - variance).abs() < 1e-4, "{found:?} {variance}");
            };
            for sample in 0..samples {
                (0..channels).for_each(|channel| check(&moments, sample, channel, 1));
            }
            let groups = if channels.is_multiple_of(2) { 2 } else { 1 };
            join_groups(&mut moments, channels, groups);
            for sample in 0..samples {
                (0..channels).for_each(|at| check(&moments, sample, at, channels / groups));
            }
        }
        assert_eq!(BLOCK_PIXELS, 64, "the sizes above are around it");
    }

    #[test]
    fn what_is_too_great_is_not_a_number() {
        let mut moments = [0.0, 3.0, 4.0, f32::INFINITY];
        invert(&mut moments, 2, 0.0);
        assert_eq!(moments[..3], [0.0, 3.0, 0.5]);
        assert!(moments[3].is_nan());
    }
}
