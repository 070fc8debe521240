//! The transforms of F(2 x 2, 3 x 3), channel beside channel.
//!
//! ```text
//!        1  0 -1  0         1    0    0
//!  B^T = 0  1  1  0   G  = 1/2  1/2  1/2   A^T = 1  1  1  0
//!        0 -1  1  0        1/2 -1/2  1/2         0  1 -1 -1
//!        0  1  0 -1         0    0    1
//! ```

use crate::kernels::parallel::vectorised;
use crate::kernels::product::Onto;

/// Channels that are treated together; those of images are multiples of it.
pub(super) const LANES: usize = 16;
type Lanes = [f32; LANES];

/// Matrices that take the place of a tile.
pub(super) const POINTS: usize = 16;

#[inline(always)]
fn pairs(a: Lanes, b: Lanes, f: impl Fn(f32, f32) -> f32) -> Lanes {
    let mut c = [0.0; LANES];
    for lane in 0..LANES {
        c[lane] = f(a[lane], b[lane]);
    }
    c
}

#[inline(always)]
fn add(a: Lanes, b: Lanes) -> Lanes {
    pairs(a, b, |a, b| a + b)
}

#[inline(always)]
fn subtract(a: Lanes, b: Lanes) -> Lanes {
    pairs(a, b, |a, b| a - b)
}

/// (a + b) / 2
#[inline(always)]
fn mean(a: Lanes, b: Lanes) -> Lanes {
    pairs(a, b, |a, b| 0.5 * (a + b))
}

/// (a - b) / 2
#[inline(always)]
fn half_difference(a: Lanes, b: Lanes) -> Lanes {
    pairs(a, b, |a, b| 0.5 * (a - b))
}

/// B^T x
#[inline(always)]
fn b_of([a, b, c, d]: [Lanes; 4]) -> [Lanes; 4] {
    [subtract(a, c), add(b, c), subtract(c, b), subtract(b, d)]
}

/// A^T x
#[inline(always)]
fn sums([a, b, c, d]: [Lanes; 4]) -> [Lanes; 2] {
    [add(add(a, b), c), subtract(subtract(b, c), d)]
}

/// A x
#[inline(always)]
fn spread_out([a, b]: [Lanes; 2]) -> [Lanes; 4] {
    [a, add(a, b), subtract(a, b), subtract([0.0; LANES], b)]
}

/// G x
#[inline(always)]
fn filter([a, b, c]: [Lanes; 3]) -> [Lanes; 4] {
    let ends = add(a, c);
    [a, mean(ends, b), half_difference(ends, b), c]
}

/// G^T x
#[inline(always)]
fn filter_back([a, b, c, d]: [Lanes; 4]) -> [Lanes; 3] {
    let middle = mean(b, c);
    [add(a, middle), half_difference(b, c), add(middle, d)]
}

/// The transform of lines, then that of columns.
#[inline(always)]
fn both<const N: usize, const M: usize>(
    x: [[Lanes; N]; N],
    one: impl Fn([Lanes; N]) -> [Lanes; M],
) -> [[Lanes; M]; M] {
    let mut half = [[[0.0; LANES]; N]; M];
    for column in 0..N {
        let mut line = [[0.0; LANES]; N];
        for row in 0..N {
            line[row] = x[row][column];
        }
        let line = one(line);
        for row in 0..M {
            half[row][column] = line[row];
        }
    }
    let mut whole = [[[0.0; LANES]; M]; M];
    for row in 0..M {
        whole[row] = one(half[row]);
    }
    whole
}

#[inline(always)]
fn lanes_of(x: &[f32], lanes: usize) -> Lanes {
    *x[lanes * LANES..].first_chunk().expect("whole lanes")
}

#[inline(always)]
fn put(x: Lanes, to: &mut [f32], lanes: usize) {
    to[lanes * LANES..][..LANES].copy_from_slice(&x);
}

/// The pixels of a tile, line by line, each of as many channels.
pub(super) type Pixels<'a, const N: usize> = [[&'a [f32]; N]; N];

/// A row of each of the matrices.
pub(super) type Rows<'a> = [&'a mut [f32]; POINTS];

#[inline(always)]
fn into_rows<const N: usize>(
    rows: Rows<'_>,
    tile: Pixels<'_, N>,
    one: impl Fn([Lanes; N]) -> [Lanes; 4],
) {
    for lanes in 0..rows[0].len() / LANES {
        let mut x = [[[0.0; LANES]; N]; N];
        for row in 0..N {
            for column in 0..N {
                x[row][column] = lanes_of(tile[row][column], lanes);
            }
        }
        let points = both(x, &one);
        for row in 0..4 {
            for column in 0..4 {
                put(points[row][column], rows[4 * row + column], lanes);
            }
        }
    }
}

#[inline(always)]
fn points_of(rows: &[&[f32]; POINTS], lanes: usize) -> [[Lanes; 4]; 4] {
    let mut points = [[[0.0; LANES]; 4]; 4];
    for row in 0..4 {
        for column in 0..4 {
            points[row][column] = lanes_of(rows[4 * row + column], lanes);
        }
    }
    points
}

vectorised! {
    /// B^T x B: what the window sees.
    pub(super) fn seen(rows: Rows<'a>, tile: Pixels<'a, 4>) {
        into_rows(rows, tile, b_of);
    }

    /// A dy A^T: the gradients of what is summed to y.
    pub(super) fn gradients(rows: Rows<'a>, tile: Pixels<'a, 2>) {
        into_rows(rows, tile, spread_out);
    }

    /// G g G^T of a filter of nine taps.
    pub(super) fn weights(rows: Rows<'a>, taps: Pixels<'a, 3>) {
        into_rows(rows, taps, filter);
    }

    /// A^T m A + bias, in the pixels of y that there are.
    pub(super) fn outputs(
        pixels: [Option<&'a mut [f32]>; 4],
        rows: [&'a [f32]; POINTS],
        bias: Option<&'a [f32]>,
    ) {
        let mut pixels = pixels;
        for lanes in 0..rows[0].len() / LANES {
            let tile = both(points_of(&rows, lanes), sums);
            let bias = match bias {
                Some(bias) => lanes_of(bias, lanes),
                None => [0.0; LANES],
            };
            for number in 0..4 {
                if let Some(pixel) = &mut pixels[number] {
                    put(add(tile[number / 2][number % 2], bias), pixel, lanes);
                }
            }
        }
    }

    /// G^T du G of a filter of nine taps, put or added.
    pub(super) fn weight_gradients(into: &'a mut [f32], onto: Onto, rows: [&'a [f32]; POINTS]) {
        let channels = rows[0].len();
        for lanes in 0..channels / LANES {
            let taps = both(points_of(&rows, lanes), filter_back);
            for tap in 0..9 {
                let into = &mut into[tap * channels..][..channels];
                let before = match onto {
                    Onto::Nothing => [0.0; LANES],
                    Onto::Present => lanes_of(into, lanes),
                };
                put(add(before, taps[tap / 3][tap % 3]), into, lanes);
            }
        }
    }
}
