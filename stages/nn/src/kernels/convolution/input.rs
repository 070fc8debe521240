//! The gradient of what is convolved.
//!
//! Which taps of the window have seen a pixel follows from its place modulo the stride. Pixels of
//! one such class get their gradients together, tap by tap: the pixels of dy that have seen them
//! through the tap, times the tap's weight. So every element is summed in one order, by one thread.

use super::{Convolution, Space, With, channels, group, most_space, multiply, spread};
use crate::images::Window;
use crate::kernels::parallel::Out;
use crate::kernels::product::{Onto, Product};
use brigade_layer::Precision;
use ndarray::{ArrayViewMut2, s};
use std::ops::Range;

/// Pixels that get their gradients together, if lines of images are no longer than that.
const PIXELS: usize = 256;

/// Lines of x in a block of work, and the most pixels of a class that they have.
fn block(of: &Convolution) -> [usize; 2] {
    let columns = of.x.sides[1].div_ceil(of.window.stride[1]).max(1);
    let lines = (PIXELS / columns).clamp(1, (of.x.rows * of.x.sides[0]).max(1));
    [lines, lines * columns]
}

pub(super) fn space(of: &Convolution) -> Space {
    let ([_, pixels], [inputs, outputs]) = (block(of), of.group_channels());
    Space {
        shared: 0,
        each: pixels * (inputs + outputs) + most_space([[pixels, inputs, outputs]]),
    }
}

pub(super) fn gradient(of: &Convolution, dx: &mut [f32], factors: [&[f32]; 2], with: With<'_>) {
    let ([lines, _], line) = (block(of), of.x.sides[1] * of.x.channels);
    let (threads, precision) = (of.threads(&with), with.precision);
    let all = of.x.rows * of.x.sides[0];
    let blocks = (0..all.div_ceil(lines), Out(dx, lines * line));
    spread(threads, blocks, with.each, &|(blocks, dx), scratch| {
        for (block, dx) in blocks.zip(dx.0.chunks_mut(lines * line)) {
            let own = block * lines..block * lines + dx.len() / line;
            for class in Class::all(of) {
                let how = (precision, class, factors);
                class_of_block(dx, own.clone(), how, scratch);
            }
        }
    });
}

/// The pixels of these lines whose place, padding included, is this modulo the stride.
fn class_of_block(
    dx: &mut [f32],
    lines: Range<usize>,
    (precision, class, [dy, weight]): (Precision, Class<'_>, [&[f32]; 2]),
    scratch: &mut [f32],
) {
    let of = class.of;
    let ([_, most], [inputs, outputs]) = (block(of), of.group_channels());
    let count = class.pixels(lines.clone()).count();
    if count == 0 {
        return;
    }
    let (seen, scratch) = scratch.split_at_mut(most * outputs);
    let (sums, space) = scratch.split_at_mut(most * inputs);
    let (seen, sums) = (&mut seen[..count * outputs], &mut sums[..count * inputs]);
    for number in 0..of.groups {
        let filters = group(number, outputs);
        let mut onto = Onto::Nothing;
        for tap in class.taps() {
            for (to, pixel) in seen
                .chunks_exact_mut(outputs)
                .zip(class.pixels(lines.clone()))
            {
                match class.seen_by(pixel, tap) {
                    Some(pixel) => {
                        let at = pixel * of.y.channels + filters.start;
                        to.copy_from_slice(&dy[at..at + outputs]);
                    }
                    None => to.fill(0.0),
                }
            }
            let tap = tap[0] * of.window.kernel[1] + tap[1];
            let weight = channels(weight, of.columns(), group(tap, inputs));
            let weight = weight.slice_move(s![filters.clone(), ..]);
            let sums = ArrayViewMut2::from_shape((count, inputs), &mut *sums).expect("rows");
            let seen = channels(seen, outputs, 0..outputs);
            let product = Product::new(sums, [seen, weight]).onto(onto);
            multiply(product, (precision, 1), space);
            onto = Onto::Present;
        }
        if onto == Onto::Nothing {
            sums.fill(0.0);
        }
        let pixels = class.pixels(lines.clone());
        for (sums, [line, column]) in sums.chunks_exact(inputs).zip(pixels) {
            let pixel = (line - lines.start) * of.x.sides[1] + column;
            let at = pixel * of.x.channels + number * inputs;
            dx[at..at + inputs].copy_from_slice(sums);
        }
    }
}

/// Pixels that are seen through the same taps.
#[derive(Clone, Copy)]
struct Class<'a> {
    of: &'a Convolution,
    /// Line and column of the first one of an image.
    first: [usize; 2],
}

impl<'a> Class<'a> {
    /// Those that have pixels.
    fn all(of: &'a Convolution) -> impl Iterator<Item = Self> {
        let [lines, columns] = [0, 1].map(|axis| of.window.stride[axis].min(of.x.sides[axis]));
        (0..lines * columns).map(move |number| Self {
            of,
            first: [number / columns, number % columns],
        })
    }

    /// [line, column] of each, of these lines of all images.
    fn pixels(&self, lines: Range<usize>) -> impl Iterator<Item = [usize; 2]> + use<> {
        let [height, width] = self.of.x.sides;
        let [first_line, first] = self.first;
        let [down, along] = self.of.window.stride;
        lines
            .filter(move |line| (line % height) % down == first_line)
            .flat_map(move |line| {
                let columns = (first..width).step_by(along);
                columns.map(move |column| [line, column])
            })
    }

    /// The taps that see them.
    fn taps(&self) -> impl Iterator<Item = [usize; 2]> + use<> {
        let [[height, width], [down, along]] = [self.of.window.kernel, self.of.window.stride];
        let Window {
            stride, padding, ..
        } = self.of.window;
        let [first, first_column] =
            [0, 1].map(|axis| (self.first[axis] + padding[axis]) % stride[axis]);
        let lines = (first..height).step_by(down);
        lines.flat_map(move |line| {
            let columns = (first_column..width).step_by(along);
            columns.map(move |column| [line, column])
        })
    }

    /// The pixel of y that has seen this pixel through this tap, if one has.
    fn seen_by(&self, [line, column]: [usize; 2], tap: [usize; 2]) -> Option<usize> {
        let of = self.of;
        let (image, line) = (line / of.x.sides[0], line % of.x.sides[0]);
        let place = |place: usize, axis: usize| {
            let place = (place + of.window.padding[axis]).checked_sub(tap[axis])?;
            let place = place / of.window.stride[axis];
            (place < of.y.sides[axis]).then_some(place)
        };
        let [line, column] = [place(line, 0)?, place(column, 1)?];
        Some((image * of.y.sides[0] + line) * of.y.sides[1] + column)
    }
}
