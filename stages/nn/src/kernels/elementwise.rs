//! Loops that treat every element alike.

use crate::kernels::math::{normal, sigmoid};
use crate::kernels::parallel::{In, Out, spread, vectorised};
use ndarray::{ArrayView2, ArrayViewMut2};

/// Elements of one unit of work.
const UNIT: usize = 4096;

/// A function of one number and its slope, picked at compile time so that loops over it vectorise.
pub(crate) trait Curve: Sync {
    fn value(x: f32) -> f32;
    fn slope(x: f32) -> f32;
}

/// A curve and its slope over the elements of matrices whose rows are contiguous.
#[derive(Clone, Copy)]
pub(crate) struct Function {
    /// y = f(x).
    pub(crate) value: fn(ArrayViewMut2<'_, f32>, ArrayView2<'_, f32>),
    /// dy = dy f'(x), in place.
    pub(crate) slope: fn(ArrayViewMut2<'_, f32>, ArrayView2<'_, f32>),
}

impl Function {
    pub(crate) fn of<C: Curve>() -> Self {
        Self {
            value: |y, x| value_of_rows::<C>(y, x),
            slope: |dy, x| slope_of_rows::<C>(dy, x),
        }
    }

    /// y = f(x).
    pub(crate) fn values(self, y: &mut [f32], x: &[f32], threads: usize) {
        pairwise(y, x, threads, |y, x| (self.value)(row_mut(y), row(x)));
    }

    /// dy = dy f'(x), in place.
    pub(crate) fn slopes(self, dy: &mut [f32], x: &[f32], threads: usize) {
        pairwise(dy, x, threads, |dy, x| (self.slope)(row_mut(dy), row(x)));
    }
}

fn row(x: &[f32]) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((1, x.len()), x).expect("one row")
}

fn row_mut(x: &mut [f32]) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from_shape((1, x.len()), x).expect("one row")
}

/// y = y + x.
pub(crate) fn add(y: &mut [f32], x: &[f32], threads: usize) {
    pairwise(y, x, threads, add_piece);
}

/// y = y - x.
pub(crate) fn subtract(y: &mut [f32], x: &[f32], threads: usize) {
    pairwise(y, x, threads, subtract_piece);
}

fn pairwise<'a>(
    y: &'a mut [f32],
    x: &'a [f32],
    threads: usize,
    piece: impl Fn(&'a mut [f32], &'a [f32]) + Sync,
) {
    spread(threads, x.len(), (Out(y, UNIT), In(x, UNIT)), |(y, x)| {
        piece(y.0, x.0)
    });
}

/// Numbers of a row that are treated together: rows may be as short as 32, and a loop of unknown
/// length would be unrolled further than that.
const TOGETHER: usize = 16;

#[inline(always)]
fn each_of_a_row(y: &mut [f32], x: &[f32], body: impl Fn(&mut f32, f32)) {
    let ((y, y_rest), (x, x_rest)) = (y.as_chunks_mut::<TOGETHER>(), x.as_chunks::<TOGETHER>());
    for (y, x) in y.iter_mut().zip(x) {
        for lane in 0..TOGETHER {
            body(&mut y[lane], x[lane]);
        }
    }
    for (y, x) in y_rest.iter_mut().zip(x_rest) {
        body(y, *x);
    }
}

