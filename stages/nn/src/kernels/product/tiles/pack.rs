//! Numbers of f32 as tiles of bf16.
//!
//! A line is a row of a or a column of b: what is summed along. Where the lines' own numbers are
//! contiguous, a vector holds pairs of one line; where a step's numbers are, a vector holds a pair
//! of every line. Factor a wants the former in its tiles and factor b the latter: half of the cases
//! are transposed in registers.
#![allow(unsafe_code)]
// Several registers are walked through with one index.
#![allow(clippy::needless_range_loop)]

use super::ahead::fetch;
use super::transpose::{transpose, transpose_numbers};
use super::{BLOCK, DEPTH, SIDE, TILE};
use ndarray::{ArrayView2, Axis};
use std::arch::x86_64::*;

/// Which factor lines are packed for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::kernels) enum Role {
    A,
    B,
}

/// Lines of a factor.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Lines {
    pub(in crate::kernels) first: *const f32,
    pub(in crate::kernels) count: usize,
    /// From one line to the next, and from one step along a line to the next.
    pub(in crate::kernels) line: isize,
    pub(in crate::kernels) step: isize,
}

impl Lines {
    /// The rows of a matrix.
    pub(in crate::kernels) fn rows(matrix: &ArrayView2<'_, f32>) -> Self {
        Self {
            first: matrix.as_ptr(),
            count: matrix.len_of(Axis(0)),
            line: matrix.strides()[0],
            step: matrix.strides()[1],
        }
    }

    /// The columns of a matrix.
    pub(in crate::kernels) fn columns(matrix: &ArrayView2<'_, f32>) -> Self {
        Self::rows(&matrix.view().reversed_axes())
    }

    /// What packing a line costs, compared with others.
    pub(super) fn cost(&self, role: Role) -> usize {
        match (self.step == 1) == (role == Role::A) {
            true => 1,
            false => 2,
        }
    }

    /// A block of them, or what is left of it.
    pub(in crate::kernels) fn block(self, first: usize) -> Self {
        self.from(
            first.min(self.count),
            self.count.saturating_sub(first).min(BLOCK),
        )
    }

    /// `count` of them from a first one on.
    pub(super) fn from(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.count, "lines of a factor");
        // SAFETY: the line is within the matrix.
        let first = unsafe { self.first.offset(first as isize * self.line) };
        Self {
            first,
            count,
            ..self
        }
    }
}

/// The lanes of this many numbers.
#[inline(always)]
pub(in crate::kernels) fn mask(numbers: usize) -> __mmask16 {
    match numbers {
        0..16 => (1 << numbers) - 1,
        _ => __mmask16::MAX,
    }
}

/// Packs lines in groups of sixteen: for every 32 steps the tiles of `P` pieces. The second group
/// of a pair is `group` after the first, and the next pair `pair`. What does not exist is 0. The
/// numbers are walked through as they lie in memory, and what comes next is fetched meanwhile.
///
/// # Safety
/// Every line has `inner` numbers, and `to` has room for the groups at a cache line.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(in crate::kernels) unsafe fn pack<const P: usize>(
    to: *mut u16,
    apart: [usize; 2],
    lines: Lines,
    inner: usize,
    role: Role,
) {
    let (blocks, groups) = (inner.div_ceil(DEPTH), lines.count.div_ceil(SIDE));
    // SAFETY: as the caller says.
    unsafe {
        if lines.step != 1 {
            for block in 0..blocks {
                for number in 0..groups {
                    pack_tile::<P>(to, apart, lines, inner, (role, number, block));
                }
            }
            return;
        }
        for first in (0..groups).step_by(2) {
            for block in 0..blocks {
                for number in first..groups.min(first + 2) {
                    pack_tile::<P>(to, apart, lines, inner, (role, number, block));
                }
            }
        }
    }
}

/// Packs a tile of one group.
///
/// # Safety
/// As `pack`.
#[inline(always)]
unsafe fn pack_tile<const P: usize>(
    to: *mut u16,
    [group, pair]: [usize; 2],
    lines: Lines,
    inner: usize,
    (role, number, block): (Role, usize, usize),
) {
    let depth = (inner - block * DEPTH).min(DEPTH);
    let lines = lines.from(number * SIDE, (lines.count - number * SIDE).min(SIDE));
    // SAFETY: as the caller says.
    unsafe {
        let first = lines.first.offset((block * DEPTH) as isize * lines.step);
        let lines = Lines { first, ..lines };
        let to = to.add(number / 2 * pair + number % 2 * group + block * P * TILE);
        // Whole tiles are most of them, and known to be whole they are packed without a loop.
        if lines.count == SIDE && depth == DEPTH && (lines.step == 1 || lines.line == 1) {
            let lines = Lines {
                count: SIDE,
                ..lines
            };
            if lines.step == 1 {
                tile_of::<P>(to, Lines { step: 1, ..lines }, DEPTH, role);
            } else {
                tile_of::<P>(to, Lines { line: 1, ..lines }, DEPTH, role);
            }
        } else {
            tile_of::<P>(to, lines, depth, role);
        }
    }
}

