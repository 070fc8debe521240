//! Softmax of a strip of scores, sixteen rows at a time: what is summed along a row is summed in
//! lanes, and the lanes of sixteen rows are transposed and summed together.
//!
//! The same bits as [`crate::kernels::softmax`], which the plain way has.

// Both halves are walked through with one index.
#![allow(clippy::needless_range_loop)]

use crate::kernels::product::tiles::SIDE;
use crate::kernels::product::tiles::pack::mask;
use crate::kernels::product::tiles::transpose::transpose_numbers;
use crate::kernels::softmax::{Rows, STATS};
use std::arch::x86_64::*;

/// A number for each of sixteen rows.
#[repr(align(64))]
struct Each([f32; SIDE]);

/// Scores become exp(score - greatest), 0 where the query does not see the key.
///
/// # Safety
/// The processor has AVX-512 with BW and BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn softmax(p: &mut [f32], stats: &mut [f32], rows: Rows) {
    let scale = _mm512_set1_ps(rows.scale);
    let groups = p.chunks_mut(SIDE * rows.stride);
    for ((p, stats), first) in groups
        .zip(stats.chunks_mut(SIDE * STATS))
        .zip((rows.first..).step_by(SIDE))
    {
        let count = stats.len() / STATS;
        let mut greatest = Each([0.0; SIDE]);
        let mut shares = Each([0.0; SIDE]);
        let mut lanes = [_mm512_set1_ps(f32::NEG_INFINITY); SIDE];
        // SAFETY: vectors of rows that exist, as wide as the strip.
        unsafe {
            for row in 0..count {
                let (p, seen) = (p[row * rows.stride..].as_ptr(), rows.keys(first + row));
                let (mut even, mut odd) = (lanes[row], lanes[row]);
                for at in (0..seen / 32 * 32).step_by(32) {
                    // What is not a number is passed over.
                    even = _mm512_max_ps(_mm512_load_ps(p.add(at)), even);
                    odd = _mm512_max_ps(_mm512_load_ps(p.add(at + SIDE)), odd);
                }
                let (at, [low, high]) = last(seen);
                let p = p.wrapping_add(at);
                even = _mm512_mask_max_ps(even, low, _mm512_maskz_load_ps(low, p), even);
                let p = p.wrapping_add(SIDE);
                odd = _mm512_mask_max_ps(odd, high, _mm512_maskz_load_ps(high, p), odd);
                lanes[row] = _mm512_max_ps(odd, even);
            }
            transpose_numbers(&mut lanes);
            let most = _mm512_mul_ps(joined::<true>(&mut lanes), scale);
            _mm512_store_ps(greatest.0.as_mut_ptr(), most);
            for row in 0..count {
                let (p, seen) = (p[row * rows.stride..].as_mut_ptr(), rows.keys(first + row));
                let greatest = _mm512_set1_ps(greatest.0[row]);
                let mut sums = [_mm512_setzero_ps(); 2];
                for at in (0..seen / 32 * 32).step_by(32) {
                    for half in 0..2 {
                        let p = p.add(at + half * SIDE);
                        let x = exp(_mm512_sub_ps(
                            _mm512_mul_ps(_mm512_load_ps(p), scale),
                            greatest,
                        ));
                        _mm512_store_ps(p, x);
                        sums[half] = _mm512_add_ps(sums[half], x);
                    }
                }
                let (at, masks) = last(seen);
                for half in 0..2 {
                    let to = p.wrapping_add(at + half * SIDE);
                    if at + half * SIDE < seen {
                        let x = _mm512_mul_ps(_mm512_load_ps(to), scale);
                        let x = exp(_mm512_sub_ps(x, greatest));
                        let x = _mm512_maskz_mov_ps(masks[half], x);
                        _mm512_store_ps(to, x);
                        sums[half] = _mm512_add_ps(sums[half], x);
                    } else if at < seen {
                        _mm512_store_ps(to, _mm512_setzero_ps());
                    }
                }
                lanes[row] = _mm512_add_ps(sums[0], sums[1]);
            }
            transpose_numbers(&mut lanes);
            let total = joined::<false>(&mut lanes);
            let share = _mm512_div_ps(_mm512_set1_ps(1.0), total);
            _mm512_store_ps(shares.0.as_mut_ptr(), share);
        }
        for (row, stats) in stats.chunks_exact_mut(STATS).enumerate() {
            stats.copy_from_slice(&[greatest.0[row], shares.0[row]]);
        }
    }
}

