//! A head by tiles that are packed once for all its products.
//!
//! ```text
//!  forward   scores: q k^T       out: p v
//!  backward  scores: q k^T       dp: dout v^T      dq: ds k     one strip of 32 queries at a time
//!            dv^T: dout^T p      dk^T: q^T ds                   two strips at a time
//!            a ┘         └ b: either is packed as it lies or transposed, whichever is less for p
//!                             and ds, of which there is most
//! ```
#![allow(unsafe_code)]

use super::{Attention, Backward, Forward, STRIP, scale_of, scores, stride};
use crate::kernels::product::tiles::pack::{Lines, Role, pack};
use crate::kernels::product::tiles::unit::{self, Multiply, To};
use crate::kernels::product::tiles::{Amx, Dot, SIDE, TILE};
use crate::kernels::product::{INNER, Unit};
use crate::kernels::softmax::{Rows, STATS};
use brigade_layer::Precision;
use ndarray::ArrayViewMut2;

mod backward;
mod put;
mod rows;

use backward::backward_in;
use put::{Factors, put};

/// Tiles along lines that are summed from 0: what comes after is added.
const INNER_TILES: usize = INNER / STRIP;

/// Whether heads of so many columns can be computed here.
pub(super) fn unit(precision: Precision, columns: usize) -> Option<Unit> {
    Unit::of(precision).filter(|_| columns <= INNER)
}

pub(super) fn forward(
    unit: Unit,
    attention: &Attention<'_>,
    task: &mut Forward<'_>,
    scratch: &mut [f32],
) {
    // SAFETY: whoever comes here was told that the unit is available.
    unsafe {
        match (unit, attention.precision) {
            (Unit::Amx, Precision::Bf16) => forward_in::<1, Amx>(attention, task, scratch),
            (Unit::Amx, _) => forward_in::<3, Amx>(attention, task, scratch),
            (Unit::Dot, _) => forward_in::<1, Dot>(attention, task, scratch),
        }
    }
}

pub(super) fn backward(
    unit: Unit,
    attention: &Attention<'_>,
    task: &mut Backward<'_>,
    scratch: &mut [f32],
) {
    // SAFETY: whoever comes here was told that the unit is available.
    unsafe {
        match (unit, attention.precision) {
            (Unit::Amx, Precision::Bf16) => backward_in::<1, Amx>(attention, task, scratch),
            (Unit::Amx, _) => backward_in::<3, Amx>(attention, task, scratch),
            (Unit::Dot, _) => backward_in::<1, Dot>(attention, task, scratch),
        }
    }
}

/// Scratch, taken piece by piece.
struct Room<'a>(&'a mut [f32]);

impl<'a> Room<'a> {
    /// Begins at a cache line.
    fn new(scratch: &'a mut [f32]) -> Self {
        let start = scratch.as_ptr().align_offset(64);
        Self(&mut scratch[start..])
    }

    fn take(&mut self, numbers: usize) -> &'a mut [f32] {
        let (taken, rest) = std::mem::take(&mut self.0).split_at_mut(numbers);
        self.0 = rest;
        taken
    }
}

/// Lines packed in tiles of `P` pieces: groups of sixteen lines, so many numbers apart.
#[derive(Clone, Copy)]
struct Packed<const P: usize> {
    first: *mut u16,
    group: usize,
}

impl<const P: usize> Packed<P> {
    /// Room for lines of so many tiles each.
    fn new(room: &mut Room<'_>, lines: usize, tiles: usize) -> Self {
        let group = tiles * P * TILE;
        let numbers = lines.div_ceil(STRIP) * 2 * group;
        Self {
            first: room.take(numbers / 2).as_mut_ptr().cast(),
            group,
        }
    }

    /// 32 lines.
    fn strip(self, number: usize) -> *mut u16 {
        self.first.wrapping_add(number * 2 * self.group)
    }

    /// Packs lines, of 32 steps or those of all tiles, into the tiles from `tile` on.
    ///
    /// # Safety
    /// Tiles are available, the lines have as many numbers, and there is room for them here.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn pack(self, lines: Lines, inner: usize, (role, tile): (Role, usize)) {
        let to = self.first.wrapping_add(tile * P * TILE);
        // SAFETY: as the caller says.
        unsafe { pack::<P>(to, [self.group, 2 * self.group], lines, inner, role) }
    }
}

/// The strip of this number out of so many queries, keys or columns: its first and its length.
fn strip(number: usize, of: usize) -> (usize, usize) {
    let first = number * STRIP;
    (first, (of - first).min(STRIP))
}

/// A part of a matrix whose rows are `stride` apart, of this many rows and numbers of a row.
fn lines(first: *const f32, stride: usize, [rows, numbers]: [usize; 2], across: bool) -> Lines {
    let stride = stride as isize;
    let (count, line, step) = match across {
        true => (numbers, 1, stride),
        false => (rows, stride, 1),
    };
    Lines {
        first,
        count,
        line,
        step,
    }
}

