//! A metric.

use brigade::layer::{LayerError, Measure, Metric, Tensors};

/// The share of targets within the bounds: at least the first prediction and at most the last.
/// With quantiles of 0.1 and 0.9 it is to be 0.8.
#[derive(Clone, Copy, Debug)]
pub struct Coverage;

impl Metric for Coverage {
    fn name(&self) -> &str {
        "coverage"
    }

    /// A sum and a count, so that micro-batches add up. Targets that were not measured count for
    /// nothing here, too.
    fn measure(&self, inputs: &Tensors) -> Result<Measure, LayerError> {
        let [bounds, targets] = inputs.clone().take()?;
        let mut measure = Measure::default();
        for (bounds, target) in bounds.matrix()?.rows().into_iter().zip(targets.f32()?) {
            let (Some(low), Some(high)) = (bounds.first(), bounds.last()) else {
                continue;
            };
            if !target.is_nan() {
                measure.count += 1.0;
                measure.sum += f64::from(low <= target && target <= high);
            }
        }
        Ok(measure)
    }
}
