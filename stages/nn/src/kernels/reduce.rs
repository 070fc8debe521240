//! Sums and maxima whose order follows from the length alone.

use crate::kernels::parallel::{Out, spread, vectorised};

/// Partial sums that run side by side: two vectors of the widest instruction set.
const LANES: usize = 32;
/// Elements that are summed in single precision.
const CHUNK: usize = 4096;
/// Rows whose sum is added to the total at once: keeps rounding low when there are many.
const ROWS: usize = 64;
/// Columns that are summed together.
const TILE: usize = 64;

/// Joins the halves of the lanes until one is left.
#[inline(always)]
fn join(mut lanes: [f32; LANES], pair: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = pair(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn fold(x: &[f32], start: f32, step: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    let (whole, rest) = x.as_chunks::<LANES>();
    let mut lanes = [start; LANES];
    for x in whole {
        for lane in 0..LANES {
            lanes[lane] = step(lanes[lane], x[lane]);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = step(*lane, *x);
    }
    lanes
}

/// Sum of `term` over the elements.
#[inline(always)]
pub(crate) fn sum(x: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    join(fold(x, 0.0, |sum, x| sum + term(x)), |a, b| a + b)
}

/// Sum of `term` over pairs of elements.
#[inline(always)]
pub(crate) fn sum_pairs(x: &[f32], y: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut lanes = [0.0; LANES];
    for (x, y) in x.iter().zip(y) {
        for lane in 0..LANES {
            lanes[lane] += term(x[lane], y[lane]);
        }
    }
    for ((lane, x), y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
        *lane += term(*x, *y);
    }
    join(lanes, |a, b| a + b)
}

/// The greatest element; minus infinity of none. What is not a number is passed over.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let greater = |a: f32, b: f32| if b > a { b } else { a };
    join(fold(x, f32::NEG_INFINITY, greater), greater)
}

/// Sum of squares: chunks in single precision, their sums in double.
pub(crate) fn sum_of_squares(x: &[f32]) -> f64 {
    let mut total = 0.0;
    add_squares(&mut total, x);
    total
}

vectorised! {
    fn add_squares(total: &'a mut f64, x: &'a [f32]) {
        for x in x.chunks(CHUNK) {
            *total += f64::from(sum(x, |x| x * x));
        }
    }
}

/// Sums of the columns of a matrix of `width` columns, put or added into `into`.
pub(crate) fn column_sums(
    into: &mut [f32],
    fresh: bool,
    rows: &[f32],
    width: usize,
    threads: usize,
) {
    let tiles = 0..width.div_ceil(TILE);
    spread(
        threads,
        rows.len(),
        (Out(into, TILE), tiles),
        |(into, tiles)| {
            for (tile, into) in tiles.zip(into.0.chunks_mut(TILE)) {
                if fresh {
                    into.fill(0.0);
                }
                for block in rows.chunks(ROWS * width) {
                    add_tile(into, block, tile * TILE, width);
                }
            }
        },
    );
}

vectorised! {
    fn add_tile(into: &'a mut [f32], block: &'a [f32], column: usize, width: usize) {
        let mut sums = [0.0; TILE];
        for row in block.chunks_exact(width) {
            match row[column..].first_chunk::<TILE>() {
                Some(row) => {
                    for lane in 0..TILE {
                        sums[lane] += row[lane];
                    }
                }
                None => {
                    for (sum, x) in sums.iter_mut().zip(&row[column..]) {
                        *sum += x;
                    }
                }
            }
        }
        for (into, sum) in into.iter_mut().zip(sums) {
            *into += sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(len: usize) -> Vec<f32> {
        (0..len)
            .map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0)
            .collect()
    }

    #[test]
    fn sums_and_maxima_agree_with_a_plain_loop_at_odd_lengths() {
        for len in [0, 1, 15, 31, 32, 33, 64, 257, 1000] {
            let x = numbers(len);
            let plain: f32 = x.iter().map(|x| x * x).sum();
            assert!((sum_pairs(&x, &x, |a, b| a * b) - plain).abs() <= 1e-4 * plain.max(1.0));
            assert_eq!(max(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }

    #[test]
    fn column_sums_agree_with_a_plain_loop_and_add_up() {
        for (rows, width) in [(1, 1), (3, 5), (65, 64), (130, 67), (200, 129)] {
            let x = numbers(rows * width);
            let mut sums = vec![f32::NAN; width];
            column_sums(&mut sums, true, &x, width, 1);
            column_sums(&mut sums, false, &x, width, 1);
            for (column, sum) in sums.iter().enumerate() {
                let plain: f32 = (0..rows).map(|row| x[row * width + column]).sum();
                assert!((sum - 2.0 * plain).abs() < 1e-3, "{rows} {width} {column}");
            }
        }
    }
}
