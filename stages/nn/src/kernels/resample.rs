//! Images of other sizes: every pixel a weighted sum of pixels of another image, axis by axis.

use crate::kernels::parallel::{Out, spread, vectorised};
use std::ops::Range;

/// How the pixels of one axis make those of another: y\[to\] = sum of weight(to, from) x\[from\].
pub(crate) trait Resampling: Copy + Send + Sync {
    /// The pixels that `to` is made of.
    fn sources(&self, to: usize) -> Range<usize>;
    /// The pixels that are made of `from`, among others.
    fn readers(&self, from: usize) -> Range<usize>;
    /// The weight of one in the other; may be 0.
    fn weight(&self, to: usize, from: usize) -> f32;
}

/// Its transpose, which takes gradients back.
#[derive(Clone, Copy)]
pub(crate) struct Transposed<R>(pub(crate) R);

impl<R: Resampling> Resampling for Transposed<R> {
    #[inline(always)]
    fn sources(&self, to: usize) -> Range<usize> {
        self.0.readers(to)
    }
    #[inline(always)]
    fn readers(&self, from: usize) -> Range<usize> {
        self.0.sources(from)
    }
    #[inline(always)]
    fn weight(&self, to: usize, from: usize) -> f32 {
        self.0.weight(from, to)
    }
}

/// So many pixels like each.
#[derive(Clone, Copy)]
pub(crate) struct Nearest {
    pub(crate) factor: usize,
}

impl Resampling for Nearest {
    #[inline(always)]
    fn sources(&self, to: usize) -> Range<usize> {
        let from = to / self.factor;
        from..from + 1
    }
    #[inline(always)]
    fn readers(&self, from: usize) -> Range<usize> {
        from * self.factor..(from + 1) * self.factor
    }
    #[inline(always)]
    fn weight(&self, _: usize, _: usize) -> f32 {
        1.0
    }
}

/// So many pixels for each, on straight lines between the centres of those that there are; beyond
/// the outermost centres, like the outermost pixels.
#[derive(Clone, Copy)]
pub(crate) struct Bilinear {
    pub(crate) factor: usize,
    /// How many pixels there are.
    pub(crate) pixels: usize,
}

impl Resampling for Bilinear {
    #[inline(always)]
    fn sources(&self, to: usize) -> Range<usize> {
        let (pixel, phase) = (to / self.factor, to % self.factor);
        match phase < self.factor / 2 {
            true => pixel.saturating_sub(1)..pixel + 1,
            false => pixel..(pixel + 2).min(self.pixels),
        }
    }
    #[inline(always)]
    fn readers(&self, from: usize) -> Range<usize> {
        let (factor, half) = (self.factor, self.factor / 2);
        let start = from.checked_sub(1).map_or(0, |last| last * factor + half);
        let rest = if from + 1 == self.pixels { 0 } else { half };
        start..(from + 1) * factor + rest
    }
    #[inline(always)]
    fn weight(&self, to: usize, from: usize) -> f32 {
        let (at, centre) = (2 * to + 1, (2 * from + 1) * self.factor);
        let first = from == 0 && at < centre;
        let last = from + 1 == self.pixels && at > centre;
        if first || last {
            return 1.0;
        }
        let near = (2 * self.factor).saturating_sub(at.abs_diff(centre));
        near as f32 / (2 * self.factor) as f32
    }
}

/// Height and width of images that are made, of those they are made of, and how many channels a
/// pixel has.
#[derive(Clone, Copy)]
pub(crate) struct Sides {
    pub(crate) to: [usize; 2],
    pub(crate) from: [usize; 2],
    pub(crate) channels: usize,
}

impl Sides {
    /// The way back.
    pub(crate) fn transposed(self) -> Self {
        Self {
            to: self.from,
            from: self.to,
            ..self
        }
    }
}

/// y is x resampled along height and width.
pub(crate) fn resample<R: Resampling>(
    y: &mut [f32],
    x: &[f32],
    along: [R; 2],
    sides: Sides,
    threads: usize,
) {
    if y.is_empty() || x.is_empty() {
        return y.fill(0.0);
    }
    let line = sides.to[1] * sides.channels;
    let (elements, lines) = (x.len().max(y.len()), 0..y.len() / line);
    spread(threads, elements, (Out(y, line), lines), |(y, lines)| {
        resample_lines(y.0, lines, x, along, sides);
    });
}

vectorised! {
    fn resample_lines[R: Resampling](
        y: &'a mut [f32],
        lines: Range<usize>,
        x: &'a [f32],
        along: [R; 2],
        sides: Sides,
    ) {
        let Sides { to, from, channels } = sides;
        let image = from[0] * from[1] * channels;
        for (line, y) in lines.zip(y.chunks_exact_mut(to[1] * channels)) {
            let x = &x[line / to[0] * image..][..image];
            let (row, rows) = (line % to[0], along[0].sources(line % to[0]));
            for (column, y) in y.chunks_exact_mut(channels).enumerate() {
                resample_pixel(y, x, along, ([row, column], rows.clone()), from[1]);
            }
        }
    }
}

/// One pixel: its sources from the first line to the last.
#[inline(always)]
fn resample_pixel<R: Resampling>(
    y: &mut [f32],
    x: &[f32],
    along: [R; 2],
    ([row, column], rows): ([usize; 2], Range<usize>),
    width: usize,
) {
    let (mut fresh, columns) = (true, along[1].sources(column));
    for from_row in rows {
        let share = along[0].weight(row, from_row);
        for from_column in columns.clone() {
            let weight = share * along[1].weight(column, from_column);
            if weight == 0.0 {
                continue;
            }
            let x = &x[(from_row * width + from_column) * y.len()..][..y.len()];
            match fresh {
                true => y.iter_mut().zip(x).for_each(|(y, x)| *y = weight * x),
                false => y.iter_mut().zip(x).for_each(|(y, x)| *y += weight * x),
            }
            fresh = false;
        }
    }
    if fresh {
        y.fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::window::Slide;

    /// What makes a pixel is what it has a weight of, and readers are sources the other way round.
    fn check(axis: impl Resampling, (to, from): (usize, usize), sum: Option<f32>) {
        for at in 0..to {
            let mut total = 0.0;
            for source in 0..from {
                let reads = axis.sources(at).contains(&source);
                let read = axis.readers(source).contains(&at);
                let weight = axis.weight(at, source);
                assert!(!reads || read, "{at} of {to} reads {source} of {from}");
                assert!(!read || reads || weight == 0.0, "{source} to {at}");
                total += if reads { weight } else { 0.0 };
            }
            if let Some(sum) = sum {
                assert!(
                    (total - sum).abs() < 1e-6,
                    "weights of {at} of {to}: {total}"
                );
            }
        }
    }

    #[test]
    fn sources_readers_and_weights_agree() {
        for pixels in 1..6 {
            for factor in 1..6 {
                let sizes = (factor * pixels, pixels);
                check(Nearest { factor }, sizes, Some(1.0));
                check(Bilinear { factor, pixels }, sizes, Some(1.0));
            }
        }
        for (kernel, stride, padding) in [(1, 1, 0), (2, 2, 0), (3, 2, 1), (2, 3, 1), (5, 1, 2)] {
            for pixels in kernel..9 {
                let places = (pixels + 2 * padding - kernel) / stride + 1;
                let slide = Slide {
                    kernel,
                    stride,
                    padding,
                    pixels,
                    places,
                };
                let whole = (padding == 0).then_some(1.0);
                check(slide, (places, pixels), whole);
            }
        }
    }
}
