//! What becomes of sums.

use super::super::STRIP;
use crate::kernels::product::tiles::SIDE;
use crate::kernels::product::tiles::pack::mask;
use crate::kernels::product::tiles::transpose::transpose_numbers;
use ndarray::ArrayViewMut2;
use std::arch::x86_64::*;

/// Sums of 32 x 32, row after row.
#[repr(align(64))]
pub(super) struct Block(pub(super) [f32; STRIP * STRIP]);

/// What rows of sums are multiplied with: a number for each, so many numbers apart.
#[derive(Clone, Copy)]
pub(super) struct Factors {
    pub(super) first: *const f32,
    pub(super) step: usize,
}

/// Puts a block of sums into a matrix, added to what is there if they are.
///
/// # Safety
/// The matrix has these rows and columns, and there is a factor for every row.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn put(
    to: *mut f32,
    stride: isize,
    [rows, columns]: [usize; 2],
    sums: &Block,
    (onto, factors): (bool, Option<Factors>),
) {
    let masks = [mask(columns), mask(columns.saturating_sub(SIDE))];
    for row in 0..rows {
        // SAFETY: rows and masked columns are within the matrix and the sums.
        unsafe {
            let factor = factors.map_or(1.0, |factors| *factors.first.add(row * factors.step));
            let factor = _mm512_set1_ps(factor);
            for (half, mask) in masks.into_iter().enumerate() {
                let to = to.offset(row as isize * stride).wrapping_add(half * SIDE);
                let mut sum = _mm512_load_ps(sums.0.as_ptr().add(row * STRIP + half * SIDE));
                if onto {
                    sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, to), sum);
                }
                _mm512_mask_storeu_ps(to, mask, _mm512_mul_ps(sum, factor));
            }
        }
    }
}

/// Puts blocks of transposed sums into the matrix, multiplied with a factor: of every 32 rows, its
/// blocks of 32 columns.
///
/// # Safety
/// There are as many blocks as the matrix has, each of 32 x 32 numbers at a cache line.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn put_transposed(
    to: &mut ArrayViewMut2<'_, f32>,
    sums: *const f32,
    factor: f32,
) {
    let ((rows, columns), stride) = (to.dim(), to.strides()[0]);
    let (first, blocks) = (to.as_mut_ptr(), columns.div_ceil(STRIP));
    let factor = _mm512_set1_ps(factor);
    for row in (0..rows).step_by(SIDE) {
        for column in (0..columns).step_by(SIDE) {
            let block = row / STRIP * blocks + column / STRIP;
            let within = column % STRIP * STRIP + row % STRIP;
            let mask = mask(columns - column);
            // SAFETY: the block exists; rows and masked columns are within the matrix.
            unsafe {
                let sums = sums.add(block * STRIP * STRIP + within);
                let mut tile = [_mm512_setzero_ps(); SIDE];
                for (number, line) in tile.iter_mut().enumerate() {
                    *line = _mm512_load_ps(sums.add(number * STRIP));
                }
                transpose_numbers(&mut tile);
                for (number, line) in tile.into_iter().enumerate().take(rows - row) {
                    let to = first.offset((row + number) as isize * stride).add(column);
                    _mm512_mask_storeu_ps(to, mask, _mm512_mul_ps(line, factor));
                }
            }
        }
    }
}
