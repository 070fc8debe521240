//! Causal attention of every (sample, head), block after block of query rows.
//!
//! ```text
//!            keys ─►
//!  queries  ┌──┐             A block of 64 queries sees the keys up to its last query, so
//!     │     │▚ └──┐          only the lower half is computed. Its scores live in scratch.
//!     ▼     │  ▚  └──┐       What outlives the forward pass is two numbers per query:
//!           └──────▚─┘       backward computes the probabilities again.
//! ```
//!
//! Heads of queries share a head of keys and values in groups, often of one. A group is computed
//! together: its keys and values are packed once, and its heads' gradients of them are summed in
//! the heads' order.
//!
//! There are two ways to the same sums, of products in general ([`plain`]) and of tiles that a head
//! packs once ([`tiles`]). In bf16 both give the same bits: all sums go along queries or keys in
//! the same order, and factors come after the sums.

use crate::kernels::parallel::{Out, spread};
use crate::kernels::product::Unit;
use crate::kernels::random::Mask;
use crate::kernels::softmax::{Rows, STATS};
use brigade_layer::Precision;
use ndarray::{
    ArrayView2, ArrayView3, ArrayView4, ArrayViewMut2, ArrayViewMut3, ArrayViewMut4, Axis, s,
};

pub(crate) mod cached;
mod plain;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tiles;
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
#[path = "no_tiles.rs"]
mod tiles;

/// Queries of one block.
const BLOCK: usize = 64;
/// Keys that are computed together, and queries whose gradients are added at once in bf16.
const STRIP: usize = 32;

/// Numbers of a head's queries from which on three pieces pay for being cut.
const WORTH_CUTTING: usize = 512;

/// What all heads have in common.
#[derive(Clone, Copy)]
pub(crate) struct Attention {
    /// Heads of queries.
    pub(crate) heads: usize,
    pub(crate) mask: Option<Mask>,
    /// The mini-batch's number of the first sample.
    pub(crate) first_sample: usize,
    pub(crate) precision: Precision,
    pub(crate) threads: usize,
}

/// Scratch of one thread: matrices of a block's scores, and what products take. The same for every
/// precision and processor, so that plans are.
pub(crate) fn scratch(length: usize, columns: usize, matrices: usize) -> usize {
    let products = plain::space(length, columns).max(packed(length, columns, matrices));
    // Sixteen to begin at a cache line.
    16 + matrices * scores(length) + products
}

/// Numbers of a block of scores.
fn scores(length: usize) -> usize {
    BLOCK.min(length.next_multiple_of(STRIP)) * stride(length)
}

/// From one row of scores to the next: whole strips, and a cache line so that rows do not share
/// their places in the caches.
fn stride(length: usize) -> usize {
    length.next_multiple_of(STRIP) + 16
}

/// Room for a head's tiles: of keys and values, of a strip of queries and of scores, and for
/// backward of the keys again, of two strips of queries and two blocks, and two matrices of sums.
fn packed(length: usize, columns: usize, matrices: usize) -> usize {
    let worth = length * columns >= WORTH_CUTTING;
    let (length, columns) = (
        length.next_multiple_of(STRIP),
        columns.next_multiple_of(STRIP),
    );
    let (head, strip) = (length * columns, STRIP * columns);
    let (packed, summed) = match matrices {
        1 => (2 * head + strip + STRIP * length, 0),
        _ => (
            3 * head + 6 * strip + STRIP * length + 4 * STRIP * STRIP,
            2 * head,
        ),
    };
    // Two bytes for each piece; what is not worth cutting is packed in one.
    let pieces = if worth { 3 } else { 1 };
    packed * pieces / 2 + summed
}

/// Queries [B, T, H, C], keys and values [B, T, G, C]; H is a multiple of G.
pub(crate) type Sequences<'a> = [ArrayView4<'a, f32>; 3];

/// Queries, keys and values of one head, each [T, C].
type Head<'a> = [ArrayView2<'a, f32>; 3];

/// A group's queries [H / G, T, C], keys and values [T, C].
#[derive(Clone, Copy)]
struct Group<'a> {
    q: ArrayView3<'a, f32>,
    k: ArrayView2<'a, f32>,
    v: ArrayView2<'a, f32>,
}

