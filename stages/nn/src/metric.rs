//! What is measured beside the loss.

use brigade_layer::{LayerError, Measure, Metric, Tensors};
use serde::{Deserialize, Serialize};

/// The share of counted targets whose logit is the greatest of its row. Of equal logits the first
/// counts.
///
/// # Shapes
/// logits [.., V], targets i32 [..]: of rows [rows, V], tokens [rows, T, V], pixels [rows, height,
/// width, V].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Accuracy {
    /// A target that does not count: -100 by default.
    pub ignore_index: i32,
}

impl Default for Accuracy {
    fn default() -> Self {
        Self { ignore_index: -100 }
    }
}

impl Accuracy {
    /// Targets of -100 do not count.
    pub fn new() -> Self {
        Self::default()
    }

    /// Does not count this target.
    #[must_use]
    pub fn ignoring(mut self, target: i32) -> Self {
        self.ignore_index = target;
        self
    }
}

impl Metric for Accuracy {
    fn name(&self) -> &str {
        "accuracy"
    }

    fn measure(&self, inputs: &Tensors) -> Result<Measure, LayerError> {
        let [logits, targets] = inputs.clone().take()?;
        let (rows, width) = logits.shape().matrix();
        let classes = targets.i32()?;
        if classes.len() != rows || width == 0 {
            let expected = format!("one for each row of logits {}", logits.shape());
            return Err(LayerError::shape(
                "targets of accuracy",
                expected,
                targets.shape(),
            ));
        }
        let mut measure = Measure::default();
        for (row, class) in logits.f32()?.chunks_exact(width).zip(classes) {
            if *class != self.ignore_index {
                let hit = usize::try_from(*class) == Ok(greatest(row));
                measure += Measure {
                    sum: f64::from(u8::from(hit)),
                    count: 1.0,
                };
            }
        }
        Ok(measure)
    }
}

fn greatest(row: &[f32]) -> usize {
    let mut best = 0;
    for (at, x) in row.iter().enumerate() {
        if *x > row[best] {
            best = at;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use brigade_layer::Tensor;

    #[test]
    fn ignored_targets_do_not_count() {
        let logits = Tensor::from_vec([3, 2], vec![0.0f32, 1.0, 3.0, 2.0, 0.0, 1.0]).unwrap();
        let targets = Tensor::from_vec([3], vec![1, 1, -100]).unwrap();
        let measure = Accuracy::new()
            .measure(&[logits.clone(), targets].into())
            .unwrap();
        assert_eq!(measure.mean(), Some(0.5));
        let wrong = Tensor::from_vec([2], vec![1, 1]).unwrap();
        assert!(Accuracy::new().measure(&[logits, wrong].into()).is_err());
    }
    /// What is measured of rows is measured of pixels.
    #[test]
    fn pixels_count_one_by_one() {
        let logits = (0..2 * 3 * 2 * 4).map(|at| (at * 7 % 11) as f32);
        let logits = Tensor::from_vec([2, 3, 2, 4], logits.collect()).unwrap();
        let best: Vec<_> = logits.f32().unwrap().chunks(4).map(greatest).collect();
        let mut classes: Vec<_> = best.iter().map(|class| *class as i32).collect();
        classes[5] = -100;
        classes[7] = (classes[7] + 1) % 4;
        let masks = Tensor::from_vec([2, 3, 2], classes.clone()).unwrap();
        let measure = |masks| Accuracy::new().measure(&[logits.clone(), masks].into());
        let found = measure(masks).unwrap();
        assert_eq!((found.sum, found.count), (10.0, 11.0));
        let rows = Tensor::from_vec([12], classes).unwrap();
        assert_eq!(measure(rows).unwrap(), found);
        let other = Tensor::from_vec([2, 3], vec![0; 6]).unwrap();
        assert!(measure(other).is_err());
    }
}
