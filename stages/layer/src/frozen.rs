//! Layers whose parameters do not train: they run as ever, and have no W.

use crate::{
    AnyLayer, AnySpec, BuildCtx, Cost, Ctx, KeyPattern, LayerError, LayerIndex, Network,
    ParamAccess, ParamSpec, Slot, TensorSpec, Tensors,
};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A description whose parameters do not train.
pub(crate) struct Frozen(pub(crate) Arc<dyn AnySpec>);

impl fmt::Debug for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frozen({:?})", self.0)
    }
}

impl AnySpec for Frozen {
    fn param_specs(&self) -> Vec<ParamSpec> {
        let specs = self.0.param_specs().into_iter();
        specs.map(ParamSpec::untrained).collect()
    }

    fn output_specs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        self.0.output_specs(inputs)
    }

    fn cost_of(&self, inputs: &[TensorSpec]) -> Cost {
        Cost {
            weight_flops: 0,
            kept_bytes: 0,
            step_bytes: 0,
            ..self.0.cost_of(inputs)
        }
    }

    fn build_any(&self, cx: &BuildCtx<'_>) -> Result<Box<dyn AnyLayer>, LayerError> {
        Ok(Box::new(FrozenLayer(self.0.build_any(&cx.frozen())?)))
    }

    fn terms(&self, targets: &Tensors) -> Result<f64, LayerError> {
        self.0.terms(targets)
    }

    fn thawed(&self) -> Option<&dyn AnySpec> {
        Some(&*self.0)
    }
}

/// A layer that was built with parameters that do not train.
pub(crate) struct FrozenLayer(Box<dyn AnyLayer>);

impl AnyLayer for FrozenLayer {
    fn slot(&self) -> Slot {
        self.0.slot()
    }

    fn f(
        &mut self,
        inputs: Tensors,
        slot: &mut Slot,
        cx: &mut Ctx<'_>,
    ) -> Result<Tensors, LayerError> {
        self.0.f(inputs, slot, cx)
    }

    fn f_only(&mut self, inputs: Tensors, cx: &mut Ctx<'_>) -> Result<Tensors, LayerError> {
        self.0.f_only(inputs, cx)
    }

    /// What is kept for W is freed at once.
    fn i(
        &mut self,
        gradients: Tensors,
        slot: &mut Slot,
        cx: &mut Ctx<'_>,
    ) -> Result<Tensors, LayerError> {
        let gradients = self.0.i(gradients, slot, cx)?;
        slot.clear();
        Ok(gradients)
    }

    fn w(&mut self, _: &mut Slot, _: &mut Ctx<'_>) -> Result<(), LayerError> {
        Ok(())
    }

    fn end_step(&mut self, _: &mut Ctx<'_>) -> Result<(), LayerError> {
        Ok(())
    }

    fn visit_params(&mut self, visit: &mut dyn FnMut(&mut dyn ParamAccess)) {
        self.0.visit_params(visit);
    }
}

impl Network {
    /// The same network with the layers whose keys `which` picks frozen: their parameters stay as
    /// they are, without a gradient or an optimizer's state. What has nothing to train at or below
    /// it takes no part in the backward pass; a frozen layer above does I alone. A layer that is
    /// frozen stays so.
    ///
    /// # Errors
    /// When only some of the holders of a shared parameter are picked, or nothing is left to train.
    ///
    /// # Example
    /// ```
    /// # use brigade_layer::*;
    /// # fn of(network: &Network) -> Result<(), LayerError> {
    /// let tuned = network.freeze(|layer| layer == "embed" || layer.starts_with("h.0."))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn freeze(&self, which: impl Fn(&str) -> bool) -> Result<Self, LayerError> {
        let mut network = self.clone();
        for layer in &mut network.layers {
            let trains = layer.spec.param_specs().iter().any(|param| param.trains);
            if trains && which(&layer.key) {
                layer.spec = Arc::new(Frozen(layer.spec.clone()));
            }
        }
        network.check_shared_frozen()?;
        network.needs_gradient = crate::builder::needs_gradient(&network.layers);
        for edge in &mut network.edges {
            edge.gradient &= network.needs_gradient[edge.from.index()];
        }
        match network.needs_gradient(network.loss()) {
            true => Ok(network),
            false => Err(LayerError::NothingTrains),
        }
    }

    /// As [`freeze`](Self::freeze), the layers whose keys match one of these patterns.
    ///
    /// # Errors
    /// As [`freeze`](Self::freeze), and when a pattern matches no layer.
    pub fn freeze_matching(&self, patterns: &[KeyPattern]) -> Result<Self, LayerError> {
        let keys = || self.layers.iter().map(|layer| layer.key.as_str());
        let unmatched = |pattern: &&KeyPattern| !keys().any(|key| pattern.matches(key));
        match patterns.iter().find(unmatched) {
            Some(pattern) => Err(LayerError::no_such_key("layer", pattern, keys())),
            None => self.freeze(|key| patterns.iter().any(|pattern| pattern.matches(key))),
        }
    }

    /// Whether a layer's parameters were frozen.
    pub fn is_frozen(&self, layer: LayerIndex) -> bool {
        self.layers[layer.index()].spec.thawed().is_some()
    }

    /// Whether a layer has parameters that train.
    pub fn trains(&self, layer: LayerIndex) -> bool {
        let params = self.layers[layer.index()].spec.param_specs();
        params.iter().any(|param| param.trains)
    }

    /// A shared parameter trains with all its holders or not at all.
    fn check_shared_frozen(&self) -> Result<(), LayerError> {
        let mut first = BTreeMap::new();
        for (index, layer) in self.enumerate() {
            let frozen = self.is_frozen(index);
            let params = layer.spec.param_specs();
            // What a layer never trains may be held by any.
            let trainable = |param: &&ParamSpec| frozen || param.trains;
            for shared in params.iter().filter(trainable).filter_map(|p| p.shared) {
                let (other, others) = *first.entry(shared).or_insert((&layer.key, frozen));
                if others == frozen {
                    continue;
                }
                let (frozen, trained) = match frozen {
                    true => (&layer.key, other),
                    false => (other, &layer.key),
                };
                return Err(LayerError::FrozenInPart {
                    shared,
                    frozen: frozen.clone(),
                    trained: trained.clone(),
                });
            }
        }
        Ok(())
    }
}
