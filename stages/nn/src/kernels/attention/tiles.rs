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

use super::{Attention, BLOCK, Backward, Forward, Head, STRIP, scale_of, scores, stride};
use crate::kernels::product::tiles::pack::{Lines, Role, pack};
use crate::kernels::product::tiles::unit::{self, Multiply, To};
use crate::kernels::product::tiles::{Amx, Dot, SIDE, TILE};
use crate::kernels::product::{INNER, Unit};
use crate::kernels::softmax::{Rows, STATS};
use brigade_layer::Precision;
use ndarray::ArrayViewMut2;

mod put;
mod rows;

use put::{Factors, put, put_transposed};

/// Tiles along lines that are summed from 0: what comes after is added.
const INNER_TILES: usize = INNER / STRIP;

/// Whether heads of so many columns can be computed here.
pub(super) fn unit(precision: Precision, columns: usize) -> Option<Unit> {
    Unit::of(precision).filter(|_| columns <= INNER)
}

pub(super) fn forward(
    unit: Unit,
    attention: &Attention,
    task: &mut Forward<'_>,
    head: Head<'_>,
    scratch: &mut [f32],
) {
    // SAFETY: whoever comes here was told that the unit is available.
    unsafe {
        match (unit, attention.precision) {
            (Unit::Amx, Precision::Bf16) => forward_in::<1, Amx>(attention, task, head, scratch),
            (Unit::Amx, _) => forward_in::<3, Amx>(attention, task, head, scratch),
            (Unit::Dot, _) => forward_in::<1, Dot>(attention, task, head, scratch),
        }
    }
}

