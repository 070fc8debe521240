//! Numbers of f32 as tiles of bf16.
//!
//! A line is a row of a or a column of b: what is summed along. Where the lines' own numbers are
//! contiguous, a vector holds pairs of one line; where a step's numbers are, a vector holds a pair
//! of every line. Factor a wants the former in its tiles and factor b the latter: half of the cases
//! are transposed in registers.
#![allow(unsafe_code)]

use super::ahead::Ahead;
use super::{BLOCK, DEPTH, SIDE, TILE};
use ndarray::{ArrayView2, Axis};
use std::arch::x86_64::*;

/// Which factor lines are packed for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    A,
    B,
}

/// Lines of a factor.
#[derive(Clone, Copy)]
pub(super) struct Lines {
    pub(super) first: *const f32,
    pub(super) count: usize,
    /// From one line to the next, and from one step along a line to the next.
    pub(super) line: isize,
    pub(super) step: isize,
}

impl Lines {
    /// The rows of a matrix.
    pub(super) fn rows(matrix: &ArrayView2<'_, f32>) -> Self {
        Self {
            first: matrix.as_ptr(),
            count: matrix.len_of(Axis(0)),
            line: matrix.strides()[0],
            step: matrix.strides()[1],
        }
    }

    /// The columns of a matrix.
    pub(super) fn columns(matrix: &ArrayView2<'_, f32>) -> Self {
        Self::rows(&matrix.view().reversed_axes())
    }

    /// A block of them, or what is left of it.
    pub(super) fn block(self, first: usize) -> Self {
        self.from(
            first.min(self.count),
            self.count.saturating_sub(first).min(BLOCK),
        )
    }

    /// `count` of them from a first one on.
    fn from(self, first: usize, count: usize) -> Self {
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
pub(super) fn mask(numbers: usize) -> __mmask16 {
    match numbers {
        0..16 => (1 << numbers) - 1,
        _ => __mmask16::MAX,
    }
}

/// Packs up to 32 lines in two groups of sixteen, `group` apart: for every 32 steps the tiles of
/// `P` pieces. What does not exist is 0. Meanwhile, what comes next is fetched.
///
/// # Safety
/// Every line has `inner` numbers, and `to` has room for the groups at a cache line.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn pack<const P: usize>(
    to: *mut u16,
    group: usize,
    lines: Lines,
    inner: usize,
    (role, mut next): (Role, Ahead),
) {
    for block in 0..inner.div_ceil(DEPTH) {
        let depth = (inner - block * DEPTH).min(DEPTH);
        next.pull();
        for half in 0..lines.count.div_ceil(SIDE) {
            let lines = lines.from(half * SIDE, (lines.count - half * SIDE).min(SIDE));
            // SAFETY: as the caller says.
            unsafe {
                let first = lines.first.offset((block * DEPTH) as isize * lines.step);
                let lines = Lines { first, ..lines };
                let to = to.add(half * group + block * P * TILE);
                match (lines.step == 1, role) {
                    (true, Role::A) => along::<P, false>(to, lines, depth),
                    (true, Role::B) => along::<P, true>(to, lines, depth),
                    (false, Role::A) => across::<P, true>(to, lines, depth),
                    (false, Role::B) => across::<P, false>(to, lines, depth),
                }
            }
        }
    }
}

/// Lines whose numbers are contiguous: pairs of one line in a vector.
///
/// # Safety
/// As `pack`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn along<const P: usize, const TRANSPOSED: bool>(to: *mut u16, lines: Lines, depth: usize) {
    let masks = [mask(depth), mask(depth.saturating_sub(SIDE))];
    let halves = |line: usize| match line < lines.count {
        // SAFETY: masked to the numbers that the line has.
        true => unsafe {
            let from = lines.first.offset(line as isize * lines.line);
            [
                _mm512_maskz_loadu_ps(masks[0], from),
                _mm512_maskz_loadu_ps(masks[1], from.wrapping_add(SIDE)),
            ]
        },
        false => [_mm512_setzero_ps(); 2],
    };
    // SAFETY: the tiles' room.
    unsafe {
        match TRANSPOSED {
            false => store::<P>(to, |line| pieces(halves(line), Order::After)),
            // One piece has half as much to transpose as what it is made of, three have more.
            true if P == 1 => {
                let mut tile: [__m512i; SIDE] = std::array::from_fn(|line| {
                    let [piece] = pieces::<1>(halves(line), Order::After);
                    piece
                });
                transpose(&mut tile);
                store::<1>(to, |pair| [tile[pair]]);
            }
            true => {
                let [low, high] = transposed(halves);
                let steps = |step: usize| {
                    if step < SIDE {
                        low[step]
                    } else {
                        high[step - SIDE]
                    }
                };
                store::<P>(to, |pair| {
                    pieces([steps(2 * pair), steps(2 * pair + 1)], Order::Between)
                });
            }
        }
    }
}

/// Lines side by side: a pair of every line in a vector.
///
/// # Safety
/// As `pack`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn across<const P: usize, const TRANSPOSED: bool>(to: *mut u16, lines: Lines, depth: usize) {
    let step = |step: usize| match step < depth {
        // SAFETY: the step exists, and as many lines.
        true => unsafe { step_of(lines, step) },
        false => _mm512_setzero_ps(),
    };
    let pair = |pair: usize| [step(2 * pair), step(2 * pair + 1)];
    // SAFETY: the tiles' room.
    unsafe {
        match TRANSPOSED {
            false => store::<P>(to, |at| pieces(pair(at), Order::Between)),
            true if P == 1 => {
                let mut tile: [__m512i; SIDE] = std::array::from_fn(|at| {
                    let [piece] = pieces::<1>(pair(at), Order::Between);
                    piece
                });
                transpose(&mut tile);
                store::<1>(to, |line| [tile[line]]);
            }
            true => {
                let [low, high] = transposed(|at| [step(at), step(at + SIDE)]);
                store::<P>(to, |line| pieces([low[line], high[line]], Order::After));
            }
        }
    }
}

