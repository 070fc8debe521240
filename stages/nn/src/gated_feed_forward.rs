//! Two linear layers side by side, one the gate of the other, and one after them.

use crate::activation::Activation;
use crate::linear::{Linear, LinearLayer};
use crate::shapes::{element_work, one_input};
use brigade_layer::{
    BuildCtx, Cost, Ctx, Layer, LayerError, LayerSpec, ParamAccess, ParamSpec, Tensor, TensorSpec,
    Tensors,
};
use serde::{Deserialize, Serialize};

/// y = down(f(gate(x)) up(x)): with SiLU for f, Llama's SwiGLU.
///
/// # Shapes
/// x [.., D], gate.weight and up.weight [F, D], down.weight [D, F], y [.., D]; F `gate.outputs`.
///
/// # Source
/// Shazeer: "GLU variants improve transformer", 2020, equation 6.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GatedFeedForward {
    /// What decides how much of each number passes, `gate_proj`.
    pub gate: Linear,
    /// What passes, `up_proj`: of the gate's sizes.
    pub up: Linear,
    /// What the gate goes through.
    pub activation: Activation,
    /// The last linear layer, `down_proj`: takes what the others give.
    pub down: Linear,
}

impl GatedFeedForward {
    /// SwiGLU of these parts.
    pub fn new([gate, up, down]: [Linear; 3]) -> Self {
        Self {
            gate,
            up,
            activation: Activation::Silu,
            down,
        }
    }

    /// With another function for the gate.
    #[must_use]
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    fn parts(&self) -> [(&'static str, &Linear); 3] {
        let names = ["gate_proj", "up_proj", "down_proj"].into_iter();
        let mut parts = names.zip([&self.gate, &self.up, &self.down]);
        std::array::from_fn(|_| parts.next().expect("three parts"))
    }

    fn check(&self) -> Result<(), LayerError> {
        let sizes = |linear: &Linear| [linear.inputs, linear.outputs];
        let [inputs, inner] = sizes(&self.gate);
        if sizes(&self.up) == [inputs, inner] && self.down.inputs == inner {
            return Ok(());
        }
        let [gate, up, down] = [&self.gate, &self.up, &self.down].map(sizes);
        let problem = format!(
            "gate {gate:?}, up {up:?} and down {down:?} (inputs, outputs) do not fit together"
        );
        Err(LayerError::spec("gated feed-forward", problem))
    }
}

impl LayerSpec for GatedFeedForward {
    type Layer = GatedFeedForwardLayer;

    fn params(&self) -> Vec<ParamSpec> {
        let of = |(name, linear): (&str, &Linear)| {
            let params = linear.params().into_iter();
            params.map(|param| param.within(name)).collect::<Vec<_>>()
        };
        self.parts().into_iter().flat_map(of).collect()
    }

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        self.check()?;
        one_input("gated feed-forward", inputs)?;
        self.down.outputs(&self.gate.outputs(inputs)?)
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let x = inputs[0];
        let inner = TensorSpec::f32(x.shape.with_last(self.gate.outputs));
        let [gate, up] = [&self.gate, &self.up].map(|linear| linear.cost(inputs));
        let down = self.down.cost(&[inner]);
        let (forward, backward) = self.activation.flops();
        let elements = inner.shape.elements() as u64;
        let gating = Cost {
            forward_flops: (forward + 1) * elements,
            input_flops: (forward + backward + 3) * elements,
            ..Cost::default()
        };
        let rows = x.shape.matrix().0;
        let y_bytes = TensorSpec::f32(x.shape.with_last(self.down.outputs)).bytes();
        let [inner_y, inner_dx, inner_dw] = self.gate.scratch_bytes(rows);
        let [down_y, down_dx, down_dw] = self.down.scratch_bytes(rows);
        Cost {
            stash_bytes: x.bytes() + 2 * inner.bytes(),
            stashed_inputs: 1,
            kept_bytes: x.bytes() + 3 * inner.bytes() + y_bytes,
            // The gate, then what passes, then the product of both and y.
            forward_working_bytes: (2 * inner.bytes() + inner_y)
                .max(3 * inner.bytes() + y_bytes + down_y),
            backward_working_bytes: (inner.bytes() + down_dx.max(x.bytes() + inner_dx))
                .max(inner_dw)
                .max(down_dw),
            ..gate + up + gating + down
        }
    }