/// Products become probabilities p, and gradients of probabilities become gradients of scores:
/// ds = p (dp - sum(p dp)).
///
/// # Safety
/// As `softmax`.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn score_gradients(p: &mut [f32], dp: &mut [f32], stats: &[f32], rows: Rows) {
    let scale = _mm512_set1_ps(rows.scale);
    let groups = p
        .chunks_mut(SIDE * rows.stride)
        .zip(dp.chunks_mut(SIDE * rows.stride));
    for (((p, dp), stats), first) in groups
        .zip(stats.chunks(SIDE * STATS))
        .zip((rows.first..).step_by(SIDE))
    {
        let count = stats.len() / STATS;
        let mut along = Each([0.0; SIDE]);
        let mut lanes = [_mm512_setzero_ps(); SIDE];
        // SAFETY: vectors of rows that exist, as wide as the strip.
        unsafe {
            for row in 0..count {
                let at = row * rows.stride;
                let (p, dp) = (p[at..].as_mut_ptr(), dp[at..].as_mut_ptr());
                let seen = rows.keys(first + row);
                let greatest = _mm512_set1_ps(stats[row * STATS]);
                let share = _mm512_set1_ps(stats[row * STATS + 1]);
                let mut sums = [_mm512_setzero_ps(); 2];
                for at in (0..seen / 32 * 32).step_by(32) {
                    for half in 0..2 {
                        let (p, dp) = (p.add(at + half * SIDE), dp.add(at + half * SIDE));
                        let x = _mm512_mul_ps(_mm512_load_ps(p), scale);
                        let x = _mm512_mul_ps(exp(_mm512_sub_ps(x, greatest)), share);
                        _mm512_store_ps(p, x);
                        let term = _mm512_mul_ps(x, _mm512_load_ps(dp));
                        sums[half] = _mm512_add_ps(sums[half], term);
                    }
                }
                let (at, masks) = last(seen);
                for half in 0..2 {
                    let at = at + half * SIDE;
                    if at >= seen.next_multiple_of(32) {
                        continue;
                    }
                    let (p, dp) = (p.add(at), dp.add(at));
                    let x = _mm512_mul_ps(_mm512_load_ps(p), scale);
                    let x = _mm512_mul_ps(exp(_mm512_sub_ps(x, greatest)), share);
                    let x = _mm512_maskz_mov_ps(masks[half], x);
                    let d = _mm512_maskz_load_ps(masks[half], dp);
                    _mm512_store_ps(p, x);
                    _mm512_store_ps(dp, d);
                    sums[half] = _mm512_add_ps(sums[half], _mm512_mul_ps(x, d));
                }
                lanes[row] = _mm512_add_ps(sums[0], sums[1]);
            }
            transpose_numbers(&mut lanes);
            _mm512_store_ps(along.0.as_mut_ptr(), joined::<false>(&mut lanes));
            for row in 0..count {
                let at = row * rows.stride;
                let (p, dp) = (p[at..].as_ptr(), dp[at..].as_mut_ptr());
                let along = _mm512_set1_ps(along.0[row]);
                for at in (0..rows.keys(first + row)).step_by(SIDE) {
                    let (p, dp) = (p.add(at), dp.add(at));
                    let rest = _mm512_sub_ps(_mm512_load_ps(dp), along);
                    _mm512_store_ps(dp, _mm512_mul_ps(_mm512_load_ps(p), rest));
                }
            }
        }
    }
}

/// Where the last 32 keys begin of which a query sees a part only, and that part's masks.
#[inline(always)]
fn last(seen: usize) -> (usize, [__mmask16; 2]) {
    let (whole, rest) = (seen / 32 * 32, seen % 32);
    (whole, [mask(rest), mask(rest.saturating_sub(SIDE))])
}

/// The greatest or the sum of sixteen vectors, in halves.
///
/// # Safety
/// The processor has AVX-512.
#[inline(always)]
unsafe fn joined<const GREATEST: bool>(vectors: &mut [__m512; SIDE]) -> __m512 {
    let mut width = SIDE / 2;
    while width > 0 {
        for lane in 0..width {
            let (a, b) = (vectors[lane], vectors[lane + width]);
            // SAFETY: vectors without a meaning of their own.
            vectors[lane] = unsafe {
                match GREATEST {
                    true => _mm512_max_ps(b, a),
                    false => _mm512_add_ps(a, b),
                }
            };
        }
        width /= 2;
    }
    vectors[0]
}

/// e^x for x of at most 88: the bits of [`crate::kernels::math::exp`].
///
/// # Safety
/// The processor has AVX-512.
#[inline(always)]
unsafe fn exp(x: __m512) -> __m512 {
    // SAFETY: vectors without a meaning of their own.
    unsafe {
        macro_rules! of {
            ($number:expr) => {
                _mm512_set1_ps($number)
            };
        }
        let low = of!(-87.336_54);
        let inside = _mm512_max_ps(low, x);
        let rounder = of!(12_582_912.0);
        let shifted = _mm512_fmadd_ps(inside, of!(std::f32::consts::LOG2_E), rounder);
        let whole = _mm512_sub_ps(shifted, rounder);
        let r = _mm512_fmadd_ps(whole, of!(-0.693_359_4), inside);
        let r = _mm512_fmadd_ps(whole, of!(2.121_944_4e-4), r);
        let mut p = of!(1.987_569_1e-4);
        p = _mm512_fmadd_ps(p, r, of!(1.398_2e-3));
        p = _mm512_fmadd_ps(p, r, of!(8.333_452e-3));
        p = _mm512_fmadd_ps(p, r, of!(4.166_579_6e-2));
        p = _mm512_fmadd_ps(p, r, of!(1.666_666_5e-1));
        p = _mm512_fmadd_ps(p, r, of!(5e-1));
        p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r);
        p = _mm512_add_ps(p, of!(1.0));
        let kept = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, low);
        _mm512_maskz_scalef_ps(kept, p, whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_have_the_bits_of_the_plain_ones() {
        if !is_x86_feature_detected!("avx512f") {
            return;
        }
        for step in -120_000..=800 {
            let x = step as f32 / 1000.0;
            // SAFETY: the processor has AVX-512.
            let own = unsafe { _mm512_cvtss_f32(exp(_mm512_set1_ps(x))) };
            assert_eq!(own.to_bits(), crate::kernels::math::exp(x).to_bits(), "{x}");
        }
    }
}
