//! The mean of each column of several matrices.

use crate::kernels::elementwise::scale;
use crate::kernels::parallel::{In, Out, spread, vectorised};
use crate::kernels::reduce::column_sums;

/// A row of y for each matrix: the means of its columns.
///
/// # Shapes
/// x [matrices, rows, width], y [matrices, width].
pub(crate) fn means(y: &mut [f32], x: &[f32], width: usize, threads: usize) {
    if x.is_empty() {
        return;
    }
    let matrix = x.len() / (y.len() / width);
    let share = width as f32 / matrix as f32;
    spread(
        threads,
        x.len(),
        (Out(y, width), In(x, matrix)),
        |(y, x)| {
            for (y, x) in y.0.chunks_exact_mut(width).zip(x.0.chunks_exact(matrix)) {
                column_sums(y, true, x, width, 1);
                scale(y, share, 1);
            }
        },
    );
}

/// Every row of a matrix of dx is its row of dy, divided among them.
pub(crate) fn means_backward(dx: &mut [f32], dy: &[f32], width: usize, threads: usize) {
    if dx.is_empty() {
        return;
    }
    let matrix = dx.len() / (dy.len() / width);
    let (elements, work) = (dx.len(), (Out(dx, matrix), In(dy, width)));
    spread(threads, elements, work, |(dx, dy)| {
        divide(dx.0, dy.0, width, matrix);
    });
}

vectorised! {
    fn divide(dx: &'a mut [f32], dy: &'a [f32], width: usize, matrix: usize) {
        let share = width as f32 / matrix as f32;
        for (dx, dy) in dx.chunks_exact_mut(matrix).zip(dy.chunks_exact(width)) {
            for dx in dx.chunks_exact_mut(width) {
                dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = share * dy);
            }
        }
    }
}
