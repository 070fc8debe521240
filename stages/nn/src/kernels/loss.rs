//! Softmax cross-entropy of rows.

use crate::kernels::math::exp;
use crate::kernels::parallel::{In, Out, spread, vectorised};
use crate::kernels::reduce::{max, sum};

/// How a row's target is turned into a distribution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Targets<'a> {
    /// Classes, or `ignored`.
    pub(crate) classes: &'a [i32],
    pub(crate) ignored: i32,
    /// The share that is spread over all classes.
    pub(crate) smoothing: f32,
}

/// Numbers per row that the forward pass leaves: its loss, its greatest logit, and one over the sum
/// of the exponentials.
pub(crate) const STATS: usize = 3;

/// Losses of rows.
///
/// # Shapes
/// stats [R, 3], logits [R, V], targets \[R\].
pub(crate) fn forward(stats: &mut [f32], logits: &[f32], targets: Targets<'_>, threads: usize) {
    let width = logits.len() / targets.classes.len().max(1);
    let work = (Out(stats, STATS), In(logits, width), In(targets.classes, 1));
    spread(threads, logits.len(), work, |(stats, logits, classes)| {
        let targets = Targets {
            classes: classes.0,
            ..targets
        };
        forward_rows(stats.0, logits.0, targets, width);
    });
}

vectorised! {
    fn forward_rows(
        stats: &'a mut [f32],
        logits: &'a [f32],
        targets: Targets<'a>,
        width: usize,
    ) {
        let rows = stats.chunks_exact_mut(STATS).zip(logits.chunks_exact(width));
        for ((stats, logits), class) in rows.zip(targets.classes) {
            if *class == targets.ignored {
                stats.fill(0.0);
            } else {
                row_forward(stats, logits, *class as usize, targets.smoothing);
            }
        }
    }
}

#[inline(always)]
fn row_forward(stats: &mut [f32], logits: &[f32], class: usize, smoothing: f32) {
    let greatest = max(logits);
    let total = sum(logits, |x| exp(x - greatest));
    let mean = match smoothing {
        0.0 => 0.0,
        _ => sum(logits, |x| x - greatest) / logits.len() as f32,
    };
    let expected = (1.0 - smoothing) * (logits[class] - greatest) + smoothing * mean;
    stats.copy_from_slice(&[log(total) - expected, greatest, 1.0 / total]);
}

fn log(x: f32) -> f32 {
    libm::log(f64::from(x)) as f32
}

/// Logits become `scale` times (softmax - target distribution); rows that do not count, 0.
pub(crate) fn backward(
    logits: &mut [f32],
    stats: &[f32],
    targets: Targets<'_>,
    scale: f32,
    threads: usize,
) {
    let width = logits.len() / targets.classes.len().max(1);
    let elements = logits.len();
    let work = (Out(logits, width), In(stats, STATS), In(targets.classes, 1));
    spread(threads, elements, work, |(logits, stats, classes)| {
        let targets = Targets {
            classes: classes.0,
            ..targets
        };
        backward_rows(logits.0, stats.0, targets, scale, width);
    });
}

vectorised! {
    fn backward_rows(
        logits: &'a mut [f32],
        stats: &'a [f32],
        targets: Targets<'a>,
        scale: f32,
        width: usize,
    ) {
        let even = scale * targets.smoothing / width as f32;
        let on_class = scale * (1.0 - targets.smoothing);
        let rows = logits.chunks_exact_mut(width).zip(stats.chunks_exact(STATS));
        for ((logits, stats), class) in rows.zip(targets.classes) {
            if *class == targets.ignored {
                logits.fill(0.0);
                continue;
            }
            let (greatest, factor) = (stats[1], scale * stats[2]);
            for x in logits.iter_mut() {
                *x = exp(*x - greatest) * factor - even;
            }
            logits[*class as usize] -= on_class;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_and_gradients_agree_with_the_formulas() {
        for (rows, width) in [(1, 1), (3, 5), (7, 33), (5, 130)] {
            let logits: Vec<f32> = (0..rows * width)
                .map(|i| 4.0 * libm::sinf(i as f32 * 0.9))
                .collect();
            let classes: Vec<i32> = (0..rows).map(|r| ((r * 7) % width) as i32).collect();
            for smoothing in [0.0, 0.2] {
                let targets = Targets {
                    classes: &classes,
                    ignored: -1,
                    smoothing,
                };
                let (mut out, mut stats) = (logits.clone(), vec![0.0; rows * STATS]);
                forward(&mut stats, &out, targets, 1);
                backward(&mut out, &stats, targets, 0.5, 1);
                for row in 0..rows {
                    let x = &logits[row * width..][..width];
                    let total: f64 = x.iter().map(|x| libm::exp(f64::from(*x))).sum();
                    let mut loss = 0.0;
                    for (i, x) in x.iter().enumerate() {
                        let hit = if i == classes[row] as usize { 1.0 } else { 0.0 };
                        let wanted = (1.0 - f64::from(smoothing)) * hit
                            + f64::from(smoothing) / width as f64;
                        loss -= wanted * (f64::from(*x) - libm::log(total));
                        let slope = 0.5 * (libm::exp(f64::from(*x)) / total - wanted);
                        assert!((f64::from(out[row * width + i]) - slope).abs() < 1e-6);
                    }
                    assert!((f64::from(stats[row * STATS]) - loss).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn what_is_not_a_number_shows_in_the_loss() {
        let classes = [0];
        let targets = Targets {
            classes: &classes,
            ignored: -1,
            smoothing: 0.0,
        };
        let (logits, mut stats) = ([1.0, f32::NAN, 2.0], vec![0.0; STATS]);
        forward(&mut stats, &logits, targets, 1);
        assert!(stats[0].is_nan());
    }
}