/// Packs a tile.
///
/// # Safety
/// As `pack`.
#[inline(always)]
unsafe fn tile_of<const P: usize>(to: *mut u16, lines: Lines, depth: usize, role: Role) {
    // SAFETY: as the caller says.
    unsafe {
        match (lines.step == 1, role) {
            (true, Role::A) => along::<P, false>(to, lines, depth),
            (true, Role::B) => along::<P, true>(to, lines, depth),
            (false, Role::A) => across::<P, true>(to, lines, depth),
            (false, Role::B) => across::<P, false>(to, lines, depth),
        }
    }
}

// What follows is compiled into `pack`, with its instruction set: `inline(always)` and
// `target_feature` exclude each other, and closures that are not inlined would be calls.

/// Lines whose numbers are contiguous: pairs of one line in a vector.
///
/// # Safety
/// As `pack`.
#[inline(always)]
unsafe fn along<const P: usize, const TRANSPOSED: bool>(to: *mut u16, lines: Lines, depth: usize) {
    // SAFETY: masked to the numbers that a line has; the tiles' room.
    unsafe {
        let mut halves = [[_mm512_setzero_ps(); SIDE]; 2];
        for line in 0..SIDE {
            if line < lines.count {
                let from = lines.first.offset(line as isize * lines.line);
                halves[0][line] = load(from, depth);
                halves[1][line] = load(from.wrapping_add(SIDE), depth.saturating_sub(SIDE));
                // Of the group after the next.
                let next = from.wrapping_offset(BLOCK as isize * lines.line);
                fetch(next);
                fetch(next.wrapping_add(SIDE));
            }
        }
        if !TRANSPOSED {
            for line in 0..SIDE {
                let row = pieces::<P>([halves[0][line], halves[1][line]], Order::After);
                store_row(to, line, row);
            }
        } else if P == 1 {
            // One piece has half as much to transpose as what it is made of, three have more.
            let mut tile = [_mm512_setzero_si512(); SIDE];
            for line in 0..SIDE {
                let [piece] = pieces::<1>([halves[0][line], halves[1][line]], Order::After);
                tile[line] = piece;
            }
            transpose(&mut tile);
            for (pair, row) in tile.into_iter().enumerate() {
                store_row(to, pair, [row]);
            }
        } else {
            transpose_numbers(&mut halves[0]);
            transpose_numbers(&mut halves[1]);
            for pair in 0..SIDE {
                let steps = &halves[pair / 8];
                let pair_of = [steps[2 * pair % SIDE], steps[2 * pair % SIDE + 1]];
                store_row(to, pair, pieces::<P>(pair_of, Order::Between));
            }
        }
    }
}

/// Lines side by side: a pair of every line in a vector.
///
/// # Safety
/// As `pack`.
#[inline(always)]
unsafe fn across<const P: usize, const TRANSPOSED: bool>(to: *mut u16, lines: Lines, depth: usize) {
    // SAFETY: steps that exist, and as many lines; the tiles' room.
    unsafe {
        let mut steps = [_mm512_setzero_ps(); DEPTH];
        for (number, step) in steps.iter_mut().enumerate() {
            if number < depth {
                *step = step_of(lines, number);
            }
        }
        if !TRANSPOSED {
            for pair in 0..SIDE {
                let row = pieces::<P>([steps[2 * pair], steps[2 * pair + 1]], Order::Between);
                store_row(to, pair, row);
            }
        } else if P == 1 {
            let mut tile = [_mm512_setzero_si512(); SIDE];
            for pair in 0..SIDE {
                let pair_of = [steps[2 * pair], steps[2 * pair + 1]];
                let [piece] = pieces::<1>(pair_of, Order::Between);
                tile[pair] = piece;
            }
            transpose(&mut tile);
            for (line, row) in tile.into_iter().enumerate() {
                store_row(to, line, [row]);
            }
        } else {
            let (low, high) = steps.split_at_mut(SIDE);
            transpose_numbers(low.try_into().expect("sixteen"));
            transpose_numbers(high.try_into().expect("sixteen"));
            for line in 0..SIDE {
                store_row(to, line, pieces::<P>([low[line], high[line]], Order::After));
            }
        }
    }
}

