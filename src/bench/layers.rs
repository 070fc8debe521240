//! The distinct layers of a network, one after the other, each with inputs as it sees them.

use super::kinds::kinds;
use super::run::{LayerRun, Machinery, copy};
use crate::error::{Error, PlanError};
use brigade_layer::{
    Data, Feed, LayerError, LayerIndex, LayerShapes, Network, Pool, Precision, Source, StepId,
    Tensor, Tensors,
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
    machinery: Machinery,
    /// For every layer, the first of its kind.
    kind_of: Vec<LayerIndex>,
    /// How many layers have been gone through.
    done: usize,
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
        let shapes = network.infer(rows)?;
        Ok(Self {
            network,
            kind_of: kinds(network, &shapes),
            shapes,
            inputs: data.inputs(first, 0..rows)?,
            targets: data.targets(first, 0..rows)?,
            machinery: Machinery {
                pool: Pool::new(None),
                threads: None,
                precision: Precision::F32,
            },
            done: 0,
            outputs: BTreeMap::new(),
        })
    }

    /// With this many threads, as a node has them.
    ///
    /// # Errors
    /// When the machine does not give them.
    pub fn threads(mut self, threads: usize) -> Result<Self, Error> {
        self.machinery.threads = threads_of_a_node(threads)?;
        Ok(self)
    }

    /// With products in this precision.
    #[must_use]
    pub fn precision(mut self, precision: Precision) -> Self {
        self.machinery.precision = precision;
        self
    }

    /// For every layer that has been gone through, the first of its kind.
    pub fn kinds(&self) -> &[LayerIndex] {
        &self.kind_of[..self.done]
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

    /// Builds a layer and goes forward through it once, so that the layers after it have inputs.
    fn build(&mut self, index: LayerIndex) -> Result<LayerRun, LayerError> {
        let mut inputs = Tensors::none();
        for source in &self.network.layers()[index.index()].inputs {
            inputs.push(Some(copy(&self.input(*source)?, &self.machinery.pool)?))?;
        }
        let shapes = &self.shapes[index.index()];
        let mut run = LayerRun::build(self.network, index, shapes, inputs, &self.machinery)?;
        let (_, outputs) = run.f()?;
        self.outputs.insert(index, outputs);
        Ok(run)
    }
}

/// A node's threads; one alone needs no pool.
pub(crate) fn threads_of_a_node(threads: usize) -> Result<Option<Arc<ThreadPool>>, LayerError> {
    if threads <= 1 {
        return Ok(None);
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| LayerError::Value(error.to_string()))?;
    Ok(Some(Arc::new(pool)))
}

impl Iterator for Layers<'_> {
    type Item = Result<LayerRun, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.done < self.kind_of.len() {
            let index = LayerIndex::new(self.done as u32);
            self.done += 1;
            if self.kind_of[index.index()] == index {
                let key = &self.network.layers()[index.index()].key;
                let built = self.build(index);
                return Some(built.map_err(|error| error.in_layer(index, key).into()));
            }
        }
        None
    }
}