    fn build(&self, cx: &BuildCtx<'_>) -> Result<GatedFeedForwardLayer, LayerError> {
        self.check()?;
        let [gate, up, down] = self.parts();
        let build = |(name, linear): (&str, &Linear)| linear.build(&cx.within(name));
        Ok(GatedFeedForwardLayer {
            gate: build(gate)?,
            up: build(up)?,
            activation: self.activation,
            down: build(down)?,
        })
    }
}

/// The layer that [`GatedFeedForward`] describes.
#[derive(Debug)]
pub struct GatedFeedForwardLayer {
    gate: LinearLayer,
    up: LinearLayer,
    activation: Activation,
    down: LinearLayer,
}

impl Layer for GatedFeedForwardLayer {
    /// x, gate(x) and up(x).
    type Stash = (Tensor, Tensor, Tensor);
    /// x, the gradients of gate(x) and up(x), what went into `down`, and the gradient of y.
    type Kept = (Tensor, Tensor, Tensor, Tensor, Tensor);

    fn forward(
        &mut self,
        x: Tensors,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Stash), LayerError> {
        let [x] = x.take()?;
        let gate = self.gate.output(&x, None, cx)?;
        let up = self.up.output(&x, None, cx)?;
        let mut inner = cx.f32(gate.shape())?;
        let parts = [gate.f32()?, up.f32()?];
        let work = element_work("gate", parts[0].len(), self.activation.flops().0 + 1, 3);
        cx.timed(work, |cx| {
            self.activation
                .gate()
                .values(inner.data(), parts, cx.threads);
        });
        let y = self.down.output(&inner.freeze(), None, cx)?;
        Ok((y.into(), (x, gate, up)))
    }

    fn backward_input(
        &mut self,
        dy: Tensors,
        (x, gate, up): Self::Stash,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Kept), LayerError> {
        let [dy] = dy.take()?;
        let inner = self.down.input_gradient(&dy, None, cx)?;
        let mut inner = cx.writable::<f32>(inner)?;
        let (mut gate, mut up) = (cx.writable::<f32>(gate)?, cx.writable::<f32>(up)?);
        let (forward, backward) = self.activation.flops();
        let work = element_work("gate", gate.shape().elements(), forward + backward + 3, 6);
        cx.timed(work, |cx| {
            let parts = [gate.data(), up.data()];
            (self.activation.gate()).gradients(inner.data(), parts, cx.threads);
        });
        // In place: what was up(x) is what went into `down`, and what was its gradient is up's.
        let (dgate, inner, dup) = (gate.freeze(), up.freeze(), inner.freeze());
        let dx = match cx.wants_gradient(0) {
            true => {
                let dx = self.gate.input_gradient(&dgate, None, cx)?;
                Some(self.up.add_input_gradient(dx, &dup, cx)?)
            }
            false => None,
        };
        Ok(([dx].into(), (x, dgate, dup, inner, dy)))
    }

    fn backward_weight(
        &mut self,
        (x, dgate, dup, inner, dy): Self::Kept,
        cx: &mut Ctx<'_>,
    ) -> Result<(), LayerError> {
        self.down.weight_gradients(&inner, &dy, cx)?;
        drop((inner, dy));
        self.up.weight_gradients(&x, &dup, cx)?;
        drop(dup);
        self.gate.weight_gradients(&x, &dgate, cx)
    }

    fn params(&mut self, visit: &mut dyn FnMut(&mut dyn ParamAccess)) {
        self.gate.params(visit);
        self.up.params(visit);
        self.down.params(visit);
    }
}
