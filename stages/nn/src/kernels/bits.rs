//! One bit an element.

use crate::kernels::parallel::{In, Out, spread, vectorised};

/// Elements of a word.
const WORD: usize = 32;

/// Words for so many elements.
pub(crate) fn words(elements: usize) -> usize {
    elements.div_ceil(WORD)
}

/// Elements without a bit become 0.
pub(crate) fn mask(x: &mut [f32], bits: &[i32], threads: usize) {
    const WORDS: usize = 128;
    let (elements, work) = (x.len(), (Out(x, WORDS * WORD), In(bits, WORDS)));
    spread(threads, elements, work, |(x, bits)| mask_some(x.0, bits.0));
}

vectorised! {
    /// Which elements are greater than 0.
    pub(crate) fn pack(bits: &'a mut [i32], y: &'a [f32]) {
        for (bits, y) in bits.iter_mut().zip(y.chunks(WORD)) {
            *bits = match y.first_chunk::<WORD>() {
                Some(y) => word(y),
                None => y.iter().enumerate().fold(0, |word, (at, y)| word | bit(*y, at)),
            };
        }
    }

    /// Elements without a bit become 0, on this thread.
    pub(crate) fn mask_some(x: &'a mut [f32], bits: &'a [i32]) {
        for (bits, x) in bits.iter().zip(x.chunks_mut(WORD)) {
            match x.first_chunk_mut::<WORD>() {
                Some(x) => clear(x, *bits),
                None => clear(x, *bits),
            }
        }
    }
}

#[inline(always)]
fn bit(y: f32, at: usize) -> i32 {
    if y > 0.0 { 1 << at } else { 0 }
}

#[inline(always)]
fn word(y: &[f32; WORD]) -> i32 {
    let mut word = 0;
    for (at, y) in y.iter().enumerate() {
        word |= bit(*y, at);
    }
    word
}

#[inline(always)]
fn clear(x: &mut [f32], bits: i32) {
    for (at, x) in x.iter_mut().enumerate() {
        *x = if bits & (1 << at) == 0 { 0.0 } else { *x };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_greater_than_0_stays_at_odd_lengths() {
        for len in [0, 1, 31, 32, 33, 100] {
            let x: Vec<f32> = (0..len).map(|i| libm::sinf(i as f32 * 2.1)).collect();
            let mut bits = vec![-1; words(len)];
            pack(&mut bits, &x);
            let mut masked = x.clone();
            mask(&mut masked, &bits, 1);
            for (masked, x) in masked.iter().zip(&x) {
                assert_eq!(*masked, x.max(0.0));
            }
        }
        let mut bits = [0];
        pack(&mut bits, &[0.0, f32::NAN, 1.0, -0.0]);
        assert_eq!(bits, [4]);
    }
}
