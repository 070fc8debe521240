//! Convolutions of images.
//!
//! ```text
//!  window            precision   computed by
//!  1 x 1, step 1     any         plain: products of pixels, nothing is copied
//!  3 x 3, step 1     f32         winograd: fewer multiplications, if channels are enough
//!  any other         any         lowered: products of copied windows, block by block
//! ```
//!
//! Which way follows from shapes and precision alone. Every block of output pixels is computed as
//! if it were alone, so that threads do not show.

use crate::images::{Images, Window};
use crate::kernels::parallel::Split;
use crate::kernels::product::{Means, Onto, Product, space as product_space};
use brigade_layer::Precision;
use ndarray::{ArrayView2, ArrayViewMut2};
use std::ops::Range;

mod input;
mod lowered;
mod plain;
#[cfg(test)]
mod tests;
mod winograd;

/// Multiplications below which another thread costs more than it brings.
const GRAIN: u64 = 1 << 19;

/// A window of O filters that slides over images of I channels, which may be cut into groups:
/// filters of a group see the channels of that group.
///
/// # Shapes
/// x [N, H, W, I], weight [O, kernel height, kernel width, I / groups], y [N, H', W', O].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Convolution {
    pub(crate) x: Images,
    pub(crate) y: Images,
    pub(crate) window: Window,
    pub(crate) groups: usize,
}

/// Elements of scratch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Space {
    /// That all threads share.
    pub(crate) shared: usize,
    /// Of each thread.
    pub(crate) each: usize,
}

/// What a convolution is computed with.
pub(crate) struct With<'a> {
    pub(crate) precision: Precision,
    pub(crate) threads: usize,
    /// As [`Space`] says: what is shared, and a part for each thread.
    pub(crate) shared: &'a mut [f32],
    pub(crate) each: &'a mut [f32],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    Lowered,
    Winograd,
}

impl Convolution {
    fn way(&self, precision: Precision) -> Way {
        let Window {
            kernel,
            stride,
            padding,
        } = self.window;
        match ([kernel, stride], padding) {
            ([[1, 1], [1, 1]], [0, 0]) => Way::Plain,
            _ if precision == Precision::F32 && winograd::pays(self) => Way::Winograd,
            _ => Way::Lowered,
        }
    }

    /// What y, dx and dw take: the same for every precision, so that plans are.
    pub(crate) fn space(&self) -> [Space; 3] {
        if self.way(Precision::Bf16) == Way::Plain {
            return plain::space(self);
        }
        let [forward, weight] = lowered::space(self);
        let lowered = [forward, input::space(self), weight];
        if !winograd::pays(self) {
            return lowered;
        }
        let mut most = winograd::space(self);
        for (most, other) in most.iter_mut().zip(lowered) {
            most.shared = most.shared.max(other.shared);
            most.each = most.each.max(other.each);
        }
        most
    }

    /// y = x * weight + bias.
    pub(crate) fn forward(
        &self,
        y: &mut [f32],
        [x, weight]: [&[f32]; 2],
        bias: Option<&[f32]>,
        with: With<'_>,
    ) {
        match self.way(with.precision) {
            Way::Plain => plain::forward(self, y, [x, weight], bias, with),
            Way::Lowered => lowered::forward(self, y, [x, weight], bias, with),
            Way::Winograd => winograd::forward(self, y, [x, weight], bias, with),
        }
    }

    /// dx, whatever it is now.
    pub(crate) fn input_gradient(&self, dx: &mut [f32], factors: [&[f32]; 2], with: With<'_>) {
        match self.way(with.precision) {
            Way::Plain => plain::input_gradient(self, dx, factors, with),
            Way::Lowered => input::gradient(self, dx, factors, with),
            Way::Winograd => winograd::input_gradient(self, dx, factors, with),
        }
    }

    /// dw, put or added.
    pub(crate) fn weight_gradient(
        &self,
        dw: &mut [f32],
        onto: Onto,
        [dy, x]: [&[f32]; 2],
        with: With<'_>,
    ) {
        match self.way(with.precision) {
            Way::Plain => plain::weight_gradient(self, dw, onto, [dy, x], with),
            Way::Lowered => lowered::weight_gradient(self, dw, onto, [dy, x], with),
            Way::Winograd => winograd::weight_gradient(self, dw, onto, [dy, x], with),
        }
    }

    /// Multiplications, or the largest number there is when there are more.
    pub(crate) fn multiplications(&self) -> u64 {
        let elements = self.y.pixels() * self.y.channels;
        (elements as u64).saturating_mul(self.columns() as u64)
    }

    /// Places within a window.
    fn taps(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1]
    }

    /// Channels of x and of y that a group has.
    fn group_channels(&self) -> [usize; 2] {
        [self.x, self.y].map(|images| images.channels / self.groups)
    }

    /// Elements that a filter has.
    fn columns(&self) -> usize {
        self.taps() * self.group_channels()[0]
    }

    /// The threads that pay.
    fn threads(&self, with: &With<'_>) -> usize {
        let pays = usize::try_from(self.multiplications() / GRAIN).unwrap_or(usize::MAX);
        with.threads.clamp(1, pays.max(1))
    }
}

impl Space {
    /// All of it, on so many threads.
    pub(crate) fn of(self, threads: usize) -> usize {
        self.shared + self.each * threads.max(1)
    }
}

/// Computes a product.
fn multiply(product: Product<'_>, (precision, threads): (Precision, usize), space: &mut [f32]) {
    product.run(Means {
        precision,
        threads,
        space,
    });
}

/// The channels of one group in all of `pixels`.
fn channels(pixels: &[f32], all: usize, group: Range<usize>) -> ArrayView2<'_, f32> {
    let rows = pixels.len() / all;
    let view = ArrayView2::from_shape((rows, all), pixels).expect("whole pixels");
    view.slice_move(ndarray::s![.., group])
}

fn channels_mut(pixels: &mut [f32], all: usize, group: Range<usize>) -> ArrayViewMut2<'_, f32> {
    let rows = pixels.len() / all;
    let view = ArrayViewMut2::from_shape((rows, all), pixels).expect("whole pixels");
    view.slice_move(ndarray::s![.., group])
}

/// The range of the group with this number.
fn group(number: usize, channels: usize) -> Range<usize> {
    number * channels..(number + 1) * channels
}

/// Does `work` on up to `threads` threads, each with its part of the scratch.
fn spread<W: Split>(
    threads: usize,
    work: W,
    scratch: &mut [f32],
    body: &(impl Fn(W, &mut [f32]) + Sync),
) {
    let pieces = threads.min(work.units());
    if pieces < 2 {
        return body(work, scratch);
    }
    let left = pieces / 2;
    let units = work.units() * left / pieces;
    let (head, tail) = work.split(units);
    let (scratch, other) = scratch.split_at_mut(scratch.len() / pieces * left);
    rayon::join(
        || spread(left, head, scratch, body),
        || spread(pieces - left, tail, other, body),
    );
}

/// The most elements of scratch that products of any of these sizes take.
fn most_space<const N: usize>(sizes: [[usize; 3]; N]) -> usize {
    sizes.into_iter().map(product_space).max().unwrap_or(0)
}
