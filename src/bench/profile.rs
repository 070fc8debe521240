//! What every layer of a network takes on this machine.

use super::Layers;
use crate::config::Config;
use crate::error::Error;
use crate::ids::{LayerIndex, NodeId};
use crate::plan::Plan;
use crate::schedule::{Links, Timeline, Times};
use crate::trace::{LayerTime, StepTrace, latency, layer_times, median, median_times};
use brigade_layer::{Data, Network, Optimizer};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Measured times of every layer for one micro-batch.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Profile {
    /// F, I and W of every layer.
    pub layers: Vec<LayerTime>,
    /// The optimizer's update of every layer.
    pub updates: Vec<Duration>,
    /// The links, in seconds; they take nothing where they were not measured.
    pub links: Links,
}

/// Every kind of layer is called at least so often.
const LEAST_CALLS: usize = 3;
/// And no more than so often.
const MOST_CALLS: usize = 25;

impl Profile {
    /// Measures each distinct layer, built one at a time, for about `each` long, with the rows of a
    /// micro-batch, the threads of a node and the precision that the configuration says.
    ///
    /// # Errors
    /// When a layer cannot be built or called.
    pub fn measure(
        network: &Network,
        data: &dyn Data,
        config: &Config,
        optimizer: &dyn Optimizer,
        each: Duration,
    ) -> Result<Self, Error> {
        let rows = config.mini_batch().largest();
        let layers = Layers::new(network, data, rows)?.threads(config.threads_per_node)?;
        let mut layers = layers.precision(config.precision);
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
            links: Links::default(),
        })
    }

    /// What traced steps of a plan took: to predict what another plan of the same network takes.
    /// The optimizer's time of a node is shared out by the bytes of parameters.
    pub fn of_traces(network: &Network, plan: &Plan, traces: &[StepTrace]) -> Self {
        let steps = median_times(traces, plan).step;
        let bytes = |layer: usize| -> u64 {
            let specs = network.layers()[layer].spec.param_specs();
            specs.iter().map(|param| param.bytes()).sum()
        };
        let mut updates = vec![Duration::ZERO; plan.layers.len()];
        for (node, step) in plan.layout.nodes().iter().zip(steps) {
            let stages = plan.layout.placement.stages_on(node);
            let layers: Vec<_> = stages
                .flat_map(|stage| plan.partition.layers_of(stage))
                .collect();
            let all = layers.iter().map(|layer| bytes(*layer)).sum::<u64>().max(1);
            for layer in layers {
                let share = bytes(layer) as f64 / all as f64;
                updates[layer] = Duration::from_secs_f64(share * step);
            }
        }
        let mut links = Links::default();
        links.all.latency = latency(traces);
        Self {
            layers: layer_times(traces, plan.layers.len()),
            updates,
            links,
        }
    }

    /// What every stage, every node and the links of a plan take, in seconds. I of a layer that is
    /// computed again takes its F too.
    pub fn times(&self, plan: &Plan) -> Times {
        let layers = (0..).map(LayerIndex::new).zip(&self.layers);
        let layers: Vec<_> = layers
            .map(|(layer, time)| time.recomputed(plan.recomputes(layer)))
            .collect();
        let sum = |part: fn(&LayerTime) -> Duration| -> Vec<f64> {
            let stages = plan.partition.stages();
            let of = |stage| layers[plan.partition.layers_of(stage)].iter().map(part);
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
            links: self.links.clone(),
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
