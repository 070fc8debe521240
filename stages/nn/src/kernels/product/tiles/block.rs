//! The sums of one block.
#![allow(unsafe_code)]

use super::{BLOCK, SIDE, TILE};
use std::arch::asm;

/// Sums of a block, row after row.
#[repr(align(64))]
pub(in crate::kernels) struct Sums(pub(in crate::kernels) [f32; BLOCK * BLOCK]);

macro_rules! load {
    ($tile:literal, $from:expr) => {
        load!($tile, $from, 64usize)
    };
    ($tile:literal, $from:expr, $stride:expr) => {
        asm!(
            concat!("tileloadd tmm", $tile, ", [{from} + {stride}*1]"),
            from = in(reg) $from,
            stride = in(reg) $stride,
            options(nostack, readonly, preserves_flags)
        )
    };
}
macro_rules! store {
    ($tile:literal, $to:expr, $stride:expr) => {
        asm!(
            concat!("tilestored [{to} + {stride}*1], tmm", $tile),
            to = in(reg) $to,
            stride = in(reg) $stride,
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
pub(super) unsafe fn multiply<const P: usize, const TALL: bool, const WIDE: bool>(
    sums: *mut f32,
    tiles: [*mut u16; 2],
    group: usize,
    blocks: usize,
    ahead: &mut impl FnMut(),
) {
    // SAFETY: as the caller says; sums are written within a block.
    unsafe {
        zero!(0 1 2 3);
        add::<P, TALL, WIDE>(tiles, group, blocks, ahead);
        store_sums::<TALL, WIDE>(sums, BLOCK);
    }
}

/// As `multiply`, for sums with so many numbers from one row to the next, added to what is there
/// if they are.
///
/// # Safety
/// As `multiply`; there is room for the sums of whole tiles.
#[inline(always)]
pub(in crate::kernels) unsafe fn multiply_to<const P: usize, const TALL: bool, const WIDE: bool>(
    (sums, stride, onto): (*mut f32, usize, bool),
    tiles: [*mut u16; 2],
    group: usize,
    blocks: usize,
) {
    // SAFETY: as the caller says.
    unsafe {
        if onto {
            load_sums::<TALL, WIDE>(sums, stride);
        } else {
            zero!(0 1 2 3);
        }
        add::<P, TALL, WIDE>(tiles, group, blocks, &mut || {});
        store_sums::<TALL, WIDE>(sums, stride);
    }
}

/// # Safety
/// There are sums of whole tiles.
#[inline(always)]
unsafe fn load_sums<const TALL: bool, const WIDE: bool>(from: *const f32, stride: usize) {
    // SAFETY: as the caller says.
    unsafe {
        load!(0, from, 4 * stride);
        if WIDE {
            load!(1, from.add(SIDE), 4 * stride);
        }
        if TALL {
            load!(2, from.add(SIDE * stride), 4 * stride);
        }
        if TALL && WIDE {
            load!(3, from.add(SIDE * stride + SIDE), 4 * stride);
        }
    }
}

/// # Safety
/// There is room for the sums of whole tiles.
#[inline(always)]
unsafe fn store_sums<const TALL: bool, const WIDE: bool>(to: *mut f32, stride: usize) {
    // SAFETY: as the caller says.
    unsafe {
        store!(0, to, 4 * stride);
        if WIDE {
            store!(1, to.add(SIDE), 4 * stride);
        }
        if TALL {
            store!(2, to.add(SIDE * stride), 4 * stride);
        }
        if TALL && WIDE {
            store!(3, to.add(SIDE * stride + SIDE), 4 * stride);
        }
    }
}

/// Adds the products of tiles to the sums in the registers 0 to 3.
///
/// # Safety
/// As `multiply`.
#[inline(always)]
unsafe fn add<const P: usize, const TALL: bool, const WIDE: bool>(
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
    // SAFETY: tiles are read within the groups.
    unsafe {
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
    }
}
