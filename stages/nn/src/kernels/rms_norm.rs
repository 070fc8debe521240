//! Normalisation of rows by their root mean square.

use crate::kernels::norm::BLOCK_ROWS;
use crate::kernels::parallel::{In, Out, spread, vectorised};
use crate::kernels::reduce::{sum, sum_pairs};

/// y = x / sqrt(mean(x^2) + eps) * weight, row by row, with 1 / sqrt(..) of each row in `stats`.
pub(crate) fn forward(
    y: &mut [f32],
    stats: &mut [f32],
    x: &[f32],
    (weight, eps): (&[f32], f32),
    threads: usize,
) {
    let work = (Out(y, weight.len()), Out(stats, 1), In(x, weight.len()));
    spread(threads, x.len(), work, |(y, stats, x)| {
        forward_rows(y.0, stats.0, x.0, weight, eps);
    });
}

vectorised! {
    fn forward_rows(
        y: &'a mut [f32],
        stats: &'a mut [f32],
        x: &'a [f32],
        weight: &'a [f32],
        eps: f32,
    ) {
        let width = weight.len();
        let rows = y.chunks_exact_mut(width).zip(x.chunks_exact(width));
        for ((y, x), stats) in rows.zip(stats) {
            let inverse = 1.0 / (sum(x, |x| x * x) / width as f32 + eps).sqrt();
            *stats = inverse;
            for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                *y = x * inverse * weight;
            }
        }
    }
}

/// dy becomes dx. Each block of rows leaves its share of dweight in `shares`.
///
/// # Shapes
/// dy, x [R, D], stats \[R\], weight \[D\], shares [R / 64 rounded up, D].
pub(crate) fn backward(
    dy: &mut [f32],
    shares: &mut [f32],
    (x, stats): (&[f32], &[f32]),
    weight: &[f32],
    threads: usize,
) {
    let width = weight.len();
    let work = (
        Out(dy, BLOCK_ROWS * width),
        Out(shares, width),
        In(x, BLOCK_ROWS * width),
        In(stats, BLOCK_ROWS),
    );
    spread(threads, x.len(), work, |(dy, shares, x, stats)| {
        backward_blocks(dy.0, shares.0, (x.0, stats.0), weight);
    });
}

vectorised! {
    fn backward_blocks(
        dy: &'a mut [f32],
        shares: &'a mut [f32],
        saved: (&'a [f32], &'a [f32]),
        weight: &'a [f32],
    ) {
        let width = weight.len();
        let blocks = dy.chunks_mut(BLOCK_ROWS * width).zip(saved.0.chunks(BLOCK_ROWS * width));
        let shares = shares.chunks_exact_mut(width);
        for ((dy, x), (dweight, stats)) in blocks.zip(shares.zip(saved.1.chunks(BLOCK_ROWS))) {
            dweight.fill(0.0);
            let rows = dy.chunks_exact_mut(width).zip(x.chunks_exact(width));
            for ((dy, x), inverse) in rows.zip(stats) {
                row_backward(dy, x, *inverse, weight, dweight);
            }
        }
    }
}

#[inline(always)]
fn row_backward(dy: &mut [f32], x: &[f32], inverse: f32, weight: &[f32], dweight: &mut [f32]) {
    let width = weight.len();
    let (dy, x, dweight) = (&mut dy[..width], &x[..width], &mut dweight[..width]);
    for i in 0..width {
        dweight[i] += dy[i] * (x[i] * inverse);
        dy[i] *= weight[i];
    }
    let across = sum_pairs(dy, x, |dy, x| dy * (x * inverse)) / width as f32;
    for i in 0..width {
        dy[i] = inverse * (dy[i] - x[i] * inverse * across);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_agree_with_the_formulas_at_odd_sizes() {
        for (rows, width) in [(1, 1), (3, 7), (65, 33), (130, 100)] {
            let wave = |len: usize, k: f32| -> Vec<f32> {
                (0..len).map(|i| libm::sinf(i as f32 * k) + 0.2).collect()
            };
            let size = rows * width;
            let (x, dy, weight) = (wave(size, 0.7), wave(size, 1.3), wave(width, 2.1));
            let (mut y, mut stats) = (vec![0.0; size], vec![0.0; rows]);
            forward(&mut y, &mut stats, &x, (&weight, 1e-5), 1);
            let blocks = rows.div_ceil(BLOCK_ROWS);
            let (mut dx, mut shares) = (dy.clone(), vec![f32::NAN; blocks * width]);
            backward(&mut dx, &mut shares, (&x, &stats), &weight, 1);
            let near = |a: f32, b: f64| (f64::from(a) - b).abs() < 1e-5 * (1.0 + b.abs());
            let mut dweight = vec![0.0; width];
            for row in 0..rows {
                let of = |of: &[f32], i: usize| f64::from(of[row * width + i]);
                let n = width as f64;
                let squares = (0..width).map(|i| of(&x, i).powi(2)).sum::<f64>();
                let inverse = 1.0 / (squares / n + 1e-5).sqrt();
                let g = |i: usize| of(&dy, i) * f64::from(weight[i]);
                let across = (0..width).map(|i| g(i) * of(&x, i) * inverse).sum::<f64>() / n;
                for i in 0..width {
                    let normal = of(&x, i) * inverse;
                    assert!(near(y[row * width + i], normal * f64::from(weight[i])));
                    let truth = inverse * (g(i) - normal * across);
                    assert!(near(dx[row * width + i], truth), "{rows} {width} {i}");
                    dweight[i] += of(&dy, i) * normal;
                }
            }
            for i in 0..width {
                let found: f32 = (0..blocks).map(|block| shares[block * width + i]).sum();
                assert!(near(found, dweight[i]), "{rows} {width} {i}");
            }
        }
    }
}
