//! Data.

use brigade::layer::{LayerError, Random, Tensor, Tensors, unit_f32};
use brigade::nn::Dataset;
use std::f32::consts::TAU;
use std::ops::Range;

/// How many hours the network sees.
pub const PAST: usize = 24;

/// An hourly series that never ends: a day's wave, a slower one, and noise that is stronger by day.
/// Sample n of a range of hours is what was measured in the hours before its n-th, and what then
/// was. One hour in twenty nothing was measured.
///
/// Nothing is kept: a number follows from seed and hour, on whichever node it is asked for.
#[derive(Clone, Debug)]
pub struct Series {
    seed: u64,
    hours: Range<usize>,
}

impl Series {
    /// The samples that end within these hours.
    pub fn new(seed: u64, hours: Range<usize>) -> Self {
        Self { seed, hours }
    }

    /// What was measured `back` hours before one of the range: not a number where nothing was.
    fn measured(&self, sample: usize, back: usize) -> f32 {
        let hour = self.hours.start + sample + PAST - back;
        let drawn = Random::named(self.seed, "series").words(hour as u64, 0, 0);
        let [gap, noise @ ..] = drawn.map(unit_f32);
        if gap < 0.05 {
            return f32::NAN;
        }
        let day = (hour as f32 / 24.0 * TAU).sin();
        let slow = (hour as f32 / 601.0 * TAU).sin();
        let noise = noise.iter().sum::<f32>() - 1.5;
        day + 0.5 * slow + (0.3 + 0.2 * day) * noise
    }
}

impl Dataset for Series {
    fn len(&self) -> usize {
        self.hours.len()
    }

    /// A gap is 0 for the network.
    fn inputs(&self, samples: &[usize]) -> Result<Tensors, LayerError> {
        let hours = |&sample: &usize| (1..=PAST).rev().map(move |back| (sample, back));
        let past = samples.iter().flat_map(hours);
        let past = past.map(|(sample, back)| Some(self.measured(sample, back)));
        let past = past.map(|it| it.filter(|it| !it.is_nan()).unwrap_or(0.0));
        Ok(Tensor::from_vec([samples.len(), PAST], past.collect())?.into())
    }

    /// A gap is not a number for the loss.
    fn targets(&self, samples: &[usize]) -> Result<Tensors, LayerError> {
        let next = samples.iter().map(|&sample| self.measured(sample, 0));
        Ok(Tensor::from_vec([samples.len(), 1], next.collect())?.into())
    }
}
