//! Dropout.

use crate::kernels::parallel::{Out, spread};
use crate::kernels::random::{Mask, check_probability};
use crate::shapes::one_input;
use brigade_layer::{
    BuildCtx, Cost, Ctx, Layer, LayerError, LayerSpec, Tensor, TensorSpec, Tensors,
};
use serde::{Deserialize, Serialize};

/// Elements of one unit of work: a whole number of the mask's groups.
const UNIT: usize = 4096;

/// Drops elements while training: y = 0 with probability p, else x / (1 - p).
///
/// Nothing is kept for the backward pass: the mask is drawn again, from (seed, step, sample, layer)
/// alone.
///
/// # Shapes
/// Any with samples first; y has the shape of x.
///
/// # Source
/// Srivastava et al.: "Dropout: a simple way to prevent neural networks from overfitting", JMLR
/// 2014.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Dropout {
    /// With which probability an element is dropped: at least 0, below 1.
    pub probability: f32,
}

impl Dropout {
    /// Drops with this probability.
    pub fn new(probability: f32) -> Self {
        Self { probability }
    }
}

impl LayerSpec for Dropout {
    type Layer = DropoutLayer;

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        check_probability("dropout", self.probability)?;
        Ok(vec![one_input("dropout", inputs)?])
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        // Ten rounds of the generator for four elements.
        let per_element = if self.probability > 0.0 { 20 } else { 0 };
        let flops = per_element * inputs[0].shape.elements() as u64;
        Cost {
            forward_flops: flops,
            input_flops: flops,
            forward_working_bytes: inputs[0].bytes(),
            backward_working_bytes: inputs[0].bytes(),
            ..Cost::default()
        }
    }

    fn build(&self, _: &BuildCtx<'_>) -> Result<DropoutLayer, LayerError> {
        check_probability("dropout", self.probability)?;
        Ok(DropoutLayer(*self))
    }
}

/// The layer that [`Dropout`] describes.
#[derive(Debug)]
pub struct DropoutLayer(Dropout);

impl DropoutLayer {
    fn apply(&self, x: Tensor, cx: &Ctx<'_>) -> Result<Tensor, LayerError> {
        let mask = Mask::new(cx.random(), self.0.probability).filter(|_| cx.training());
        let Some(mask) = mask else { return Ok(x) };
        let row_elements = x.shape().row_elements().max(1);
        let mut y = cx.writable::<f32>(x)?;
        for (row, data) in y.data().chunks_exact_mut(row_elements).enumerate() {
            let sample = (cx.first_row + row) as u64;
            let work = (0..row_elements.div_ceil(UNIT), Out(data, UNIT));
            spread(cx.threads, row_elements, work, |(units, data)| {
                let block = units.start * Mask::blocks(UNIT);
                mask.apply(data.0, sample, 0, block);
            });
        }
        Ok(y.freeze())
    }
}

impl Layer for DropoutLayer {
    type Stash = ();
    type Kept = ();

    fn forward(&mut self, x: Tensors, cx: &mut Ctx<'_>) -> Result<(Tensors, ()), LayerError> {
        let [x] = x.take()?;
        let y = cx.timed("dropout", |cx| self.apply(x, cx))?;
        Ok((y.into(), ()))
    }

    fn backward_input(
        &mut self,
        dy: Tensors,
        (): (),
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, ()), LayerError> {
        let [dy] = dy.take()?;
        if !cx.wants_gradient(0) {
            return Ok(([None].into(), ()));
        }
        let dx = cx.timed("dropout", |cx| self.apply(dy, cx))?;
        Ok((dx.into(), ()))
    }

    fn backward_weight(&mut self, (): (), _: &mut Ctx<'_>) -> Result<(), LayerError> {
        Ok(())
    }
}
