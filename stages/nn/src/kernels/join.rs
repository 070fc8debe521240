//! Several tensors made one: added up, or side by side.

use crate::kernels::parallel::{In, Out, spread, vectorised};

/// Elements of one unit of work.
const UNIT: usize = 4096;
/// Elements whose signs share a word.
pub(crate) const BITS: usize = 32;

/// y = max(y + x, 0), with a bit for every element that is greater than 0.
pub(crate) fn add_relu(y: &mut [f32], bits: &mut [i32], x: &[f32], threads: usize) {
    let work = (Out(y, UNIT), Out(bits, UNIT / BITS), In(x, UNIT));
    spread(threads, x.len(), work, |(y, bits, x)| {
        add_relu_piece(y.0, bits.0, x.0);
    });
}

/// dy becomes 0 where the bit says so.
pub(crate) fn relu_backward(dy: &mut [f32], bits: &[i32], threads: usize) {
    let (elements, work) = (dy.len(), (Out(dy, UNIT), In(bits, UNIT / BITS)));
    spread(threads, elements, work, |(dy, bits)| {
        relu_backward_piece(dy.0, bits.0);
    });
}

vectorised! {
    fn add_relu_piece(y: &'a mut [f32], bits: &'a mut [i32], x: &'a [f32]) {
        let words = y.chunks_mut(BITS).zip(x.chunks(BITS)).zip(bits);
        for ((y, x), bits) in words {
            *bits = 0;
            for (bit, (y, x)) in y.iter_mut().zip(x).enumerate() {
                let sum = *y + x;
                *y = if sum < 0.0 { 0.0 } else { sum };
                *bits |= i32::from(sum > 0.0) << bit;
            }
        }
    }

    fn relu_backward_piece(dy: &'a mut [f32], bits: &'a [i32]) {
        for (dy, bits) in dy.chunks_mut(BITS).zip(bits) {
            for (bit, dy) in dy.iter_mut().enumerate() {
                *dy = if bits >> bit & 1 == 1 { *dy } else { 0.0 };
            }
        }
    }
}

/// Some columns of a matrix: from which on, of how many.
#[derive(Clone, Copy)]
pub(crate) struct Columns {
    pub(crate) start: usize,
    pub(crate) width: usize,
    pub(crate) of: usize,
}

/// Puts x into columns of y.
pub(crate) fn put_columns(y: &mut [f32], x: &[f32], columns: Columns, threads: usize) {
    let Columns { start, width, of } = columns;
    if x.is_empty() {
        return;
    }
    let work = (Out(y, of), In(x, width));
    spread(threads, x.len(), work, |(y, x)| {
        for (y, x) in y.0.chunks_exact_mut(of).zip(x.0.chunks_exact(width)) {
            y[start..start + width].copy_from_slice(x);
        }
    });
}

/// Takes x out of columns of y.
pub(crate) fn take_columns(x: &mut [f32], y: &[f32], columns: Columns, threads: usize) {
    let Columns { start, width, of } = columns;
    if x.is_empty() {
        return;
    }
    let (elements, work) = (x.len(), (Out(x, width), In(y, of)));
    spread(threads, elements, work, |(x, y)| {
        for (x, y) in x.0.chunks_exact_mut(width).zip(y.0.chunks_exact(of)) {
            x.copy_from_slice(&y[start..start + width]);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_has_a_bit_of_its_own() {
        for len in [1usize, 31, 32, 33, 5000] {
            let x: Vec<f32> = (0..len).map(|i| ((i * 37) % 7) as f32 - 3.0).collect();
            let (mut y, mut bits) = (x.clone(), vec![-1; len.div_ceil(BITS)]);
            add_relu(&mut y, &mut bits, &x, 1);
            let mut dy = vec![1.0; len];
            relu_backward(&mut dy, &bits, 1);
            for i in 0..len {
                assert_eq!(y[i], (2.0 * x[i]).max(0.0), "{i} of {len}");
                assert_eq!(dy[i] == 1.0, x[i] > 0.0, "{i} of {len}");
            }
        }
    }
}