impl<'a> Group<'a> {
    fn head(self, number: usize) -> Head<'a> {
        [self.q.index_axis_move(Axis(0), number), self.k, self.v]
    }

    fn heads(self) -> usize {
        self.q.len_of(Axis(0))
    }
}

struct Forward<'a> {
    /// The group's first head among those of all samples.
    first: usize,
    group: Group<'a>,
    out: ArrayViewMut3<'a, f32>,
    stats: &'a mut [f32],
}

struct Backward<'a> {
    first: usize,
    group: Group<'a>,
    dout: ArrayView3<'a, f32>,
    dq: ArrayViewMut3<'a, f32>,
    dk: ArrayViewMut2<'a, f32>,
    dv: ArrayViewMut2<'a, f32>,
    stats: &'a [f32],
}

/// How heads are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    Tiles(Unit),
}

impl Attention {
    fn way(&self, length: usize, columns: usize) -> Way {
        let worth = self.precision == Precision::Bf16 || length * columns >= WORTH_CUTTING;
        let unit = tiles::unit(self.precision, columns).filter(|_| worth);
        unit.map_or(Way::Plain, Way::Tiles)
    }

    /// # Shapes
    /// out [B, T, H, C], stats [B, H, T, 2], `scratch` of one matrix for each thread.
    pub(crate) fn forward(
        &self,
        out: ArrayViewMut4<'_, f32>,
        stats: &mut [f32],
        sequences: Sequences<'_>,
        scratch: &mut [f32],
    ) {
        let (_, length, _, columns) = out.dim();
        self.forward_by(self.way(length, columns), out, stats, sequences, scratch);
    }

    fn forward_by(
        &self,
        way: Way,
        out: ArrayViewMut4<'_, f32>,
        stats: &mut [f32],
        sequences: Sequences<'_>,
        scratch: &mut [f32],
    ) {
        let groups = groups(sequences);
        let heads = groups.first().map_or(1, |group| group.heads());
        let stats = stats.chunks_exact_mut(STATS * out.len_of(Axis(1)) * heads);
        let mut tasks: Vec<_> = (groups.into_iter().zip(by_group(out, heads)).zip(stats))
            .enumerate()
            .map(|(number, ((group, out), stats))| Forward {
                first: number * heads,
                group,
                out,
                stats,
            })
            .collect();
        self.each(&mut tasks, scratch, |task, scratch| match way {
            Way::Plain => plain::forward(self, task, scratch),
            Way::Tiles(unit) => tiles::forward(unit, self, task, scratch),
        });
    }

