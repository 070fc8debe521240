//! Softmax cross-entropy.

use crate::kernels::loss::{STATS, Targets, backward, forward};
use crate::shapes::{element_work, expect, two_inputs};
use brigade_layer::{
    BuildCtx, Cost, Ctx, DType, Layer, LayerError, LayerSpec, Shape, Tensor, TensorSpec, Tensors,
};
use serde::{Deserialize, Serialize};

/// Softmax cross-entropy, summed over the counted targets: -sum over targets t of (1 - s) log
/// p\[t\] + s mean(log p), with p = softmax(logits) and s the label smoothing.
///
/// # Shapes
/// logits [.., V], targets i32 [..], output \[1\].
///
/// # Errors
/// A target that is neither a class nor `ignore_index` is an error that names it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CrossEntropy {
    /// A target that does not count: -100 by default.
    pub ignore_index: i32,
    /// The share of a target that is spread over all classes: 0 by default, below 1.
    pub label_smoothing: f32,
}

impl Default for CrossEntropy {
    fn default() -> Self {
        Self {
            ignore_index: -100,
            label_smoothing: 0.0,
        }
    }
}

impl CrossEntropy {
    /// Without smoothing; targets of -100 do not count.
    pub fn new() -> Self {
        Self::default()
    }

    /// Spreads this share of every target over all classes.
    #[must_use]
    pub fn label_smoothing(mut self, share: f32) -> Self {
        self.label_smoothing = share;
        self
    }

    /// Does not count this target.
    #[must_use]
    pub fn ignoring(mut self, target: i32) -> Self {
        self.ignore_index = target;
        self
    }

    fn check(&self, logits: Shape, targets: Shape) -> Result<(), LayerError> {
        if logits.rank() == 0 || logits.last() == 0 {
            return Err(LayerError::shape(
                "logits of cross-entropy",
                "[.., classes]",
                logits,
            ));
        }
        let leading = &logits.axes()[..logits.rank() - 1];
        if targets.axes() != leading {
            let expected = format!("{leading:?}, one for each row of logits {logits}");
            return Err(LayerError::shape(
                "targets of cross-entropy",
                expected,
                targets,
            ));
        }
        Ok(())
    }

    fn check_targets(&self, targets: &Tensor, classes: usize) -> Result<(), LayerError> {
        let fits = |target: i32| {
            target == self.ignore_index || usize::try_from(target).is_ok_and(|t| t < classes)
        };
        let list = targets.i32()?;
        let Some(at) = list.iter().position(|target| !fits(*target)) else {
            return Ok(());
        };
        Err(LayerError::Value(format!(
            "cross-entropy: target {} in row {} of the micro-batch is not one of {classes} \
             classes (0 to {}), nor {}, which does not count",
            list[at],
            at / targets.shape().row_elements().max(1),
            classes - 1,
            self.ignore_index,
        )))
    }

    fn targets<'a>(&self, classes: &'a [i32]) -> Targets<'a> {
        Targets {
            classes,
            ignored: self.ignore_index,
            smoothing: self.label_smoothing,
        }
    }
}

impl LayerSpec for CrossEntropy {
    type Layer = CrossEntropyLayer;

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        if !(0.0..1.0).contains(&self.label_smoothing) {
            let problem = format!(
                "a label smoothing of {}; it must be at least 0 and below 1",
                self.label_smoothing
            );
            return Err(LayerError::spec("cross-entropy", problem));
        }
        let [logits, targets] = two_inputs(inputs)?;
        expect("logits of cross-entropy", logits, DType::F32)?;
        expect("targets of cross-entropy", targets, DType::I32)?;
        self.check(logits.shape, targets.shape)?;
        Ok(vec![TensorSpec::f32([1])])
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let (logits, targets) = (inputs[0], inputs[1]);
        let (rows, elements) = (logits.shape.matrix().0, logits.shape.elements() as u64);
        Cost {
            forward_flops: 20 * elements,
            input_flops: 20 * elements,
            weight_flops: 0,
            stash_bytes: logits.bytes() + targets.bytes() + (rows * STATS * 4) as u64,
            stashed_inputs: 1,
            kept_bytes: 0,
            forward_working_bytes: (rows * STATS * 4) as u64 + 4,
            backward_working_bytes: logits.bytes(),
            thread_bytes: 0,
            ..Cost::default()
        }
    }

    fn build(&self, _: &BuildCtx<'_>) -> Result<CrossEntropyLayer, LayerError> {
        Ok(CrossEntropyLayer(*self))
    }

    fn loss_terms(&self, targets: &Tensors) -> Result<f64, LayerError> {
        let counted = targets
            .get(0)
            .ok_or(LayerError::Missing { index: 0 })?
            .i32()?
            .iter()
            .filter(|target| **target != self.ignore_index);
        Ok(counted.count() as f64)
    }
}

/// The layer that [`CrossEntropy`] describes.
#[derive(Debug)]
pub struct CrossEntropyLayer(CrossEntropy);

impl Layer for CrossEntropyLayer {
    /// Logits, three numbers per row, and targets.
    type Stash = (Tensor, Tensor, Tensor);
    type Kept = ();

    fn forward(
        &mut self,
        inputs: Tensors,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Stash), LayerError> {
        let [logits, targets] = inputs.take()?;
        self.0.check(logits.shape(), targets.shape())?;
        let (rows, width) = logits.shape().matrix();
        self.0.check_targets(&targets, width)?;
        let mut stats = cx.f32([rows, STATS])?;
        let classes = self.0.targets(targets.i32()?);
        let logits_data = logits.f32()?;
        cx.timed(element_work("cross-entropy", rows * width, 20, 1), |cx| {
            forward(stats.data(), logits_data, classes, cx.threads);
        });
        let total: f64 = stats
            .read()
            .chunks_exact(STATS)
            .map(|row| f64::from(row[0]))
            .sum();
        let mut loss = cx.f32([1])?;
        loss.data()[0] = total as f32;
        Ok((loss.freeze().into(), (logits, stats.freeze(), targets)))
    }

    fn backward_input(
        &mut self,
        gradient: Tensors,
        (logits, stats, targets): Self::Stash,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, ()), LayerError> {
        if !cx.wants_gradient(0) {
            return Ok(([None, None].into(), ()));
        }
        let [gradient] = gradient.take()?;
        let factor = gradient.f32()?[0];
        let mut dlogits = cx.writable::<f32>(logits)?;
        let targets = self.0.targets(targets.i32()?);
        let stats = stats.f32()?;
        let elements = dlogits.shape().elements();
        cx.timed(element_work("cross-entropy", elements, 20, 2), |cx| {
            backward(dlogits.data(), stats, targets, factor, cx.threads);
        });
        Ok(([Some(dlogits.freeze()), None].into(), ()))
    }

    fn backward_weight(&mut self, (): (), _: &mut Ctx<'_>) -> Result<(), LayerError> {
        Ok(())
    }
}
