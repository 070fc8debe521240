//! Described layers as layers of a network that can be planned, not trained.

use super::DescribedLayer;
use brigade_layer::{
    BuildCtx, Cost, Ctx, Init, Layer, LayerError, LayerSpec, ParamRole, ParamSpec, TensorSpec,
    Tensors,
};

/// Operations of all layers together: as fine as an `f64` can say shares of it.
const ALL_FLOPS: f64 = (1u64 << 53) as f64;
const F32_BYTES: u64 = 4;

/// A layer that is known by what it takes. What is given is that of one micro-batch, however many
/// rows its inputs have.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) layer: DescribedLayer,
    /// Of F, I and W.
    pub(super) flops: [u64; 3],
    pub(super) is_loss: bool,
}

/// Operations of F, I and W of every layer, in proportion to the times.
pub(super) fn count_flops(layers: &[DescribedLayer]) -> Vec<[u64; 3]> {
    let times = |layer: &DescribedLayer| {
        let DescribedLayer {
            forward,
            backward_input,
            backward_weight,
            ..
        } = *layer;
        [forward, backward_input, backward_weight]
    };
    let all: f64 = layers.iter().flat_map(times).sum();
    // Whatever takes time has at least one.
    let share = |time: f64| match time > 0.0 {
        true => (time / all * ALL_FLOPS).ceil() as u64,
        false => 0,
    };
    layers.iter().map(|layer| times(layer).map(share)).collect()
}

impl Described {
    /// Whether its backward pass takes anything.
    fn goes_back(&self) -> bool {
        let layer = &self.layer;
        layer.backward_input > 0.0 || layer.backward_weight > 0.0 || layer.stash_bytes > 0
    }
}

impl LayerSpec for Described {
    type Layer = Never;

    /// One for all of them. A layer without any whose backward pass takes something has an empty
    /// one, so that it takes part in backward passes wherever it is.
    fn params(&self) -> Vec<ParamSpec> {
        let elements = self.layer.parameter_bytes.div_ceil(F32_BYTES) as usize;
        if elements == 0 && !self.goes_back() {
            return Vec::new();
        }
        vec![ParamSpec::new(
            "all",
            [elements],
            ParamRole::Weight,
            Init::Zeros,
        )]
    }

    fn outputs(&self, _: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        let elements = match self.is_loss {
            true => 1,
            false => self.layer.output_bytes.div_ceil(F32_BYTES).max(1),
        };
        Ok(vec![TensorSpec::f32([elements as usize])])
    }

    /// F takes its output, its stash and its working memory; I the gradients of its inputs, what it
    /// keeps beyond the stash, and the working memory.
    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let DescribedLayer {
            stash_bytes,
            output_bytes,
            kept_bytes,
            working_bytes,
            ..
        } = self.layer;
        let [forward_flops, input_flops, weight_flops] = self.flops;
        let gradients = inputs.iter().filter(|input| input.differentiable());
        let gradients = gradients
            .map(TensorSpec::bytes)
            .fold(0, u64::saturating_add);
        let more = kept_bytes.saturating_sub(stash_bytes);
        Cost {
            forward_flops,
            input_flops,
            weight_flops,
            stash_bytes,
            kept_bytes,
            forward_working_bytes: stash_bytes + output_bytes + working_bytes,
            backward_working_bytes: gradients.saturating_add(more + working_bytes),
            ..Cost::default()
        }
    }

    fn build(&self, _: &BuildCtx<'_>) -> Result<Never, LayerError> {
        let problem = "a layer that is only described can be planned, not trained";
        Err(LayerError::spec(&self.layer.name, problem))
    }
}

/// There is none.
pub(super) enum Never {}

impl Layer for Never {
    type Stash = ();
    type Kept = ();

    fn forward(&mut self, _: Tensors, _: &mut Ctx<'_>) -> Result<(Tensors, ()), LayerError> {
        match *self {}
    }

    fn backward_input(
        &mut self,
        _: Tensors,
        (): (),
        _: &mut Ctx<'_>,
    ) -> Result<(Tensors, ()), LayerError> {
        match *self {}
    }

    fn backward_weight(&mut self, (): (), _: &mut Ctx<'_>) -> Result<(), LayerError> {
        match *self {}
    }
}
