//! Several tensors added up: where a skip connection ends.

use crate::kernels::bits::{mask, words};
use crate::kernels::elementwise::add;
use crate::kernels::join::add_relu;
use crate::shapes::{element_work, several_inputs};
use brigade_layer::{
    BuildCtx, Cost, Ctx, Layer, LayerError, LayerSpec, Tensor, TensorMut, TensorSpec, Tensors,
};
use serde::{Deserialize, Serialize};

const WHAT: &str = "sum";

/// y = a + b, or of up to four inputs, from the first to the last; with [`Sum::relu`], y = max(a +
/// b, 0).
///
/// Every input's gradient is that of y: the same tensor, not copies of it. A ReLU keeps one bit for
/// every number.
///
/// ```
/// use brigade_layer::{From, Network, TensorSpec};
/// use brigade_nn::{CrossEntropy, Linear, Sum};
/// let network = Network::builder()
///     .input(TensorSpec::f32([8]))
///     .target(TensorSpec::i32([]))
///     .layer("fc1", Linear::new(8, 8))
///     .layer("fc2", Linear::new(8, 8))
///     .layer_from("sum", Sum::new().relu(), &[From::Previous, From::Layer("fc1")])
///     .loss("loss", CrossEntropy::new())
///     .build()?;
/// # Ok::<(), brigade_layer::LayerError>(())
/// ```
///
/// # Shapes
/// Two to four inputs of one shape, whatever it is; y has it too.
///
/// # Source
/// He, Zhang, Ren, Sun: "Deep residual learning for image recognition", 2015.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Sum {
    /// Whether what is below 0 becomes 0.
    pub relu: bool,
}

impl Sum {
    /// The sum itself.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a ReLU of the sum.
    #[must_use]
    pub fn relu(mut self) -> Self {
        self.relu = true;
        self
    }

    fn check(inputs: &[TensorSpec]) -> Result<TensorSpec, LayerError> {
        let first = several_inputs(WHAT, inputs)?;
        match inputs.iter().find(|input| input.shape != first.shape) {
            Some(other) => {
                let expected = format!("{}, as the first input's", first.shape);
                Err(LayerError::shape(WHAT, expected, other.shape))
            }
            None => Ok(first),
        }
    }
}

impl LayerSpec for Sum {
    type Layer = SumLayer;

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        Ok(vec![Self::check(inputs)?])
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let (elements, relu) = (inputs[0].shape.elements(), u64::from(self.relu));
        let bits = TensorSpec::i32([words(elements)]).bytes() * relu;
        let bytes = inputs[0].bytes();
        Cost {
            forward_flops: (inputs.len() as u64 - 1 + relu).saturating_mul(elements as u64),
            input_flops: (elements as u64) * relu,
            stash_bytes: bits,
            forward_working_bytes: bytes + bits,
            // Without a ReLU nothing is taken here; but whoever writes into one of the gradients
            // copies what the others have too.
            backward_working_bytes: bytes.saturating_mul(inputs.len() as u64 - 1),
            ..Cost::default()
        }
    }

    fn build(&self, _: &BuildCtx<'_>) -> Result<SumLayer, LayerError> {
        Ok(SumLayer(*self))
    }
}

/// The layer that [`Sum`] describes.
#[derive(Debug)]
pub struct SumLayer(Sum);

/// One of them to write into, and the other: a + b is b + a to the bit.
fn in_place(a: Tensor, b: Tensor, cx: &Ctx<'_>) -> Result<(TensorMut, Tensor), LayerError> {
    match a.try_mut() {
        Ok(a) => Ok((a, b)),
        Err(a) => Ok((cx.writable(b)?, a)),
    }
}

impl Layer for SumLayer {
    /// A place for each input's gradient; with a ReLU, a bit for every number: whether it is
    /// greater than 0.
    type Stash = (Tensors, Option<Tensor>);
    type Kept = ();

    fn forward(
        &mut self,
        mut inputs: Tensors,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Stash), LayerError> {
        let specs: Vec<_> = inputs.iter().flatten().map(Tensor::spec).collect();
        let elements = Sum::check(&specs)?.shape.elements();
        let mut take = |index| inputs.remove(index).ok_or(LayerError::Missing { index });
        let (mut y, mut x) = in_place(take(0)?, take(1)?, cx)?;
        for next in 2..specs.len() {
            let x_data = x.f32()?;
            cx.timed(element_work("add", elements, 1, 3), |cx| {
                add(y.data(), x_data, cx.threads);
            });
            x = take(next)?;
        }
        let x_data = x.f32()?;
        let bits = if self.0.relu {
            let mut bits = cx.pool().take::<i32>([words(elements)])?;
            cx.timed(element_work("add and relu", elements, 2, 3), |cx| {
                add_relu(y.data(), bits.data(), x_data, cx.threads);
            });
            Some(bits.freeze())
        } else {
            cx.timed(element_work("add", elements, 1, 3), |cx| {
                add(y.data(), x_data, cx.threads);
            });
            None
        };
        let mut places = Tensors::none();
        specs.iter().try_for_each(|_| places.push(None))?;
        Ok((y.freeze().into(), (places, bits)))
    }

    fn backward_input(
        &mut self,
        dy: Tensors,
        (places, bits): Self::Stash,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, ()), LayerError> {
        let [mut dx] = dy.take()?;
        let inputs = 0..places.len();
        if let Some(bits) = bits
            && inputs.clone().any(|input| cx.wants_gradient(input))
        {
            let (mut masked, bits) = (cx.writable::<f32>(dx)?, bits.i32()?);
            let work = element_work("relu", masked.shape().elements(), 1, 2);
            cx.timed(work, |cx| mask(masked.data(), bits, cx.threads));
            dx = masked.freeze();
        }
        let mut gradients = Tensors::none();
        for input in inputs {
            gradients.push(cx.wants_gradient(input).then(|| dx.clone()))?;
        }
        Ok((gradients, ()))
    }

    fn backward_weight(&mut self, (): (), _: &mut Ctx<'_>) -> Result<(), LayerError> {
        Ok(())
    }
}