/// Two blocks of sixteen by sixteen numbers, given by their rows, transposed.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(rows: impl Fn(usize) -> [__m512; 2]) -> [[__m512; SIDE]; 2] {
    let mut blocks = [[_mm512_setzero_si512(); SIDE]; 2];
    for row in 0..SIDE {
        let halves = rows(row);
        for (block, half) in blocks.iter_mut().zip(halves) {
            block[row] = _mm512_castps_si512(half);
        }
    }
    blocks.map(|mut block| {
        transpose(&mut block);
        block.map(|row| _mm512_castsi512_ps(row))
    })
}

/// One step of up to sixteen lines.
///
/// # Safety
/// The step and the lines exist.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn step_of(lines: Lines, step: usize) -> __m512 {
    // SAFETY: masked to the lines that exist.
    unsafe {
        let from = lines.first.offset(step as isize * lines.step);
        if lines.line == 1 {
            return _mm512_maskz_loadu_ps(mask(lines.count), from);
        }
        let mut numbers = [0.0f32; SIDE];
        for (line, number) in numbers.iter_mut().enumerate().take(lines.count) {
            *number = *from.offset(line as isize * lines.line);
        }
        _mm512_loadu_ps(numbers.as_ptr())
    }
}

/// Stores the sixteen rows of `P` tiles.
///
/// # Safety
/// `to` has room for them at a cache line.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store<const P: usize>(to: *mut u16, rows: impl Fn(usize) -> [__m512i; P]) {
    for row in 0..SIDE {
        for (piece, vector) in rows(row).into_iter().enumerate() {
            // SAFETY: as the caller says.
            unsafe { _mm512_store_si512(to.add(piece * TILE + row * DEPTH).cast(), vector) }
        }
    }
}

/// Where the second sixteen numbers go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    After,
    Between,
}

/// Pieces of 32 numbers. One is the nearest bf16, ties to even. Of three, the first is the nearest
/// as well (ties away from 0, which is less work), the second that of what is left, and the third is
/// exactly what is left then.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pieces<const P: usize>(halves: [__m512; 2], order: Order) -> [__m512i; P] {
    if P == 1 {
        let [low, high] = halves;
        // SAFETY: both types are 512 bits without a meaning of their own.
        let piece =
            unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) };
        return [match order {
            Order::After => piece,
            Order::Between => _mm512_permutexvar_epi16(words(|at| at / 2 + 16 * (at % 2)), piece),
        }; P];
    }
    // The upper halves of 32 bits, of both.
    let upper = match order {
        Order::After => words(|at| 2 * at + 1),
        Order::Between => words(|at| at / 2 * 2 + 1 + 32 * (at % 2)),
    };
    let half_a_unit = _mm512_set1_epi32(0x8000);
    let eight_bits = _mm512_set1_epi32(0xffff_0000_u32 as i32);
    let mut left = halves;
    let mut all = [_mm512_setzero_si512(); P];
    for (number, piece) in all.iter_mut().enumerate() {
        let bits = left.map(|x| _mm512_castps_si512(x));
        let nearest = match number + 1 < P {
            true => {
                bits.map(|bits| _mm512_and_si512(_mm512_add_epi32(bits, half_a_unit), eight_bits))
            }
            false => bits,
        };
        *piece = _mm512_permutex2var_epi16(nearest[0], upper, nearest[1]);
        for (left, nearest) in left.iter_mut().zip(nearest) {
            *left = _mm512_sub_ps(*left, _mm512_castsi512_ps(nearest));
        }
    }
    all
}

/// An order of words.
#[inline(always)]
fn words(from: impl Fn(u16) -> u16) -> __m512i {
    let order: [u16; 32] = std::array::from_fn(|at| from(at as u16));
    // SAFETY: 64 bytes.
    unsafe { std::mem::transmute(order) }
}

/// Transposes sixteen by sixteen pairs.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(r: &mut [__m512i; SIDE]) {
    let mut t = [_mm512_setzero_si512(); SIDE];
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for i in 0..4 {
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for i in 0..4 {
        t[i] = _mm512_shuffle_i32x4::<0x88>(r[i], r[4 + i]);
        t[4 + i] = _mm512_shuffle_i32x4::<0xdd>(r[i], r[4 + i]);
        t[8 + i] = _mm512_shuffle_i32x4::<0x88>(r[8 + i], r[12 + i]);
        t[12 + i] = _mm512_shuffle_i32x4::<0xdd>(r[8 + i], r[12 + i]);
    }
    for i in 0..4 {
        r[i] = _mm512_shuffle_i32x4::<0x88>(t[i], t[8 + i]);
        r[8 + i] = _mm512_shuffle_i32x4::<0xdd>(t[i], t[8 + i]);
        r[4 + i] = _mm512_shuffle_i32x4::<0x88>(t[4 + i], t[12 + i]);
        r[12 + i] = _mm512_shuffle_i32x4::<0xdd>(t[4 + i], t[12 + i]);
    }
}
