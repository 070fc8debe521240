//! What multiplies tiles.
#![allow(unsafe_code)]

use super::BLOCK;

/// Sums of a block, row after row.
#[repr(align(64))]
pub(in crate::kernels) struct Sums(pub(in crate::kernels) [f32; BLOCK * BLOCK]);

/// Where sums go: from one row to the next so many numbers.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct To {
    pub(in crate::kernels) first: *mut f32,
    pub(in crate::kernels) stride: usize,
    /// Whether they are added to those present.
    pub(in crate::kernels) onto: bool,
}

/// Packed lines of a and b: up to two groups of sixteen of each, the second one `group` after the
/// first.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Tiles {
    pub(in crate::kernels) a: *const u16,
    pub(in crate::kernels) b: *const u16,
    pub(in crate::kernels) group: usize,
    /// Tiles along the lines.
    pub(in crate::kernels) along: usize,
}

/// A unit of the processor that multiplies tiles.
pub(in crate::kernels) trait Multiply {
    /// Before the first product.
    ///
    /// # Safety
    /// The processor has the unit.
    unsafe fn begin();

    /// After the last one.
    ///
    /// # Safety
    /// As `begin`, which came before.
    unsafe fn end();

    /// Sums of one or two (`TALL`) groups of lines of a by one or two (`WIDE`) of b, `P` pieces of
    /// every number. Calls `ahead` once for every tile along the lines.
    ///
    /// # Safety
    /// As `begin`, which came before; the groups have as many tiles, and there is room for the sums
    /// of whole tiles.
    unsafe fn multiply<const P: usize, const TALL: bool, const WIDE: bool>(
        to: To,
        tiles: Tiles,
        ahead: &mut impl FnMut(),
    );
}
