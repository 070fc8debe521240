//! The distinct layers of a network, one after the other, each with inputs as it sees them.

use super::run::{LayerRun, copy};
use crate::error::{Error, PlanError};
use brigade_layer::{
    AnySpec, Data, Feed, LayerError, LayerIndex, LayerShapes, LayerState, Network, Pool, Precision,
    Source, StepId, Tensor, TensorSpec, Tensors,
};
use rayon::ThreadPool;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The distinct layers of a network: an iterator that builds one at a time, so that a network
/// larger than the machine can be measured.
///
/// Layers of one description whose inputs have one shape are the same. Inputs are the first rows of
/// the data, gone forward through the layers before; the layers have their initial weights.
pub struct Layers<'a> {
    network: &'a Network,
    shapes: Vec<LayerShapes>,
    inputs: Tensors,
    targets: Tensors,
    pool: Pool,
    threads: Option<Arc<ThreadPool>>,
    precision: Precision,
    /// The first layer of every kind, by what makes layers the same.
    kinds: BTreeMap<String, LayerIndex>,
    /// For every layer so far, the first of its kind.
    kind_of: Vec<LayerIndex>,
    /// Outputs of the first of every kind.
    outputs: BTreeMap<LayerIndex, Tensors>,
}

impl<'a> Layers<'a> {
    /// The layers of a network for micro-batches of `rows` rows, on one thread.
    ///
    /// # Errors
    /// When the network does not fit together, or the data have fewer rows.
    pub fn new(network: &'a Network, data: &dyn Data, rows: usize) -> Result<Self, Error> {
        let first = StepId::new(0);
        let most = data.rows(first);
        if rows == 0 || rows > most {
            return Err(PlanError::TooManyRows { rows, most }.into());
        }
        Ok(Self {
            network,
            shapes: network.infer(rows)?,
            inputs: data.inputs(first, 0..rows)?,
            targets: data.targets(first, 0..rows)?,
            pool: Pool::new(None),
            threads: None,
            precision: Precision::F32,
            kinds: BTreeMap::new(),
            kind_of: Vec::new(),
            outputs: BTreeMap::new(),
        })
    }

    /// With this many threads, as a node has them.
    ///
    /// # Errors
    /// When the machine does not give them.
    pub fn threads(mut self, threads: usize) -> Result<Self, Error> {
        if threads > 1 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let pool = pool.map_err(|error| LayerError::Value(error.to_string()))?;
            self.threads = Some(Arc::new(pool));
        }
        Ok(self)
    }

    /// With products in this precision.
    #[must_use]
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// For every layer that has been gone through, the first of its kind.
    pub fn kinds(&self) -> &[LayerIndex] {
        &self.kind_of
    }

    fn input(&self, source: Source) -> Result<Tensor, LayerError> {
        let (found, number) = match source {
            Source::Feed(Feed::Input(number)) => (self.inputs.get(number), number),
            Source::Feed(Feed::Target(number)) => (self.targets.get(number), number),
            Source::Output { layer, output } => {
                let first = self.kind_of[layer.index()];
                let outputs = self.outputs.get(&first);
                (outputs.and_then(|outputs| outputs.get(output)), output)
            }
        };
        found.cloned().ok_or(LayerError::Missing { index: number })
    }

    /// Which inputs of a layer want gradients.
    fn wanted(&self, layer: LayerIndex) -> Vec<bool> {
        let mut wanted = vec![false; self.network.layers()[layer.index()].inputs.len()];
        for edge in self.network.edges_into(layer) {
            wanted[edge.input] = edge.gradient;
        }
        wanted
    }

    /// What makes layers the same.
    fn identity(&self, layer: LayerIndex) -> String {
        let spec: &dyn AnySpec = self.network.layers()[layer.index()].spec.as_ref();
        let inputs = &self.shapes[layer.index()].inputs;
        let trains = self.network.needs_gradient(layer);
        format!("{spec:?} {inputs:?} {:?} {trains}", self.wanted(layer))
    }

    /// Builds a layer and goes forward through it once, so that the layers after it have inputs.
    fn build(&mut self, index: LayerIndex) -> Result<LayerRun, LayerError> {
        let node = &self.network.layers()[index.index()];
        let mut inputs = Tensors::none();
        for source in &node.inputs {
            inputs.push(Some(copy(&self.input(*source)?, &self.pool)?))?;
        }
        let built = node
            .spec
            .build_any(&self.network.build_ctx(index, &self.pool, 1))?;
        let mut gradients = Tensors::none();
        for output in &self.shapes[index.index()].outputs {
            gradients.push(Some(some_gradient(*output, &self.pool)?))?;
        }
        let mut run = LayerRun {
            key: node.key.clone(),
            index,
            slot: built.slot(),
            layer: built,
            state: LayerState::default(),
            pool: self.pool.clone(),
            threads: self.threads.clone(),
            precision: self.precision,
            inputs,
            gradients,
            wanted: self.wanted(index),
            trains: self.network.needs_gradient(index),
        };
        let (_, outputs) = run.f()?;
        self.outputs.insert(index, outputs);
        Ok(run)
    }
}

/// A gradient whose values are neither all the same nor denormal.
fn some_gradient(spec: TensorSpec, pool: &Pool) -> Result<Tensor, LayerError> {
    let mut gradient = pool.f32(spec.shape)?;
    for (at, value) in gradient.data().iter_mut().enumerate() {
        *value = ((at % 17) as f32 - 8.0) * 1e-3;
    }
    Ok(gradient.freeze())
}

impl Iterator for Layers<'_> {
    type Item = Result<LayerRun, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.kind_of.len() < self.network.layers().len() {
            let index = LayerIndex::new(self.kind_of.len() as u32);
            let first = *self.kinds.entry(self.identity(index)).or_insert(index);
            self.kind_of.push(first);
            if first == index {
                let key = &self.network.layers()[index.index()].key;
                let built = self.build(index);
                return Some(built.map_err(|error| error.in_layer(index, key).into()));
            }
        }
        None
    }
}
