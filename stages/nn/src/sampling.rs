//! Choosing the next token.

use brigade_layer::{LayerError, Random};
use std::cmp::Ordering;

/// How the next token is drawn from a row of logits: p(i) proportional to exp(logit(i) / T) among
/// the k largest, and of these among the fewest that are drawn with probability p together.
///
/// # Source
/// Top-k: Fan, Lewis, Dauphin: "Hierarchical neural story generation", 2018. Top-p: Holtzman, Buys,
/// Du, Forbes, Choi: "The curious case of neural text degeneration", 2020.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// T: below 1 the likely becomes likelier; at 0 the likeliest is taken. 1 by default.
    pub temperature: f64,
    /// k: only so many are drawn from; 0, the default, for all.
    pub top_k: usize,
    /// p: the likeliest are drawn from, as few as reach this probability together, above 0 and at
    /// most 1; 1, the default, for all.
    pub top_p: f64,
    /// The seed of the draws.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            seed: 1,
        }
    }
}

impl Sampling {
    /// What is wrong with the settings, if anything.
    ///
    /// # Errors
    /// When the temperature is negative or not finite, or p is not above 0 and at most 1.
    pub fn validate(&self) -> Result<(), LayerError> {
        let problem = match *self {
            Self { temperature, .. } if !(temperature.is_finite() && temperature >= 0.0) => {
                format!("a temperature of {temperature}; it must be 0 or more")
            }
            Self { top_p, .. } if !(top_p > 0.0 && top_p <= 1.0) => {
                format!("a top-p of {top_p}; it must be above 0 and at most 1")
            }
            _ => return Ok(()),
        };
        Err(LayerError::spec("sampling", problem))
    }

    /// Draws a token from its logits; `draw` numbers the draws, so that the same one gives the same
    /// token. Equally likely tokens are taken in their order.
    ///
    /// # Errors
    /// When there are no logits, one is not a number, or the settings are wrong.
    pub fn choose(&self, logits: &[f32], draw: u64) -> Result<i32, LayerError> {
        let kept = self.kept(logits)?;
        let [low, high, ..] = Random::named(self.seed, "sampling").words(draw, 0, 0);
        let unit = (u64::from(high) << 32 | u64::from(low)) as f64 / 2f64.powi(64);
        let mut left = unit;
        for (token, probability) in &kept {
            left -= probability;
            if left < 0.0 {
                return Ok(*token);
            }
        }
        // What is left is a rounding error: it goes to the last that can be drawn at all.
        let possible = |(_, probability): &&(i32, f64)| *probability > 0.0;
        if let Some((token, _)) = kept.iter().rev().find(possible) {
            return Ok(*token);
        }
        Ok(kept[kept.len() - 1].0)
    }

    /// The tokens that are drawn from, in their order, each with its probability.
    ///
    /// # Errors
    /// As [`choose`](Self::choose).
    pub fn kept(&self, logits: &[f32]) -> Result<Vec<(i32, f64)>, LayerError> {
        self.validate()?;
        let none = logits.iter().all(|logit| *logit == f32::NEG_INFINITY);
        if none || logits.iter().any(|logit| logit.is_nan()) {
            let problem = "sampling: the logits are not numbers; train with a lower learning rate";
            return Err(LayerError::Value(problem.into()));
        }
        let likelier = |a: &usize, b: &usize| by_likelihood(logits, *a, *b);
        let all = 0..logits.len();
        let likeliest = all.clone().min_by(likelier).unwrap_or_default();
        if self.temperature == 0.0 || logits[likeliest] == f32::INFINITY {
            return Ok(vec![(likeliest as i32, 1.0)]);
        }
        let mut kept: Vec<usize> = all.collect();
        if (1..kept.len()).contains(&self.top_k) {
            kept.select_nth_unstable_by(self.top_k - 1, likelier);
            kept.truncate(self.top_k);
        }
        let largest = f64::from(logits[likeliest]);
        let weight = |token: &usize| {
            let above = f64::from(logits[*token]) - largest;
            libm::exp(above / self.temperature)
        };
        if self.top_p < 1.0 {
            kept.sort_unstable_by(likelier);
            let enough = self.top_p * kept.iter().map(weight).sum::<f64>();
            let mut sum = 0.0;
            let reached = kept.iter().position(|token| {
                sum += weight(token);
                sum >= enough
            });
            kept.truncate(reached.map_or(kept.len(), |last| last + 1));
        }
        kept.sort_unstable();
        let weights: Vec<f64> = kept.iter().map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let kept = kept.into_iter().zip(weights);
        Ok(kept.map(|(token, w)| (token as i32, w / sum)).collect())
    }
}