/// Sums of a strip of a by a strip of b, whose groups are `group` apart, along so many tiles.
///
/// # Safety
/// Tiles are available and laid out; strips of these sizes are packed; there is room for the sums
/// of 32 x 32.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn multiply<const P: usize, U: Multiply>(
    to: To,
    [a, b]: [*mut u16; 2],
    [group, along]: [usize; 2],
    [rows, columns]: [usize; 2],
) {
    let (a, b) = (a.cast_const(), b.cast_const());
    let tiles = unit::Tiles { a, b, group, along };
    let ahead = &mut || {};
    // SAFETY: as the caller says.
    unsafe {
        match (rows > SIDE, columns > SIDE) {
            (true, true) => U::multiply::<P, true, true>(to, tiles, ahead),
            (true, false) => U::multiply::<P, true, false>(to, tiles, ahead),
            (false, true) => U::multiply::<P, false, true>(to, tiles, ahead),
            (false, false) => U::multiply::<P, false, false>(to, tiles, ahead),
        }
    }
}

/// Rows of `into`, by a packed strip of scores and packed columns of what belongs to the keys.
///
/// # Safety
/// As `multiply`; `first` and the rows are within `into`.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn along_keys<const P: usize, U: Multiply>(
    into: &mut ArrayViewMut2<'_, f32>,
    (first, rows): (usize, usize),
    [scores, columns]: [Packed<P>; 2],
    tiles: usize,
    factors: Factors,
) {
    let mut block = put::Block([0.0; STRIP * STRIP]);
    let width = into.ncols();
    let row = into.strides()[0];
    for number in 0..width.div_ceil(STRIP) {
        let (column, count) = strip(number, width);
        for tile in (0..tiles).step_by(INNER_TILES) {
            let along = (tiles - tile).min(INNER_TILES);
            let sums = To {
                first: block.0.as_mut_ptr(),
                stride: STRIP,
                onto: false,
            };
            let packed = [scores.first, columns.strip(number)];
            let packed = packed.map(|first| first.wrapping_add(tile * P * TILE));
            let last = tile + along == tiles;
            // SAFETY: as the caller says.
            unsafe {
                multiply::<P, U>(sums, packed, [scores.group, along], [rows, count]);
                let to = into.as_mut_ptr().offset(first as isize * row).add(column);
                let factors = last.then_some(factors);
                put(to, row, [rows, count], &block, (tile > 0, factors));
            }
        }
    }
}

/// # Safety
/// Tiles are available.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn forward_in<const P: usize, U: Multiply>(
    attention: &Attention<'_>,
    task: &mut Forward<'_>,
    scratch: &mut [f32],
) {
    let group = task.group;
    let (lengths, columns) = (group.lengths(), group.k.ncols());
    let [length, seen] = lengths;
    let stride = stride(seen);
    let (strips, along) = (seen.div_ceil(STRIP), columns.div_ceil(STRIP));
    let mut room = Room::new(scratch);
    let p = room.take(scores(lengths));
    let keys = Packed::<P>::new(&mut room, seen, along);
    let values = Packed::<P>::new(&mut room, columns, strips);
    let queries = Packed::<P>::new(&mut room, STRIP, along);
    let packed = Packed::<P>::new(&mut room, STRIP, strips);
    // SAFETY: all strips are within the head and the room that was taken for them; tiles are laid
    // out before they are used.
    unsafe {
        U::begin();
        keys.pack(Lines::rows(&group.k), columns, (Role::B, 0));
        values.pack(Lines::columns(&group.v), seen, (Role::B, 0));
        let heads = task.out.outer_iter_mut();
        let each = heads.zip(task.stats.chunks_exact_mut(STATS * length));
        for (head, (mut out, stats)) in each.enumerate() {
            let [q, ..] = group.head(head);
            for number in 0..length.div_ceil(STRIP) {
                let (first, count) = strip(number, length);
                let rows = rows_of(attention, (first, count), group.k.nrows(), scale_of(q));
                let strips = rows.width / STRIP;
                queries.pack(Lines::rows(&q).block(first), columns, (Role::A, 0));
                for other in 0..strips {
                    let sums = To {
                        first: p.as_mut_ptr().add(other * STRIP),
                        stride,
                        onto: false,
                    };
                    let tiles = [queries.first, keys.strip(other)];
                    let sizes = [count, strip(other, seen).1];
                    multiply::<P, U>(sums, tiles, [keys.group, along], sizes);
                }
                let p = &mut p[..count * stride];
                let stats = &mut stats[first * STATS..][..count * STATS];
                rows::softmax(p, stats, rows);
                attention.drop(p, task.first + head, rows);
                let seen = rows.keys(first + count - 1);
                let of = lines(p.as_ptr(), stride, [count, seen], false);
                packed.pack(of, seen, (Role::A, 0));
                let factors = Factors {
                    first: stats[1..].as_ptr(),
                    step: STATS,
                };
                let strip = (first, count);
                along_keys::<P, U>(&mut out, strip, [packed, values], strips, factors);
            }
        }
        U::end();
    }
}

/// A strip of queries: with causal attention it sees the keys up to its last query.
fn rows_of(
    attention: &Attention<'_>,
    (first, count): (usize, usize),
    keys: usize,
    scale: f32,
) -> Rows {
    let all = attention.all(keys);
    Rows {
        first,
        stride: stride(keys),
        width: all.unwrap_or(first + count).next_multiple_of(STRIP),
        all,
        scale,
    }
}
