//! Causal softmax of a block of rows: queries `start` to `end`, each with the keys up to `end`.

use crate::kernels::math::exp;
use crate::kernels::parallel::vectorised;
use crate::kernels::reduce::{max, sum, sum_pairs};

/// Numbers per query that forward leaves for backward: the greatest score, and one over the sum of
/// the exponentials.
pub(crate) const STATS: usize = 2;

vectorised! {
    /// Scores become exp(score - greatest), 0 where the key is later than the query.
    pub(crate) fn softmax_rows(p: &'a mut [f32], stats: &'a mut [f32], start: usize, end: usize) {
        let rows = p.chunks_exact_mut(end).zip(stats.chunks_exact_mut(STATS));
        for ((row, stats), query) in rows.zip(start..) {
            let (seen, hidden) = row.split_at_mut(query + 1);
            let greatest = max(seen);
            for x in seen.iter_mut() {
                *x = exp(*x - greatest);
            }
            hidden.fill(0.0);
            let total = sum(seen, |x| x);
            stats.copy_from_slice(&[greatest, 1.0 / total]);
        }
    }

    /// Scores become probabilities.
    pub(crate) fn probability_rows(p: &'a mut [f32], stats: &'a [f32], start: usize, end: usize) {
        let rows = p.chunks_exact_mut(end).zip(stats.chunks_exact(STATS));
        for ((row, stats), query) in rows.zip(start..) {
            let (seen, hidden) = row.split_at_mut(query + 1);
            for x in seen.iter_mut() {
                *x = exp(*x - stats[0]) * stats[1];
            }
            hidden.fill(0.0);
        }
    }

    /// Gradients of probabilities become gradients of scores: ds = p (dp - sum(p dp)).
    pub(crate) fn score_gradient_rows(dp: &'a mut [f32], p: &'a [f32], start: usize, end: usize) {
        for ((dp, p), query) in dp
            .chunks_exact_mut(end)
            .zip(p.chunks_exact(end))
            .zip(start..)
        {
            let (seen, hidden) = dp.split_at_mut(query + 1);
            let p = &p[..=query];
            let along = sum_pairs(seen, p, |dp, p| dp * p);
            for (dp, p) in seen.iter_mut().zip(p) {
                *dp = p * (*dp - along);
            }
            hidden.fill(0.0);
        }
    }
}
