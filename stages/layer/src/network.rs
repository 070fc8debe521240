//! A network: descriptions of layers, joined by edges into a directed acyclic graph. No memory for any of it yet.

use crate::{
    AnySpec, BuildCtx, Cost, EdgeId, LayerError, LayerIndex, LayerSpec, Metric, ParamSpec, Pool,
    SharedId, TensorSpec, spec::join,
};
use std::collections::{BTreeMap, BTreeSet};
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

/// Where an input of a layer comes from, as one says it when describing a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From<'a> {
    /// The layer described just before.
    Previous,
    /// An input of the network, by number.
    Input(usize),
    /// A target, by number.
    Target(usize),
    /// The first output of the layer with this key: a skip connection.
    Layer(&'a str),
    /// An output of the layer with this key, by number.
    Output(&'a str, usize),
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
    layers: Vec<LayerNode>,
    inputs: Vec<TensorSpec>,
    targets: Vec<TensorSpec>,
    metrics: Vec<Arc<dyn Metric>>,
    edges: Vec<Edge>,
    needs_gradient: Vec<bool>,
    first_keys: BTreeMap<SharedId, String>,
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

    /// Whether a layer takes part in the backward pass: it, or a layer that feeds it, has parameters.
    pub fn needs_gradient(&self, layer: LayerIndex) -> bool {
        self.needs_gradient[layer.index()]
    }

    /// Under which key each shared parameter is held first.
    pub fn first_keys(&self) -> &BTreeMap<SharedId, String> {
        &self.first_keys
    }

    /// The layers that hold each shared parameter, in order. A layer that holds it twice is there once.
    pub fn holders(&self) -> BTreeMap<SharedId, Vec<LayerIndex>> {
        let mut holders = BTreeMap::<SharedId, Vec<LayerIndex>>::new();
        for (index, layer) in self.enumerate() {
            for shared in layer
                .spec
                .param_specs()
                .iter()
                .filter_map(|param| param.shared)
            {
                let list = holders.entry(shared).or_default();
                if list.last() != Some(&index) {
                    list.push(index);
                }
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

    /// Shapes and types of every layer's inputs and outputs for micro-batches of `rows` rows.
    ///
    /// # Errors
    /// Names the layer whose inputs do not fit, with what it expected.
    pub fn infer(&self, rows: usize) -> Result<Vec<LayerShapes>, LayerError> {
        let mut all: Vec<LayerShapes> = Vec::with_capacity(self.layers.len());
        for (index, layer) in self.enumerate() {
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
                            let from = &self.layers[from.index()].key;
                            LayerError::spec(&layer.key, format!("{from} has no output {output}"))
                        }),
                })
                .collect::<Result<Vec<_>, LayerError>>()?;
            let outputs = (layer.spec.output_specs(&inputs))
                .map_err(|error| error.in_layer(index, &layer.key))?;
            let cost = layer.spec.cost_of(&inputs);
            all.push(LayerShapes {
                inputs,
                outputs,
                cost,
            });
        }
        Ok(all)
    }
}

fn missing_feed(key: &str, feed: Feed) -> LayerError {
    LayerError::spec(
        key,
        format!("the network has no {feed:?}; declare it before the layers"),
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
        self.outputs.iter().map(TensorSpec::bytes).sum()
    }
}

/// Describes a network layer by layer. Mistakes are reported by [`NetworkBuilder::build`].
#[derive(Default)]
pub struct NetworkBuilder {
    layers: Vec<LayerNode>,
    inputs: Vec<TensorSpec>,
    targets: Vec<TensorSpec>,
    metrics: Vec<Arc<dyn Metric>>,
    problem: Option<LayerError>,
    has_loss: bool,
}

impl NetworkBuilder {
    /// Declares an input: shape of one row, and type.
    #[must_use]
    pub fn input(mut self, row: TensorSpec) -> Self {
        self.inputs.push(row);
        self
    }

    /// Declares a target: shape of one row, and type.
    #[must_use]
    pub fn target(mut self, row: TensorSpec) -> Self {
        self.targets.push(row);
        self
    }

    /// Adds a layer fed by the layer before it; the first one by input 0.
    #[must_use]
    pub fn layer(self, key: &str, spec: impl LayerSpec) -> Self {
        let from = if self.layers.is_empty() {
            From::Input(0)
        } else {
            From::Previous
        };
        self.layer_from(key, spec, &[from])
    }

