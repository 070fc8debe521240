//! Tiles without registers for them: AVX512-BF16, an instruction that adds products of pairs of
//! numbers to sixteen sums.
//!
//! A few rows of a, pairs of numbers of which are given to all sums of a row, by up to two vectors
//! of b. The 32 steps of a tile are summed in a chain that starts from 0, and their sum is added to
//! what came before, so that it does not show how many tiles are multiplied at once.
#![allow(unsafe_code)]

use super::unit::{Multiply, Tiles, To};
use super::{DEPTH, SIDE, TILE};
use std::arch::x86_64::*;
use std::mem::transmute;

/// VDPBF16PS.
pub(in crate::kernels) struct Dot;

/// Rows that are computed together.
const ROWS: usize = 4;
/// Pairs of steps in a tile's row.
const PAIRS: usize = DEPTH / 2;

impl Multiply for Dot {
    #[inline(always)]
    unsafe fn begin() {}

    #[inline(always)]
    unsafe fn end() {}

    #[inline(always)]
    unsafe fn multiply<const P: usize, const TALL: bool, const WIDE: bool>(
        to: To,
        tiles: Tiles,
        ahead: &mut impl FnMut(),
    ) {
        const { assert!(P == 1, "numbers rounded to bf16") }
        let bands = if TALL { 2 * SIDE / ROWS } else { SIDE / ROWS };
        for band in 0..bands {
            let row = band * ROWS;
            let a = tiles
                .a
                .wrapping_add(row / SIDE * tiles.group + row % SIDE * DEPTH);
            let first = to.first.wrapping_add(row * to.stride);
            // What is to happen meanwhile is spread over all of them.
            let pulls =
                (band * tiles.along).div_ceil(bands)..((band + 1) * tiles.along).div_ceil(bands);
            // SAFETY: as the caller says.
            unsafe { rows::<WIDE>(To { first, ..to }, Tiles { a, ..tiles }) }
            pulls.for_each(|_| ahead());
        }
    }
}

/// # Safety
/// As `multiply`, for these rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn rows<const WIDE: bool>(to: To, tiles: Tiles) {
    let Tiles {
        mut a,
        mut b,
        group,
        along,
    } = tiles;
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    // SAFETY: tiles are read within the groups, sums within their rows.
    unsafe {
        if to.onto {
            for (row, sums) in sums.iter_mut().enumerate() {
                let from = to.first.add(row * to.stride);
                sums[0] = _mm512_loadu_ps(from);
                if WIDE {
                    sums[1] = _mm512_loadu_ps(from.add(SIDE));
                }
            }
        }
        for _ in 0..along {
            let mut chains = [[_mm512_setzero_ps(); 2]; ROWS];
            for pair in 0..PAIRS {
                let columns = b.add(2 * SIDE * pair);
                let left = vector(columns);
                let right = if WIDE {
                    vector(columns.add(group))
                } else {
                    left
                };
                for (row, chains) in chains.iter_mut().enumerate() {
                    let both = a.add(DEPTH * row + 2 * pair).cast::<i32>().read_unaligned();
                    let both: __m512bh = transmute(_mm512_set1_epi32(both));
                    chains[0] = _mm512_dpbf16_ps(chains[0], both, left);
                    if WIDE {
                        chains[1] = _mm512_dpbf16_ps(chains[1], both, right);
                    }
                }
            }
            for (sums, chains) in sums.iter_mut().zip(&chains) {
                sums[0] = _mm512_add_ps(sums[0], chains[0]);
                if WIDE {
                    sums[1] = _mm512_add_ps(sums[1], chains[1]);
                }
            }
            (a, b) = (a.add(TILE), b.add(TILE));
        }
        for (row, sums) in sums.iter().enumerate() {
            let into = to.first.add(row * to.stride);
            _mm512_storeu_ps(into, sums[0]);
            if WIDE {
                _mm512_storeu_ps(into.add(SIDE), sums[1]);
            }
        }
    }
}

/// # Safety
/// There are 32 numbers.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn vector(from: *const u16) -> __m512bh {
    // SAFETY: as the caller says; all bits are numbers.
    unsafe { transmute(_mm512_loadu_si512(from.cast())) }
}
