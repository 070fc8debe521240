//! The linear layer.

use crate::kernels::product::{After, Means, Onto, Prepared, Product, space};
use crate::kernels::reduce::column_sums;
use crate::shapes::{element_work, one_input, product_flops, product_work};
use brigade_layer::{
    BuildCtx, Cost, Ctx, Init, Layer, LayerError, LayerSpec, Param, ParamAccess, ParamRole,
    ParamSpec, Shape, SharedId, Tensor, TensorSpec, Tensors,
};
use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

/// y = x W^T + b.
///
/// # Shapes
/// x [.., I], weight [O, I], bias \[O\], y [.., O]; I `inputs`, O `outputs`, any axes before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Linear {
    /// Length of the last axis of x.
    pub inputs: usize,
    /// Length of the last axis of y.
    pub outputs: usize,
    /// Initial weight.
    pub init: Init,
    /// Initial bias, or `None` for a layer without one.
    pub bias: Option<Init>,
    /// The shared parameter that the weight is, if it is one.
    pub shared: Option<SharedId>,
}

impl Linear {
    /// A linear layer with a bias. Initial weight and bias are uniform within 1 / sqrt(inputs), as
    /// PyTorch's are.
    pub fn new(inputs: usize, outputs: usize) -> Self {
        let init = Init::Uniform(1.0 / (inputs.max(1) as f32).sqrt());
        Self {
            inputs,
            outputs,
            init,
            bias: Some(init),
            shared: None,
        }
    }

    /// Without a bias.
    #[must_use]
    pub fn without_bias(mut self) -> Self {
        self.bias = None;
        self
    }

    /// With this initial weight.
    #[must_use]
    pub fn init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }

    /// With a bias that starts like this.
    #[must_use]
    pub fn bias(mut self, init: Init) -> Self {
        self.bias = Some(init);
        self
    }

    /// With the table of an embedding as its weight: a tied head. The embedding names the same id.
    #[must_use]
    pub fn shared(mut self, shared: SharedId) -> Self {
        self.shared = Some(shared);
        self
    }

    /// What y, dx and dw take of each thread.
    pub(crate) fn scratch_bytes(&self, rows: usize) -> [u64; 3] {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let all = [
            [rows, outputs, inputs],
            [rows, inputs, outputs],
            [outputs, inputs, rows],
        ];
        all.map(|sizes| 4 * space(sizes) as u64)
    }

    /// What the weight takes once more, as y and as dx take it.
    fn prepared_bytes(&self) -> u64 {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let both = [[inputs, outputs], [outputs, inputs]];
        both.map(|sizes| 4 * Prepared::elements(sizes) as u64)
            .iter()
            .sum()
    }

    fn output_shape(&self, x: Shape) -> Result<Shape, LayerError> {
        if x.last() != self.inputs || x.rank() == 0 {
            return Err(LayerError::shape(
                "linear",
                format!("[.., {}]", self.inputs),
                x,
            ));
        }
        Shape::new(x.with_last(self.outputs).axes())
    }
}

impl LayerSpec for Linear {
    type Layer = LinearLayer;