pub(super) fn backward(
    unit: Unit,
    attention: &Attention,
    task: &mut Backward<'_>,
    head: Head<'_>,
    scratch: &mut [f32],
) {
    // SAFETY: whoever comes here was told that the unit is available.
    unsafe {
        match (unit, attention.precision) {
            (Unit::Amx, Precision::Bf16) => backward_in::<1, Amx>(attention, task, head, scratch),
            (Unit::Amx, _) => backward_in::<3, Amx>(attention, task, head, scratch),
            (Unit::Dot, _) => backward_in::<1, Dot>(attention, task, head, scratch),
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
    attention: &Attention,
    task: &mut Forward<'_>,
    [q, k, v]: Head<'_>,
    scratch: &mut [f32],
) {
    let ((length, columns), stride) = (q.dim(), stride(q.nrows()));
    let (strips, along) = (length.div_ceil(STRIP), columns.div_ceil(STRIP));
    let mut room = Room::new(scratch);
    let p = room.take(scores(length));
    let keys = Packed::<P>::new(&mut room, length, along);
    let values = Packed::<P>::new(&mut room, columns, strips);
    let queries = Packed::<P>::new(&mut room, STRIP, along);
    let packed = Packed::<P>::new(&mut room, STRIP, strips);
    // SAFETY: all strips are within the head and the room that was taken for them; tiles are laid
    // out before they are used.
    unsafe {
        U::begin();
        keys.pack(Lines::rows(&k), columns, (Role::B, 0));
        values.pack(Lines::columns(&v), length, (Role::B, 0));
        for number in 0..strips {
            let (first, count) = strip(number, length);
            queries.pack(Lines::rows(&q).block(first), columns, (Role::A, 0));
            for other in 0..=number {
                let sums = To {
                    first: p.as_mut_ptr().add(other * STRIP),
                    stride,
                    onto: false,
                };
                let tiles = [queries.first, keys.strip(other)];
                let sizes = [count, strip(other, length).1];
                multiply::<P, U>(sums, tiles, [keys.group, along], sizes);
            }
            let seen_rows = rows_of(first, stride, scale_of(q));
            let p = &mut p[..count * stride];
            let stats = &mut task.stats[first * STATS..][..count * STATS];
            rows::softmax(p, stats, seen_rows);
            attention.drop(p, task.number, seen_rows);
            let seen = first + count;
            let of = lines(p.as_ptr(), stride, [count, seen], false);
            packed.pack(of, seen, (Role::A, 0));
            let factors = Factors {
                first: stats[1..].as_ptr(),
                step: STATS,
            };
            let out = (first, count);
            along_keys::<P, U>(&mut task.out, out, [packed, values], number + 1, factors);
        }
        U::end();
    }
}

/// # Safety
/// Tiles are available.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn backward_in<const P: usize, U: Multiply>(
    attention: &Attention,
    task: &mut Backward<'_>,
    [q, k, v]: Head<'_>,
    scratch: &mut [f32],
) {
    let ((length, columns), stride) = (q.dim(), stride(q.nrows()));
    let (strips, along) = (length.div_ceil(STRIP), columns.div_ceil(STRIP));
    let scale = scale_of(q);
    let mut room = Room::new(scratch);
    let both = [(); 2].map(|()| room.take(scores(length)).as_mut_ptr());
    // What strips of queries are multiplied by, and them.
    let seen = [(); 2].map(|()| Packed::<P>::new(&mut room, length, along));
    let strip_of = [(); 2].map(|()| Packed::<P>::new(&mut room, STRIP, along));
    let keys = Packed::<P>::new(&mut room, columns, strips);
    let ds = Packed::<P>::new(&mut room, STRIP, strips);
    // Of two strips, dout and p, and q and ds.
    let across = [(); 2].map(|()| Packed::<P>::new(&mut room, columns, 2));
    let block = [(); 2].map(|()| Packed::<P>::new(&mut room, STRIP, 2));
    let sums = [(); 2].map(|()| room.take(strips * along * STRIP * STRIP).as_mut_ptr());
    let [dq, dk, dv] = &mut task.gradients;
    let dout = task.dout;
    // SAFETY: all strips are within the head and the room that was taken for them; tiles are laid
    // out before they are used.
    unsafe {
        U::begin();
        seen[0].pack(Lines::rows(&k), columns, (Role::B, 0));
        seen[1].pack(Lines::rows(&v), columns, (Role::B, 0));
        keys.pack(Lines::columns(&k), length, (Role::B, 0));
        for start in (0..length).step_by(BLOCK).rev() {
            let numbers = start / STRIP..(start + BLOCK).min(length).div_ceil(STRIP);
            // Later queries see more keys: they come first.
            for (slot, number) in numbers.clone().rev().enumerate() {
                let (first, count) = strip(number, length);
                let at = slot * STRIP * stride;
                let [p, dp] = both.map(|first| first.add(at));
                for (part, of) in [q, dout].iter().enumerate() {
                    let rows = Lines::rows(of).block(first);
                    strip_of[part].pack(rows, columns, (Role::A, 0));
                    let columns = Lines {
                        count: columns,
                        line: rows.step,
                        step: rows.line,
                        ..rows
                    };
                    across[1 - part].pack(columns, count, (Role::A, slot));
                }
                for other in 0..=number {
                    for (part, into) in [p, dp].into_iter().enumerate() {
                        let sums = To {
                            first: into.add(other * STRIP),
                            stride,
                            onto: false,
                        };
                        let tiles = [strip_of[part].first, seen[part].strip(other)];
                        let sizes = [count, strip(other, length).1];
                        multiply::<P, U>(sums, tiles, [seen[part].group, along], sizes);
                    }
                }
                let seen_rows = rows_of(first, stride, scale);
                let p = std::slice::from_raw_parts_mut(p, count * stride);
                let dp = std::slice::from_raw_parts_mut(dp, count * stride);
                attention.drop(dp, task.number, seen_rows);
                let stats = &task.stats[first * STATS..][..count * STATS];
                rows::score_gradients(p, dp, stats, seen_rows);
                attention.drop(p, task.number, seen_rows);
                let last = first + count;
                let of = lines(dp.as_ptr(), stride, [count, last], false);
                ds.pack(of, last, (Role::A, 0));
                let factors = Factors {
                    first: &raw const scale,
                    step: 0,
                };
                along_keys::<P, U>(dq, (first, count), [ds, keys], number + 1, factors);
            }
            let onto = start + BLOCK < length;
            for other in 0..numbers.end {
                let (first, count) = strip(other, length);
                // Strips of queries that see these keys.
                let slots = numbers.end - other.max(numbers.start);
                for part in 0..2 {
                    for slot in 0..slots {
                        let queries = strip(numbers.end - 1 - slot, length).1;
                        let from = both[part].add(slot * STRIP * stride + first);
                        let of = lines(from, stride, [queries, count], true);
                        block[part].pack(of, queries, (Role::B, slot));
                    }
                    for number in 0..along {
                        let at = (other * along + number) * STRIP * STRIP;
                        let sums = To {
                            first: sums[part].add(at),
                            stride: STRIP,
                            onto,
                        };
                        let tiles = [across[part].strip(number), block[part].first];
                        let sizes = [strip(number, columns).1, count];
                        multiply::<P, U>(sums, tiles, [block[part].group, slots], sizes);
                    }
                }
            }
        }
        U::end();
        put_transposed(dv, sums[0], 1.0);
        put_transposed(dk, sums[1], scale);
    }
}

/// A strip of queries: it sees the keys up to its last query.
fn rows_of(first: usize, stride: usize, scale: f32) -> Rows {
    Rows {
        first,
        stride,
        width: first + STRIP,
        scale,
    }
}
