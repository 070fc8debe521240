//! Attention of every (sample, head), block after block of query rows.
//!
//! ```text
//!    causal: keys ─►
//!  queries  ┌──┐             A block of 64 queries sees the keys up to its last query, so
//!     │     │▚ └──┐          only the lower half is computed. Its scores live in scratch.
//!     ▼     │  ▚  └──┐       What outlives the forward pass is two numbers per query:
//!           └──────▚─┘       backward computes the probabilities again.
//!    all:    keys ─►
//!  queries  ┌─────┬──┐       Every block sees the same keys. What pads a sample's keys is cut
//!     ▼     └─────┴──┘       off before anything is computed.
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

/// Numbers of a head's queries, and of its keys, from which on three pieces pay for being cut.
const WORTH_CUTTING: usize = 512;

/// Which keys queries see.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sight<'a> {
    /// Those up to their own position: there are as many keys as queries.
    Causal,
    /// All.
    All,
    /// The first ones, of every sample so many: at least one.
    First(&'a [usize]),
}

/// What all heads have in common.
#[derive(Clone, Copy)]
pub(crate) struct Attention<'a> {
    /// Heads of queries.
    pub(crate) heads: usize,
    pub(crate) sight: Sight<'a>,
    pub(crate) mask: Option<Mask>,
    /// The mini-batch's number of the first sample.
    pub(crate) first_sample: usize,
    pub(crate) precision: Precision,
    pub(crate) threads: usize,
}

/// Scratch of one thread: matrices of a block's scores, and what products take. The same for every
/// precision and processor, so that plans are; enough where fewer keys are seen, too.
pub(crate) fn scratch(lengths: Lengths, columns: usize, matrices: usize) -> usize {
    let products = plain::space(lengths, columns).max(packed(lengths, columns, matrices));
    // Sixteen to begin at a cache line.
    16 + matrices * scores(lengths) + products
}

/// Numbers of queries and of keys.
pub(crate) type Lengths = [usize; 2];

/// Numbers of a block of scores.
fn scores([queries, keys]: Lengths) -> usize {
    BLOCK.min(queries.next_multiple_of(STRIP)) * stride(keys)
}

/// From one row of scores to the next: whole strips, and a cache line so that rows do not share
/// their places in the caches.
fn stride(keys: usize) -> usize {
    keys.next_multiple_of(STRIP) + 16
}

/// Whether three pieces pay for being cut.
fn worth_cutting(lengths: Lengths, columns: usize) -> bool {
    lengths
        .into_iter()
        .all(|length| length * columns >= WORTH_CUTTING)
}

/// Room for a head's tiles: of keys and values, of a strip of queries and of scores, and for
/// backward of the keys again, of two strips of queries and two blocks, and two matrices of sums.
fn packed(lengths: Lengths, columns: usize, matrices: usize) -> usize {
    let worth = worth_cutting(lengths, columns);
    let (length, columns) = (
        lengths[1].next_multiple_of(STRIP),
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

/// Queries [B, T, H, C], keys and values [B, S, G, C]; H is a multiple of G.
pub(crate) type Sequences<'a> = [ArrayView4<'a, f32>; 3];

/// Queries [T, C], keys and values [S, C] of one head.
type Head<'a> = [ArrayView2<'a, f32>; 3];

/// A group's queries [H / G, T, C], and the keys and values [S, C] that it sees any of.
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

    fn lengths(self) -> Lengths {
        [self.q.len_of(Axis(1)), self.k.nrows()]
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

impl Attention<'_> {
    fn way(&self, [q, k, _]: Sequences<'_>) -> Way {
        let (lengths, columns) = ([q, k].map(|of| of.len_of(Axis(1))), q.len_of(Axis(3)));
        let worth = self.precision == Precision::Bf16 || worth_cutting(lengths, columns);
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
        self.forward_by(self.way(sequences), out, stats, sequences, scratch);
    }

    fn forward_by(
        &self,
        way: Way,
        out: ArrayViewMut4<'_, f32>,
        stats: &mut [f32],
        sequences: Sequences<'_>,
        scratch: &mut [f32],
    ) {
        let groups = self.groups(sequences);
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
        self.backward_by(self.way(saved.1), gradients, dout, saved, scratch);
    }

    fn backward_by(
        &self,
        way: Way,
        [dq, dk, dv]: [ArrayViewMut4<'_, f32>; 3],
        dout: ArrayView4<'_, f32>,
        (stats, sequences): (&[f32], Sequences<'_>),
        scratch: &mut [f32],
    ) {
        let groups = self.groups(sequences);
        let heads = groups.first().map_or(1, |group| group.heads());
        let stats = stats.chunks_exact(STATS * dout.len_of(Axis(1)) * heads);
        let douts = views_by_group(dout, heads);
        let [dk, dv] = [dk, dv].map(|gradient| by_group(gradient, 1));
        let gradients = by_group(dq, heads).into_iter().zip(dk).zip(dv);
        let mut tasks: Vec<_> = (groups.into_iter().zip(gradients).zip(douts).zip(stats))
            .enumerate()
            .map(|(number, (((group, ((dq, dk), dv)), dout), stats))| {
                let [dk, dv] = [dk, dv].map(|gradient| seen_part(gradient, group.k.nrows()));
                Backward {
                    first: number * heads,
                    group,
                    dout,
                    dq,
                    dk,
                    dv,
                    stats,
                }
            })
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
            // Rows follow one another without gaps: where query t has t + 1 keys, whatever the
            // length of the sequence, otherwise whatever pads the keys.
            let before = match rows.all {
                None => Mask::blocks(1) * blocks_before(query),
                Some(keys) => Mask::blocks(keys) * query,
            };
            mask.apply(&mut row[..rows.keys(query)], sample, head, before);
        }
    }

    /// The keys that every query of a group with so many sees; if none, those up to itself.
    fn all(&self, keys: usize) -> Option<usize> {
        (!matches!(self.sight, Sight::Causal)).then_some(keys)
    }

    /// The groups of all samples, sample by sample.
    fn groups<'a>(&self, [q, k, v]: Sequences<'a>) -> Vec<Group<'a>> {
        let (keys, groups) = (k.len_of(Axis(1)), k.len_of(Axis(2)).max(1));
        let heads = q.len_of(Axis(2)) / groups;
        let [k, v] = [k, v].map(|of| views_by_group(of, 1));
        (views_by_group(q, heads).into_iter().zip(k).zip(v))
            .enumerate()
            .map(|(number, ((q, k), v))| {
                let seen = match self.sight {
                    Sight::First(lengths) => lengths[number / groups].clamp(1, keys),
                    _ => keys,
                };
                let [k, v] = [k, v].map(|of| of.slice_move(s![0, ..seen, ..]));
                Group { q, k, v }
            })
            .collect()
    }
}

/// The gradient of the keys or values that are seen, out of [1, S, C]: all others get none.
fn seen_part(gradient: ArrayViewMut3<'_, f32>, seen: usize) -> ArrayViewMut2<'_, f32> {
    let whole = gradient.index_axis_move(Axis(0), 0);
    let (part, mut rest) = whole.split_at(Axis(0), seen);
    rest.fill(0.0);
    part
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
