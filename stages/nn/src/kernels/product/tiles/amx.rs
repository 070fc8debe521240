//! Tiles in the registers of AMX.
#![allow(unsafe_code)]

use super::unit::{Multiply, Tiles, To};
use super::{SIDE, TILE};
use std::arch::asm;
use std::arch::x86_64::__cpuid_count;

/// Eight registers of a tile each, and an instruction that multiplies two of them.
pub(in crate::kernels) struct Amx;

/// Whether this processor has tiles and the system lets us use them.
pub(super) fn available() -> bool {
    has_tiles() && permitted()
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

impl Multiply for Amx {
    #[inline(always)]
    unsafe fn begin() {
        // SAFETY: the layout is a valid one, and tiles are available.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const EIGHT, options(nostack, readonly, preserves_flags));
        }
    }

    #[inline(always)]
    unsafe fn end() {
        // SAFETY: tiles are available, and whoever uses them lays them out first.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
    }

    #[inline(always)]
    unsafe fn multiply<const P: usize, const TALL: bool, const WIDE: bool>(
        to: To,
        tiles: Tiles,
        ahead: &mut impl FnMut(),
    ) {
        // SAFETY: as the caller says.
        unsafe {
            if to.onto {
                load_sums::<TALL, WIDE>(to.first, to.stride);
            } else {
                zero!(0 1 2 3);
            }
            add::<P, TALL, WIDE>(tiles, ahead);
            store_sums::<TALL, WIDE>(to.first, to.stride);
        }
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
    Tiles {
        mut a,
        mut b,
        group,
        along,
    }: Tiles,
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
        for _ in 0..along {
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