/// Up to sixteen numbers.
///
/// # Safety
/// They exist.
#[inline(always)]
unsafe fn load(from: *const f32, numbers: usize) -> __m512 {
    // SAFETY: as the caller says.
    unsafe {
        match numbers {
            0..SIDE => _mm512_maskz_loadu_ps(mask(numbers), from),
            _ => _mm512_loadu_ps(from),
        }
    }
}

/// One step of up to sixteen lines.
///
/// # Safety
/// The step and the lines exist.
#[inline(always)]
unsafe fn step_of(lines: Lines, step: usize) -> __m512 {
    // SAFETY: masked to the lines that exist.
    unsafe {
        let from = lines.first.offset(step as isize * lines.step);
        if lines.line == 1 {
            // Of the next tile.
            fetch(from.wrapping_offset(DEPTH as isize * lines.step));
            return load(from, lines.count);
        }
        let mut numbers = [0.0f32; SIDE];
        for (line, number) in numbers.iter_mut().enumerate().take(lines.count) {
            *number = *from.offset(line as isize * lines.line);
        }
        _mm512_loadu_ps(numbers.as_ptr())
    }
}

/// Stores a row of `P` tiles.
///
/// # Safety
/// `to` has room for them at a cache line.
#[inline(always)]
unsafe fn store_row<const P: usize>(to: *mut u16, row: usize, pieces: [__m512i; P]) {
    for (piece, vector) in pieces.into_iter().enumerate() {
        // SAFETY: as the caller says.
        unsafe { _mm512_store_si512(to.add(piece * TILE + row * DEPTH).cast(), vector) }
    }
}

/// Where the second sixteen numbers go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    After,
    Between,
}

/// Pieces of 32 numbers. One is the nearest bf16, ties to even. Of three, the first is the nearest
/// as well (ties away from 0, which is less work), the second that of what is left, and the third
/// is exactly what is left then.
///
/// # Safety
/// The processor has AVX-512 with BW and BF16.
#[inline(always)]
unsafe fn pieces<const P: usize>([mut low, mut high]: [__m512; 2], order: Order) -> [__m512i; P] {
    // SAFETY: vectors without a meaning of their own.
    unsafe {
        let mut all = [_mm512_setzero_si512(); P];
        if P == 1 {
            let both = _mm512_cvtne2ps_pbh(high, low);
            let both = std::mem::transmute::<__m512bh, __m512i>(both);
            all[0] = match order {
                Order::After => both,
                Order::Between => _mm512_permutexvar_epi16(vector(&BETWEEN), both),
            };
            return all;
        }
        // The upper halves of 32 bits, of both.
        let upper = match order {
            Order::After => vector(&UPPER_AFTER),
            Order::Between => vector(&UPPER_BETWEEN),
        };
        let half_a_unit = _mm512_set1_epi32(0x8000);
        let eight_bits = _mm512_set1_epi32(0xffff_0000_u32 as i32);
        for piece in 0..P {
            let (mut first, mut second) = (_mm512_castps_si512(low), _mm512_castps_si512(high));
            if piece + 1 < P {
                first = _mm512_and_si512(_mm512_add_epi32(first, half_a_unit), eight_bits);
                second = _mm512_and_si512(_mm512_add_epi32(second, half_a_unit), eight_bits);
            }
            all[piece] = _mm512_permutex2var_epi16(first, upper, second);
            low = _mm512_sub_ps(low, _mm512_castsi512_ps(first));
            high = _mm512_sub_ps(high, _mm512_castsi512_ps(second));
        }
        all
    }
}

/// Orders of words: the second sixteen between the first; the upper ones of sixteen pairs and then
/// of sixteen more, one after the other or in turn.
static BETWEEN: [u16; 32] = order(1, 0, 16, 2);
static UPPER_AFTER: [u16; 32] = order(2, 1, 0, 1);
static UPPER_BETWEEN: [u16; 32] = order(2, 1, 32, 2);

/// Word `at` is from `start + step (at / turns) + second (at % turns)`.
const fn order(step: u16, start: u16, second: u16, turns: u16) -> [u16; 32] {
    let mut order = [0; 32];
    let mut at = 0;
    while at < 32 {
        order[at as usize] = start + step * (at / turns) + second * (at % turns);
        at += 1;
    }
    order
}

/// # Safety
/// The processor has AVX-512.
#[inline(always)]
unsafe fn vector(words: &[u16; 32]) -> __m512i {
    // SAFETY: 64 bytes.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}