    fn params(&self) -> Vec<ParamSpec> {
        // Holders of a shared parameter agree on its role, and the first one is an embedding.
        let role = match self.shared {
            Some(_) => ParamRole::Embedding,
            None => ParamRole::Weight,
        };
        let shape = [self.outputs, self.inputs];
        let mut params = vec![ParamSpec::new("weight", shape, role, self.init).shared(self.shared)];
        if let Some(init) = self.bias {
            params.push(ParamSpec::new(
                "bias",
                [self.outputs],
                ParamRole::Bias,
                init,
            ));
        }
        params
    }

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        let x = one_input("linear", inputs)?;
        Ok(vec![TensorSpec::f32(self.output_shape(x.shape)?)])
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let x = &inputs[0];
        let rows = x.shape.matrix().0;
        let product = product_flops(rows, self.outputs, self.inputs);
        let y_bytes = TensorSpec::f32(x.shape.with_last(self.outputs)).bytes();
        let bias = self.bias.map_or(0, |_| (rows * self.outputs) as u64);
        let [forward_scratch, input_scratch, weight_scratch] = self.scratch_bytes(rows);
        Cost {
            forward_flops: product.saturating_add(bias),
            input_flops: product,
            weight_flops: product.saturating_add(bias),
            stash_bytes: x.bytes(),
            stashed_inputs: 1,
            kept_bytes: x.bytes() + y_bytes,
            forward_working_bytes: y_bytes + forward_scratch,
            backward_working_bytes: (x.bytes() + input_scratch).max(weight_scratch),
            thread_bytes: forward_scratch.max(input_scratch).max(weight_scratch),
            prepared_bytes: self.prepared_bytes(),
            ..Cost::default()
        }
    }

    fn build(&self, cx: &BuildCtx<'_>) -> Result<LinearLayer, LayerError> {
        if self.inputs == 0 || self.outputs == 0 {
            return Err(LayerError::spec(
                "linear",
                "inputs and outputs must be at least 1",
            ));
        }
        let mut params = self.params().into_iter();
        let mut next = || {
            params
                .next()
                .map(|spec| Param::build(&spec, cx))
                .transpose()
        };
        let weight = next()?.expect("a linear layer has a weight");
        Ok(LinearLayer {
            spec: self.clone(),
            weight,
            bias: next()?,
            prepared: Default::default(),
        })
    }
}

/// The layer that [`Linear`] describes.
#[derive(Debug)]
pub struct LinearLayer {
    spec: Linear,
    weight: Param,
    bias: Option<Param>,
    /// The weight as y and dx take it, until it may have changed.
    prepared: [Option<Prepared>; 2],
}

impl LinearLayer {
    /// The shape of y.
    pub(crate) fn output_shape(&self, x: Shape) -> Result<Shape, LayerError> {
        self.spec.output_shape(x)
    }

    /// y, and what comes after it.
    pub(crate) fn output(
        &mut self,
        x: &Tensor,
        mut after: Option<After<'_>>,
        cx: &mut Ctx<'_>,
    ) -> Result<Tensor, LayerError> {
        let mut y = cx.f32(self.spec.output_shape(x.shape())?)?;
        let weight = weight_view(&self.spec, self.weight.value()).reversed_axes();
        let [prepared, _] = &mut self.prepared;
        prepare(prepared, weight, cx)?;
        let bias = self.bias.as_ref().map(Param::value);
        let product = Product::new(y.matrix_mut(), [x.matrix()?, weight]).bias(bias);
        let product = product.prepared(prepared.as_ref());
        let product = product.after(after.as_mut().map(After::reborrow));
        multiply(["product y", "product y, f"], product, cx)?;
        Ok(y.freeze())
    }

    /// dx, and what comes after it.
    pub(crate) fn input_gradient(
        &mut self,
        dy: &Tensor,
        mut after: Option<After<'_>>,
        cx: &mut Ctx<'_>,
    ) -> Result<Tensor, LayerError> {
        let mut dx = cx.f32(dy.shape().with_last(self.spec.inputs))?;
        let weight = weight_view(&self.spec, self.weight.value());
        let [_, prepared] = &mut self.prepared;
        prepare(prepared, weight, cx)?;
        let product = Product::new(dx.matrix_mut(), [dy.matrix()?, weight]);
        let product = product.prepared(prepared.as_ref());
        let product = product.after(after.as_mut().map(After::reborrow));
        multiply(["product dx", "product dx, f"], product, cx)?;
        Ok(dx.freeze())
    }

    /// Adds its dx to that of other layers that take the same x.
    pub(crate) fn add_input_gradient(
        &mut self,
        dx: Tensor,
        dy: &Tensor,
        cx: &mut Ctx<'_>,
    ) -> Result<Tensor, LayerError> {
        let mut dx = cx.writable::<f32>(dx)?;
        let weight = weight_view(&self.spec, self.weight.value());
        let [_, prepared] = &mut self.prepared;
        prepare(prepared, weight, cx)?;
        let product = Product::new(dx.matrix_mut(), [dy.matrix()?, weight]);
        let product = product.prepared(prepared.as_ref()).onto(Onto::Present);
        multiply(["product dx"; 2], product, cx)?;
        Ok(dx.freeze())
    }

