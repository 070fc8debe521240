//! Products of lowered images: every row of a matrix is what the window sees at one place.
//!
//! # Source
//! Chellapilla, Puri, Simard: "High performance convolutional neural networks for document
//! processing", 2006. Here few rows are lowered at once, so that they stay in the second cache.

use super::{
    Convolution, Space, With, channels, channels_mut, group, most_space, multiply, spread,
};
use crate::kernels::parallel::{Out, spread as spread_elements};
use crate::kernels::product::{Onto, Product};
use brigade_layer::Precision;
use ndarray::{ArrayView2, ArrayViewMut2, s};
use std::ops::Range;

/// Columns that are lowered at once, and elements.
const COLUMNS: usize = 576;
const ELEMENTS: usize = 128 * 1024;
/// Rows that are lowered at once at most.
const ROWS: usize = 512;

/// What is lowered at once: (rows, taps).
fn piece(of: &Convolution) -> [usize; 2] {
    let [inputs, _] = of.group_channels();
    let taps = (COLUMNS / inputs.max(1)).clamp(1, of.taps());
    let rows = (ELEMENTS / (taps * inputs).max(1)) / 32 * 32;
    [rows.clamp(32, ROWS).min(of.y.pixels().max(1)), taps]
}

/// What y and dw take.
pub(super) fn space(of: &Convolution) -> [Space; 2] {
    let ([rows, taps], [inputs, outputs]) = (piece(of), of.group_channels());
    let columns = taps * inputs;
    let last = of.columns() - (of.taps() - 1) / taps * columns;
    let forward = [columns, last].map(|columns| [rows, outputs, columns]);
    let weight = [columns, last].map(|columns| [outputs, columns, rows]);
    [
        Space {
            shared: 0,
            each: rows * columns + most_space(forward),
        },
        Space {
            shared: rows * columns,
            each: most_space(weight),
        },
    ]
}

pub(super) fn forward(
    of: &Convolution,
    y: &mut [f32],
    [x, weight]: [&[f32]; 2],
    bias: Option<&[f32]>,
    with: With<'_>,
) {
    let ([rows, _], width) = (piece(of), of.y.channels);
    let (threads, precision) = (of.threads(&with), with.precision);
    let blocks = (0..of.y.pixels().div_ceil(rows), Out(y, rows * width));
    spread(threads, blocks, with.each, &|(blocks, y), scratch| {
        let y = y.0.chunks_mut(rows * width);
        for (block, y) in blocks.zip(y) {
            forward_block(of, y, block * rows, (precision, [x, weight], bias), scratch);
        }
    });
}

/// The pixels of `y`, the first of which has this number.
fn forward_block(
    of: &Convolution,
    y: &mut [f32],
    first: usize,
    (precision, [x, weight], bias): (Precision, [&[f32]; 2], Option<&[f32]>),
    scratch: &mut [f32],
) {
    let ([rows, taps], [inputs, outputs]) = (piece(of), of.group_channels());
    let (lowered, space) = scratch.split_at_mut(rows * taps * inputs);
    let pixels = first..first + y.len() / of.y.channels;
    for number in 0..of.groups {
        let filters = group(number, outputs);
        for start in (0..of.taps()).step_by(taps) {
            let taps = start..(start + taps).min(of.taps());
            let own = (taps.clone(), number);
            let lowered = lower(of, lowered, x, pixels.clone(), own);
            let weight = channels(weight, of.columns(), span(taps, inputs));
            let weight = weight.slice_move(s![filters.clone(), ..]).reversed_axes();
            let y = channels_mut(y, of.y.channels, filters.clone());
            let first = start == 0;
            let bias = bias.filter(|_| first).map(|bias| &bias[filters.clone()]);
            let onto = if first { Onto::Nothing } else { Onto::Present };
            let product = Product::new(y, [lowered, weight]).bias(bias).onto(onto);
            multiply(product, (precision, 1), space);
        }
    }
}

pub(super) fn weight_gradient(
    of: &Convolution,
    dw: &mut [f32],
    onto: Onto,
    [dy, x]: [&[f32]; 2],
    with: With<'_>,
) {
    let ([rows, at_once], [inputs, outputs]) = (piece(of), of.group_channels());
    let shape = (of.y.channels, of.columns());
    let mut dw = ArrayViewMut2::from_shape(shape, dw).expect("a weight's gradient");
    if of.y.pixels() == 0 && onto == Onto::Nothing {
        dw.fill(0.0);
    }
    for number in 0..of.groups {
        let filters = group(number, outputs);
        for start in (0..of.taps()).step_by(at_once) {
            let taps = start..(start + at_once).min(of.taps());
            let own = (taps.clone(), number);
            let columns = span(taps, inputs);
            for first in (0..of.y.pixels()).step_by(rows) {
                let pixels = first..(first + rows).min(of.y.pixels());
                let rows_of_dy = &dy[span(pixels.clone(), of.y.channels)];
                let dy = channels(rows_of_dy, of.y.channels, filters.clone());
                let lowered = lower_on(of, with.threads, with.shared, x, pixels, own.clone());
                let dw = dw.slice_mut(s![filters.clone(), columns.clone()]);
                let onto = if first == 0 { onto } else { Onto::Present };
                let product = Product::new(dw, [dy.reversed_axes(), lowered]).onto(onto);
                multiply(product, (with.precision, with.threads), with.each);
            }
        }
    }
}

