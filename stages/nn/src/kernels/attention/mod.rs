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
//! There are two ways to the same sums, of products in general ([`plain`]) and of tiles that a head
//! packs once ([`tiles`]). In bf16 both give the same bits: all sums go along queries or keys in
//! the same order, and factors come after the sums.

use crate::kernels::parallel::{Out, spread};
use crate::kernels::product::Unit;
use crate::kernels::random::Mask;
use crate::kernels::softmax::{Rows, STATS};
use brigade_layer::Precision;
use ndarray::{ArrayView2, ArrayView4, ArrayViewMut2, ArrayViewMut4, ArrayViewMut5, Axis, s};

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

/// Queries, keys and values of one head, each [T, C] for C = D / H.
type Head<'a> = [ArrayView2<'a, f32>; 3];

struct Forward<'a> {
    number: usize,
    out: ArrayViewMut2<'a, f32>,
    stats: &'a mut [f32],
}

struct Backward<'a> {
    number: usize,
    dout: ArrayView2<'a, f32>,
    gradients: [ArrayViewMut2<'a, f32>; 3],
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
    /// out [B, T, H, C], stats [B, H, T, 2], qkv [B, T, 3 H, C], `scratch` of one matrix for each
    /// thread.
    pub(crate) fn forward(
        &self,
        out: ArrayViewMut4<'_, f32>,
        stats: &mut [f32],
        qkv: ArrayView4<'_, f32>,
        scratch: &mut [f32],
    ) {
        let way = self.way(qkv.len_of(Axis(1)), qkv.len_of(Axis(3)));
        self.forward_by(way, out, stats, qkv, scratch);
    }

    fn forward_by(
        &self,
        way: Way,
        out: ArrayViewMut4<'_, f32>,
        stats: &mut [f32],
        qkv: ArrayView4<'_, f32>,
        scratch: &mut [f32],
    ) {
        let length = qkv.len_of(Axis(1));
        let mut stats = stats.chunks_exact_mut(STATS * length);
        let mut out = out.permuted_axes([0, 2, 1, 3]);
        let heads = out
            .outer_iter_mut()
            .flat_map(|sample| sample.into_outer_iter_mut());
        let mut tasks: Vec<_> = heads
            .zip(&mut stats)
            .enumerate()
            .map(|(number, (out, stats))| Forward { number, out, stats })
            .collect();
        self.each(&mut tasks, scratch, |task, scratch| {
            let head = self.head(qkv, task.number);
            match way {
                Way::Plain => plain::forward(self, task, head, scratch),
                Way::Tiles(unit) => tiles::forward(unit, self, task, head, scratch),
            }
        });
    }

    /// # Shapes
    /// dqkv [B, T, 3, H, C], dout [B, T, H, C], stats and qkv as in `forward`, scratch of two
    /// matrices.
    pub(crate) fn backward(
        &self,
        dqkv: ArrayViewMut5<'_, f32>,
        dout: ArrayView4<'_, f32>,
        (stats, qkv): (&[f32], ArrayView4<'_, f32>),
        scratch: &mut [f32],
    ) {
        let way = self.way(qkv.len_of(Axis(1)), qkv.len_of(Axis(3)));
        self.backward_by(way, dqkv, dout, (stats, qkv), scratch);
    }

    fn backward_by(
        &self,
        way: Way,
        dqkv: ArrayViewMut5<'_, f32>,
        dout: ArrayView4<'_, f32>,
        (stats, qkv): (&[f32], ArrayView4<'_, f32>),
        scratch: &mut [f32],
    ) {
        let length = qkv.len_of(Axis(1));
        let dout = dout.permuted_axes([0, 2, 1, 3]);
        let mut dqkv = dqkv.permuted_axes([0, 3, 2, 1, 4]);
        let heads = dqkv
            .outer_iter_mut()
            .flat_map(|sample| sample.into_outer_iter_mut());
        let mut tasks: Vec<_> = heads
            .zip(stats.chunks_exact(STATS * length))
            .enumerate()
            .map(|(number, (head, stats))| {
                let (sample, head_number) = (number / self.heads, number % self.heads);
                let mut parts = head.into_outer_iter_mut();
                let gradients = std::array::from_fn(|_| parts.next().expect("q, k and v"));
                let dout = dout.slice_move(s![sample, head_number, .., ..]);
                Backward {
                    number,
                    dout,
                    gradients,
                    stats,
                }
            })
            .collect();
        self.each(&mut tasks, scratch, |task, scratch| {
            let head = self.head(qkv, task.number);
            match way {
                Way::Plain => plain::backward(self, task, head, scratch),
                Way::Tiles(unit) => tiles::backward(unit, self, task, head, scratch),
            }
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

    fn head<'a>(&self, qkv: ArrayView4<'a, f32>, number: usize) -> Head<'a> {
        let (sample, head) = (number / self.heads, number % self.heads);
        [0, 1, 2].map(|part| {
            let column = part * self.heads + head;
            qkv.slice_move(s![sample, .., column, ..])
        })
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