/// The likelier one first; of equals the one with the lower number.
fn by_likelihood(logits: &[f32], a: usize, b: usize) -> Ordering {
    logits[b].total_cmp(&logits[a]).then(a.cmp(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_temperature_0_the_likeliest_is_taken() {
        let greedy = Sampling {
            temperature: 0.0,
            ..Sampling::default()
        };
        for draw in 0..20 {
            assert_eq!(greedy.choose(&[0.1, 3.0, -1.0, 3.0], draw).unwrap(), 1);
        }
    }

    #[test]
    fn tokens_are_drawn_as_often_as_they_are_likely() {
        let logits = [0.5f32, 0.3, 0.2].map(f32::ln);
        let mut counts = [0; 3];
        for draw in 0..20_000 {
            counts[Sampling::default().choose(&logits, draw).unwrap() as usize] += 1;
        }
        for (count, share) in counts.iter().zip([0.5, 0.3, 0.2]) {
            // Five standard deviations.
            let expected = 20_000.0 * share;
            let deviation = f64::sqrt(expected * (1.0 - share));
            assert!(
                (f64::from(*count) - expected).abs() < 5.0 * deviation,
                "{counts:?}"
            );
        }
    }

    #[test]
    fn only_the_k_largest_are_drawn_and_the_same_draw_gives_the_same() {
        let top = Sampling {
            top_k: 2,
            temperature: 5.0,
            ..Sampling::default()
        };
        let logits = [0.0, 1.0, 2.0, f32::NEG_INFINITY];
        let tokens: Vec<_> = (0..200)
            .map(|draw| top.choose(&logits, draw).unwrap())
            .collect();
        assert!(tokens.contains(&1) && tokens.contains(&2));
        assert!(!tokens.contains(&0) && !tokens.contains(&3));
        assert_eq!(tokens[7], top.choose(&logits, 7).unwrap());
    }

    /// As few as reach p, of equals those with the lower numbers, and at least one.
    #[test]
    fn the_fewest_that_reach_p_are_kept() {
        let logits = [0.1f32, 0.25, 0.15, 0.25, 0.25].map(f32::ln);
        let kept = |top_p: f64, top_k: usize| {
            let sampling = Sampling {
                top_p,
                top_k,
                ..Sampling::default()
            };
            let kept = sampling.kept(&logits).unwrap();
            kept.into_iter().map(|(token, _)| token).collect::<Vec<_>>()
        };
        assert_eq!(kept(0.01, 0), [1]);
        assert_eq!(kept(0.3, 0), [1, 3]);
        assert_eq!(kept(0.74, 0), [1, 3, 4]);
        assert_eq!(kept(0.8, 0), [1, 2, 3, 4]);
        assert_eq!(kept(1.0, 0), [0, 1, 2, 3, 4]);
        // p counts among the k.
        assert_eq!(kept(0.6, 3), [1, 3]);
        assert_eq!(kept(1.0, 2), [1, 3]);
        assert_eq!(kept(1.0, 9), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn bad_settings_and_logits_are_refused() {
        for temperature in [-1.0, f64::NAN, f64::INFINITY] {
            let sampling = Sampling {
                temperature,
                ..Sampling::default()
            };
            assert!(sampling.validate().is_err());
        }
        for top_p in [0.0, -0.5, 1.01, f64::NAN] {
            let sampling = Sampling {
                top_p,
                ..Sampling::default()
            };
            let refused = sampling.choose(&[0.0], 0).unwrap_err().to_string();
            assert!(refused.contains("above 0 and at most 1"), "{refused}");
        }
        assert!(Sampling::default().choose(&[], 0).is_err());
        assert!(Sampling::default().choose(&[0.0, f32::NAN], 0).is_err());
        let infinite = [f32::NEG_INFINITY; 3];
        let none = Sampling::default().choose(&infinite, 0).unwrap_err();
        assert!(none.to_string().contains("not numbers"), "{none}");
        let one = [0.0, f32::INFINITY, 1.0];
        assert_eq!(Sampling::default().choose(&one, 0).unwrap(), 1);
    }
}
