//! Rotary positions: their settings.

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
