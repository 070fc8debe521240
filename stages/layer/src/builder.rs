//! How one describes a network: layer by layer, with the mistakes reported at the end.

use crate::{
    Edge, EdgeId, Feed, LayerError, LayerIndex, LayerNode, LayerShapes, LayerSpec, Metric, Network,
    ParamSpec, SharedId, Source, TensorSpec, network::count, pattern::listed, spec::join,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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

/// Describes a network layer by layer. Mistakes are reported by [`NetworkBuilder::build`].
#[derive(Default)]
pub struct NetworkBuilder {
    layers: Vec<LayerNode>,
    numbers: BTreeMap<String, LayerIndex>,
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
        } else if self.numbers.contains_key(key) {
            self.problem = Some(LayerError::spec(key, "another layer has this key already"));
        }
        self.numbers
            .insert(key.to_owned(), LayerIndex::new(self.layers.len() as u32));
        match resolved {
            Ok(inputs) => {
                let (key, scope) = (key.to_owned(), key.to_owned());
                self.layers.push(LayerNode {
                    key,
                    scope,
                    spec: Arc::new(spec),
                    inputs,
                });
            }
            Err(problem) => self.problem = Some(problem),
        }
        self
    }

    /// Names the parameters of the layer added last within `scope` instead of its key. Layers may
    /// share a scope (two halves of a transformer block, say) as long as the keys of their
    /// parameters differ.
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
        let output = |wanted: &str, output| match self.numbers.get(wanted) {
            Some(layer) => Ok(Source::Output {
                layer: *layer,
                output,
            }),
            None => {
                let before = listed(self.layers.iter().map(|layer| layer.key.as_str()));
                let problem =
                    format!("no earlier layer has the key {wanted:?}; before it come: {before}");
                Err(LayerError::spec(key, problem))
            }
        };
        match from {
            From::Input(number) => Ok(Source::Feed(Feed::Input(number))),
            From::Target(number) => Ok(Source::Feed(Feed::Target(number))),
            From::Layer(wanted) => output(wanted, 0),
            From::Output(wanted, number) => output(wanted, number),
            From::Previous => match self.layers.last() {
                Some(previous) => output(&previous.key, 0),
                None => Err(LayerError::spec(
                    key,
                    "there is no layer before it; the first one reads `From::Input`",
                )),
            },
        }
    }

    /// The network, checked: it ends in a loss, every output is used, shapes fit, holders of shared
    /// parameters agree.
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
            outputs: Vec::new(),
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
        check_loss(&network)?;
        network.outputs = shapes.iter().map(|shapes| shapes.outputs.len()).collect();
        network.needs_gradient = needs_gradient(&network.layers);
        network.edges = edges(&network, &shapes);
        check_used(&network)?;
        Ok(network)
    }
}

/// The loss compares an output with targets, which come straight from the data.
fn check_loss(network: &Network) -> Result<(), LayerError> {
    let loss = &network.layers[network.loss().index()];
    let target = |source: &Source| matches!(source, Source::Feed(Feed::Target(_)));
    let fits =
        matches!(loss.inputs[0], Source::Output { .. }) && loss.inputs[1..].iter().all(target);
    if fits {
        return Ok(());
    }
    let problem = "its first input must be a layer's output, and the others targets";
    Err(LayerError::spec(&loss.key, problem))
}

/// By layer.
pub(crate) fn needs_gradient(layers: &[LayerNode]) -> Vec<bool> {
    let mut needs = Vec::with_capacity(layers.len());
    for layer in layers {
        let below = layer.inputs.iter().any(|source| match source {
            Source::Output { layer, .. } => needs[layer.index()],
            Source::Feed(_) => false,
        });
        needs.push(below || layer.spec.param_specs().iter().any(|param| param.trains));
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
    let used: BTreeSet<_> = network.edges.iter().map(|edge| edge.from).collect();
    let unused =
        |(index, _): &(LayerIndex, &LayerNode)| *index != network.loss() && !used.contains(index);
    match network.enumerate().find(unused) {
        Some((_, layer)) => {
            let problem = "nothing uses its output; let a later layer read it with \
                           `layer_from` and `From::Layer`, or leave it out";
            Err(LayerError::spec(&layer.key, problem))
        }
        None => Ok(()),
    }
}

fn first_keys(layers: &[LayerNode]) -> Result<BTreeMap<SharedId, String>, LayerError> {
    let mut first = BTreeMap::<SharedId, (String, ParamSpec)>::new();
    let (mut keys, mut bytes) = (BTreeSet::new(), 0);
    for layer in layers {
        let mut held_here = BTreeSet::new();
        for param in layer.spec.param_specs() {
            let key = join(&layer.scope, &param.name);
            count(&mut bytes, [param.bytes()])
                .map_err(|problem| LayerError::spec(&key, problem))?;
            if !keys.insert(key.clone()) {
                return Err(LayerError::spec(key, "two parameters have this key"));
            }
            let Some(shared) = param.shared else { continue };
            if !held_here.insert(shared) {
                return Err(LayerError::spec(
                    key,
                    "one layer holds a shared parameter twice",
                ));
            }
            let (first_key, held) = first
                .entry(shared)
                .or_insert_with(|| (key.clone(), param.clone()));
            if held.clone().within("")
                != (ParamSpec {
                    name: held.name.clone(),
                    ..param.clone()
                })
            {
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
