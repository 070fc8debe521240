//! Batch normalisation.

mod layer;
mod statistics;

pub use layer::{BatchNorm2dLayer, BatchNormStash};

use super::shape::Images;
use crate::kernels::bits;
use crate::kernels::channels::Blocks;
use crate::shapes::{one_input, two_inputs};
use brigade_layer::{
    BuildCtx, Cost, Init, LayerError, LayerSpec, Param, ParamRole, ParamSpec, TensorSpec,
};
use serde::{Deserialize, Serialize};

/// y = (x - mean) / sqrt(variance + eps) * weight + bias, channel by channel, and then, if asked
/// for, what a second input brings and max(y, 0).
///
/// Training normalises each micro-batch by its own mean and biased variance over rows, height and
/// width, so that what comes out depends on the size of the micro-batch, and of the last one, which
/// may be smaller. At the end of a step that updates, the mean and the unbiased variance of the
/// whole mini-batch go into the running ones: running = (1 - momentum) running + momentum new.
/// Evaluation normalises by these, and so does a [frozen](brigade_layer::Network::freeze) layer
/// always, which leaves them as they are.
///
/// # Shapes
/// x, y and what is added [rows, height, width, channels]; weight, bias, running_mean and
/// running_var \[channels\].
///
/// # Source
/// Ioffe, Szegedy: "Batch normalization: accelerating deep network training by reducing internal
/// covariate shift", 2015; settings and running statistics are PyTorch's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BatchNorm2d {
    /// Length of the last axis.
    pub channels: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Share of a new mean or variance in the running one.
    pub momentum: f32,
    /// Whether a second input is added to what was normalised.
    pub adds: bool,
    /// Whether what is negative becomes 0, at the very end.
    pub relu: bool,
}

impl BatchNorm2d {
    /// A normalisation with eps 1e-5 and momentum 0.1. Weights start at 1, biases at 0, running
    /// means at 0 and running variances at 1.
    pub fn new(channels: usize) -> Self {
        Self {
            channels,
            eps: 1e-5,
            momentum: 0.1,
            adds: false,
            relu: false,
        }
    }

    /// With this added to the variance.
    #[must_use]
    pub fn eps(mut self, eps: f32) -> Self {
        self.eps = eps;
        self
    }

    /// With this share of a new mean or variance in the running one.
    #[must_use]
    pub fn momentum(mut self, momentum: f32) -> Self {
        self.momentum = momentum;
        self
    }

    /// With a second input, of the same shape, that is added to what was normalised: the end of a
    /// residual block.
    #[must_use]
    pub fn adding(mut self) -> Self {
        self.adds = true;
        self
    }

    /// With max(y, 0) at the end: the same numbers as a layer of its own, and fewer passes over
    /// memory.
    #[must_use]
    pub fn relu(mut self) -> Self {
        self.relu = true;
        self
    }

    fn check_settings(&self) -> Result<(), LayerError> {
        let problem = if self.channels == 0 {
            "channels must be at least 1"
        } else if !self.eps.is_finite() || self.eps < 0.0 {
            "eps must be a number that is not negative"
        } else if !(0.0..=1.0).contains(&self.momentum) {
            "momentum must be between 0 (nothing new) and 1 (nothing old)"
        } else {
            return Ok(());
        };
        Err(LayerError::spec("batch norm", problem))
    }

    fn check(&self, inputs: &[TensorSpec]) -> Result<Images, LayerError> {
        self.check_settings()?;
        let x = match self.adds {
            true => two_inputs(inputs)?[0],
            false => one_input("batch norm", inputs)?,
        };
        let images = Images::of("batch norm", x)?;
        if images.channels != self.channels {
            let expected = format!("[rows, height, width, {}]", self.channels);
            return Err(LayerError::shape("batch norm", expected, x.shape));
        }
        if let Some(skip) = inputs.get(1)
            && Images::of("what batch norm adds", *skip)? != images
        {
            let (what, expected) = ("what batch norm adds", x.shape.to_string());
            return Err(LayerError::shape(what, expected, skip.shape));
        }
        Ok(images)
    }

    /// Whether F keeps a bit for every element: y is not to be had from x alone.
    fn keeps_bits(&self) -> bool {
        self.adds && self.relu
    }

    /// Whether dy depends on x through n(x).
    fn gated(&self) -> bool {
        self.relu && !self.adds
    }
}

fn blocks(images: Images) -> Blocks {
    Blocks {
        samples: 1,
        pixels: images.pixels(),
        channels: images.channels,
    }
}

impl LayerSpec for BatchNorm2d {
    type Layer = BatchNorm2dLayer;

    fn params(&self) -> Vec<ParamSpec> {
        let of = |name, role, init| ParamSpec::new(name, [self.channels], role, init);
        vec![
            of("weight", ParamRole::Norm, Init::Ones),
            of("bias", ParamRole::Norm, Init::Zeros),
            of("running_mean", ParamRole::Statistic, Init::Zeros).untrained(),
            of("running_var", ParamRole::Statistic, Init::Ones).untrained(),
        ]
    }

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        Ok(vec![self.check(inputs)?.spec()])
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let Ok(images) = self.check(inputs) else {
            return Cost::default();
        };
        let (bytes, blocks) = (inputs[0].bytes(), blocks(images));
        let elements = blocks.elements() as u64;
        // Two numbers a channel: moments, what is left of them, or gradients.
        let pair = 8 * self.channels as u64;
        let parts = blocks.count() as u64 * pair;
        let bits = match self.keeps_bits() {
            true => 4 * bits::words(blocks.elements()) as u64,
            false => 0,
        };
        let masked = if self.keeps_bits() { bytes } else { 0 };
        Cost {
            forward_flops: 12 * elements,
            input_flops: 16 * elements,
            weight_flops: 2 * self.channels as u64,
            stash_bytes: bytes + pair + bits,
            stashed_inputs: 1,
            kept_bytes: pair,
            step_bytes: pair,
            forward_working_bytes: pair + parts.max(pair + bytes + bits),
            backward_working_bytes: masked + pair + parts.max(bytes + pair),
            ..Cost::default()
        }
    }

    fn build(&self, cx: &BuildCtx<'_>) -> Result<BatchNorm2dLayer, LayerError> {
        self.check_settings()?;
        let params = self.params();
        let of = |at: usize| Param::build(&params[at], cx);
        let params = [of(0)?, of(1)?, of(2)?, of(3)?];
        Ok(BatchNorm2dLayer::new(self.clone(), params))
    }
}
