//! A product along a piece of the inner dimension: blocks in an order that packs little.
//!
//! ```text
//!            columns of b: 32 at a time
//!           ┌──┬──┬──┬──┬──┬──┐
//!           │                 │ packed for the first rows, and kept for the others where that is
//!           └──┴──┴──┴──┴──┴──┘ less work than packing them again
//!  rows of a ┌┐┌──┬──┬──┬──┬──┬──┐
//!  packed    ││├──┼──┼──┼──┼──┼──┤
//!  together  ││├──┼──┼──┼──┼──┼──┤
//!            └┘└──┴──┴──┴──┴──┴──┘
//! ```
#![allow(unsafe_code)]

use super::ahead::Ahead;
use super::out::{Finish, Out, Place, Then};
use super::pack::{Lines, Role, pack};
use super::unit::{Multiply, Tiles, To};
use super::{BLOCK, DEPTH, SIDE, TILE};
use crate::kernels::product::prepared::block;
use crate::kernels::product::{Onto, Product, columns_kept, rows_at_once};

/// A product in `P` pieces of every number.
pub(super) struct Piece<'a, const P: usize> {
    sizes: [usize; 3],
    c: *mut f32,
    c_stride: isize,
    add: bool,
    past: bool,
    bias: Option<&'a [f32]>,
    then: Option<Then>,
    a: Lines,
    b: Lines,
    /// Tiles along the lines, and numbers from one group of sixteen lines to the next.
    blocks: usize,
    group: usize,
    rows_at_once: usize,
    /// Columns that are packed at once.
    columns_at_once: usize,
    /// Columns that are kept packed; none when every block of rows packs them again.
    columns_kept: Option<usize>,
    packed_a: *mut u16,
    packed_b: *mut u16,
    /// From one block of packed columns to the next.
    block_b: usize,
    /// Whether b was packed before.
    prepared: bool,
}

/// A destination of so many numbers leaves no room for others in the second cache.
const FAR: usize = 512 * 1024;

/// Columns of b that are packed at once, in so many pieces: half of what a second cache holds, with
/// what they are made of.
const fn columns_at_once(inner: usize, pieces: usize) -> usize {
    let numbers = if pieces == 1 { 128 } else { 64 } * 1024;
    numbers / inner.next_multiple_of(DEPTH) / BLOCK * BLOCK
}

/// A stretch of rows or columns.
#[derive(Clone, Copy)]
struct Span {
    first: usize,
    count: usize,
}

impl Span {
    fn of(first: usize, most: usize, end: usize) -> Self {
        let count = (end - first).min(most);
        Self { first, count }
    }

    fn chunks(self, most: usize) -> impl Iterator<Item = Self> {
        let end = self.first + self.count;
        (self.first..end)
            .step_by(most)
            .map(move |first| Self::of(first, most, end))
    }
}

impl<'a, const P: usize> Piece<'a, P> {
    /// `space` is where packed factors go.
    pub(super) fn of(product: &mut Product<'a>, space: &mut [f32]) -> Self {
        let sizes @ [m, n, k] = product.sizes();
        assert!(
            n == 1 || product.c.strides()[1] == 1,
            "rows of c are contiguous"
        );
        let (a, b) = (Lines::rows(&product.a), Lines::columns(&product.b));
        let (rows_at_once, most) = (rows_at_once(k) * 3 / P, columns_kept(k) * 3 / P);
        // Packing lines costs about twice as much when they are transposed on the way.
        let (a_cost, b_cost) = (a.cost(Role::A) * m, b.cost(Role::B) * n);
        // What is kept leaves the nearest caches: twice as much again.
        let keeping = a_cost * n.div_ceil(most) + 2 * b_cost;
        let again = a_cost + b_cost * m.div_ceil(rows_at_once);
        let blocks = k.div_ceil(DEPTH);
        let group = blocks * P * TILE;
        let columns_kept = (keeping < again).then_some(most);
        let rows = m.min(rows_at_once).next_multiple_of(BLOCK);
        let room = (2 * space.len() / group * SIDE).saturating_sub(rows);
        let columns_at_once = columns_at_once(k, P).min(room / BLOCK * BLOCK);
        let columns = columns_kept.unwrap_or(columns_at_once).min(n);
        assert!(
            columns_at_once > 0 && columns.next_multiple_of(BLOCK) <= room,
            "a product's scratch"
        );
        let packed = space.as_mut_ptr().cast::<u16>();
        let own = (packed.wrapping_add(rows / SIDE * group), 2 * group);
        let prepared = product.prepared.as_ref().filter(|_| P == 1).map(|b| {
            let block = block(b.steps);
            assert!(
                b.numbers.len() >= n.div_ceil(BLOCK) * block,
                "a prepared factor"
            );
            let first = b.numbers.as_ptr().wrapping_add(b.first_step * BLOCK / 2);
            (first.cast::<u16>().cast_mut(), 2 * block)
        });
        let (packed_b, block_b) = prepared.unwrap_or(own);
        Self {
            sizes,
            c: product.c.as_mut_ptr(),
            c_stride: product.c.strides()[0],
            add: product.onto == Onto::Present,
            past: product.onto == Onto::Nothing && m * n >= FAR,
            bias: product.bias,
            then: product.after.as_mut().map(Then::of),
            a,
            b,
            blocks,
            group,
            rows_at_once,
            columns_at_once,
            columns_kept,
            packed_a: packed,
            packed_b,
            block_b,
            prepared: prepared.is_some(),
        }
    }

