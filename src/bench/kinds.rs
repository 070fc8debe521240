//! Which layers of a network are the same.

use brigade_layer::{LayerIndex, LayerShapes, Network};
use std::collections::BTreeMap;

/// For every layer, the first one that is like it: layers of one description whose inputs have one
/// shape are the same.
pub(crate) fn kinds(network: &Network, shapes: &[LayerShapes]) -> Vec<LayerIndex> {
    let mut first = BTreeMap::<String, LayerIndex>::new();
    let of = |(index, shapes): (LayerIndex, &LayerShapes)| {
        let spec = network.layers()[index.index()].spec.as_ref();
        let (inputs, trains) = (&shapes.inputs, network.needs_gradient(index));
        let identity = format!("{spec:?} {inputs:?} {:?} {trains}", wanted(network, index));
        *first.entry(identity).or_insert(index)
    };
    (0..).map(LayerIndex::new).zip(shapes).map(of).collect()
}

/// Which inputs of a layer want gradients.
pub(crate) fn wanted(network: &Network, layer: LayerIndex) -> Vec<bool> {
    let mut wanted = vec![false; network.layers()[layer.index()].inputs.len()];
    for edge in network.edges_into(layer) {
        wanted[edge.input] = edge.gradient;
    }
    wanted
}
