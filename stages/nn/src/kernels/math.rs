//! Elementary functions of one `f32`, by polynomials: the same bits on every machine, and loops
//! over them vectorise.
//!
//! Branches are written as selections, and keep not-a-number as it is; multiplications and
//! additions are fused where it is written, and nowhere else.

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts: the first has nine bits, so that a whole number times it is exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// Adding it leaves the nearest whole number in the low bits of the mantissa.
const ROUNDER: f32 = 12_582_912.0;
/// Where e^x leaves the normal numbers.
const EXP_RANGE: [f32; 2] = [-87.336_54, 88.722_84];

/// e^x within 2 units of the last place. 0 where it would be subnormal.
///
/// # Source
/// The polynomial of Cephes `expf` (S. Moshier).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let [low, high] = EXP_RANGE;
    let inside = if x < low { low } else { x };
    let inside = if inside > high { high } else { inside };
    let y = power(inside);
    let y = if x < low { 0.0 } else { y };
    if x > high { f32::INFINITY } else { y }
}

/// e^x within the range of normal numbers.
#[inline(always)]
fn power(x: f32) -> f32 {
    let shifted = x.mul_add(LOG2_E, ROUNDER);
    let whole = shifted - ROUNDER;
    let r = whole.mul_add(-LN_2[1], whole.mul_add(-LN_2[0], x));
    let p = 1.987_569_1e-4_f32.mul_add(r, 1.398_2e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 5e-1);
    let p = p.mul_add(r * r, r) + 1.0;
    // 2^whole belongs into the exponent: the whole number is in the low bits of `shifted`.
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// 1 / (1 + e^-x), precise in both tails; never less than 1e-38.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    let [low, high] = SIGMOID_RANGE;
    let inside = if x < low { low } else { x };
    let inside = if inside > high { high } else { inside };
    reciprocal(1.0 + power(-inside))
}

/// Beyond it, a sigmoid is 1 or next to 0.
const SIGMOID_RANGE: [f32; 2] = [-86.0, 86.0];

/// 1 / x of a normal x from 1 on, within a unit of the last place: faster than a division of wide
/// vectors. Newton's iteration, which doubles the right digits, from a guess that is an eighth off.
#[inline(always)]
fn reciprocal(x: f32) -> f32 {
    let guess = f32::from_bits(0x7ef3_11c7_u32.wrapping_sub(x.to_bits()));
    let better = |y: f32| y.mul_add((-x).mul_add(y, 1.0), y);
    better(better(better(guess)))
}

/// The normal distribution at x: (the part below x, the density), both precise relative to
/// themselves.
///
/// Below the mean, Phi(-a) = exp(-a^2 / 2) t P(t) / 2 with t = 1 / (1 + a / sqrt 8); P is a
/// Chebyshev fit of exp(q^2) erfc(q) / t at a = q sqrt 2 with error 5e-8.
#[inline(always)]
pub(crate) fn normal(x: f32) -> (f32, f32) {
    const P: [f32; 9] = [
        0.282_084_4,
        0.282_412_62,
        0.242_824_1,
        0.203_802_26,
        -0.029_231_097,
        0.281_742_16,
        -0.490_276_04,
        0.285_979_66,
        -0.059_338_126,
    ];
    const INVERSE_ROOT_8: f32 = 0.353_553_4;
    const INVERSE_ROOT_TWO_PI: f32 = 0.398_942_3;
    let bell = exp(-0.5 * x * x);
    let t = 1.0 / (1.0 + INVERSE_ROOT_8 * x.abs());
    let p = ((P[8] * t + P[7]) * t + P[6]) * t + P[5];
    let p = (((p * t + P[4]) * t + P[3]) * t + P[2]) * t + P[1];
    let p = p * t + P[0];
    let below = 0.5 * bell * t * p;
    let part = if x > 0.0 { 1.0 - below } else { below };
    (part, bell * INVERSE_ROOT_TWO_PI)
}

