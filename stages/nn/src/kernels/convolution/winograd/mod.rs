//! Windows of 3 x 3 with the fewest multiplications: F(2 x 2, 3 x 3), 16 where the definition has
//! 36. Instead of windows and filters, tiles of 4 x 4 pixels and filters of 4 x 4 are multiplied,
//! point by point, summed over channels: 16 products of matrices.
//!
//! ```text
//!  y = A^T (G g G^T  .  B^T x B) A         . at each of 16 points
//!
//!  V = B^T x B    [16, tiles, I]    M = V U         y  = A^T M A
//!  U = G g G^T    [16, I, O]        dM = A dy A^T   dU = V^T dM   dg = G^T dU G
//! ```
//!
//! dx is a convolution of dy with the filters turned round, whose U is the same with its points
//! exchanged. Tiles go in blocks that do not depend on threads, and sums over tiles in their order.
//!
//! # Source
//! Lavin, Gray: "Fast algorithms for convolutional neural networks", 2015.

use super::{Convolution, Space, With, channels, most_space, multiply, spread};
use crate::images::Window;
use crate::kernels::parallel::{Out, spread as spread_elements};
use crate::kernels::product::{Onto, Product};
use brigade_layer::Precision;
use ndarray::{ArrayView2, ArrayViewMut2};
use std::ops::Range;
use tiles::{Blocks, Matrices, Tiles, pitch};
use transform::{LANES, POINTS};

mod tiles;
mod transform;

/// Fewer channels, or fewer tiles, do not pay for the transforms of images, or of filters.
const CHANNELS: usize = 32;
const LEAST_TILES: usize = 64;
/// Elements of the matrices of a block of tiles, and tiles of a block.
const ELEMENTS: usize = 12 * 1024;
const TILES: [usize; 2] = [128, 256];

/// Filters that are exchanged with channels together.
const FILTERS: usize = 64;

/// Whether it pays.
pub(super) fn pays(of: &Convolution) -> bool {
    let fits = |images: usize| images >= CHANNELS && images.is_multiple_of(LANES);
    of.window == Window::square(3).padding(1)
        && of.groups == 1
        && fits(of.x.channels)
        && fits(of.y.channels)
        && Tiles::of(of.y).count() >= LEAST_TILES
}

/// Lines of tiles of a block.
fn lines(of: &Convolution) -> usize {
    let tiles = Tiles::of(of.y);
    let [least, most] = TILES;
    let at_once = (ELEMENTS / (of.x.channels + of.y.channels)).clamp(least, most);
    (at_once / tiles.along()).clamp(1, tiles.lines())
}

/// Tiles of a block, and of the last one.
fn tiles_of_blocks(of: &Convolution) -> [usize; 2] {
    let (tiles, lines) = (Tiles::of(of.y), lines(of));
    let last = tiles.lines() - (tiles.lines() - 1) / lines * lines;
    [lines, last].map(|lines| lines * tiles.along())
}

/// Elements of 16 matrices.
fn matrices(rows: usize, width: usize) -> usize {
    POINTS * pitch(rows, width)
}

/// What y, dx and dw take.
pub(super) fn space(of: &Convolution) -> [Space; 3] {
    let [inputs, outputs] = of.group_channels();
    let (factors, counts) = (matrices(inputs, outputs), tiles_of_blocks(of));
    let [tiles, _] = counts;
    let both = matrices(tiles, inputs) + matrices(tiles, outputs);
    let convolved = |from: usize, to: usize| Space {
        shared: factors,
        each: both + from + most_space(counts.map(|tiles| [tiles, to, from])),
    };
    let weight = Space {
        shared: factors + both + inputs.max(outputs),
        each: most_space(counts.map(|tiles| [outputs, inputs, tiles])),
    };
    [
        convolved(inputs, outputs),
        convolved(outputs, inputs),
        weight,
    ]
}

/// Images that are convolved, and those that come of it.
#[derive(Clone, Copy)]
struct Convolved<'a> {
    x: &'a [f32],
    /// As many as there are channels.
    bias: Option<&'a [f32]>,
    from: Tiles,
    to: Tiles,
    /// Lines of tiles of a block.
    lines: usize,
}

pub(super) fn forward(
    of: &Convolution,
    y: &mut [f32],
    [x, weight]: [&[f32]; 2],
    bias: Option<&[f32]>,
    mut with: With<'_>,
) {
    factors_forward(of, &mut with, weight);
    let convolved = Convolved {
        x,
        bias,
        from: Tiles::of(of.x),
        to: Tiles::of(of.y),
        lines: lines(of),
    };
    convolve(of, y, convolved, with);
}