fn span(units: Range<usize>, size: usize) -> Range<usize> {
    units.start * size..units.end * size
}

/// What these taps of a group see at these pixels of y.
fn lower<'a>(
    of: &Convolution,
    to: &'a mut [f32],
    x: &[f32],
    pixels: Range<usize>,
    own: (Range<usize>, usize),
) -> ArrayView2<'a, f32> {
    lower_on(of, 1, to, x, pixels, own)
}

/// The same on several threads.
fn lower_on<'a>(
    of: &Convolution,
    threads: usize,
    to: &'a mut [f32],
    x: &[f32],
    pixels: Range<usize>,
    (taps, number): (Range<usize>, usize),
) -> ArrayView2<'a, f32> {
    let columns = taps.len() * of.group_channels()[0];
    let shape = (pixels.len(), columns);
    let to = &mut to[..pixels.len() * columns];
    let (elements, work) = (to.len(), (pixels, Out(&mut *to, columns)));
    let first_channel = number * of.group_channels()[0];
    spread_elements(threads, elements, work, |(pixels, to)| {
        let (mut rest, mut pixel, along) = (to.0, pixels.start, of.y.sides[1]);
        while pixel < pixels.end {
            let (line, place) = (pixel / along, pixel % along);
            let end = pixels.end.min(pixel + along - place);
            let (rows, others) = rest.split_at_mut((end - pixel) * columns);
            lower_line(of, rows, x, [line, place], (taps.clone(), first_channel));
            (rest, pixel) = (others, end);
        }
    });
    ArrayView2::from_shape(shape, to).expect("rows of columns")
}

/// Rows of neighbouring places on one line of y, from this place on.
fn lower_line(
    of: &Convolution,
    rows: &mut [f32],
    x: &[f32],
    [line, place]: [usize; 2],
    (taps, first_channel): (Range<usize>, usize),
) {
    let (inputs, width) = (of.group_channels()[0], of.window.kernel[1]);
    let (image, line) = (line / of.y.sides[0], line % of.y.sides[0]);
    let mut tap = taps.start;
    while tap < taps.end {
        let from = tap % width;
        let until = width.min(from + taps.end - tap);
        let own = span(tap - taps.start..tap - taps.start + until - from, inputs);
        let rows = rows.chunks_exact_mut(taps.len() * inputs);
        let runs = rows.map(|row| &mut row[own.clone()]).zip(place..);
        match of.seen_line(line, tap / width) {
            None => runs.for_each(|(run, _)| run.fill(0.0)),
            Some(line) => {
                let line = image * of.x.sides[0] + line;
                let line = &x[span(line..line + 1, of.x.sides[1] * of.x.channels)];
                let own = (from..until, first_channel);
                runs.for_each(|(run, place)| lower_run(of, run, line, place, own.clone()));
            }
        }
        tap += until - from;
    }
}

/// What the taps of one line of the window see of one line of an image.
fn lower_run(
    of: &Convolution,
    run: &mut [f32],
    line: &[f32],
    place: usize,
    (taps, first_channel): (Range<usize>, usize),
) {
    let (inputs, all) = (of.group_channels()[0], of.x.channels);
    let first = place * of.window.stride[1];
    let (padding, columns) = (of.window.padding[1], of.x.sides[1]);
    let within = first + taps.start >= padding && first + taps.end <= padding + columns;
    if within && inputs == all {
        let at = (first + taps.start - padding) * all;
        return run.copy_from_slice(&line[at..at + run.len()]);
    }
    let inside = |column: usize| column.saturating_sub(first).clamp(taps.start, taps.end);
    let [from, until] = [inside(padding), inside(padding + columns)];
    let (before, rest) = run.split_at_mut((from - taps.start) * inputs);
    let (seen, after) = rest.split_at_mut((until - from) * inputs);
    before.fill(0.0);
    after.fill(0.0);
    if seen.is_empty() {
        return;
    }
    let line = &line[(first + from - padding) * all + first_channel..];
    for (to, from) in seen.chunks_exact_mut(inputs).zip(line.chunks(all)) {
        to.copy_from_slice(&from[..inputs]);
    }
}

impl Convolution {
    /// The line of an image that a line of the window sees at this place, if there is one.
    fn seen_line(&self, place: usize, tap: usize) -> Option<usize> {
        let line = place * self.window.stride[0] + tap;
        let line = line.checked_sub(self.window.padding[0])?;
        (line < self.x.sides[0]).then_some(line)
    }
}
