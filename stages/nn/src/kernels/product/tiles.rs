//! Products of tiles: sixteen rows of 32 numbers of bf16, two of which are multiplied at once. AMX
//! does it in three pieces of every number or in one, AVX512-BF16 in one.
//!
//! ```text
//!          b: pairs of steps x columns            pieces of one f32, 8 significant bits each:
//!          ┌──────┬──────┐                          x = x1 + x2 + x3
//!  a:      │  6   │  7   │
//!  ┌────┐  ┌──────┬──────┐                        a b is, from small to large,
//!  │ 4  │  │  0   │  1   │  eight registers:        a1 b3 + a1 b2 + a2 b2 + a2 b1 + a3 b1 + a1 b1
//!  ├────┤  ├──────┼──────┤  32 x 32 sums,         and what is left out (a2 b3, a3 b2, a3 b3) is
//!  │ 5  │  │  2   │  3   │  32 steps at a time    below the rounding of a f32
//!  └────┘  └──────┴──────┘
//! ```
//!
//! AMX sums its 32 steps in two chains that start from 0, so that a sum of f32 pieces is rounded 6
//! times per 32 steps instead of 32 times: it is nearer to the truth than a plain sum in f32.
//! Numbers below 2^-126 count as 0, pieces of numbers below 2^-110 too; what is not finite (or
//! rounds to that) makes not-a-numbers. AVX512-BF16 sums its 32 steps in one chain, two at a time:
//! its sums are others in the last bits.
//!
//! # Source
//! Intel 64 and IA-32 Architectures Software Developer's Manual, TDPBF16PS and VDPBF16PS. Three
//! pieces: Henry, Tang, Heinecke: "Leveraging the bfloat16 artificial intelligence datatype for higher-precision
//! computations", 2019.
#![allow(unsafe_code)]

use super::{INNER, Product, Unit};
use brigade_layer::Precision;
use ndarray::{ArrayView2, s};
use pack::{Lines, Role, pack};

mod ahead;
mod amx;
mod dot;
mod out;
pub(in crate::kernels) mod pack;
mod piece;
pub(in crate::kernels) mod transpose;
pub(in crate::kernels) mod unit;

pub(in crate::kernels) use amx::Amx;
pub(in crate::kernels) use dot::Dot;
use piece::Piece;
use unit::Multiply;

/// Numbers of a tile's row, rows of a tile, and numbers of a tile.
pub(in crate::kernels) const DEPTH: usize = 32;
pub(in crate::kernels) const SIDE: usize = 16;
pub(in crate::kernels) const TILE: usize = SIDE * DEPTH;
/// Rows and columns that are computed together.
pub(in crate::kernels) const BLOCK: usize = 2 * SIDE;

/// Whether this processor has the unit and the system lets us use it.
pub(super) fn has(unit: Unit) -> bool {
    let vectors = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512bf16");
    match unit {
        Unit::Amx => vectors && amx::available(),
        Unit::Dot => vectors,
    }
}

pub(super) fn product(
    product: Product<'_>,
    (unit, precision): (Unit, Precision),
    space: &mut [f32],
) {
    // SAFETY: whoever comes here was told that the unit is available.
    unsafe {
        match (unit, precision) {
            (Unit::Amx, Precision::Bf16) => with_tiles::<1, Amx>(product, space),
            (Unit::Amx, _) => with_tiles::<3, Amx>(product, space),
            (Unit::Dot, _) => with_tiles::<1, Dot>(product, space),
        }
    }
}

/// Packs columns of a factor b [K, N], rounded to bf16, for products along pieces of its inner
/// dimension: `block` elements for every 32 of them.
///
/// # Panics
/// When `to` has no room for them, or does not begin at a cache line.
pub(super) fn pack_columns(to: &mut [f32], block: usize, b: ArrayView2<'_, f32>) {
    assert!(to.as_ptr().align_offset(64) == 0 && block.is_multiple_of(SIDE));
    assert!(block >= b.nrows().next_multiple_of(DEPTH) * BLOCK / 2);
    assert!(to.len() >= b.ncols().div_ceil(BLOCK) * block);
    for start in (0..b.nrows()).step_by(INNER) {
        let end = (start + INNER).min(b.nrows());
        let lines = Lines::columns(&b.slice(s![start..end, ..]));
        let group = (end - start).div_ceil(DEPTH) * TILE;
        let to = &mut to[start * BLOCK / 2..];
        // SAFETY: whoever comes here was told that tiles are available; every block has room for
        // two groups of all steps, two bytes a number.
        unsafe {
            let to = to.as_mut_ptr().cast();
            pack::<1>(to, [group, 2 * block], lines, end - start, Role::B);
        }
    }
}

/// # Safety
/// The unit is available.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn with_tiles<const P: usize, U: Multiply>(product: Product<'_>, space: &mut [f32]) {
    // SAFETY: as the caller says.
    unsafe { U::begin() }
    let start = space.as_ptr().align_offset(64);
    let space = &mut space[start..];
    product.along_inner(|mut piece| {
        // SAFETY: the unit has begun, and the scratch begins at a cache line.
        unsafe { Piece::<P>::of(&mut piece, space).run::<U>() }
    });
    // Others may read what went past the caches.
    std::arch::x86_64::_mm_sfence();
    // SAFETY: as the caller says.
    unsafe { U::end() }
}
