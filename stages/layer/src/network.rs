//! A network: descriptions of layers, joined by edges into a directed acyclic graph. No memory for
//! any of it yet.

use crate::{
    AnySpec, BuildCtx, Cost, EdgeId, LayerError, LayerIndex, MAX_TENSORS, Metric, NetworkBuilder,
    ParamSpec, Pool, SharedId, TensorSpec,
};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Something that comes from the data, not from a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feed {
    /// An input of the network, by number.
    Input(usize),
    /// A target, by number.
    Target(usize),
}

/// Where an input of a layer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// From the data.
    Feed(Feed),
    /// From an output of an earlier layer.
    Output {
        /// That layer.
        layer: LayerIndex,
        /// Which of its outputs.
        output: usize,
    },
}

/// An edge of the graph: an output of one layer feeds an input of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Its number: edges are numbered by consumer, then by the consumer's input.
    pub id: EdgeId,
    /// The layer whose output it is.
    pub from: LayerIndex,
    /// Which of its outputs.
    pub output: usize,
    /// The layer whose input it is.
    pub to: LayerIndex,
    /// Which of its inputs.
    pub input: usize,
    /// Whether a gradient comes back over it.
    pub gradient: bool,
}

/// One layer of a network.
#[derive(Clone, Debug)]
pub struct LayerNode {
    /// Its key: names it for people.
    pub key: String,
    /// What the keys of its parameters start with: its own key unless told otherwise.
    pub scope: String,
    /// Its description.
    pub spec: Arc<dyn AnySpec>,
    /// Where its inputs come from.
    pub inputs: Vec<Source>,
}

/// A network, described. Its last layer is the loss.
#[derive(Clone, Debug)]
pub struct Network {
    pub(crate) layers: Vec<LayerNode>,
    pub(crate) inputs: Vec<TensorSpec>,
    pub(crate) targets: Vec<TensorSpec>,
    pub(crate) metrics: Vec<Arc<dyn Metric>>,
    pub(crate) edges: Vec<Edge>,
    pub(crate) needs_gradient: Vec<bool>,
    pub(crate) outputs: Vec<usize>,
    pub(crate) first_keys: BTreeMap<SharedId, String>,
}

impl Network {
    /// Starts a description.
    pub fn builder() -> NetworkBuilder {
        NetworkBuilder::default()
    }

    /// Its layers in order.
    pub fn layers(&self) -> &[LayerNode] {
        &self.layers
    }

    /// Its loss: the last layer.
    pub fn loss(&self) -> LayerIndex {
        LayerIndex::new(self.layers.len() as u32 - 1)
    }

    /// Where the network's output comes from: what the loss compares with the targets.
    pub fn prediction(&self) -> Source {
        self.layers[self.loss().index()].inputs[0]
    }

    /// Edges between layers, in the order of their numbers.
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// The edges that feed a layer.
    pub fn edges_into(&self, layer: LayerIndex) -> impl Iterator<Item = &Edge> {
        let start = self.edges.partition_point(|edge| edge.to < layer);
        self.edges[start..]
            .iter()
            .take_while(move |edge| edge.to == layer)
    }

    /// Shape (of one row) and type of a feed.
    pub fn feed(&self, feed: Feed) -> Option<TensorSpec> {
        match feed {
            Feed::Input(number) => self.inputs.get(number).copied(),
            Feed::Target(number) => self.targets.get(number).copied(),
        }
    }

    /// What is measured beside the loss.
    pub fn metrics(&self) -> &[Arc<dyn Metric>] {
        &self.metrics
    }

    /// How many outputs a layer has.
    pub fn outputs(&self, layer: LayerIndex) -> usize {
        self.outputs[layer.index()]
    }

    /// Whether a layer takes part in the backward pass: it, or a layer that feeds it, has
    /// parameters that train.
    pub fn needs_gradient(&self, layer: LayerIndex) -> bool {
        self.needs_gradient[layer.index()]
    }

    /// Under which key each shared parameter is held first.
    pub fn first_keys(&self) -> &BTreeMap<SharedId, String> {
        &self.first_keys
    }

    /// All parameters with their keys, in layer order. A shared one is there once, under the key
    /// of its first holder.
    pub fn params(&self) -> Vec<(String, ParamSpec)> {
        let mut params = Vec::new();
        for layer in &self.layers {
            for param in layer.spec.param_specs() {
                let key = crate::spec::join(&layer.scope, &param.name);
                let first = param.shared.and_then(|shared| self.first_keys.get(&shared));
                if first.is_none_or(|first| *first == key) {
                    params.push((key, param));
                }
            }
        }
        params
    }

    /// The layers that hold each shared parameter that is trained, in order.
    pub fn holders(&self) -> BTreeMap<SharedId, Vec<LayerIndex>> {
        let mut holders = BTreeMap::<SharedId, Vec<LayerIndex>>::new();
        for (index, layer) in self.enumerate() {
            let params = layer.spec.param_specs();
            for shared in params
                .iter()
                .filter(|param| param.trains)
                .filter_map(|param| param.shared)
            {
                holders.entry(shared).or_default().push(index);
            }
        }
        holders
    }

