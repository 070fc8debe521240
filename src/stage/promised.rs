//! What a layer's description promises of its shapes, held against what the layer does.

use brigade_layer::{AnyLayer, AnySpec, LayerError, MAX_TENSORS, Tensor, TensorSpec, Tensors};

type Specs = [Option<TensorSpec>; MAX_TENSORS];

/// The shapes that a layer was called with last, and what was promised for them: worked out anew
/// only when others come.
#[derive(Default)]
pub(super) struct Promised {
    inputs: Specs,
    outputs: Vec<TensorSpec>,
}

/// A layer has the parameters of its description, in that order.
pub(super) fn check_params(layer: &mut dyn AnyLayer, spec: &dyn AnySpec) -> Result<(), LayerError> {
    let said = spec.param_specs();
    let said: Vec<_> = said.iter().map(|param| param.shape).collect();
    let mut found = Vec::with_capacity(said.len());
    layer.visit_params(&mut |param| found.push(param.info().shape));
    match said == found {
        true => Ok(()),
        false => Err(LayerError::Value(format!(
            "`LayerSpec::params` says parameters of the shapes {said:?}, `Layer::params` visits \
             {found:?}"
        ))),
    }
}

impl Promised {
    /// F is called with these inputs.
    pub(super) fn given(&mut self, inputs: &Tensors, spec: &dyn AnySpec) -> Result<(), LayerError> {
        let inputs = std::array::from_fn(|at| inputs.get(at).map(Tensor::spec));
        if inputs != self.inputs {
            let given: Vec<_> = inputs.iter().copied().flatten().collect();
            self.outputs = spec.output_specs(&given)?;
            self.inputs = inputs;
        }
        Ok(())
    }

    /// F gave these outputs.
    pub(super) fn check_outputs(&self, outputs: &Tensors) -> Result<(), LayerError> {
        if outputs.len() != self.outputs.len() {
            let (made, promised) = (outputs.len(), self.outputs.len());
            return Err(LayerError::Value(format!(
                "F made {made} outputs, `LayerSpec::outputs` says {promised}"
            )));
        }
        for (number, (made, promised)) in outputs.iter().zip(&self.outputs).enumerate() {
            let made = made.ok_or(LayerError::Missing { index: number })?.spec();
            if made != *promised {
                return Err(LayerError::Value(format!(
                    "F made output {number} as {made}, `LayerSpec::outputs` says {promised}"
                )));
            }
        }
        Ok(())
    }

    /// I gave these gradients: each is shaped as its input was. How many rows that had is not
    /// known any more.
    pub(super) fn check_gradients(&self, gradients: &Tensors) -> Result<(), LayerError> {
        for (number, (gradient, input)) in gradients.iter().zip(&self.inputs).enumerate() {
            let (Some(gradient), Some(input)) = (gradient, input) else {
                continue;
            };
            let row = |spec: TensorSpec| (spec.shape.with_rows(1), spec.dtype);
            if row(gradient.spec()) != row(*input) {
                let (gradient, input) = (gradient.spec(), *input);
                return Err(LayerError::Value(format!(
                    "I made the gradient of input {number} as {gradient}, where the input is \
                     {input}"
                )));
            }
        }
        Ok(())
    }
}
