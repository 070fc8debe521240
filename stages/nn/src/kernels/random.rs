//! Dropout masks: drawn again whenever needed, never kept.

use crate::kernels::parallel::vectorised;
use brigade_layer::{LayerError, Random};

/// Blocks of four words that are drawn side by side.
const BLOCKS: usize = 16;
/// Elements that one group of blocks decides on.
const GROUP: usize = 4 * BLOCKS;

/// Decides which elements are dropped, by (sample, draw, number of the element).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mask {
    random: Random,
    /// Words below are dropped.
    threshold: u32,
    /// What a kept element is multiplied with.
    scale: f32,
}

impl Mask {
    /// The mask that drops with this probability, or `None` when it drops nothing.
    pub(crate) fn new(random: Random, probability: f32) -> Option<Self> {
        (probability > 0.0).then(|| Self {
            random,
            threshold: (f64::from(probability) * 4_294_967_296.0) as u32,
            scale: 1.0 / (1.0 - probability),
        })
    }

    /// Blocks that `elements` elements use up.
    pub(crate) fn blocks(elements: usize) -> usize {
        elements.div_ceil(GROUP) * BLOCKS
    }

    /// Multiplies elements with 0 or 1 / (1 - probability). Their words start at `block`.
    ///
    /// Word w of block b decides on element 16 w + b of a group of 64: no shuffling between draw
    /// and use.
    pub(crate) fn apply(&self, data: &mut [f32], sample: u64, draw: u32, block: usize) {
        apply(self, data, sample, draw, block);
    }
}

vectorised! {
    fn apply(mask: &'a Mask, data: &'a mut [f32], sample: u64, draw: u32, block: usize) {
        for (number, group) in data.chunks_mut(GROUP).enumerate() {
            let first = (block + number * BLOCKS) as u32;
            let mut factors = [0.0; GROUP];
            for lane in 0..BLOCKS {
                let words = mask
                    .random
                    .words(sample, draw, first.wrapping_add(lane as u32));
                for (word, bits) in words.into_iter().enumerate() {
                    let kept = bits >= mask.threshold;
                    factors[word * BLOCKS + lane] = if kept { mask.scale } else { 0.0 };
                }
            }
            for (x, factor) in group.iter_mut().zip(factors) {
                *x *= factor;
            }
        }
    }
}

/// # Errors
/// When it is not a probability below 1.
pub(crate) fn check_probability(what: &str, probability: f32) -> Result<(), LayerError> {
    if (0.0..1.0).contains(&probability) {
        return Ok(());
    }
    let problem =
        format!("a dropout probability of {probability}; it must be at least 0 and below 1");
    Err(LayerError::spec(what, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(sample: u64, draw: u32, len: usize) -> Vec<f32> {
        let mut data = vec![1.0; len];
        let mask = Mask::new(Random::named(3, "mask"), 0.25).unwrap();
        mask.apply(&mut data, sample, draw, 0);
        data
    }

    #[test]
    fn a_quarter_is_dropped_and_the_rest_makes_up_for_it() {
        let data = drawn(0, 0, 100_001);
        assert!(data.iter().all(|x| *x == 0.0 || *x == 1.0 / 0.75));
        let mean = data.iter().map(|x| f64::from(*x)).sum::<f64>() / data.len() as f64;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
    }

    #[test]
    fn masks_depend_on_sample_and_draw_and_a_prefix_stays() {
        assert_ne!(drawn(0, 0, 200), drawn(1, 0, 200));
        assert_ne!(drawn(0, 0, 200), drawn(0, 1, 200));
        assert_eq!(drawn(0, 0, 200)[..77], drawn(0, 0, 77));
    }
}
