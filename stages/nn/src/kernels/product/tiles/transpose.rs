//! Transposing in registers.
#![allow(unsafe_code)]
// Several registers are walked through with one index.
#![allow(clippy::needless_range_loop)]

use super::SIDE;
use std::arch::x86_64::*;

/// Transposes sixteen by sixteen numbers.
///
/// # Safety
/// The processor has AVX-512.
#[inline(always)]
pub(in crate::kernels) unsafe fn transpose_numbers(rows: &mut [__m512; SIDE]) {
    // SAFETY: vectors without a meaning of their own.
    unsafe {
        let mut words = [_mm512_setzero_si512(); SIDE];
        for row in 0..SIDE {
            words[row] = _mm512_castps_si512(rows[row]);
        }
        transpose(&mut words);
        for row in 0..SIDE {
            rows[row] = _mm512_castsi512_ps(words[row]);
        }
    }
}

/// Transposes sixteen by sixteen words of 32 bits.
///
/// # Safety
/// The processor has AVX-512.
#[inline(always)]
pub(super) unsafe fn transpose(r: &mut [__m512i; SIDE]) {
    // SAFETY: vectors without a meaning of their own.
    unsafe {
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
}
