//! Products on AMX tiles: sixteen rows of 32 numbers of bf16 in a register, and an instruction that
//! multiplies two of them.
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
//! An instruction sums its 32 steps in two chains that start from 0, so that a sum of f32 pieces is
//! rounded 6 times per 32 steps instead of 32 times: it is nearer to the truth than a plain sum in
//! f32. Numbers below 2^-126 count as 0, pieces of numbers below 2^-110 too; what is not finite
//! (or rounds to that) makes not-a-numbers.
//!
//! # Source
//! Intel 64 and IA-32 Architectures Software Developer's Manual, TDPBF16PS. Three pieces: Henry,
//! Tang, Heinecke: "Leveraging the bfloat16 artificial intelligence datatype for higher-precision
//! computations", 2019.
#![allow(unsafe_code)]

use super::{INNER, Product};
use brigade_layer::Precision;
use ndarray::{ArrayView2, s};
use pack::{Lines, Role, pack};
use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

mod ahead;
pub(in crate::kernels) mod block;
mod out;
pub(in crate::kernels) mod pack;
mod piece;
pub(in crate::kernels) mod transpose;

use piece::Piece;

/// Numbers of a tile's row, rows of a tile, and numbers of a tile.
pub(in crate::kernels) const DEPTH: usize = 32;
pub(in crate::kernels) const SIDE: usize = 16;
pub(in crate::kernels) const TILE: usize = SIDE * DEPTH;
/// Rows and columns that are computed together.
pub(in crate::kernels) const BLOCK: usize = 2 * SIDE;

/// Whether this processor has tiles and the system lets us use them.
pub(in crate::kernels) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let vectors = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512bf16");
        vectors && has_tiles() && permitted()
    })
}

/// CPUID leaf 7: AMX-BF16 and AMX-TILE.
fn has_tiles() -> bool {
    let features = __cpuid_count(7, 0).edx;
    features & (1 << 22) != 0 && features & (1 << 24) != 0
}

/// Linux gives the room for tiles (state component 18) to a process that asks for it.
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const TILES: libc::c_long = 18;
    // SAFETY: this call reads and writes no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILES) == 0 }
}

pub(super) fn product(product: Product<'_>, precision: Precision, space: &mut [f32]) {
    // SAFETY: whoever comes here was told that tiles are available.
    unsafe {
        match precision {
            Precision::Bf16 => with_tiles::<1>(product, space),
            _ => with_tiles::<3>(product, space),
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

/// How the tile registers are used: palette 1, eight tiles of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Layout {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static EIGHT: Layout = {
    let mut layout = Layout {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes: [0; 16],
        rows: [0; 16],
    };
    let mut tile = 0;
    while tile < 8 {
        layout.row_bytes[tile] = 64;
        layout.rows[tile] = 16;
        tile += 1;
    }
    layout
};

/// # Safety
/// Tiles are available.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn with_tiles<const P: usize>(product: Product<'_>, space: &mut [f32]) {
    // SAFETY: as the caller says.
    unsafe { lay_out() }
    let start = space.as_ptr().align_offset(64);
    let space = &mut space[start..];
    product.along_inner(|mut piece| {
        // SAFETY: tiles are laid out, and the scratch begins at a cache line.
        unsafe { Piece::<P>::of(&mut piece, space).run() }
    });
    // Others may read what went past the caches.
    std::arch::x86_64::_mm_sfence();
    // SAFETY: as the caller says.
    unsafe { give_back() }
}

/// Lays the tile registers out, all of them zeros.
///
/// # Safety
/// Tiles are available.
#[inline(always)]
pub(in crate::kernels) unsafe fn lay_out() {
    // SAFETY: the layout is a valid one, and tiles are available.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &raw const EIGHT, options(nostack, readonly, preserves_flags));
    }
}

/// Gives the tile registers back.
///
/// # Safety
/// Tiles are available.
#[inline(always)]
pub(in crate::kernels) unsafe fn give_back() {
    // SAFETY: tiles are available, and whoever uses them lays them out first.
    unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
}
