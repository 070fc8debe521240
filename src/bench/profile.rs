//! What every layer of a network takes on this machine.

use super::Layers;
use crate::error::Error;
use crate::ids::{LayerIndex, NodeId};
use crate::plan::Plan;
use crate::schedule::{Timeline, Times};
use crate::trace::{LayerTime, median};
use brigade_layer::{Data, Network, Optimizer};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Measured times of every layer for one micro-batch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Profile {
    /// F, I and W of every layer.
    pub layers: Vec<LayerTime>,
    /// The optimizer's update of every layer.
    pub updates: Vec<Duration>,
}

/// Every kind of layer is called at least so often.
const LEAST_CALLS: usize = 3;
/// And no more than so often.
const MOST_CALLS: usize = 25;

impl Profile {
    /// Measures each distinct layer, built one at a time, for about `each` long, on as many threads
    /// as a node has.
    ///
    /// # Errors
    /// When a layer cannot be built or called.
    pub fn measure(
        network: &Network,
        data: &dyn Data,
        (rows, threads): (usize, usize),
        optimizer: &dyn Optimizer,
        each: Duration,
    ) -> Result<Self, Error> {
        let mut layers = Layers::new(network, data, rows)?.threads(threads)?;
        let mut measured = BTreeMap::<LayerIndex, (LayerTime, Duration)>::new();
        for run in layers.by_ref() {
            let mut run = run?;
            // The first calls fill buffers and caches.
            run.once()?;
            run.update(optimizer)?;
            let (started, mut calls, mut updates) = (Instant::now(), Vec::new(), Vec::new());
            while calls.len() < LEAST_CALLS || calls.len() < MOST_CALLS && started.elapsed() < each
            {
                calls.push(run.once()?);
                updates.push(run.update(optimizer)?);
            }
            let of = |part: fn(&LayerTime) -> Duration| middle(calls.iter().map(part).collect());
            let time = LayerTime {
                forward: of(|time| time.forward),
                input: of(|time| time.input),
                weight: of(|time| time.weight),
            };
            measured.insert(run.index(), (time, middle(updates)));
        }
        let of_all = || layers.kinds().iter().map(|first| measured[first]);
        Ok(Self {
            layers: of_all().map(|(time, _)| time).collect(),
            updates: of_all().map(|(_, update)| update).collect(),
        })
    }

    /// What every stage and every node of a plan takes, in seconds, with links that take nothing.
    pub fn times(&self, plan: &Plan) -> Times {
        let sum = |part: fn(&LayerTime) -> Duration| -> Vec<f64> {
            let stages = plan.partition.stages();
            let of = |stage| {
                self.layers[plan.partition.layers_of(stage)]
                    .iter()
                    .map(part)
            };
            stages
                .iter()
                .map(|stage| of(stage).sum::<Duration>().as_secs_f64())
                .collect()
        };
        let update = |node: NodeId| {
            let stages = plan.layout.placement.stages_on(node);
            let layers = stages.flat_map(|stage| plan.partition.layers_of(stage));
            layers.map(|layer| self.updates[layer]).sum::<Duration>()
        };
        Times {
            forward: sum(|time| time.forward),
            input: sum(|time| time.input),
            weight: sum(|time| time.weight),
            step: (plan.layout.nodes().iter())
                .map(|node| update(node).as_secs_f64())
                .collect(),
            ..Times::default()
        }
    }

    /// The plan's training step with these times, in seconds.
    ///
    /// # Errors
    /// When the plan's lists get stuck, which a plan that was made here does not.
    pub fn simulate(&self, plan: &Plan) -> Result<Timeline, Error> {
        Ok(plan.simulate(&self.times(plan))?)
    }
}

fn middle(list: Vec<Duration>) -> Duration {
    let seconds = list.iter().map(Duration::as_secs_f64).collect();
    Duration::from_secs_f64(median(seconds))
}