    /// Adds a layer and says where each of its inputs comes from.
    #[must_use]
    pub fn layer_from(mut self, key: &str, spec: impl LayerSpec, inputs: &[From<'_>]) -> Self {
        if self.problem.is_some() {
            return self;
        }
        let resolved: Result<Vec<_>, _> =
            inputs.iter().map(|from| self.resolve(key, *from)).collect();
        if self.has_loss {
            self.problem = Some(LayerError::spec(key, "the loss must be the last layer"));
        } else if self.layers.iter().any(|layer| layer.key == key) {
            self.problem = Some(LayerError::spec(key, "another layer has this key already"));
        }
        match resolved {
            Ok(inputs) => {
                self.layers.push(LayerNode {
                    key: key.to_owned(),
                    spec: Arc::new(spec),
                    inputs,
                });
            }
            Err(problem) => self.problem = Some(problem),
        }
        self
    }

    /// Names the parameters of the layer added last within `scope` instead of its key. Layers may share a scope (two
    /// halves of a transformer block, say) as long as the keys of their parameters differ.
    #[must_use]
    pub fn scope(mut self, scope: &str) -> Self {
        if let Some(layer) = self.layers.last_mut() {
            layer.scope = scope.to_owned();
        }
        self
    }

    /// Adds the loss, fed by the layer before it and by target 0.
    #[must_use]
    pub fn loss(self, key: &str, spec: impl LayerSpec) -> Self {
        self.loss_from(key, spec, &[From::Previous, From::Target(0)])
    }

    /// Adds the loss and says where its inputs come from: the network's output first, then targets.
    #[must_use]
    pub fn loss_from(self, key: &str, spec: impl LayerSpec, inputs: &[From<'_>]) -> Self {
        let mut builder = self.layer_from(key, spec, inputs);
        builder.has_loss = true;
        builder
    }

    /// Measures something beside the loss when evaluating.
    #[must_use]
    pub fn metric(mut self, metric: impl Metric) -> Self {
        self.metrics.push(Arc::new(metric));
        self
    }

    fn resolve(&self, key: &str, from: From<'_>) -> Result<Source, LayerError> {
        let output = |wanted: &str, output| {
            let layer = self.layers.iter().position(|layer| layer.key == wanted);
            let layer = layer.ok_or_else(|| {
                LayerError::spec(key, format!("no earlier layer has the key {wanted:?}"))
            })?;
            Ok(Source::Output {
                layer: LayerIndex::new(layer as u32),
                output,
            })
        };
        match from {
            From::Input(number) => Ok(Source::Feed(Feed::Input(number))),
            From::Target(number) => Ok(Source::Feed(Feed::Target(number))),
            From::Layer(wanted) => output(wanted, 0),
            From::Output(wanted, number) => output(wanted, number),
            From::Previous => match self.layers.last() {
                Some(previous) => output(&previous.key, 0),
                None => Err(LayerError::spec(key, "there is no layer before it")),
            },
        }
    }

    /// The network, checked: it ends in a loss, every output is used, shapes fit, holders of shared parameters agree.
    ///
    /// # Errors
    /// Names what does not fit.
    pub fn build(self) -> Result<Network, LayerError> {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        if !self.has_loss {
            return Err(LayerError::spec(
                "network",
                "it has no loss; end it with `.loss(...)`",
            ));
        }
        let mut network = Network {
            first_keys: first_keys(&self.layers)?,
            layers: self.layers,
            inputs: self.inputs,
            targets: self.targets,
            metrics: self.metrics,
            edges: Vec::new(),
            needs_gradient: Vec::new(),
        };
        let shapes = network.infer(1)?;
        let loss = &shapes[network.loss().index()];
        let scalar = loss.outputs.len() == 1 && loss.outputs[0] == TensorSpec::f32([1]);
        if !scalar || loss.inputs.len() < 2 {
            let problem =
                "a loss takes the network's output and targets, and puts out their sum as f32[1]";
            return Err(LayerError::spec(
                &network.layers[network.loss().index()].key,
                problem,
            ));
        }
        network.needs_gradient = needs_gradient(&network.layers);
        network.edges = edges(&network, &shapes);
        check_used(&network)?;
        Ok(network)
    }
}

fn needs_gradient(layers: &[LayerNode]) -> Vec<bool> {
    let mut needs = Vec::with_capacity(layers.len());
    for layer in layers {
        let below = layer.inputs.iter().any(|source| match source {
            Source::Output { layer, .. } => needs[layer.index()],
            Source::Feed(_) => false,
        });
        needs.push(below || !layer.spec.param_specs().is_empty());
    }
    needs
}

fn edges(network: &Network, shapes: &[LayerShapes]) -> Vec<Edge> {
    let mut edges = Vec::new();
    for (to, layer) in network.enumerate() {
        for (input, source) in layer.inputs.iter().enumerate() {
            let Source::Output {
                layer: from,
                output,
            } = *source
            else {
                continue;
            };
            let differentiable = shapes[from.index()].outputs[output].differentiable();
            let gradient = network.needs_gradient[from.index()] && differentiable;
            let id = EdgeId::new(edges.len() as u32);
            edges.push(Edge {
                id,
                from,
                output,
                to,
                input,
                gradient,
            });
        }
    }
    edges
}

fn check_used(network: &Network) -> Result<(), LayerError> {
    for (index, layer) in network.enumerate() {
        if index != network.loss() && !network.edges.iter().any(|edge| edge.from == index) {
            return Err(LayerError::spec(&layer.key, "nothing uses its output"));
        }
    }
    Ok(())
}

fn first_keys(layers: &[LayerNode]) -> Result<BTreeMap<SharedId, String>, LayerError> {
    let mut first = BTreeMap::<SharedId, (String, ParamSpec)>::new();
    let mut keys = BTreeSet::new();
    for layer in layers {
        for param in layer.spec.param_specs() {
            let key = join(&layer.scope, &param.name);
            if !keys.insert(key.clone()) {
                return Err(LayerError::spec(key, "two parameters have this key"));
            }
            let Some(shared) = param.shared else { continue };
            let (first_key, held) = first
                .entry(shared)
                .or_insert_with(|| (key.clone(), param.clone()));
            if (held.shape, held.init, held.role) != (param.shape, param.init, param.role) {
                return Err(LayerError::SharedMismatch {
                    shared,
                    first: first_key.clone(),
                    second: key,
                });
            }
        }
    }
    Ok(first
        .into_iter()
        .map(|(shared, (key, _))| (shared, key))
        .collect())
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
