//! Normalisation by the root mean square.

use crate::kernels::elementwise::add;
use crate::kernels::norm::BLOCK_ROWS;
use crate::kernels::rms_norm::{backward, forward};
use crate::shapes::{element_work, one_input};
use brigade_layer::{
    BuildCtx, Cost, Ctx, Init, Layer, LayerError, LayerSpec, Param, ParamAccess, ParamRole,
    ParamSpec, Shape, Tensor, TensorSpec, Tensors,
};
use serde::{Deserialize, Serialize};

/// y = x / sqrt(mean(x^2) + eps) * weight, over the last axis.
///
/// # Shapes
/// x [.., D], weight \[D\], y [.., D]; D `width`.
///
/// # Source
/// Zhang, Sennrich: "Root mean square layer normalization", 2019, equation 4.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RmsNorm {
    /// Length of the last axis.
    pub width: usize,
    /// Added to the mean square.
    pub eps: f32,
}

impl RmsNorm {
    /// A normalisation with eps 1e-5. Weights start at 1.
    pub fn new(width: usize) -> Self {
        Self { width, eps: 1e-5 }
    }

    /// With this added to the mean square.
    #[must_use]
    pub fn eps(mut self, eps: f32) -> Self {
        self.eps = eps;
        self
    }

    fn check_settings(&self) -> Result<(), LayerError> {
        if self.width == 0 || !self.eps.is_finite() || self.eps < 0.0 {
            let problem = "width must be at least 1, and eps a number that is not negative";
            return Err(LayerError::spec("rms norm", problem));
        }
        Ok(())
    }

    fn check(&self, x: Shape) -> Result<(), LayerError> {
        self.check_settings()?;
        if x.rank() == 0 || x.last() != self.width {
            let expected = format!("[.., {}]", self.width);
            return Err(LayerError::shape("rms norm", expected, x));
        }
        Ok(())
    }
}

impl LayerSpec for RmsNorm {
    type Layer = RmsNormLayer;

    fn params(&self) -> Vec<ParamSpec> {
        let (role, init) = (ParamRole::Norm, Init::Ones);
        vec![ParamSpec::new("weight", [self.width], role, init)]
    }

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        let x = one_input("rms norm", inputs)?;
        self.check(x.shape)?;
        Ok(vec![x])
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let (rows, width) = inputs[0].shape.matrix();
        let (elements, stats) = ((rows * width) as u64, rows as u64 * 4);
        let gradient = width as u64 * 4;
        Cost {
            forward_flops: 5 * elements,
            input_flops: 11 * elements,
            weight_flops: width as u64,
            stash_bytes: inputs[0].bytes() + stats,
            stashed_inputs: 1,
            kept_bytes: gradient,
            forward_working_bytes: inputs[0].bytes() + stats,
            backward_working_bytes: inputs[0].bytes()
                + (rows.div_ceil(BLOCK_ROWS) as u64 + 1) * gradient,
            ..Cost::default()
        }
    }

    fn build(&self, cx: &BuildCtx<'_>) -> Result<RmsNormLayer, LayerError> {
        self.check_settings()?;
        let weight = Param::build(&self.params()[0], cx)?;
        Ok(RmsNormLayer {
            spec: self.clone(),
            weight,
        })
    }
}

/// The layer that [`RmsNorm`] describes.
#[derive(Debug)]
pub struct RmsNormLayer {
    spec: RmsNorm,
    weight: Param,
}

impl Layer for RmsNormLayer {
    /// x, and the inverse root mean square of each row.
    type Stash = (Tensor, Tensor);
    /// This micro-batch's gradient of the weight: the pass over the rows that finds dx finds it
    /// too.
    type Kept = Tensor;

    fn forward(
        &mut self,
        x: Tensors,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Stash), LayerError> {
        let [x] = x.take()?;
        self.spec.check(x.shape())?;
        let mut y = cx.f32(x.shape())?;
        let mut stats = cx.f32([x.shape().matrix().0])?;
        let (x_data, weight) = (x.f32()?, (self.weight.value(), self.spec.eps));
        cx.timed(element_work("rms norm", x_data.len(), 5, 2), |cx| {
            forward(y.data(), stats.data(), x_data, weight, cx.threads);
        });
        Ok((y.freeze().into(), (x, stats.freeze())))
    }

    fn backward_input(
        &mut self,
        dy: Tensors,
        (x, stats): Self::Stash,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Tensor), LayerError> {
        let [dy] = dy.take()?;
        let (rows, width) = x.shape().matrix();
        let mut dx = cx.writable::<f32>(dy)?;
        let mut shares = cx.f32([rows.div_ceil(BLOCK_ROWS), width])?;
        let (saved, weight) = ((x.f32()?, stats.f32()?), self.weight.value());
        cx.timed(element_work("rms norm", rows * width, 11, 3), |cx| {
            backward(dx.data(), shares.data(), saved, weight, cx.threads);
        });
        let mut kept = cx.f32([width])?;
        kept.data().fill(0.0);
        for share in shares.read().chunks_exact(width) {
            add(kept.data(), share, 1);
        }
        let dx = cx.wants_gradient(0).then(|| dx.freeze());
        Ok(([dx].into(), kept.freeze()))
    }

    fn backward_weight(&mut self, kept: Tensor, cx: &mut Ctx<'_>) -> Result<(), LayerError> {
        add(self.weight.gradient_add(cx.pool())?, kept.f32()?, 1);
        Ok(())
    }

    fn params(&mut self, visit: &mut dyn FnMut(&mut dyn ParamAccess)) {
        visit(&mut self.weight);
    }
}