pub(super) fn input_gradient(
    of: &Convolution,
    dx: &mut [f32],
    [dy, weight]: [&[f32]; 2],
    mut with: With<'_>,
) {
    factors_backward(of, &mut with, weight);
    let convolved = Convolved {
        x: dy,
        bias: None,
        from: Tiles::of(of.y),
        to: Tiles::of(of.x),
        lines: lines(of),
    };
    convolve(of, dx, convolved, with);
}

/// The nine taps of a filter, where each has so many channels.
fn taps(filter: &[f32], channels: usize) -> [[&[f32]; 3]; 3] {
    let tap = |tap: usize| &filter[tap * channels..][..channels];
    [0, 1, 2].map(|row| [0, 1, 2].map(|column| tap(3 * row + column)))
}

/// U [16, O, I] of the filters turned round.
fn factors_backward(of: &Convolution, with: &mut With<'_>, weight: &[f32]) {
    let [inputs, outputs] = of.group_channels();
    let factors = Matrices::of(with.shared, outputs, inputs);
    let work = (factors, 0..outputs);
    let elements = weight.len();
    spread_elements(with.threads, elements, work, |(mut factors, filters)| {
        for (row, filter) in filters.enumerate() {
            let filter = &weight[filter * of.columns()..][..of.columns()];
            transform::weights(turned(factors.row(row)), taps(filter, inputs));
        }
    });
}

/// The points of a filter that is turned round: what was last is first, and the two in the middle
/// are symmetric.
fn turned<T>(points: [T; POINTS]) -> [T; POINTS] {
    let mut points = points.map(Some);
    let mut number = 0;
    [(); POINTS].map(|()| {
        let [row, column] = [number / 4, number % 4].map(|at| [3, 1, 2, 0][at]);
        number += 1;
        points[4 * row + column].take().expect("each point once")
    })
}

/// Taps of 16 channels of some filters, filter beside filter.
type Exchanged = [[[f32; FILTERS]; 9]; LANES];

/// U [16, I, O]: channels are exchanged with filters first, block by block.
fn factors_forward(of: &Convolution, with: &mut With<'_>, weight: &[f32]) {
    let [inputs, outputs] = of.group_channels();
    let blocks = 0..inputs / LANES;
    let factors = Matrices::of(with.shared, blocks.len(), LANES * outputs);
    let (elements, work) = (weight.len(), (factors, blocks));
    spread_elements(with.threads, elements, work, |(mut factors, blocks)| {
        let mut exchanged = [[[0.0; FILTERS]; 9]; LANES];
        for first in (0..outputs).step_by(FILTERS) {
            let filters = first..(first + FILTERS).min(outputs);
            for (row, block) in blocks.clone().enumerate() {
                let own = &weight[filters.start * of.columns()..filters.end * of.columns()];
                exchange(of, &mut exchanged, own, block * LANES);
                for (channel, taps) in exchanged.iter().enumerate() {
                    let at = channel * outputs + filters.start;
                    let rows = factors.row(row);
                    let rows = rows.map(|row| &mut row[at..at + filters.len()]);
                    let tap = |tap: usize| &taps[tap][..filters.len()];
                    let taps = [0, 3, 6].map(|first| [0, 1, 2].map(|number| tap(first + number)));
                    transform::weights(rows, taps);
                }
            }
        }
    });
}

fn exchange(of: &Convolution, to: &mut Exchanged, filters: &[f32], channel: usize) {
    for (number, filter) in filters.chunks_exact(of.columns()).enumerate() {
        for (tap, channels) in filter.chunks_exact(of.x.channels).enumerate() {
            for (to, weight) in to.iter_mut().zip(&channels[channel..][..LANES]) {
                to[tap][number] = *weight;
            }
        }
    }
}

fn convolve(of: &Convolution, y: &mut [f32], convolved: Convolved<'_>, with: With<'_>) {
    let blocks = Blocks {
        tiles: convolved.to,
        lines: convolved.lines,
        numbers: 0..convolved.to.lines().div_ceil(convolved.lines),
        pixels: y,
    };
    let (threads, precision, factors) = (of.threads(&with), with.precision, &*with.shared);
    spread(
        threads,
        blocks,
        with.each,
        &|blocks: Blocks<'_>, scratch| {
            let (tiles, mut pixels) = (blocks.tiles, blocks.pixels);
            for block in blocks.numbers {
                let first = block * blocks.lines;
                let end = (first + blocks.lines).min(tiles.lines());
                let here = tiles.elements_before(end) - tiles.elements_before(first);
                let (own, others) = pixels.split_at_mut(here);
                convolve_block(&convolved, own, first..end, (factors, precision), scratch);
                pixels = others;
            }
        },
    );
}