    /// Adds to the gradients of weight and bias.
    pub(crate) fn weight_gradients(
        &mut self,
        x: &Tensor,
        dy: &Tensor,
        cx: &mut Ctx<'_>,
    ) -> Result<(), LayerError> {
        // First, so that the product finds some of dy in the caches.
        if let Some(bias) = &mut self.bias {
            let slot = bias.gradient_slot(cx.pool())?;
            let (dy, columns) = (dy.f32()?, self.spec.outputs);
            cx.timed(element_work("bias", dy.len(), 1, 1), |cx| {
                column_sums(slot.data, slot.fresh, dy, columns, cx.threads);
            });
        }
        let slot = self.weight.gradient_slot(cx.pool())?;
        let shape = (self.spec.outputs, self.spec.inputs);
        let dw = ndarray::ArrayViewMut2::from_shape(shape, slot.data).expect("a weight's gradient");
        let onto = if slot.fresh {
            Onto::Nothing
        } else {
            Onto::Present
        };
        let factors = [dy.matrix()?.reversed_axes(), x.matrix()?];
        let product = Product::new(dw, factors).onto(onto);
        multiply(["product dw"; 2], product, cx)?;
        Ok(())
    }
}

/// Prepares a weight for products, if it is not yet.
fn prepare(
    prepared: &mut Option<Prepared>,
    weight: ArrayView2<'_, f32>,
    cx: &mut Ctx<'_>,
) -> Result<(), LayerError> {
    if prepared.is_none() {
        *prepared = Prepared::new(weight, cx)?;
    }
    Ok(())
}

/// Computes a product in the node's precision, on its threads, with scratch from its pool. Noted
/// under the second name if something comes after it.
fn multiply(
    kernels: [&'static str; 2],
    product: Product<'_>,
    cx: &mut Ctx<'_>,
) -> Result<(), LayerError> {
    let (sizes, kernel) = (
        product.sizes(),
        kernels[usize::from(product.after.is_some())],
    );
    let mut scratch = cx.f32([cx.threads.max(1), space(sizes)])?;
    cx.timed(product_work(kernel, sizes), |cx| {
        product.run(Means {
            precision: cx.precision,
            threads: cx.threads,
            space: scratch.data(),
        });
    });
    Ok(())
}

fn weight_view<'a>(spec: &Linear, weight: &'a [f32]) -> ArrayView2<'a, f32> {
    ArrayView2::from_shape((spec.outputs, spec.inputs), weight).expect("a weight has its shape")
}

impl Layer for LinearLayer {
    type Stash = Tensor;
    type Kept = (Tensor, Tensor);

    fn forward(&mut self, x: Tensors, cx: &mut Ctx<'_>) -> Result<(Tensors, Tensor), LayerError> {
        let [x] = x.take()?;
        Ok((self.output(&x, None, cx)?.into(), x))
    }

    fn backward_input(
        &mut self,
        dy: Tensors,
        x: Tensor,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Kept), LayerError> {
        let [dy] = dy.take()?;
        let dx = match cx.wants_gradient(0) {
            true => Some(self.input_gradient(&dy, None, cx)?),
            false => None,
        };
        Ok(([dx].into(), (x, dy)))
    }

    fn backward_weight(&mut self, (x, dy): Self::Kept, cx: &mut Ctx<'_>) -> Result<(), LayerError> {
        self.weight_gradients(&x, &dy, cx)
    }

    fn params(&mut self, visit: &mut dyn FnMut(&mut dyn ParamAccess)) {
        // Whoever sees the weight may change it.
        self.prepared = Default::default();
        visit(&mut self.weight);
        if let Some(bias) = &mut self.bias {
            visit(bias);
        }
    }
}
