//! Several tensors made one: added up, or side by side.

use crate::kernels::bits::{pack, words};
use crate::kernels::parallel::{In, Out, spread, vectorised};

/// Elements of one unit of work: a whole number of words of bits.
const UNIT: usize = 4096;

/// y = max(y + x, 0), with a bit for every element that is greater than 0.
pub(crate) fn add_relu(y: &mut [f32], bits: &mut [i32], x: &[f32], threads: usize) {
    let work = (Out(y, UNIT), Out(bits, words(UNIT)), In(x, UNIT));
    spread(threads, x.len(), work, |(y, bits, x)| {
        let (y, units) = (y.0.chunks_mut(UNIT), bits.0.chunks_mut(words(UNIT)));
        for ((y, bits), x) in y.zip(units).zip(x.0.chunks(UNIT)) {
            add_relu_unit(y, x);
            pack(bits, y);
        }
    });
}

vectorised! {
    fn add_relu_unit(y: &'a mut [f32], x: &'a [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            let sum = *y + x;
            *y = if sum < 0.0 { 0.0 } else { sum };
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
    use crate::kernels::bits::mask;

    #[test]
    fn every_element_has_a_bit_of_its_own() {
        for len in [1usize, 31, 32, 33, 5000] {
            let x: Vec<f32> = (0..len).map(|i| ((i * 37) % 7) as f32 - 3.0).collect();
            let (mut y, mut bits) = (x.clone(), vec![-1; words(len)]);
            add_relu(&mut y, &mut bits, &x, 1);
            let mut dy = vec![1.0; len];
            mask(&mut dy, &bits, 1);
            for i in 0..len {
                assert_eq!(y[i], (2.0 * x[i]).max(0.0), "{i} of {len}");
                assert_eq!(dy[i] == 1.0, x[i] > 0.0, "{i} of {len}");
            }
        }
    }
}
