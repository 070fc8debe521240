//! The matrix product: one door to `gemm`.
#![allow(unsafe_code)]

use gemm::Parallelism;
use ndarray::{ArrayView2, ArrayViewMut2, Axis, s};

/// The inner dimension is summed in pieces of this many: `gemm` would choose by the processor's
/// caches, and the numbers would follow.
const INNER: usize = 512;

/// What a product does with what its destination holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Onto {
    /// Overwrites it, whatever it is.
    Nothing,
    /// Adds to it.
    Present,
}

/// c = scale a b, or c += scale a b. Transposed operands are views with their strides exchanged.
///
/// # Shapes
/// c [M, N], a [M, K], b [K, N].
pub(crate) fn product(
    mut c: ArrayViewMut2<'_, f32>,
    onto: Onto,
    scale: f32,
    [a, b]: [ArrayView2<'_, f32>; 2],
    threads: usize,
) {
    let inner = a.len_of(Axis(1));
    if inner == 0 && onto == Onto::Nothing {
        c.fill(0.0);
    }
    for start in (0..inner).step_by(INNER) {
        let end = (start + INNER).min(inner);
        let add = onto == Onto::Present || start > 0;
        let pieces = [a.slice(s![.., start..end]), b.slice(s![start..end, ..])];
        piece(c.view_mut(), add, scale, pieces, threads);
    }
}

fn piece(
    mut c: ArrayViewMut2<'_, f32>,
    add: bool,
    scale: f32,
    [a, b]: [ArrayView2<'_, f32>; 2],
    threads: usize,
) {
    let ((rows, columns), inner) = (c.dim(), a.len_of(Axis(1)));
    assert_eq!(
        (a.dim(), b.dim()),
        ((rows, inner), (inner, columns)),
        "a product's shapes"
    );
    let parallelism = match threads {
        0 | 1 => Parallelism::None,
        threads => Parallelism::Rayon(threads),
    };
    let strides = |strides: &[isize]| (strides[1], strides[0]);
    let (c_columns, c_rows) = strides(c.strides());
    let (a_columns, a_rows) = strides(a.strides());
    let (b_columns, b_rows) = strides(b.strides());
    // SAFETY: the pointers and strides are those of views whose shapes were compared just above, so
    // every element that gemm touches belongs to its view; c is borrowed mutably, hence shares no
    // element with a or b.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            c.as_mut_ptr(),
            c_columns,
            c_rows,
            add,
            a.as_ptr(),
            a_columns,
            a_rows,
            b.as_ptr(),
            b_columns,
            b_rows,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    fn numbers(rows: usize, columns: usize, salt: usize) -> Array2<f32> {
        Array2::from_shape_fn((rows, columns), |(r, c)| {
            ((r * 31 + c * 17 + salt * 7) % 23) as f32 / 11.0 - 1.0
        })
    }

    fn naive(
        start: f32,
        scale: f32,
        a: ArrayView2<'_, f32>,
        b: ArrayView2<'_, f32>,
    ) -> Array2<f32> {
        Array2::from_shape_fn((a.nrows(), b.ncols()), |(r, c)| {
            let terms = a.row(r).into_iter().zip(b.column(c));
            let sum: f64 = terms.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            start + scale * sum as f32
        })
    }

    #[test]
    fn every_layout_agrees_with_three_loops_at_odd_sizes() {
        for (m, n, k) in [
            (1, 1, 1),
            (3, 5, 7),
            (17, 1, 33),
            (1, 19, 64),
            (33, 47, 1025),
            (65, 130, 512),
        ] {
            let (a, b) = (numbers(m, k, 1), numbers(k, n, 2));
            let (at, bt) = (
                a.t().as_standard_layout().into_owned(),
                b.t().as_standard_layout().into_owned(),
            );
            for (a, b) in [
                (a.view(), b.view()),
                (at.t(), b.view()),
                (a.view(), bt.t()),
                (at.t(), bt.t()),
            ] {
                for (onto, scale) in [
                    (Onto::Nothing, 1.0),
                    (Onto::Present, 1.0),
                    (Onto::Present, -0.5),
                ] {
                    let mut c = Array2::from_elem((m, n), 0.25);
                    product(c.view_mut(), onto, scale, [a, b], 1);
                    let start = if onto == Onto::Present { 0.25 } else { 0.0 };
                    let error = (&c - &naive(start, scale, a, b)).mapv(f32::abs);
                    assert!(
                        error.iter().all(|e| *e < 1e-6 * (k as f32 + 8.0)),
                        "{m} {n} {k}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_strided_destination_keeps_its_neighbours() {
        let (a, b) = (numbers(4, 3, 1), numbers(3, 2, 2));
        let mut wide = Array2::from_elem((4, 6), 9.0);
        product(
            wide.slice_mut(s![.., 2..4]),
            Onto::Nothing,
            1.0,
            [a.view(), b.view()],
            1,
        );
        assert!(
            wide.slice(s![.., ..2])
                .iter()
                .chain(wide.slice(s![.., 4..]))
                .all(|v| *v == 9.0)
        );
    }

    #[test]
    fn an_empty_inner_dimension_gives_zeros() {
        let mut c = Array2::from_elem((2, 2), f32::NAN);
        let (a, b) = (Array2::zeros((2, 0)), Array2::zeros((0, 2)));
        product(c.view_mut(), Onto::Nothing, 1.0, [a.view(), b.view()], 1);
        assert_eq!(c, Array2::<f32>::zeros((2, 2)));
    }
}
