//! Rotary positions: their settings.

use brigade_layer::LayerError;
use serde::{Deserialize, Serialize};

/// Positions by rotation: the pair (x\[i\], x\[i + C / 2\]) of each head's C columns turns by
/// t f\[i\] at position t, with f\[i\] = theta^(-2 i / C), scaled.
///
/// # Source
/// Su et al.: "RoFormer: enhanced transformer with rotary position embedding", 2021.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rotary {
    /// How slowly the slowest pair turns: 10,000 by default.
    pub theta: f64,
    /// How frequencies are scaled for sequences longer than those that were trained on.
    pub scaling: RotaryScaling,
}

impl Default for Rotary {
    fn default() -> Self {
        Self {
            theta: 1e4,
            scaling: RotaryScaling::None,
        }
    }
}

/// How the frequencies of [`Rotary`] positions are scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum RotaryScaling {
    /// Not at all.
    #[default]
    None,
    /// All by one factor: positions are divided by it.
    Linear {
        /// What positions are divided by.
        factor: f64,
    },
    /// Not at all up to the positions that were trained on, which is as far as sequences go; beyond
    /// them other libraries raise theta.
    Dynamic {
        /// How much longer sequences were to become.
        factor: f64,
    },
    /// Slow pairs by a factor, fast ones not, as Llama 3.1 has it.
    Llama3 {
        /// What slow pairs are divided by.
        factor: f64,
        /// Pairs that turn less often than this within the original context are slow.
        low_frequency_factor: f64,
        /// Pairs that turn more often than this within it are fast.
        high_frequency_factor: f64,
        /// The context that was trained on.
        original_context: usize,
    },
    /// Slow pairs by a factor, fast ones not, and all rotated numbers longer.
    ///
    /// # Source
    /// Peng et al.: "YaRN: efficient context window extension of large language models", 2023.
    Yarn {
        /// What slow pairs are divided by.
        factor: f64,
        /// Pairs that turn more often than this within the original context are fast: 32 in the
        /// paper.
        beta_fast: f64,
        /// Pairs that turn less often than this are slow: 1 in the paper.
        beta_slow: f64,
        /// What queries and keys are multiplied with: 0.1 ln(factor) + 1 in the paper.
        attention_factor: f64,
        /// The context that was trained on.
        original_context: usize,
        /// Whether the range of pairs between fast and slow ends at whole pairs.
        truncate: bool,
    },
}

impl Rotary {
    /// Radians that each pair of a head's columns turns by from one position to the next, and what
    /// rotated numbers are multiplied with.
    ///
    /// # Errors
    /// When a setting is no positive number, or the columns cannot be paired.
    pub fn frequencies(&self, columns: usize) -> Result<(Vec<f32>, f32), LayerError> {
        self.check(columns)?;
        let exponents = (0..columns / 2).map(|pair| (2 * pair) as f64 / columns as f64);
        let plain: Vec<f64> = exponents
            .map(|exponent| 1.0 / libm::pow(self.theta, exponent))
            .collect();
        let length = match self.scaling {
            RotaryScaling::Yarn {
                attention_factor, ..
            } => attention_factor,
            _ => 1.0,
        };
        let scaled = plain.iter().enumerate();
        let scaled = scaled.map(|(pair, plain)| self.scaled(*plain, pair, columns) as f32);
        let (frequencies, length): (Vec<f32>, _) = (scaled.collect(), length as f32);
        if frequencies.iter().any(|turn| !turn.is_finite()) || !length.is_normal() {
            let problem = format!("{self:?} gives frequencies or factors that are no numbers");
            return Err(LayerError::spec("rotary positions", problem));
        }
        Ok((frequencies, length))
    }

    fn scaled(&self, plain: f64, pair: usize, columns: usize) -> f64 {
        use std::f64::consts::TAU;
        match self.scaling {
            RotaryScaling::None | RotaryScaling::Dynamic { .. } => plain,
            RotaryScaling::Linear { factor } => plain / factor,
            RotaryScaling::Llama3 {
                factor,
                low_frequency_factor: low,
                high_frequency_factor: high,
                original_context,
            } => {
                let turns = original_context as f64 * plain / TAU;
                let fast = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                (1.0 - fast) * plain / factor + fast * plain
            }
            RotaryScaling::Yarn {
                factor,
                beta_fast,
                beta_slow,
                original_context,
                truncate,
                ..
            } => {
                // The pair that turns so often within the original context.
                let pair_of = |turns: f64| {
                    let context = original_context as f64;
                    let logarithm = libm::log(context / (turns * TAU));
                    columns as f64 * logarithm / (2.0 * libm::log(self.theta))
                };
                let (first, last) = (pair_of(beta_fast), pair_of(beta_slow));
                let (first, last) = match truncate {
                    true => (libm::floor(first), libm::ceil(last)),
                    false => (first, last),
                };
                let (first, last) = (first.max(0.0), last.min(columns as f64 - 1.0));
                let range = if last == first { 0.001 } else { last - first };
                let slow = ((pair as f64 - first) / range).clamp(0.0, 1.0);
                slow * plain / factor + (1.0 - slow) * plain
            }
        }
    }

    fn check(&self, columns: usize) -> Result<(), LayerError> {
        let refuse = |problem: String| Err(LayerError::spec("rotary positions", problem));
        if columns == 0 || !columns.is_multiple_of(2) {
            let problem = format!("heads of {columns} columns cannot be paired; make it even");
            return refuse(problem);
        }
        let mut numbers = vec![("theta", self.theta)];
        match self.scaling {
            RotaryScaling::None => {}
            RotaryScaling::Linear { factor } | RotaryScaling::Dynamic { factor } => {
                numbers.push(("factor", factor));
            }
            RotaryScaling::Llama3 {
                factor,
                low_frequency_factor: low,
                high_frequency_factor: high,
                original_context,
            } => {
                numbers.extend([("factor", factor), ("low frequency factor", low)]);
                numbers.push(("original context", original_context as f64));
                numbers.push(("high frequency factor less the low one", high - low));
            }
            RotaryScaling::Yarn {
                factor,
                beta_fast,
                beta_slow,
                attention_factor,
                original_context,
                ..
            } => {
                numbers.extend([("factor", factor), ("attention factor", attention_factor)]);
                numbers.extend([("beta fast", beta_fast), ("beta slow", beta_slow)]);
                numbers.push(("original context", original_context as f64));
                numbers.push(("theta less 1", self.theta - 1.0));
            }
        }
        let wrong = numbers
            .into_iter()
            .find(|(_, number)| !(number.is_finite() && *number > 0.0));
        match wrong {
            Some((name, number)) => refuse(format!("{name} is {number}; it must be above 0")),
            None => Ok(()),
        }
    }
}
