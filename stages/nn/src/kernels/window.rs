//! Windows that slide over images: the greatest pixel of each, and where it was.

use crate::kernels::channels::{at, at_mut};
use crate::kernels::parallel::{Out, spread, vectorised};
use crate::kernels::resample::{Resampling, Sides};
use std::ops::Range;

/// A window that slides along one axis. Its padding is at most half of it, so that every place
/// has a pixel.
#[derive(Clone, Copy)]
pub(crate) struct Slide {
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    /// Of the image.
    pub(crate) pixels: usize,
    /// Of the window.
    pub(crate) places: usize,
}

impl Slide {
    /// Where in the window a pixel is.
    #[inline(always)]
    fn number(&self, place: usize, pixel: usize) -> usize {
        pixel + self.padding - place * self.stride
    }
}

/// The mean of the pixels at each place, padding counted as zeros.
impl Resampling for Slide {
    #[inline(always)]
    fn sources(&self, place: usize) -> Range<usize> {
        let start = place * self.stride;
        let end = start.saturating_add(self.kernel) - self.padding;
        start.saturating_sub(self.padding)..end.min(self.pixels)
    }
    #[inline(always)]
    fn readers(&self, pixel: usize) -> Range<usize> {
        let last = pixel + self.padding;
        let first = (last + 1).saturating_sub(self.kernel).div_ceil(self.stride);
        first..(last / self.stride + 1).min(self.places)
    }
    #[inline(always)]
    fn weight(&self, _: usize, _: usize) -> f32 {
        1.0 / self.kernel as f32
    }
}

/// The number of a place within a window, line after line, as it is kept.
pub(crate) trait Number: Copy + Send + Sync {
    fn of(number: i32) -> Self;
    fn is(self, number: i32) -> bool;
}

impl Number for u8 {
    #[inline(always)]
    fn of(number: i32) -> Self {
        number as Self
    }
    #[inline(always)]
    fn is(self, number: i32) -> bool {
        self == number as Self
    }
}

impl Number for i32 {
    #[inline(always)]
    fn of(number: i32) -> Self {
        number
    }
    #[inline(always)]
    fn is(self, number: i32) -> bool {
        self == number
    }
}

/// y is the greatest pixel at each place, channel by channel, and `winners` its number in the
/// window: the first of equal ones, the last that is not a number.
pub(crate) fn greatest<N: Number>(
    (y, winners): (&mut [f32], &mut [N]),
    x: &[f32],
    slides: [Slide; 2],
    channels: usize,
    threads: usize,
) {
    if y.is_empty() {
        return;
    }
    let line = slides[1].places * channels;
    let winners = &mut winners[..y.len()];
    let work = (0..y.len() / line, Out(y, line), Out(winners, line));
    spread(threads, x.len(), work, |(lines, y, winners)| {
        greatest_lines(lines, (y.0, winners.0), x, slides, channels);
    });
}

vectorised! {
    fn greatest_lines[N: Number](
        lines: Range<usize>,
        results: (&'a mut [f32], &'a mut [N]),
        x: &'a [f32],
        slides: [Slide; 2],
        channels: usize,
    ) {
        let [down, along] = slides;
        let (line, image) = (along.places * channels, down.pixels * along.pixels * channels);
        let results = results.0.chunks_exact_mut(line).zip(results.1.chunks_exact_mut(line));
        for (number, (y, winners)) in lines.zip(results) {
            let x = &x[number / down.places * image..][..image];
            let pixels = y.chunks_exact_mut(channels).zip(winners.chunks_exact_mut(channels));
            for (column, result) in pixels.enumerate() {
                greatest_pixel(result, x, slides, [number % down.places, column]);
            }
        }
    }
}

/// All channels of one place.
#[inline(always)]
fn greatest_pixel<N: Number>(
    (y, winners): (&mut [f32], &mut [N]),
    x: &[f32],
    slides: [Slide; 2],
    place: [usize; 2],
) {
    let (mut done, channels) = (0, y.len());
    while done < channels {
        let result = (&mut *y, &mut *winners);
        done += match channels - done {
            32.. => greatest_channels::<N, 32>(result, done, x, slides, place),
            8.. => greatest_channels::<N, 8>(result, done, x, slides, place),
            _ => greatest_channels::<N, 1>(result, done, x, slides, place),
        };
    }
}

/// Some neighbouring channels from one on: how many.
#[inline(always)]
fn greatest_channels<N: Number, const LANES: usize>(
    (y, winners): (&mut [f32], &mut [N]),
    channel: usize,
    x: &[f32],
    [down, along]: [Slide; 2],
    [row, column]: [usize; 2],
) -> usize {
    let (rows, columns) = (down.sources(row), along.sources(column));
    let number = |y, x| (down.number(row, y) * along.kernel + along.number(column, x)) as i32;
    let mut best = [f32::NEG_INFINITY; LANES];
    let mut winner = [number(rows.start, columns.start); LANES];
    for pixel_row in rows {
        for pixel_column in columns.clone() {
            let number = number(pixel_row, pixel_column);
            let pixel = (pixel_row * along.pixels + pixel_column) * y.len();
            let x = at::<LANES>(x, pixel + channel);
            for lane in 0..LANES {
                let wins = (x[lane] > best[lane]) | x[lane].is_nan();
                best[lane] = if wins { x[lane] } else { best[lane] };
                winner[lane] = if wins { number } else { winner[lane] };
            }
        }
    }
    *at_mut(y, channel) = best;
    for (kept, winner) in winners[channel..].iter_mut().zip(&winner) {
        *kept = N::of(*winner);
    }
    LANES
}

/// dx of each pixel is the sum of dy over the places where it won, from the first to the last.
pub(crate) fn greatest_backward<N: Number>(
    dx: &mut [f32],
    (dy, winners): (&[f32], &[N]),
    slides: [Slide; 2],
    channels: usize,
    threads: usize,
) {
    if dx.is_empty() {
        return;
    }
    let line = slides[1].pixels * channels;
    let (elements, lines) = (dx.len(), 0..dx.len() / line);
    spread(threads, elements, (Out(dx, line), lines), |(dx, lines)| {
        greatest_backward_lines(dx.0, lines, (dy, winners), slides, channels);
    });
}

vectorised! {
    fn greatest_backward_lines[N: Number](
        dx: &'a mut [f32],
        lines: Range<usize>,
        given: (&'a [f32], &'a [N]),
        slides: [Slide; 2],
        channels: usize,
    ) {
        let ([down, along], (dy, winners)) = (slides, given);
        for (line, dx) in lines.zip(dx.chunks_exact_mut(along.pixels * channels)) {
            let (image, pixel_row) = (line / down.pixels, line % down.pixels);
            for (pixel_column, dx) in dx.chunks_exact_mut(channels).enumerate() {
                dx.fill(0.0);
                for row in down.readers(pixel_row) {
                    for column in along.readers(pixel_column) {
                        let number = down.number(row, pixel_row) * along.kernel
                            + along.number(column, pixel_column);
                        let place = (image * down.places + row) * along.places + column;
                        let dy = &dy[place * channels..][..channels];
                        let winners = &winners[place * channels..][..channels];
                        for ((dx, dy), winner) in dx.iter_mut().zip(dy).zip(winners) {
                            *dx += if winner.is(number as i32) { *dy } else { 0.0 };
                        }
                    }
                }
            }
        }
    }
}

/// Sizes of the images whose pixels are means over a window.
pub(crate) fn sides([down, along]: [Slide; 2], channels: usize) -> Sides {
    Sides {
        to: [down.places, along.places],
        from: [down.pixels, along.pixels],
        channels,
    }
}