    /// # Shapes
    /// Gradients as the sequences, dout [B, T, H, C], stats as in `forward`, scratch of two
    /// matrices.
    pub(crate) fn backward(
        &self,
        gradients: [ArrayViewMut4<'_, f32>; 3],
        dout: ArrayView4<'_, f32>,
        saved: (&[f32], Sequences<'_>),
        scratch: &mut [f32],
    ) {
        let (_, length, _, columns) = dout.dim();
        self.backward_by(self.way(length, columns), gradients, dout, saved, scratch);
    }

    fn backward_by(
        &self,
        way: Way,
        [dq, dk, dv]: [ArrayViewMut4<'_, f32>; 3],
        dout: ArrayView4<'_, f32>,
        (stats, sequences): (&[f32], Sequences<'_>),
        scratch: &mut [f32],
    ) {
        let groups = groups(sequences);
        let heads = groups.first().map_or(1, |group| group.heads());
        let stats = stats.chunks_exact(STATS * dout.len_of(Axis(1)) * heads);
        let douts = views_by_group(dout, heads);
        let [dk, dv] = [dk, dv].map(|gradient| by_group(gradient, 1));
        let gradients = by_group(dq, heads).into_iter().zip(dk).zip(dv);
        let mut tasks: Vec<_> = (groups.into_iter().zip(gradients).zip(douts).zip(stats))
            .enumerate()
            .map(
                |(number, (((group, ((dq, dk), dv)), dout), stats))| Backward {
                    first: number * heads,
                    group,
                    dout,
                    dq,
                    dk: dk.index_axis_move(Axis(0), 0),
                    dv: dv.index_axis_move(Axis(0), 0),
                    stats,
                },
            )
            .collect();
        self.each(&mut tasks, scratch, |task, scratch| match way {
            Way::Plain => plain::backward(self, task, scratch),
            Way::Tiles(unit) => tiles::backward(unit, self, task, scratch),
        });
    }

    /// Does every task, with one row of scratch per group of them.
    fn each<T: Send>(
        &self,
        tasks: &mut [T],
        scratch: &mut [f32],
        body: impl Fn(&mut T, &mut [f32]) + Sync,
    ) {
        let groups = self.threads.clamp(1, tasks.len().max(1));
        let (group, row) = (
            tasks.len().div_ceil(groups),
            scratch.len() / self.threads.max(1),
        );
        let work = (Out(tasks, group), Out(scratch, row));
        let elements = row * groups;
        spread(groups, elements, work, |(tasks, scratch)| {
            let groups = tasks.0.chunks_mut(group.max(1));
            for (tasks, scratch) in groups.zip(scratch.0.chunks_mut(row.max(1))) {
                for task in tasks {
                    body(task, scratch);
                }
            }
        });
    }

    /// Drops probabilities (or their gradients) of a block, by sample, head, query and key.
    fn drop(&self, block: &mut [f32], number: usize, rows: Rows) {
        let Some(mask) = self.mask else { return };
        let sample = (self.first_sample + number / self.heads) as u64;
        let head = (number % self.heads) as u32;
        for (row, query) in block.chunks_mut(rows.stride).zip(rows.first..) {
            // Query t has t + 1 keys: rows follow one another without gaps, whatever the length of
            // the sequence.
            mask.apply(
                &mut row[..=query],
                sample,
                head,
                Mask::blocks(1) * blocks_before(query),
            );
        }
    }
}

/// The groups of all samples, sample by sample.
fn groups([q, k, v]: Sequences<'_>) -> Vec<Group<'_>> {
    let heads = q.len_of(Axis(2)) / k.len_of(Axis(2)).max(1);
    let [k, v] = [k, v].map(|of| views_by_group(of, 1));
    (views_by_group(q, heads).into_iter().zip(k).zip(v))
        .map(|((q, k), v)| {
            let [k, v] = [k, v].map(|of| of.index_axis_move(Axis(0), 0));
            Group { q, k, v }
        })
        .collect()
}

/// [B, T, H, C] as [heads, T, C] of each sample and group.
fn views_by_group(of: ArrayView4<'_, f32>, heads: usize) -> Vec<ArrayView3<'_, f32>> {
    let (samples, _, all, _) = of.dim();
    let numbers = (0..samples).flat_map(|sample| {
        let firsts = (0..all).step_by(heads.max(1));
        firsts.map(move |first| (sample, first))
    });
    numbers
        .map(|(sample, first)| {
            let group = of.slice_move(s![sample, .., first..first + heads, ..]);
            group.permuted_axes([1, 0, 2])
        })
        .collect()
}

/// As `views_by_group`, to be written.
fn by_group(of: ArrayViewMut4<'_, f32>, heads: usize) -> Vec<ArrayViewMut3<'_, f32>> {
    let mut all = Vec::new();
    for sample in of.into_outer_iter_mut() {
        let mut rest = sample.permuted_axes([1, 0, 2]);
        while rest.len_of(Axis(0)) > heads {
            let (group, others) = rest.split_at(Axis(0), heads);
            all.push(group);
            rest = others;
        }
        all.push(rest);
    }
    all
}

/// Groups of 64 keys of all queries before this one.
fn blocks_before(query: usize) -> usize {
    let (whole, rest) = (query / 64, query % 64);
    32 * whole * (whole + 1) + rest * (whole + 1)
}

fn scale_of(q: ArrayView2<'_, f32>) -> f32 {
    1.0 / (q.ncols() as f32).sqrt()
}

#[cfg(test)]
mod tests;
