//! Layer normalisation.

use crate::kernels::elementwise::add;
use crate::kernels::norm::{BLOCK_ROWS, backward, forward};
use crate::shapes::{element_work, one_input};
use brigade_layer::{
    BuildCtx, Cost, Ctx, Init, Layer, LayerError, LayerSpec, Param, ParamAccess, ParamRole,
    ParamSpec, Shape, Tensor, TensorSpec, Tensors,
};
use serde::{Deserialize, Serialize};

/// y = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias, over the last axis.
///
/// # Shapes
/// x [.., D], weight \[D\], bias \[D\], y [.., D]; D `width`.
///
/// # Source
/// Ba, Kiros, Hinton: "Layer normalization", 2016.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LayerNorm {
    /// Length of the last axis.
    pub width: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Whether there is a bias.
    pub bias: bool,
}

impl LayerNorm {
    /// A normalisation with a bias and eps 1e-5. Weights start at 1, biases at 0.
    pub fn new(width: usize) -> Self {
        Self {
            width,
            eps: 1e-5,
            bias: true,
        }
    }

    /// Without a bias.
    #[must_use]
    pub fn without_bias(mut self) -> Self {
        self.bias = false;
        self
    }

    /// With this added to the variance.
    #[must_use]
    pub fn eps(mut self, eps: f32) -> Self {
        self.eps = eps;
        self
    }

    fn check_settings(&self) -> Result<(), LayerError> {
        if self.width == 0 || !self.eps.is_finite() || self.eps < 0.0 {
            let problem = "width must be at least 1, and eps a number that is not negative";
            return Err(LayerError::spec("layer norm", problem));
        }
        Ok(())
    }

    fn check(&self, x: Shape) -> Result<(), LayerError> {
        self.check_settings()?;
        if x.rank() == 0 || x.last() != self.width {
            return Err(LayerError::shape(
                "layer norm",
                format!("[.., {}]", self.width),
                x,
            ));
        }
        Ok(())
    }
}

impl LayerSpec for LayerNorm {
    type Layer = LayerNormLayer;

    fn params(&self) -> Vec<ParamSpec> {
        let one = |name, init| ParamSpec::new(name, [self.width], ParamRole::Norm, init);
        let mut params = vec![one("weight", Init::Ones)];
        if self.bias {
            params.push(one("bias", Init::Zeros));
        }
        params
    }

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        let x = one_input("layer norm", inputs)?;
        self.check(x.shape)?;
        Ok(vec![x])
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let (rows, width) = inputs[0].shape.matrix();
        let elements = (rows * width) as u64;
        let gradients = self.params().len() as u64 * width as u64;
        Cost {
            forward_flops: 8 * elements,
            input_flops: 16 * elements,
            weight_flops: gradients,
            stash_bytes: inputs[0].bytes() + rows as u64 * 8,
            stashed_inputs: 1,
            kept_bytes: gradients * 4,
            forward_working_bytes: inputs[0].bytes() + rows as u64 * 8,
            backward_working_bytes: inputs[0].bytes()
                + (rows.div_ceil(64) as u64 * 2 * self.width as u64 + gradients) * 4,
            thread_bytes: 0,
            ..Cost::default()
        }
    }

    fn build(&self, cx: &BuildCtx<'_>) -> Result<LayerNormLayer, LayerError> {
        self.check_settings()?;
        let params: Result<Vec<_>, _> = self
            .params()
            .iter()
            .map(|spec| Param::build(spec, cx))
            .collect();
        Ok(LayerNormLayer {
            spec: self.clone(),
            params: params?,
        })
    }
}

/// The layer that [`LayerNorm`] describes.
#[derive(Debug)]
pub struct LayerNormLayer {
    spec: LayerNorm,
    /// Weight, and bias if there is one.
    params: Vec<Param>,
}

impl Layer for LayerNormLayer {
    /// x, and mean and inverse deviation of each row.
    type Stash = (Tensor, Tensor);
    /// This micro-batch's gradients of weight and bias: the pass over the rows that finds dx finds
    /// them too.
    type Kept = Tensor;

    fn forward(
        &mut self,
        x: Tensors,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Stash), LayerError> {
        let [x] = x.take()?;
        self.spec.check(x.shape())?;
        let mut y = cx.f32(x.shape())?;
        let mut stats = cx.f32([x.shape().matrix().0, 2])?;
        let weights = (self.params[0].value(), self.params.get(1).map(Param::value));
        let (x_data, eps) = (x.f32()?, self.spec.eps);
        cx.timed(element_work("layer norm", x_data.len(), 8, 2), |cx| {
            forward(y.data(), stats.data(), x_data, weights, eps, cx.threads);
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
        let mut shares = cx.f32([rows.div_ceil(BLOCK_ROWS), 2 * width])?;
        let saved = (x.f32()?, stats.f32()?);
        let weight = self.params[0].value();
        cx.timed(element_work("layer norm", rows * width, 16, 3), |cx| {
            backward(dx.data(), shares.data(), saved, weight, cx.threads);
        });
        let mut kept = cx.f32([self.params.len(), width])?;
        kept.data().fill(0.0);
        for share in shares.read().chunks_exact(2 * width) {
            add(kept.data(), &share[..self.params.len() * width], 1);
        }
        let dx = cx.wants_gradient(0).then(|| dx.freeze());
        Ok(([dx].into(), kept.freeze()))
    }

    fn backward_weight(&mut self, kept: Tensor, cx: &mut Ctx<'_>) -> Result<(), LayerError> {
        for (param, kept) in self
            .params
            .iter_mut()
            .zip(kept.f32()?.chunks_exact(self.spec.width))
        {
            add(param.gradient_add(cx.pool())?, kept, 1);
        }
        Ok(())
    }

    fn params(&mut self, visit: &mut dyn FnMut(&mut dyn ParamAccess)) {
        self.params.iter_mut().for_each(|param| visit(param));
    }
}
