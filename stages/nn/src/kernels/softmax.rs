//! Softmax of a block of rows: queries from a first one on, each with the keys that it sees.

use crate::kernels::math::exp;
use crate::kernels::parallel::vectorised;
use crate::kernels::reduce::{max, sum, sum_pairs};

/// Numbers per query that forward leaves for backward: the greatest score, and one over the sum of
/// the exponentials.
pub(crate) const STATS: usize = 2;
/// Keys that are looked at together.
const LANES: usize = 32;

/// Where the numbers of a block of rows are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    /// The query of the first row.
    pub(crate) first: usize,
    /// From one row to the next.
    pub(crate) stride: usize,
    /// Numbers of a row that count, a multiple of 32: those of keys that are not seen become 0.
    pub(crate) width: usize,
    /// How many keys every query sees, the first ones: if none, those up to its own position.
    pub(crate) all: Option<usize>,
    /// What products of queries and keys become scores with.
    pub(crate) scale: f32,
}

impl Rows {
    /// How many keys a query sees.
    #[inline(always)]
    pub(crate) fn keys(self, query: usize) -> usize {
        self.all.unwrap_or(query + 1)
    }

    /// The groups of a row that hold what a query sees, how many of the last one it sees, and the
    /// rest of the row.
    #[inline(always)]
    fn seen(self, row: &mut [f32], query: usize) -> (&mut [[f32; LANES]], usize, &mut [f32]) {
        let keys = self.keys(query);
        let whole = (keys - 1) / LANES * LANES;
        let (seen, hidden) = row[..self.width].split_at_mut(whole + LANES);
        (seen.as_chunks_mut().0, keys - whole, hidden)
    }
}

/// All bits of as many numbers as a group has, and then none of as many.
static BITS: [u32; 2 * LANES] = {
    let mut bits = [0; 2 * LANES];
    let mut lane = 0;
    while lane < LANES {
        bits[lane] = u32::MAX;
        lane += 1;
    }
    bits
};

/// Replaces all but the first numbers of the last group. Bits are chosen, as the compiler would
/// make a branch of every number.
#[inline(always)]
fn hide(groups: &mut [[f32; LANES]], seen: usize, with: f32) {
    let kept: &[u32; LANES] = BITS[LANES - seen..].first_chunk().expect("a group");
    if let Some(last) = groups.last_mut() {
        for (x, kept) in last.iter_mut().zip(kept) {
            *x = f32::from_bits(x.to_bits() & kept | with.to_bits() & !kept);
        }
    }
}

vectorised! {
    /// Products become exp(score - greatest), 0 where the query does not see the key.
    pub(crate) fn softmax_rows(p: &'a mut [f32], stats: &'a mut [f32], rows: Rows) {
        let each = p.chunks_mut(rows.stride).zip(stats.chunks_exact_mut(STATS));
        for ((row, stats), query) in each.zip(rows.first..) {
            let (seen, last, hidden) = rows.seen(row, query);
            hidden.fill(0.0);
            hide(seen, last, f32::NEG_INFINITY);
            let greatest = max(seen.as_flattened()) * rows.scale;
            for x in seen.as_flattened_mut() {
                *x = exp(*x * rows.scale - greatest);
            }
            hide(seen, last, 0.0);
            stats.copy_from_slice(&[greatest, 1.0 / sum(seen.as_flattened(), |x| x)]);
        }
    }

    /// Products become probabilities p, and gradients of probabilities become gradients of scores:
    /// ds = p (dp - sum(p dp)).
    pub(crate) fn score_gradient_rows(
        p: &'a mut [f32],
        dp: &'a mut [f32],
        stats: &'a [f32],
        rows: Rows,
    ) {
        let each = p.chunks_mut(rows.stride).zip(dp.chunks_mut(rows.stride));
        for (((p, dp), stats), query) in each.zip(stats.chunks_exact(STATS)).zip(rows.first..) {
            let (p, last, hidden) = rows.seen(p, query);
            hidden.fill(0.0);
            let (dp, _, hidden) = rows.seen(dp, query);
            hidden.fill(0.0);
            hide(dp, last, 0.0);
            let (greatest, share) = (stats[0], stats[1]);
            for p in p.as_flattened_mut() {
                *p = exp(*p * rows.scale - greatest) * share;
            }
            hide(p, last, 0.0);
            let (p, dp) = (p.as_flattened(), dp.as_flattened_mut());
            let along = sum_pairs(p, dp, |p, dp| p * dp);
            for (p, dp) in p.iter().zip(dp) {
                *dp = p * (*dp - along);
            }
        }
    }
}
