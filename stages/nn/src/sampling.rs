//! Choosing the next token.

use brigade_layer::{LayerError, Random};

/// How the next token is drawn from a row of logits: p(i) proportional to exp(logit(i) / T) among
/// the k largest.
///
/// # Source
/// Top-k: Fan, Lewis, Dauphin: "Hierarchical neural story generation", 2018.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// T: below 1 the likely becomes likelier; at 0 the likeliest is taken. 1 by default.
    pub temperature: f64,
    /// k: only so many are drawn from; 0, the default, for all.
    pub top_k: usize,
    /// The seed of the draws.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            seed: 1,
        }
    }
}

impl Sampling {
    /// What is wrong with the settings, if anything.
    ///
    /// # Errors
    /// When the temperature is negative or not finite.
    pub fn validate(&self) -> Result<(), LayerError> {
        if self.temperature.is_finite() && self.temperature >= 0.0 {
            return Ok(());
        }
        let problem = format!(
            "a temperature of {}; it must be 0 or more",
            self.temperature
        );
        Err(LayerError::spec("sampling", problem))
    }

    /// Draws a token from its logits; `draw` numbers the draws, so that the same one gives the same
    /// token. Equally likely tokens are taken in their order.
    ///
    /// # Errors
    /// When there are no logits, or one is not a number.
    pub fn choose(&self, logits: &[f32], draw: u64) -> Result<i32, LayerError> {
        if logits.is_empty() || logits.iter().any(|logit| logit.is_nan()) {
            let problem = "sampling: the logits are not numbers; train with a lower learning rate";
            return Err(LayerError::Value(problem.into()));
        }
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        let greedy = self.temperature == 0.0;
        let most = if greedy { 1 } else { self.top_k };
        if most > 0 {
            order.truncate(most);
        }
        if greedy {
            return Ok(order[0] as i32);
        }
        let largest = f64::from(logits[order[0]]);
        let weight = |token: usize| {
            let above = f64::from(logits[token]) - largest;
            libm::exp(above / self.temperature)
        };
        let weights: Vec<f64> = order.iter().map(|token| weight(*token)).collect();
        let [low, high, ..] = Random::named(self.seed, "sampling").words(draw, 0, 0);
        let unit = (u64::from(high) << 32 | u64::from(low)) as f64 / 2f64.powi(64);
        let mut left = unit * weights.iter().sum::<f64>();
        for (token, weight) in order.iter().zip(&weights) {
            left -= weight;
            if left < 0.0 {
                return Ok(*token as i32);
            }
        }
        Ok(order[order.len() - 1] as i32)
    }
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

    #[test]
    fn bad_settings_and_logits_are_refused() {
        for temperature in [-1.0, f64::NAN, f64::INFINITY] {
            let sampling = Sampling {
                temperature,
                ..Sampling::default()
            };
            assert!(sampling.validate().is_err());
        }
        assert!(Sampling::default().choose(&[], 0).is_err());
        assert!(Sampling::default().choose(&[0.0, f32::NAN], 0).is_err());
    }
}
