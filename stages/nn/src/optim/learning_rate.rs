//! Learning rates as functions of the step.

use super::{NOT_NEGATIVE, check};
use brigade_layer::{LayerError, StepId};
use serde::{Deserialize, Serialize};

/// The learning rate of every step.
///
/// Rates with a warm-up rise to `peak` in `warmup_steps` steps, the first of which has peak /
/// warmup_steps already, then fall and stay at `min` from step `steps` on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum LearningRate {
    /// The same in every step.
    Constant {
        /// The rate.
        lr: f64,
    },
    /// min + (peak - min) (1 + cos(pi (s - warmup) / (steps - warmup))) / 2
    ///
    /// # Source
    /// Loshchilov, Hutter: "SGDR: stochastic gradient descent with warm restarts", 2016, equation
    /// 5, without restarts.
    Cosine {
        /// The greatest rate.
        peak: f64,
        /// The least rate after the warm-up.
        min: f64,
        /// Steps of the rise.
        warmup_steps: u64,
        /// Steps until the rate is `min`.
        steps: u64,
    },
    /// min + (peak - min) (1 - (s - warmup) / (steps - warmup))
    Linear {
        /// The greatest rate.
        peak: f64,
        /// The least rate after the warm-up.
        min: f64,
        /// Steps of the rise.
        warmup_steps: u64,
        /// Steps until the rate is `min`.
        steps: u64,
    },
}

impl From<f64> for LearningRate {
    fn from(lr: f64) -> Self {
        Self::Constant { lr }
    }
}

impl LearningRate {
    /// The rate of a step.
    pub fn at(&self, step: StepId) -> f64 {
        let (peak, min, warmup_steps, steps) = match *self {
            Self::Constant { lr } => return lr,
            Self::Cosine {
                peak,
                min,
                warmup_steps,
                steps,
            }
            | Self::Linear {
                peak,
                min,
                warmup_steps,
                steps,
            } => (peak, min, warmup_steps, steps),
        };
        let step = step.get();
        if step < warmup_steps {
            return peak * (step + 1) as f64 / warmup_steps as f64;
        }
        if step >= steps {
            return min;
        }
        let gone = (step - warmup_steps) as f64 / (steps - warmup_steps) as f64;
        let left = match self {
            // Not the host's cosine: rates are the same everywhere.
            Self::Cosine { .. } => 0.5 * (1.0 + libm::cos(std::f64::consts::PI * gone)),
            _ => 1.0 - gone,
        };
        min + (peak - min) * left
    }

    /// # Errors
    /// When a rate is negative or not a number, or the warm-up is longer than the whole.
    pub(super) fn validate(&self, rule: &str) -> Result<(), LayerError> {
        match *self {
            Self::Constant { lr } => check(rule, "the learning rate", lr, NOT_NEGATIVE),
            Self::Cosine {
                peak,
                min,
                warmup_steps,
                steps,
            }
            | Self::Linear {
                peak,
                min,
                warmup_steps,
                steps,
            } => {
                check(rule, "the learning rate's peak", peak, NOT_NEGATIVE)?;
                check(rule, "the learning rate's min", min, NOT_NEGATIVE)?;
                if warmup_steps > steps {
                    let problem = format!(
                        "the learning rate warms up for {warmup_steps} of {steps} steps; \
                         make `steps` at least as many"
                    );
                    return Err(LayerError::spec(rule, problem));
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_falls_and_stays() {
        let rule = LearningRate::Linear {
            peak: 1.0,
            min: 0.2,
            warmup_steps: 2,
            steps: 6,
        };
        let rates: Vec<f64> = (0..8).map(|step| rule.at(StepId::new(step))).collect();
        let table = [0.5, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2, 0.2];
        assert!(
            rates.iter().zip(table).all(|(a, b)| (a - b).abs() < 1e-12),
            "{rates:?}"
        );
        assert_eq!(LearningRate::from(0.1).at(StepId::new(99)), 0.1);
    }

    #[test]
    fn a_warm_up_of_all_steps_does_not_divide_by_zero() {
        let rule = LearningRate::Cosine {
            peak: 1.0,
            min: 0.5,
            warmup_steps: 3,
            steps: 3,
        };
        assert_eq!(
            (rule.at(StepId::new(2)), rule.at(StepId::new(3))),
            (1.0, 0.5)
        );
        assert!(rule.validate("sgd").is_ok());
        let long = LearningRate::Cosine {
            peak: 1.0,
            min: 0.5,
            warmup_steps: 4,
            steps: 3,
        };
        assert!(
            long.validate("sgd")
                .unwrap_err()
                .to_string()
                .contains("4 of 3 steps")
        );
    }
}