    /// What a layer is built with on a node with these buffers.
    pub fn build_ctx<'a>(&'a self, layer: LayerIndex, pool: &'a Pool, seed: u64) -> BuildCtx<'a> {
        BuildCtx::new(pool, seed, &self.layers[layer.index()].scope).sharing(&self.first_keys)
    }

    /// Layers with their numbers.
    pub fn enumerate(&self) -> impl Iterator<Item = (LayerIndex, &LayerNode)> {
        self.layers
            .iter()
            .enumerate()
            .map(|(index, layer)| (LayerIndex::new(index as u32), layer))
    }

    /// Shapes and types of every layer's inputs and outputs for micro-batches of `rows` rows, and
    /// what layers cost here: one that takes no part in the backward pass costs nothing in it.
    ///
    /// # Errors
    /// Names the layer whose inputs do not fit, with what it expected; or up to which layers take
    /// more than 2^62 bytes.
    pub fn infer(&self, rows: usize) -> Result<Vec<LayerShapes>, LayerError> {
        self.infer_first(rows, self.layers.len())
    }

    /// As [`Network::infer`], of the first so many layers.
    pub(crate) fn infer_first(
        &self,
        rows: usize,
        layers: usize,
    ) -> Result<Vec<LayerShapes>, LayerError> {
        let mut all: Vec<LayerShapes> = Vec::with_capacity(layers);
        let mut bytes = 0;
        for (index, layer) in self.enumerate().take(layers) {
            let inputs = (layer.inputs.iter())
                .map(|source| match *source {
                    Source::Feed(feed) => {
                        let spec = self
                            .feed(feed)
                            .ok_or_else(|| missing_feed(&layer.key, feed))?;
                        Ok(TensorSpec {
                            shape: spec.shape.batched(rows)?,
                            dtype: spec.dtype,
                        })
                    }
                    Source::Output {
                        layer: from,
                        output,
                    } => all[from.index()]
                        .outputs
                        .get(output)
                        .copied()
                        .ok_or_else(|| {
                            let (key, has) = (
                                &self.layers[from.index()].key,
                                all[from.index()].outputs.len(),
                            );
                            let problem =
                                format!("{key} has no output {output}: it has {has}, from 0");
                            LayerError::spec(&layer.key, problem)
                        }),
                })
                .collect::<Result<Vec<_>, LayerError>>()?;
            let outputs = (layer.spec.output_specs(&inputs))
                .map_err(|error| inputs_named(error, inputs.len()).in_layer(index, &layer.key))?;
            let most = inputs.len().max(outputs.len());
            if most > MAX_TENSORS {
                let problem = format!("{most} inputs or outputs; the most is {MAX_TENSORS}");
                return Err(LayerError::spec(&layer.key, problem));
            }
            let mut cost = layer.spec.cost_of(&inputs);
            if self.needs_gradient.get(index.index()) == Some(&false) {
                cost = cost.forward_only();
            }
            let shapes = LayerShapes {
                inputs,
                outputs,
                cost,
            };
            count(&mut bytes, [shapes.output_bytes(), cost.bytes()])
                .map_err(|problem| LayerError::spec(&layer.key, problem))?;
            all.push(shapes);
        }
        Ok(all)
    }
}

/// The most bytes of a whole network: sums of them are still numbers.
const MOST_BYTES: u64 = 1 << 62;

/// Counts more bytes among those of the layers before.
pub(crate) fn count(all: &mut u64, more: impl IntoIterator<Item = u64>) -> Result<(), String> {
    *all = more.into_iter().fold(*all, u64::saturating_add);
    match *all > MOST_BYTES {
        true => Err(format!(
            "the layers up to here take more than {MOST_BYTES} bytes: make them smaller"
        )),
        false => Ok(()),
    }
}

/// Says how a layer gets the inputs that it takes, where it was given more or fewer.
fn inputs_named(error: LayerError, given: usize) -> LayerError {
    match error {
        LayerError::Arity { expected, found } if found == given => LayerError::Value(format!(
            "inputs: it takes {expected} and gets {found}; `layer_from` says where each comes from, \
             and a loss gets the network's output and targets"
        )),
        error => error,
    }
}

fn missing_feed(key: &str, feed: Feed) -> LayerError {
    let call = match feed {
        Feed::Input(_) => "input",
        Feed::Target(_) => "target",
    };
    LayerError::spec(
        key,
        format!("the network has no {feed:?}; declare it with `.{call}(...)`"),
    )
}

/// Shapes and costs of one layer for one size of micro-batch.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerShapes {
    /// Its inputs.
    pub inputs: Vec<TensorSpec>,
    /// Its outputs.
    pub outputs: Vec<TensorSpec>,
    /// What it costs.
    pub cost: Cost,
}

impl LayerShapes {
    /// Bytes of its outputs.
    pub fn output_bytes(&self) -> u64 {
        let bytes = self.outputs.iter().map(TensorSpec::bytes);
        bytes.fold(0, u64::saturating_add)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Feed(Feed::Input(number)) => write!(f, "input {number}"),
            Self::Feed(Feed::Target(number)) => write!(f, "target {number}"),
            Self::Output { layer, output } => write!(f, "output {output} of layer {layer}"),
        }
    }
}