/// (sin x, cos x), each within 1e-7, for x up to 2^30.
#[inline(always)]
pub(crate) fn sin_cos(x: f32) -> (f32, f32) {
    use std::f64::consts::{FRAC_2_PI, FRAC_PI_2};
    // As ROUNDER, in double precision.
    const ROUNDER: f64 = 6_755_399_441_055_744.0;
    let x = f64::from(x);
    let shifted = x.mul_add(FRAC_2_PI, ROUNDER);
    let r = (shifted - ROUNDER).mul_add(-FRAC_PI_2, x);
    let square = r * r;
    // Taylor's series: r is at most a quarter of pi.
    let sin = (1.0 / 362_880.0f64).mul_add(square, -1.0 / 5_040.0);
    let sin = sin.mul_add(square, 1.0 / 120.0);
    let sin = sin.mul_add(square, -1.0 / 6.0);
    let sin = (sin * square).mul_add(r, r);
    let cos = (-1.0 / 3_628_800.0f64).mul_add(square, 1.0 / 40_320.0);
    let cos = cos.mul_add(square, -1.0 / 720.0);
    let cos = cos.mul_add(square, 1.0 / 24.0);
    let cos = cos.mul_add(square, -0.5);
    let cos = cos.mul_add(square, 1.0);
    // Which quarter of the circle is in the low bits.
    let quarter = shifted.to_bits();
    let (a, b) = if quarter & 1 == 0 {
        (sin, cos)
    } else {
        (cos, sin)
    };
    let a = if quarter & 2 == 0 { a } else { -a };
    let b = if (quarter + 1) & 2 == 0 { b } else { -b };
    (a as f32, b as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(range: f64, function: fn(f32) -> f32, truth: fn(f64) -> f64) -> f64 {
        (-200_000..=200_000)
            .map(|i| {
                let x = (f64::from(i) / 200_000.0 * range) as f32;
                let truth = truth(f64::from(x));
                (f64::from(function(x)) - truth).abs() / truth.abs()
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn functions_are_near_f32_rounding_relative_to_their_own_value() {
        assert!(worst(87.0, exp, libm::exp) < 1.5e-7);
        assert!(worst(80.0, sigmoid, |x| 1.0 / (1.0 + libm::exp(-x))) < 3e-7);
        // The square's own rounding, times x^2 / 2, is in the tails.
        let phi = |x: f64| 0.5 * libm::erfc(-x / std::f64::consts::SQRT_2);
        assert!(worst(3.0, |x| normal(x).0, phi) < 1e-6);
        assert!(worst(12.0, |x| normal(x).0, phi) < 1e-5);
    }

    #[test]
    fn angles_are_near_their_functions_however_large() {
        for (count, step) in [(400_000, 1e-3f64), (100_000, 0.777), (100_000, 311.3)] {
            for i in -1000..count {
                let x = (f64::from(i) * step) as f32;
                let (sin, cos) = sin_cos(x);
                let off = (f64::from(sin) - libm::sin(f64::from(x))).abs();
                assert!(off < 1e-7, "sin {x}: {off:e}");
                let off = (f64::from(cos) - libm::cos(f64::from(x))).abs();
                assert!(off < 1e-7, "cos {x}: {off:e}");
            }
        }
        assert!(sin_cos(f32::NAN).0.is_nan() && sin_cos(f32::INFINITY).1.is_nan());
    }

    #[test]
    fn ends_and_not_a_number_are_kept() {
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-104.0), 0.0);
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(88.7).is_finite() && exp(88.73).is_infinite());
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(
            exp(f32::NAN).is_nan() && sigmoid(f32::NAN).is_nan() && normal(f32::NAN).0.is_nan()
        );
        assert!(sigmoid(-200.0) < 1e-37 && sigmoid(f32::NEG_INFINITY) < 1e-37);
        assert_eq!((sigmoid(200.0), sigmoid(f32::INFINITY)), (1.0, 1.0));
        assert_eq!((normal(-50.0).0, normal(50.0).0), (0.0, 1.0));
        assert!((normal(0.0).0 - 0.5).abs() < 1e-7);
    }
}