    /// # Safety
    /// The unit is available and has begun, and the scratch begins at a cache line.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) unsafe fn run<U: Multiply>(&self) {
        let [m, n, _] = self.sizes;
        let mut out = Out::new();
        for column in (0..n).step_by(self.columns_kept.unwrap_or(n)) {
            let columns = Span::of(column, self.columns_kept.unwrap_or(n), n);
            for row in (0..m).step_by(self.rows_at_once) {
                // SAFETY: as the caller says.
                unsafe { self.rows::<U>(Span::of(row, self.rows_at_once, m), columns, &mut out) }
            }
        }
        // SAFETY: as the caller says.
        unsafe { out.rest() }
    }

    /// # Safety
    /// As `run`.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn rows<U: Multiply>(&self, rows: Span, columns: Span, out: &mut Out) {
        let [_, _, k] = self.sizes;
        let group = self.group;
        // SAFETY: rows and columns exist, and there is room for their tiles.
        unsafe {
            let lines = self.a.from(rows.first, rows.count);
            pack::<P>(self.packed_a, [group, 2 * group], lines, k, Role::A);
            for chunk in columns.chunks(self.columns_at_once) {
                let to = self.packed_columns(columns, chunk);
                if !self.is_packed(rows) {
                    let lines = self.b.from(chunk.first, chunk.count);
                    pack::<P>(to, [group, self.block_b], lines, k, Role::B);
                }
                let mut next = self.next(rows, columns, chunk, to);
                for (number, block) in chunk.chunks(BLOCK).enumerate() {
                    let packed = to.add(number * self.block_b);
                    self.column_block::<U>([rows, block], packed, &mut next, out);
                }
            }
        }
    }

    /// Whether columns are packed already when these rows need them.
    fn is_packed(&self, rows: Span) -> bool {
        self.prepared || self.columns_kept.is_some() && rows.first > 0
    }

    /// Where a chunk out of some columns is packed.
    fn packed_columns(&self, columns: Span, chunk: Span) -> *mut u16 {
        let column = match (self.prepared, self.columns_kept) {
            (true, _) => chunk.first,
            (false, Some(_)) => chunk.first - columns.first,
            (false, None) => 0,
        };
        self.packed_b.wrapping_add(column / BLOCK * self.block_b)
    }

    /// What will be packed, or read, after a chunk of columns.
    fn next(&self, rows: Span, columns: Span, chunk: Span, packed: *const u16) -> Ahead {
        let [m, _, k] = self.sizes;
        let pulls = self.blocks * rows.count.div_ceil(BLOCK) * chunk.count.div_ceil(BLOCK);
        let (end, last) = (chunk.first + chunk.count, columns.first + columns.count);
        let columns = (last - end).min(self.columns_at_once);
        if columns > 0 && self.is_packed(rows) {
            let packed = packed.wrapping_add(chunk.count.div_ceil(BLOCK) * self.block_b);
            let sizes = [columns.div_ceil(BLOCK), 2 * self.group];
            Ahead::of_packed(packed, self.block_b, sizes, pulls)
        } else if columns > 0 {
            Ahead::of(self.b.from(end, columns), k, pulls)
        } else {
            let first = rows.first + rows.count;
            let rows = (m - first).min(self.rows_at_once);
            Ahead::of(self.a.from(first, rows), k, pulls)
        }
    }

    /// Multiplies packed rows by a packed block of columns; meanwhile, what comes next is fetched,
    /// and what came before leaves.
    ///
    /// # Safety
    /// As `run`.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn column_block<U: Multiply>(
        &self,
        [rows, columns]: [Span; 2],
        packed: *mut u16,
        next: &mut Ahead,
        out: &mut Out,
    ) {
        let (group, blocks) = (self.group, self.blocks);
        for (number, rows) in rows.chunks(BLOCK).enumerate() {
            // SAFETY: the block is within c, and its factors are packed.
            unsafe {
                let into = out.begin(self.place(rows, columns), self.finish(rows, columns));
                let meanwhile = &mut || {
                    next.pull();
                    out.push();
                };
                let to = To {
                    first: into,
                    stride: BLOCK,
                    onto: false,
                };
                let tiles = Tiles {
                    a: self.packed_a.add(number * 2 * group),
                    b: packed,
                    group,
                    along: blocks,
                };
                match (rows.count > SIDE, columns.count > SIDE) {
                    (true, true) => U::multiply::<P, true, true>(to, tiles, meanwhile),
                    (true, false) => U::multiply::<P, true, false>(to, tiles, meanwhile),
                    (false, true) => U::multiply::<P, false, true>(to, tiles, meanwhile),
                    (false, false) => U::multiply::<P, false, false>(to, tiles, meanwhile),
                }
                out.leave(blocks);
            }
        }
    }

    fn place(&self, rows: Span, columns: Span) -> Place {
        let c = self.c.wrapping_offset(rows.first as isize * self.c_stride);
        let sizes = [rows.count, columns.count];
        Place::new(c.wrapping_add(columns.first), self.c_stride, sizes)
    }

    fn finish(&self, rows: Span, columns: Span) -> Finish {
        Finish {
            add: self.add,
            past: self.past,
            bias: self.bias.map(|bias| bias[columns.first..].as_ptr()),
            then: self.then.map(|then| then.at(rows.first, columns.first)),
        }
    }
}
