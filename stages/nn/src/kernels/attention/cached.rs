//! Attention of a few new queries to all keys so far: how a sequence goes on.

use crate::kernels::math::exp;
use crate::kernels::parallel::{In, Out, spread, vectorised};
use crate::kernels::reduce::{max, sum, sum_pairs};
use ndarray::ArrayView4;

/// How the numbers of a cache lie.
#[derive(Clone, Copy)]
pub(crate) struct Cache {
    /// Heads of queries, and of keys.
    pub(crate) heads: [usize; 2],
    /// Columns of a head.
    pub(crate) columns: usize,
    /// Positions that there is room for.
    pub(crate) room: usize,
    /// Positions before the new ones.
    pub(crate) before: usize,
    /// New positions.
    pub(crate) new: usize,
}

/// Puts new keys or values behind those that there are.
///
/// # Shapes
/// cache [B, G, room, C], new [B, T, G, C].
pub(crate) fn append(cache: &mut [f32], new: ArrayView4<'_, f32>, of: Cache) {
    let (groups, columns) = (of.heads[1], of.columns);
    for (number, row) in new.rows().into_iter().enumerate() {
        let (position, group) = (number / groups, number % groups);
        let (sample, position) = (position / of.new, position % of.new);
        let at = (sample * groups + group) * of.room + of.before + position;
        let into = cache[at * columns..][..columns].iter_mut();
        into.zip(row).for_each(|(into, new)| *into = *new);
    }
}

/// y = softmax(q k^T / sqrt(C), causal) v of the new positions.
///
/// # Shapes
/// y and q [B, T, H, C], keys and values [B, G, room, C], scores [H, room].
pub(crate) fn attend(
    y: &mut [f32],
    q: ArrayView4<'_, f32>,
    [keys, values]: [&[f32]; 2],
    (scores, threads): (&mut [f32], usize),
    of: Cache,
) {
    let Cache {
        heads: [heads, groups],
        columns,
        room,
        before,
        new,
    } = of;
    let row = heads * columns;
    let positions = q.outer_iter();
    let positions = positions.flat_map(|sample| sample.into_outer_iter());
    for (number, (y, q)) in y.chunks_exact_mut(row).zip(positions).enumerate() {
        let q = q
            .to_slice()
            .expect("the heads of a position lie side by side");
        let (sample, seen) = (number / new, before + number % new + 1);
        let cache = [keys, values].map(|all| &all[sample * groups * room * columns..]);
        let work = (
            Out(y, columns),
            Out(&mut *scores, room),
            In(q, columns),
            0..heads,
        );
        spread(threads, row * seen, work, |(y, scores, q, heads)| {
            attend_heads(y.0, scores.0, (q.0, heads.start), (cache, seen), of);
        });
    }
}

vectorised! {
    fn attend_heads(
        y: &'a mut [f32],
        scores: &'a mut [f32],
        queries: (&'a [f32], usize),
        seen: ([&'a [f32]; 2], usize),
        of: Cache,
    ) {
        let Cache { heads: [heads, groups], columns, room, .. } = of;
        let ((q, first), (cache, seen)) = (queries, seen);
        let scale = 1.0 / (columns as f32).sqrt();
        let each = y.chunks_exact_mut(columns).zip(q.chunks_exact(columns));
        for (((y, q), scores), head) in each.zip(scores.chunks_exact_mut(room)).zip(first..) {
            let at = head / (heads / groups) * room * columns;
            let [keys, values] = cache.map(|all| &all[at..][..seen * columns]);
            let scores = &mut scores[..seen];
            for (score, key) in scores.iter_mut().zip(keys.chunks_exact(columns)) {
                *score = sum_pairs(q, key, |q, key| q * key) * scale;
            }
            let greatest = max(scores);
            for score in scores.iter_mut() {
                *score = exp(*score - greatest);
            }
            let share = 1.0 / sum(scores, |score| score);
            y.fill(0.0);
            for (score, value) in scores.iter().zip(values.chunks_exact(columns)) {
                let weight = score * share;
                for (y, value) in y.iter_mut().zip(value) {
                    *y = value.mul_add(weight, *y);
                }
            }
        }
    }
}