vectorised! {
    fn value_of_rows[C: Curve](y: ArrayViewMut2<'a, f32>, x: ArrayView2<'a, f32>) {
        let mut y = y;
        for (mut y, x) in y.rows_mut().into_iter().zip(x.rows()) {
            if let (Some(y), Some(x)) = (y.as_slice_mut(), x.to_slice()) {
                each_of_a_row(y, x, |y, x| *y = C::value(x));
            }
        }
    }

    fn slope_of_rows[C: Curve](dy: ArrayViewMut2<'a, f32>, x: ArrayView2<'a, f32>) {
        let mut dy = dy;
        for (mut dy, x) in dy.rows_mut().into_iter().zip(x.rows()) {
            if let (Some(dy), Some(x)) = (dy.as_slice_mut(), x.to_slice()) {
                each_of_a_row(dy, x, |dy, x| *dy *= C::slope(x));
            }
        }
    }

    fn add_piece(y: &'a mut [f32], x: &'a [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }

    fn subtract_piece(y: &'a mut [f32], x: &'a [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y -= x;
        }
    }
}

/// y = factor y.
pub(crate) fn scale(y: &mut [f32], factor: f32, threads: usize) {
    let elements = y.len();
    spread(threads, elements, Out(y, UNIT), |y| {
        y.0.iter_mut().for_each(|y| *y *= factor);
    });
}

pub(crate) struct Relu;

impl Curve for Relu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        if x < 0.0 { 0.0 } else { x }
    }
    #[inline(always)]
    fn slope(x: f32) -> f32 {
        if x > 0.0 { 1.0 } else { 0.0 }
    }
}

pub(crate) struct Silu;

impl Curve for Silu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * sigmoid(x)
    }
    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let s = sigmoid(x);
        s + x * s * (1.0 - s)
    }
}

/// (1 + tanh u) / 2 is the sigmoid of 2u: one exponential, and precise in the left tail.
pub(crate) struct GeluTanh;

const TWICE_ROOT_TWO_OVER_PI: f32 = 1.595_769_2;
const CUBE: f32 = 0.044_715;

impl Curve for GeluTanh {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        let cubic = (x * x).mul_add(TWICE_ROOT_TWO_OVER_PI * CUBE, TWICE_ROOT_TWO_OVER_PI);
        x * sigmoid(x * cubic)
    }
    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let square = x * x;
        let cubic = square.mul_add(TWICE_ROOT_TWO_OVER_PI * CUBE, TWICE_ROOT_TWO_OVER_PI);
        let s = sigmoid(x * cubic);
        let inner = square.mul_add(3.0 * TWICE_ROOT_TWO_OVER_PI * CUBE, TWICE_ROOT_TWO_OVER_PI);
        (x * s * (1.0 - s)).mul_add(inner, s)
    }
}

pub(crate) struct GeluErf;

impl Curve for GeluErf {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * normal(x).0
    }
    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let (part, density) = normal(x);
        part + x * density
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<C: Curve>(truth: fn(f64) -> f64) {
        let x: Vec<f32> = (-1003..1003).map(|i| i as f32 / 100.0).collect();
        let mut y = vec![0.0; x.len()];
        Function::of::<C>().values(&mut y, &x, 1);
        let mut slopes = vec![1.0; x.len()];
        Function::of::<C>().slopes(&mut slopes, &x, 1);
        for ((x, y), slope) in x.iter().zip(y).zip(slopes) {
            let x = f64::from(*x);
            assert!(
                (f64::from(y) - truth(x)).abs() < 1e-6 * (1.0 + x.abs()),
                "{x}"
            );
            let steep = (truth(x + 1e-5) - truth(x - 1e-5)) / 2e-5;
            let corner = truth(0.1) == 0.1 && x == 0.0;
            assert!(
                (f64::from(slope) - steep).abs() < 1e-5 || corner,
                "{x}: {slope} {steep}"
            );
        }
    }

    #[test]
    fn curves_agree_with_their_formulas_in_double_precision() {
        check::<Relu>(|x| x.max(0.0));
        check::<Silu>(|x| x / (1.0 + libm::exp(-x)));
        check::<GeluErf>(|x| 0.5 * x * libm::erfc(-x / std::f64::consts::SQRT_2));
        check::<GeluTanh>(|x| {
            let root = libm::sqrt(2.0 / std::f64::consts::PI);
            0.5 * x * (1.0 + libm::tanh(root * (x + 0.044715 * x * x * x)))
        });
    }
}
