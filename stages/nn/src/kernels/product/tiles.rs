//! Products on AMX tiles: sixteen rows of 32 numbers of bf16 in a register, and an instruction that
//! multiplies two of them.
//!
//! ```text
//!          b: pairs of steps x columns                   pieces of one f32, 8 significant bits each
//!          ┌──────┬──────┐                                 x = x1 + x2 + x3
//!  a:      │  6   │  7   │
//!  ┌────┐  ┌──────┬──────┐                               a b is, from small to large,
//!  │ 4  │  │  0   │  1   │  eight registers:               a1 b3 + a1 b2 + a2 b2 + a2 b1 + a3 b1 + a1 b1
//!  ├────┤  ├──────┼──────┤  32 x 32 sums,                and what is left out (a2 b3, a3 b2, a3 b3) is
//!  │ 5  │  │  2   │  3   │  32 steps at a time           below the rounding of a f32
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

use super::{Onto, Product, rows_at_once};
use brigade_layer::Precision;
use std::arch::asm;
use std::arch::x86_64::{
    __cpuid_count, __m512, _mm512_add_ps, _mm512_fmadd_ps, _mm512_load_ps, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_set1_ps,
};
use std::sync::OnceLock;

mod ahead;
mod pack;

use ahead::Ahead;
use pack::{Lines, Role, mask, pack};

/// Numbers of a tile's row, rows of a tile, and numbers of a tile.
const DEPTH: usize = 32;
const SIDE: usize = 16;
const TILE: usize = SIDE * DEPTH;
/// Rows and columns that are computed together.
const BLOCK: usize = 2 * SIDE;

/// Whether this processor has tiles and the system lets us use them.
pub(super) fn available() -> bool {
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
    assert!(
        space.len() >= super::space(product.sizes()),
        "a product's scratch"
    );
    // SAFETY: whoever comes here was told that tiles are available.
    unsafe {
        match precision {
            Precision::Bf16 => with_tiles::<1>(product, space),
            _ => with_tiles::<3>(product, space),
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
    // SAFETY: the layout is a valid one, and tiles are available.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &raw const EIGHT, options(nostack, readonly, preserves_flags));
    }
    let start = space.as_ptr().align_offset(64);
    let packed = space[start..].as_mut_ptr().cast::<u16>();
    product.along_inner(|piece| {
        // SAFETY: `packed` has room for that many rows and a block of columns, as `space` says: a
        // block of columns in one piece is no more than in three.
        unsafe { piece_of_inner::<P>(piece, packed) }
    });
    // SAFETY: gives the registers back.
    unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
}

/// # Safety
/// Tiles are available and laid out; `packed` begins at a cache line, with room for as
/// many rows of a as are packed at once and a block of columns of b.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn piece_of_inner<const P: usize>(product: Product<'_>, packed: *mut u16) {
    let [m, n, k] = product.sizes();
    let at_once = rows_at_once(k) * 3 / P;
    let Product {
        mut c,
        onto,
        scale,
        a,
        b,
        bias,
    } = product;
    assert!(n == 1 || c.strides()[1] == 1, "rows of c are contiguous");
    let c_stride = c.strides()[0];
    let (rows_of_a, columns_of_b) = (Lines::rows(&a), Lines::columns(&b));
    let blocks = k.div_ceil(DEPTH);
    // From one group of sixteen lines to the next.
    let group = blocks * P * TILE;
    let mut sums = Sums([0.0; BLOCK * BLOCK]);
    // SAFETY: every pointer below is of a row or column of a, b or c that exists, because the
    // loops end with them; packed tiles are within what the caller gave.
    unsafe {
        for row in (0..m).step_by(at_once) {
            let rows = (m - row).min(at_once);
            let packed_b = packed.add(rows.next_multiple_of(BLOCK) / SIDE * group);
            let row_blocks = rows.div_ceil(BLOCK);
            for at in (0..rows).step_by(BLOCK) {
                let lines = rows_of_a.block(row + at);
                let next = Ahead::of(rows_of_a.block(row + at + BLOCK), k, blocks);
                pack::<P>(
                    packed.add(at / SIDE * group),
                    group,
                    lines,
                    k,
                    (Role::A, next),
                );
            }
            for column in (0..n).step_by(BLOCK) {
                let columns = (n - column).min(BLOCK);
                let lines = columns_of_b.block(column);
                pack::<P>(packed_b, group, lines, k, (Role::B, Ahead::nothing()));
                // While this block is multiplied, the next one comes nearer.
                let mut next =
                    Ahead::of(columns_of_b.block(column + BLOCK), k, blocks * row_blocks);
                let bias = bias.map(|bias| bias[column..].as_ptr());
                for at in (0..rows).step_by(BLOCK) {
                    let height = (rows - at).min(BLOCK);
                    let packed_a = packed.add(at / SIDE * group);
                    let into = sums.0.as_mut_ptr();
                    let c = c
                        .as_mut_ptr()
                        .offset((row + at) as isize * c_stride)
                        .add(column);
                    let mut own = Ahead::of_block(c, c_stride, height, blocks);
                    let ahead = &mut || {
                        own.pull();
                        next.pull();
                    };
                    let tiles = [packed_a, packed_b];
                    match (height > SIDE, columns > SIDE) {
                        (true, true) => {
                            multiply::<P, true, true>(into, tiles, group, blocks, ahead)
                        }
                        (true, false) => {
                            multiply::<P, true, false>(into, tiles, group, blocks, ahead)
                        }
                        (false, true) => {
                            multiply::<P, false, true>(into, tiles, group, blocks, ahead)
                        }
                        (false, false) => {
                            multiply::<P, false, false>(into, tiles, group, blocks, ahead)
                        }
                    }
                    let finish = Finish {
                        scale,
                        add: onto == Onto::Present,
                        bias,
                    };
                    put(c, c_stride, [height, columns], &sums, finish);
                }
            }
        }
    }
}

