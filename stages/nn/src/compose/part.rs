//! Parts of a layer.

use brigade_layer::{BuildCtx, LayerError, LayerSpec, ParamSpec, Tensors};
use serde::{Deserialize, Serialize};

/// A part of a layer: its parameters' names start with its name, unless that is empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Part<S> {
    name: String,
    pub(super) spec: S,
}

impl<S: LayerSpec> Part<S> {
    pub(super) fn new(name: &str, spec: S) -> Self {
        Self {
            name: name.to_owned(),
            spec,
        }
    }

    pub(super) fn params(&self) -> impl Iterator<Item = ParamSpec> {
        self.spec
            .params()
            .into_iter()
            .map(|param| param.within(&self.name))
    }

    pub(super) fn build(&self, cx: &BuildCtx<'_>) -> Result<S::Layer, LayerError> {
        self.spec.build(&cx.within(&self.name))
    }
}

/// The tensors, with these instead of the first one.
pub(super) fn instead_of_first(others: Tensors, mut first: Tensors) -> Result<Tensors, LayerError> {
    for other in others.iter().skip(1) {
        first.push(other.cloned())?;
    }
    Ok(first)
}