fn convolve_block(
    of: &Convolved<'_>,
    y: &mut [f32],
    lines: Range<usize>,
    (factors, precision): (&[f32], Precision),
    scratch: &mut [f32],
) {
    let [inputs, outputs] = [of.from, of.to].map(|tiles| tiles.images.channels);
    let own = lines.start * of.to.along()..lines.end * of.to.along();
    let tiles = own.len();
    let (zeros, scratch) = scratch.split_at_mut(inputs);
    zeros.fill(0.0);
    let (seen, scratch) = scratch.split_at_mut(matrices(tiles, inputs));
    let (sums, space) = scratch.split_at_mut(matrices(tiles, outputs));
    let mut rows = Matrices::of(seen, tiles, inputs);
    for (row, tile) in own.clone().enumerate() {
        transform::seen(rows.row(row), of.from.pixels(of.x, zeros, tile));
    }
    let pitches = [
        pitch(tiles, outputs),
        pitch(tiles, inputs),
        pitch(inputs, outputs),
    ];
    for point in 0..POINTS {
        let [at, seen_at, factor_at] = pitches.map(|pitch| point * pitch);
        let sums = &mut sums[at..][..tiles * outputs];
        let sums = ArrayViewMut2::from_shape((tiles, outputs), sums).expect("rows of filters");
        let factors = [
            channels(&seen[seen_at..][..tiles * inputs], inputs, 0..inputs),
            channels(
                &factors[factor_at..][..inputs * outputs],
                outputs,
                0..outputs,
            ),
        ];
        multiply(Product::new(sums, factors), (precision, 1), space);
    }
    for (row, tile) in own.enumerate() {
        let mut point = 0;
        let rows = [(); POINTS].map(|()| {
            let at = point * pitches[0] + row * outputs;
            point += 1;
            &sums[at..at + outputs]
        });
        let pixels = of.to.pixels_mut(y, tile, lines.start);
        transform::outputs(pixels, rows, of.bias);
    }
}

pub(super) fn weight_gradient(
    of: &Convolution,
    dw: &mut [f32],
    onto: Onto,
    [dy, x]: [&[f32]; 2],
    with: With<'_>,
) {
    let [inputs, outputs] = of.group_channels();
    let (tiles, lines) = (Tiles::of(of.y), lines(of));
    let [most, _] = tiles_of_blocks(of);
    let (threads, precision) = (of.threads(&with), with.precision);
    let (sums, scratch) = with.shared.split_at_mut(matrices(inputs, outputs));
    let (zeros, scratch) = scratch.split_at_mut(inputs.max(outputs));
    zeros.fill(0.0);
    let (seen, gradients) = scratch.split_at_mut(matrices(most, inputs));
    for first in (0..tiles.lines()).step_by(lines) {
        let end = (first + lines).min(tiles.lines());
        let own = first * tiles.along()..end * tiles.along();
        let count = own.len();
        let work = (
            Matrices::of(seen, count, inputs),
            Matrices::of(gradients, count, outputs),
            own,
        );
        let elements = count * POINTS * (inputs + outputs);
        spread_elements(
            with.threads,
            elements,
            work,
            |(mut seen, mut gradients, own)| {
                for (row, tile) in own.enumerate() {
                    let pixels = Tiles::of(of.x).pixels(x, &zeros[..inputs], tile);
                    transform::seen(seen.row(row), pixels);
                    let pixels = tiles.pixels(dy, &zeros[..outputs], tile);
                    transform::gradients(gradients.row(row), pixels);
                }
            },
        );
        let onto = if first == 0 {
            Onto::Nothing
        } else {
            Onto::Present
        };
        let work = (Out(&mut *sums, pitch(outputs, inputs)), 0..POINTS);
        spread(threads, work, with.each, &|(sums, points), space| {
            let sums = sums.0.chunks_mut(pitch(outputs, inputs));
            for (point, sums) in points.zip(sums) {
                let sums = &mut sums[..outputs * inputs];
                let sums = ArrayViewMut2::from_shape((outputs, inputs), sums).expect("a matrix");
                let [dm, v] = [(&*gradients, outputs), (&*seen, inputs)].map(|(all, width)| {
                    let own = &all[point * pitch(count, width)..][..count * width];
                    ArrayView2::from_shape((count, width), own).expect("rows of channels")
                });
                let product = Product::new(sums, [dm.reversed_axes(), v]).onto(onto);
                multiply(product, (precision, 1), space);
            }
        });
    }
    let work = (Out(dw, of.columns()), 0..outputs);
    spread_elements(
        with.threads,
        of.columns() * outputs,
        work,
        |(dw, filters)| {
            for (filter, dw) in filters.zip(dw.0.chunks_mut(of.columns())) {
                let mut point = 0;
                let rows = [(); POINTS].map(|()| {
                    let at = point * pitch(outputs, inputs) + filter * inputs;
                    point += 1;
                    &sums[at..at + inputs]
                });
                transform::weight_gradients(dw, onto, rows);
            }
        },
    );
}
