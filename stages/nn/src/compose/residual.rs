//! A layer with a connection around it.

use super::part::instead_of_first;
use crate::kernels::elementwise::add;
use crate::shapes::element_work;
use brigade_layer::{
    BuildCtx, Cost, Ctx, Layer, LayerError, LayerSpec, ParamAccess, ParamSpec, TensorSpec, Tensors,
};
use serde::{Deserialize, Serialize};

/// A layer with a connection around it: y = x + f(x), or x + f(x, ..).
///
/// # Shapes
/// One output, of the first input's shape. Other inputs are the layer's alone.
///
/// # Source
/// He, Zhang, Ren, Sun: "Deep residual learning for image recognition", 2015.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Residual<S>(S);

impl<S: LayerSpec> Residual<S> {
    /// Adds the layer's input to its output.
    pub fn new(inner: S) -> Self {
        Self(inner)
    }
}

impl<S: LayerSpec> LayerSpec for Residual<S> {
    type Layer = ResidualLayer<S::Layer>;

    fn params(&self) -> Vec<ParamSpec> {
        self.0.params()
    }

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        let Some(&x) = inputs.first() else {
            return Err(LayerError::Missing { index: 0 });
        };
        let x = crate::shapes::expect("residual", x, brigade_layer::DType::F32)?;
        match *self.0.outputs(inputs)? {
            [y] if y == x => Ok(vec![y]),
            [y] => Err(LayerError::shape(
                "output of a residual's layer",
                x.to_string(),
                y.shape,
            )),
            ref outputs => Err(LayerError::Arity {
                expected: 1,
                found: outputs.len(),
            }),
        }
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let elements = inputs[0].shape.elements() as u64;
        let adds = Cost {
            forward_flops: elements,
            input_flops: elements,
            // The input is held for the sum, so that the branch cannot work in place.
            forward_working_bytes: inputs[0].bytes(),
            backward_working_bytes: inputs[0].bytes(),
            ..Cost::default()
        };
        let inner = self.0.cost(inputs);
        Cost {
            stashed_inputs: inner.stashed_inputs,
            ..inner + adds
        }
    }

    fn build(&self, cx: &BuildCtx<'_>) -> Result<Self::Layer, LayerError> {
        Ok(ResidualLayer(self.0.build(cx)?))
    }
}

/// The layer that [`Residual`] describes.
#[derive(Debug)]
pub struct ResidualLayer<L>(L);

impl<L: Layer> Layer for ResidualLayer<L> {
    type Stash = L::Stash;
    type Kept = L::Kept;

    fn forward(
        &mut self,
        inputs: Tensors,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Stash), LayerError> {
        let x = inputs
            .get(0)
            .cloned()
            .ok_or(LayerError::Missing { index: 0 })?;
        let (y, stash) = self.0.forward(inputs, cx)?;
        let [y] = y.take()?;
        let mut y = cx.writable::<f32>(y)?;
        let x = x.f32()?;
        cx.timed(element_work("add", x.len(), 1, 3), |cx| {
            add(y.data(), x, cx.threads)
        });
        Ok((y.freeze().into(), stash))
    }

    fn backward_input(
        &mut self,
        dy: Tensors,
        stash: Self::Stash,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Kept), LayerError> {
        let [dy] = dy.take()?;
        let (mut inner, kept) = self.0.backward_input(dy.clone().into(), stash, cx)?;
        if !cx.wants_gradient(0) {
            return Ok((inner, kept));
        }
        let own = inner.remove(0).ok_or(LayerError::Missing { index: 0 })?;
        let mut dx = cx.writable::<f32>(own)?;
        let dy = dy.f32()?;
        cx.timed(element_work("add", dy.len(), 1, 3), |cx| {
            add(dx.data(), dy, cx.threads)
        });
        Ok((instead_of_first(inner, dx.freeze().into())?, kept))
    }

    fn backward_weight(&mut self, kept: Self::Kept, cx: &mut Ctx<'_>) -> Result<(), LayerError> {
        self.0.backward_weight(kept, cx)
    }

    fn commit(&mut self, cx: &mut Ctx<'_>) -> Result<(), LayerError> {
        self.0.commit(cx)
    }

    fn params(&mut self, visit: &mut dyn FnMut(&mut dyn ParamAccess)) {
        self.0.params(visit);
    }
}