/// Sums of a block, row after row.
#[repr(align(64))]
struct Sums([f32; BLOCK * BLOCK]);

macro_rules! load {
    ($tile:literal, $from:expr) => {
        asm!(
            concat!("tileloadd tmm", $tile, ", [{from} + {stride}*1]"),
            from = in(reg) $from,
            stride = in(reg) 64usize,
            options(nostack, readonly, preserves_flags)
        )
    };
}
macro_rules! store {
    ($tile:literal, $to:expr) => {
        asm!(
            concat!("tilestored [{to} + {stride}*1], tmm", $tile),
            to = in(reg) $to,
            stride = in(reg) 4 * BLOCK,
            options(nostack, preserves_flags)
        )
    };
}
macro_rules! zero {
    ($($tile:literal)+) => {$(
        asm!(concat!("tilezero tmm", $tile), options(nostack, nomem, preserves_flags));
    )+};
}
macro_rules! add_product {
    ($c:literal, $a:literal, $b:literal) => {
        asm!(
            concat!("tdpbf16ps tmm", $c, ", tmm", $a, ", tmm", $b),
            options(nostack, nomem, preserves_flags)
        )
    };
}

/// Sums of a block of up to two groups of lines of a by up to two of b. Of each, the second group
/// is `group` after the first. Calls `ahead` once for every tile along the lines.
///
/// # Safety
/// Tiles are available and laid out, and there are `blocks` tiles of `P` pieces in every group.
#[inline(always)]
unsafe fn multiply<const P: usize, const TALL: bool, const WIDE: bool>(
    sums: *mut f32,
    [mut a, mut b]: [*mut u16; 2],
    group: usize,
    blocks: usize,
    ahead: &mut impl FnMut(),
) {
    macro_rules! a {
        ($piece:literal) => {
            load!(4, a.add($piece * TILE));
            if TALL {
                load!(5, a.add($piece * TILE + group));
            }
        };
    }
    macro_rules! b {
        ($piece:literal) => {
            load!(6, b.add($piece * TILE));
            if WIDE {
                load!(7, b.add($piece * TILE + group));
            }
        };
    }
    macro_rules! ab {
        () => {
            add_product!(0, 4, 6);
            if WIDE {
                add_product!(1, 4, 7);
            }
            if TALL {
                add_product!(2, 5, 6);
            }
            if TALL && WIDE {
                add_product!(3, 5, 7);
            }
        };
    }
    // SAFETY: tiles are read within the groups, and sums written within a block.
    unsafe {
        zero!(0 1 2 3);
        for _ in 0..blocks {
            ahead();
            a!(0);
            if P == 1 {
                b!(0);
                ab!();
            } else {
                b!(2);
                ab!();
                b!(1);
                ab!();
                a!(1);
                ab!();
                b!(0);
                ab!();
                a!(2);
                ab!();
                a!(0);
                ab!();
            }
            (a, b) = (a.add(P * TILE), b.add(P * TILE));
        }
        store!(0, sums);
        if WIDE {
            store!(1, sums.add(SIDE));
        }
        if TALL {
            store!(2, sums.add(SIDE * BLOCK));
        }
        if TALL && WIDE {
            store!(3, sums.add(SIDE * BLOCK + SIDE));
        }
    }
}

/// What becomes of a block's sums.
#[derive(Clone, Copy)]
struct Finish {
    scale: f32,
    add: bool,
    bias: Option<*const f32>,
}

/// # Safety
/// c has a block of these sizes, and the bias, if there is one, as many columns.
#[target_feature(enable = "avx512f")]
unsafe fn put(
    c: *mut f32,
    c_stride: isize,
    [rows, columns]: [usize; 2],
    sums: &Sums,
    finish: Finish,
) {
    let scale = _mm512_set1_ps(finish.scale);
    let sums = sums.0.as_ptr();
    for half in [0, SIDE] {
        let Some(columns) = columns.checked_sub(half).filter(|columns| *columns > 0) else {
            continue;
        };
        let mask = mask(columns);
        // SAFETY: rows and masked columns are within c, the bias and the sums.
        unsafe {
            let bias = finish
                .bias
                .map(|bias| _mm512_maskz_loadu_ps(mask, bias.add(half)));
            for row in 0..rows {
                let c = c.offset(row as isize * c_stride).add(half);
                let sum: __m512 = _mm512_load_ps(sums.add(row * BLOCK + half));
                let mut value = match finish.add {
                    true => _mm512_fmadd_ps(sum, scale, _mm512_maskz_loadu_ps(mask, c)),
                    false => _mm512_mul_ps(sum, scale),
                };
                if let Some(bias) = bias {
                    value = _mm512_add_ps(value, bias);
                }
                _mm512_mask_storeu_ps(c, mask, value);
            }
        }
    }
}
