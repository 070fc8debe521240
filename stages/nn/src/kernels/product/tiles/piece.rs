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
use super::block::{Finish, Sums, multiply, put};
use super::pack::{Lines, Role, pack};
use super::{BLOCK, DEPTH, SIDE, TILE};
use crate::kernels::elementwise::Function;
use crate::kernels::product::{After, Onto, Product, columns_kept, rows_at_once};
use ndarray::{ArrayView2, ArrayViewMut2, ShapeBuilder};

/// A product in `P` pieces of every number.
pub(super) struct Piece<'a, const P: usize> {
    sizes: [usize; 3],
    c: *mut f32,
    c_stride: isize,
    add: bool,
    bias: Option<&'a [f32]>,
    then: Option<Then>,
    a: Lines,
    b: Lines,
    /// Tiles along the lines, and numbers from one group of sixteen lines to the next.
    blocks: usize,
    group: usize,
    rows_at_once: usize,
    /// Columns that are kept packed; none when every block of rows packs them again.
    columns_kept: Option<usize>,
    packed_a: *mut u16,
    packed_b: *mut u16,
}

/// What is done with a block of sums, together with one of another matrix.
#[derive(Clone, Copy)]
struct Then {
    f: Function,
    /// Whether the other is where f(c) goes, or where c is to be multiplied by f'(other).
    value: bool,
    other: *mut f32,
    stride: isize,
}

impl Then {
    fn of(after: &mut After<'_>) -> Self {
        match after {
            After::Value { f, into } => Self {
                f: *f,
                value: true,
                stride: into.strides()[0],
                other: into.as_mut_ptr(),
            },
            After::Slope { f, of } => Self {
                f: *f,
                value: false,
                stride: of.strides()[0],
                other: of.as_ptr().cast_mut(),
            },
        }
    }

    fn at(self, row: usize, column: usize) -> Self {
        let other = self.other.wrapping_offset(row as isize * self.stride);
        Self {
            other: other.wrapping_add(column),
            ..self
        }
    }

    /// # Safety
    /// Both have a block of these sizes.
    unsafe fn block(self, c: *mut f32, stride: isize, sizes: [usize; 2]) {
        let [own, other] =
            [stride, self.stride].map(|stride| (sizes[0], sizes[1]).strides((stride as usize, 1)));
        // SAFETY: the caller's blocks; only what is written is borrowed mutably.
        unsafe {
            if self.value {
                let into = ArrayViewMut2::from_shape_ptr(other, self.other);
                (self.f.value)(into, ArrayView2::from_shape_ptr(own, c));
            } else {
                let of = ArrayView2::from_shape_ptr(other, self.other);
                (self.f.slope)(ArrayViewMut2::from_shape_ptr(own, c), of);
            }
        }
    }
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

    fn blocks(self) -> impl Iterator<Item = Self> {
        let end = self.first + self.count;
        (self.first..end)
            .step_by(BLOCK)
            .map(move |first| Self::of(first, BLOCK, end))
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
        let columns = columns_kept.map_or(BLOCK, |kept| n.min(kept).next_multiple_of(BLOCK));
        let room = (rows + columns) / SIDE * group;
        assert!(room <= 2 * space.len(), "a product's scratch");
        let packed = space.as_mut_ptr().cast::<u16>();
        Self {
            sizes,
            c: product.c.as_mut_ptr(),
            c_stride: product.c.strides()[0],
            add: product.onto == Onto::Present,
            bias: product.bias,
            then: product.after.as_mut().map(Then::of),
            a,
            b,
            blocks,
            group,
            rows_at_once,
            columns_kept,
            packed_a: packed,
            packed_b: packed.wrapping_add(rows / SIDE * group),
        }
    }

    /// # Safety
    /// Tiles are available and laid out, and the scratch begins at a cache line.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) unsafe fn run(&self) {
        let [m, n, _] = self.sizes;
        for column in (0..n).step_by(self.columns_kept.unwrap_or(n)) {
            let columns = Span::of(column, self.columns_kept.unwrap_or(n), n);
            for row in (0..m).step_by(self.rows_at_once) {
                // SAFETY: as the caller says.
                unsafe { self.rows(Span::of(row, self.rows_at_once, m), columns) }
            }
        }
    }

    /// # Safety
    /// As `run`.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn rows(&self, rows: Span, columns: Span) {
        let [_, _, k] = self.sizes;
        // SAFETY: rows and columns exist, and there is room for their tiles.
        unsafe {
            for (number, block) in rows.blocks().enumerate() {
                let to = self.packed_a.add(number * 2 * self.group);
                let next = Ahead::of(self.a.block(block.first + BLOCK), k, self.blocks);
                let lines = self.a.block(block.first);
                pack::<P>(to, self.group, lines, k, (Role::A, next));
            }
            let pulls = self.blocks * rows.count.div_ceil(BLOCK);
            let packed = self.columns_kept.is_some() && rows.first > 0;
            for (number, block) in columns.blocks().enumerate() {
                let number = if self.columns_kept.is_some() {
                    number
                } else {
                    0
                };
                let to = self.packed_b.add(number * 2 * self.group);
                let next = match packed {
                    true => Ahead::of_packed(to.add(2 * self.group), 2 * self.group, pulls),
                    false => {
                        let lines = self.b.block(block.first);
                        pack::<P>(to, self.group, lines, k, (Role::B, Ahead::nothing()));
                        Ahead::of(self.b.block(block.first + BLOCK), k, pulls)
                    }
                };
                self.column_block(rows, block, to, next);
            }
        }
    }

    /// Multiplies packed rows by a packed block of columns; meanwhile, what comes next is fetched.
    ///
    /// # Safety
    /// As `run`.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn column_block(&self, rows: Span, columns: Span, packed: *mut u16, mut next: Ahead) {
        let mut sums = Sums([0.0; BLOCK * BLOCK]);
        let into = sums.0.as_mut_ptr();
        let (group, blocks) = (self.group, self.blocks);
        let finish = Finish {
            add: self.add,
            bias: self.bias.map(|bias| bias[columns.first..].as_ptr()),
        };
        for (number, rows) in rows.blocks().enumerate() {
            // SAFETY: the block is within c, and its factors are packed.
            unsafe {
                let c = self
                    .c
                    .offset(rows.first as isize * self.c_stride)
                    .add(columns.first);
                let mut own = Ahead::of_block(c, self.c_stride, rows.count, blocks);
                let then = self.then.map(|then| then.at(rows.first, columns.first));
                let mut other = then.map_or(Ahead::nothing(), |then| {
                    Ahead::of_block(then.other, then.stride, rows.count, blocks)
                });
                let ahead = &mut || {
                    own.pull();
                    next.pull();
                    other.pull();
                };
                let tiles = [self.packed_a.add(number * 2 * group), packed];
                match (rows.count > SIDE, columns.count > SIDE) {
                    (true, true) => multiply::<P, true, true>(into, tiles, group, blocks, ahead),
                    (true, false) => multiply::<P, true, false>(into, tiles, group, blocks, ahead),
                    (false, true) => multiply::<P, false, true>(into, tiles, group, blocks, ahead),
                    (false, false) => {
                        multiply::<P, false, false>(into, tiles, group, blocks, ahead)
                    }
                }
                let sizes = [rows.count, columns.count];
                put(c, self.c_stride, sizes, &sums, finish);
                if let Some(then) = then {
                    then.block(c, self.c_stride, sizes);
                }
            }
        }
    }
}
