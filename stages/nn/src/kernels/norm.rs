//! Layer normalisation of rows.

use crate::kernels::parallel::{In, Out, spread, vectorised};
use crate::kernels::reduce::{sum, sum_pairs};

/// Rows whose share of the weight gradient is summed before it is added to the others'.
pub(crate) const BLOCK_ROWS: usize = 64;

/// y = (x - mean) / sqrt(variance + eps) * weight + bias, row by row, with (mean, 1 / sqrt(..)) of
/// each row in `stats`.
pub(crate) fn forward(
    y: &mut [f32],
    stats: &mut [f32],
    x: &[f32],
    (weight, bias): (&[f32], Option<&[f32]>),
    eps: f32,
    threads: usize,
) {
    let work = (Out(y, weight.len()), Out(stats, 2), In(x, weight.len()));
    spread(threads, x.len(), work, |(y, stats, x)| {
        forward_rows(y.0, stats.0, x.0, (weight, bias), eps);
    });
}

vectorised! {
    fn forward_rows(
        y: &'a mut [f32],
        stats: &'a mut [f32],
        x: &'a [f32],
        weights: (&'a [f32], Option<&'a [f32]>),
        eps: f32,
    ) {
        let (weight, bias) = weights;
        let width = weight.len();
        let rows = y.chunks_exact_mut(width).zip(x.chunks_exact(width));
        for ((y, x), stats) in rows.zip(stats.chunks_exact_mut(2)) {
            let (mean, inverse) = moments(x, eps);
            stats.copy_from_slice(&[mean, inverse]);
            for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                *y = (x - mean) * inverse * weight;
            }
            for (y, bias) in y.iter_mut().zip(bias.unwrap_or_default()) {
                *y += bias;
            }
        }
    }
}

/// In two passes: E[x^2] - E[x]^2 would cancel.
#[inline(always)]
fn moments(x: &[f32], eps: f32) -> (f32, f32) {
    let mean = sum(x, |x| x) / x.len() as f32;
    let variance = sum(x, |x| (x - mean) * (x - mean)) / x.len() as f32;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// dy becomes dx. Each block of rows leaves its share of (dweight, dbias) in `shares`.
///
/// # Shapes
/// dy, x [R, D], stats [R, 2], weight \[D\], shares [R / 64 rounded up, 2, D].
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
        Out(shares, 2 * width),
        In(x, BLOCK_ROWS * width),
        In(stats, BLOCK_ROWS * 2),
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
        let shares = shares.chunks_exact_mut(2 * width);
        for ((dy, x), (shares, stats)) in blocks.zip(shares.zip(saved.1.chunks(BLOCK_ROWS * 2))) {
            shares.fill(0.0);
            let (dweight, dbias) = shares.split_at_mut(width);
            let rows = dy.chunks_exact_mut(width).zip(x.chunks_exact(width));
            for ((dy, x), stats) in rows.zip(stats.chunks_exact(2)) {
                row_backward(dy, x, [stats[0], stats[1]], weight, dweight, dbias);
            }
        }
    }
}

#[inline(always)]
fn row_backward(
    dy: &mut [f32],
    x: &[f32],
    [mean, inverse]: [f32; 2],
    weight: &[f32],
    dweight: &mut [f32],
    dbias: &mut [f32],
) {
    let width = weight.len();
    let scale = 1.0 / width as f32;
    let (dy, x) = (&mut dy[..width], &x[..width]);
    let (dweight, dbias) = (&mut dweight[..width], &mut dbias[..width]);
    for i in 0..width {
        dweight[i] += dy[i] * ((x[i] - mean) * inverse);
        dbias[i] += dy[i];
        dy[i] *= weight[i];
    }
    let along = sum(dy, |dy| dy) * scale;
    let across = sum_pairs(dy, x, |dy, x| dy * ((x - mean) * inverse)) * scale;
    for i in 0..width {
        dy[i] = inverse * (dy[i] - along - (x[i] - mean) * inverse * across);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The formulas, row by row in double precision. Gives (dx, dweight, dbias).
    fn naive(dy: &[f32], x: &[f32], weight: &[f32]) -> [Vec<f64>; 3] {
        let width = weight.len();
        let mut all = [Vec::new(), vec![0.0; width], vec![0.0; width]];
        for (dy, x) in dy.chunks(width).zip(x.chunks(width)) {
            let x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
            let dy: Vec<f64> = dy.iter().map(|dy| f64::from(*dy)).collect();
            let n = width as f64;
            let mean = x.iter().sum::<f64>() / n;
            let inverse =
                1.0 / (x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n + 1e-5).sqrt();
            let normal: Vec<f64> = x.iter().map(|x| (x - mean) * inverse).collect();
            let g: Vec<f64> = dy
                .iter()
                .zip(weight)
                .map(|(dy, w)| dy * f64::from(*w))
                .collect();
            let along = g.iter().sum::<f64>() / n;
            let across = g.iter().zip(&normal).map(|(g, x)| g * x).sum::<f64>() / n;
            for i in 0..width {
                all[0].push(inverse * (g[i] - along - normal[i] * across));
                all[1][i] += dy[i] * normal[i];
                all[2][i] += dy[i];
            }
        }
        all
    }

    #[test]
    fn backward_agrees_with_the_formulas_at_odd_sizes() {
        for (rows, width) in [(1, 1), (3, 7), (65, 33), (130, 100)] {
            let wave = |len: usize, k: f32| -> Vec<f32> {
                (0..len).map(|i| libm::sinf(i as f32 * k) + 0.2).collect()
            };
            let (x, dy, weight) = (
                wave(rows * width, 0.7),
                wave(rows * width, 1.3),
                wave(width, 2.1),
            );
            let (mut y, mut stats) = (vec![0.0; x.len()], vec![0.0; 2 * rows]);
            forward(&mut y, &mut stats, &x, (&weight, None), 1e-5, 1);
            let [dx, dweight, dbias] = naive(&dy, &x, &weight);
            let blocks = rows.div_ceil(BLOCK_ROWS);
            let (mut gradient, mut shares) = (dy.clone(), vec![f32::NAN; blocks * 2 * width]);
            backward(&mut gradient, &mut shares, (&x, &stats), &weight, 1);
            let near = |a: f32, b: f64| (f64::from(a) - b).abs() < 2e-4 * (1.0 + b.abs());
            assert!(gradient.iter().zip(dx).all(|(a, b)| near(*a, b)) || width == 1);
            for i in 0..width {
                let of = |from: usize| -> f32 {
                    (0..blocks).map(|b| shares[b * 2 * width + from + i]).sum()
                };
                assert!(
                    near(of(0), dweight[i]) && near(of(width), dbias[i]),
                    "{rows} {width} {i}"
                );
            }
        }
    }
}
