//! What the layers of a network and the links between nodes take on this machine: measured, kept in
//! a file, scaled to other micro-batches, and put to a plan.
//!
//! # Example
//! ```
//! # use brigade::layer::{Batch, Tensor, TensorSpec};
//! # use brigade::nn::{AdamW, MeanSquaredError, Mlp};
//! use brigade::profile::{Effort, Profile};
//! use brigade::{Config, Plan};
//!
//! # let points = Tensor::from_vec([64, 1], vec![0.5; 64])?;
//! # let data = Batch::new(points.clone(), points)?;
//! let network = Mlp::new([1, 64, 64, 1]).network(MeanSquaredError, TensorSpec::f32([1]))?;
//! let (config, optimizer) = (Config { nodes: 2, ..Config::default() }, AdamW::new(1e-3));
//! let profile = Profile::measure(&network, &data, &config, &optimizer, Effort::Quick)?;
//! # let folder = std::env::temp_dir().join(format!("brigade-profile-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # let path = folder.join("profile.json");
//! profile.save(&path)?;
//!
//! let profile = Profile::load(&path)?;
//! profile.check(&network, &config)?;
//! let plan = Plan::new(&network, &config, &optimizer)?;
//! println!("{:.2} ms a step", 1e3 * profile.simulate(&plan)?.makespan);
//! # std::fs::remove_dir_all(folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::config::Config;
use crate::error::{Error, PlanError};
use crate::ids::{LayerIndex, NodeId};
use crate::plan::{Plan, network_fingerprint};
use crate::schedule::{Links, Timeline, Times};
use crate::trace::{LayerTime, StepTrace, latency, layer_times, median_times};
use brigade_layer::{DType, LayerError, LayerShapes, Network, Precision};
use std::time::Duration;

mod estimate;
mod file;
mod hops;
mod machine;
mod measure;
mod read;
mod scale;
mod scratch;
mod together;

pub use machine::Machine;
#[cfg(feature = "cli")]
pub(crate) use machine::date;
pub use measure::{Effort, MOST_FLOPS};

/// What a network takes on a machine, for one or several sizes of micro-batch.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Profile {
    /// By size of micro-batch, the smallest first; at least one.
    pub sizes: Vec<SizeProfile>,
    /// The links, in seconds; they take nothing where they were not measured. Bytes of messages
    /// are with the sizes.
    pub links: Links,
    /// In which numbers products were computed.
    pub precision: Precision,
    /// Threads of every node.
    pub threads_per_node: usize,
    /// Where it was measured.
    pub machine: Machine,
    /// When, in UTC.
    pub measured_at: String,
    /// The version of the library that measured.
    pub version: String,
    /// SHA-256 of the network's description, in hexadecimal.
    pub network: String,
}

/// What every layer takes for micro-batches of one size.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SizeProfile {
    /// Rows of the micro-batch.
    pub rows: usize,
    /// By number.
    pub layers: Vec<LayerProfile>,
    /// Bytes of a message on every edge of the network, in `f32`.
    pub message_bytes: Vec<u64>,
    /// Times that somebody described, which need not be whole nanoseconds.
    exact: Vec<[f64; 4]>,
}

impl SizeProfile {
    /// F, I, W and the update of a layer, in seconds.
    pub(crate) fn seconds(&self, layer: usize) -> [f64; 4] {
        if let Some(exact) = self.exact.get(layer) {
            return *exact;
        }
        let LayerProfile { time, update, .. } = &self.layers[layer];
        [time.forward, time.input, time.weight, *update].map(|time| time.as_secs_f64())
    }
}

/// What one layer takes for one micro-batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerProfile {
    /// Its key.
    pub key: String,
    /// Whether it was measured here, alone or in a traced step, and not estimated.
    pub measured: bool,
    /// F, I and W.
    pub time: LayerTime,
    /// The optimizer's update, once a step.
    pub update: Duration,
    /// Bytes of its parameters' values.
    pub parameter_bytes: u64,
    /// Bytes kept from F to I.
    pub stash_bytes: u64,
    /// Bytes kept from I to W.
    pub kept_bytes: u64,
    /// Bytes of its outputs.
    pub output_bytes: u64,
}

impl LayerProfile {
    /// What the description says, without times.
    fn described(network: &Network, layer: usize, shapes: Option<&LayerShapes>) -> Self {
        let node = &network.layers()[layer];
        let trains = network.needs_gradient(LayerIndex::new(layer as u32));
        let kept = |bytes: u64| if trains { bytes } else { 0 };
        Self {
            key: node.key.clone(),
            parameter_bytes: node.spec.param_specs().iter().map(|p| p.bytes()).sum(),
            stash_bytes: shapes.map_or(0, |shapes| kept(shapes.cost.stash_bytes)),
            kept_bytes: shapes.map_or(0, |shapes| kept(shapes.cost.kept_bytes)),
            output_bytes: shapes.map_or(0, LayerShapes::output_bytes),
            ..Self::default()
        }
    }
}

/// SHA-256 of a network's description, whatever the micro-batches.
fn fingerprint(network: &Network) -> Result<String, LayerError> {
    Ok(network_fingerprint(network, &network.infer(1)?))
}

/// Bytes of the values that train, by layer.
fn trained_bytes(network: &Network) -> Vec<u64> {
    let layers = network.layers().iter();
    let trained = layers.map(|layer| {
        let params = layer.spec.param_specs().into_iter();
        params.filter(|param| param.trains).map(|p| p.bytes()).sum()
    });
    trained.collect()
}

/// Bytes of a message on every edge.
fn message_bytes(network: &Network, shapes: &[LayerShapes]) -> Vec<u64> {
    let edges = network.edges().iter();
    let bytes = |edge: &brigade_layer::Edge| {
        let outputs = shapes.get(edge.from.index()).map(|shapes| &shapes.outputs);
        let output = outputs.and_then(|outputs| outputs.get(edge.output));
        output.map_or(0, |output| match output.dtype {
            DType::F32 | DType::I32 => output.bytes(),
            _ => 0,
        })
    };
    edges.map(bytes).collect()
}

impl Profile {
    /// What traced steps of a plan took: to predict what another plan of the same network takes.
    /// The optimizer's time of a node is shared out by the bytes of parameters that train. A plan
    /// does not say how many threads its nodes had: they count as one.
    pub fn of_traces(network: &Network, plan: &Plan, traces: &[StepTrace]) -> Self {
        let rows = plan.training.batch.largest();
        let shapes = network.infer(rows).unwrap_or_default();
        let times = layer_times(traces, plan.layers.len());
        let mut layers: Vec<_> = times
            .into_iter()
            .enumerate()
            .map(|(layer, time)| LayerProfile {
                measured: time.total() > Duration::ZERO,
                time,
                ..LayerProfile::described(network, layer, shapes.get(layer))
            })
            .collect();
        let trained = trained_bytes(network);
        let steps = median_times(traces, plan).step;
        for (node, step) in plan.layout.nodes().iter().zip(steps) {
            let own: Vec<_> = layers_on(plan, node).collect();
            let bytes = own.iter().map(|layer| trained[*layer]);
            let all = bytes.sum::<u64>().max(1);
            for layer in own {
                let share = trained[layer] as f64 / all as f64;
                layers[layer].update = Duration::from_secs_f64(share * step);
            }
        }
        let mut links = Links::default();
        links.all.latency = latency(traces);
        links.all = file::rounded(links.all);
        Self {
            sizes: vec![SizeProfile {
                rows,
                layers,
                message_bytes: message_bytes(network, &shapes),
                exact: Vec::new(),
            }],
            links,
            precision: plan.precision,
            threads_per_node: 1,
            machine: Machine::this(),
            measured_at: machine::now(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            network: fingerprint(network).unwrap_or_default(),
        }
    }

    /// What layers take that somebody described, in seconds: F, I, W and the update.
    pub(crate) fn of_layers(
        network: &Network,
        (rows, layers): (usize, impl Iterator<Item = (LayerProfile, [f64; 4])>),
        config: &Config,
    ) -> Result<Self, LayerError> {
        let message_bytes = message_bytes(network, &network.infer(rows)?);
        let (mut layers, exact): (Vec<_>, Vec<_>) = layers.unzip();
        for (layer, [forward, input, weight, update]) in layers.iter_mut().zip(&exact) {
            layer.time = LayerTime {
                forward: Duration::from_secs_f64(*forward),
                input: Duration::from_secs_f64(*input),
                weight: Duration::from_secs_f64(*weight),
            };
            layer.update = Duration::from_secs_f64(*update);
        }
        Ok(Self {
            sizes: vec![SizeProfile {
                rows,
                layers,
                message_bytes,
                exact,
            }],
            links: Links::default(),
            precision: config.precision,
            threads_per_node: config.threads_per_node,
            machine: Machine::default(),
            measured_at: String::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            network: fingerprint(network)?,
        })
    }

    /// What every stage, every node and the links of a plan take, in seconds. I of a layer that is
    /// computed again takes its F too. Micro-batches of a size that is not here are scaled by their
    /// rows; [`sized`](Self::sized) does better.
    pub fn times(&self, plan: &Plan) -> Times {
        let size = self.by_rows(plan.training.batch.largest());
        let stages = plan.partition.stages();
        let seconds = |layer: usize| match layer < size.layers.len() {
            true => size.seconds(layer),
            false => [0.0; 4],
        };
        let mut times = Times::equal(stages.index(), 0.0, 0.0, 0.0);
        times.step = vec![0.0; plan.layout.nodes().index()];
        for stage in stages.iter() {
            let (at, node) = (stage.index(), plan.layout.placement.node_of(stage).index());
            for layer in plan.partition.layers_of(stage) {
                let [forward, input, weight, update] = seconds(layer);
                let again = plan.recomputes(LayerIndex::new(layer as u32));
                times.forward[at] += forward;
                times.input[at] += input + if again { forward } else { 0.0 };
                times.weight[at] += weight;
                times.step[node] += update;
            }
        }
        let mut links = self.links.clone();
        let share = if plan.wire == Precision::Bf16 {
            0.5
        } else {
            1.0
        };
        let bytes = size.message_bytes.iter();
        links.message_bytes = bytes.map(|bytes| share * *bytes as f64).collect();
        Times { links, ..times }
    }

    /// The plan's training step with these times, in seconds.
    ///
    /// # Errors
    /// When the plan's lists get stuck, which a plan that was made here does not.
    pub fn simulate(&self, plan: &Plan) -> Result<Timeline, Error> {
        Ok(plan.simulate(&self.times(plan))?)
    }

    /// Whether it is of this network, in this precision and with these threads.
    ///
    /// # Errors
    /// Names what differs, with both values.
    pub fn check(&self, network: &Network, config: &Config) -> Result<(), PlanError> {
        let equal = |what: &str, found: String, wanted: String| match found == wanted {
            true => Ok(()),
            false => Err(PlanError::Setting {
                setting: "profile",
                value: format!("of {what} {found}"),
                allowed: format!("of {what} {wanted}: measure again"),
            }),
        };
        equal("network", self.network.clone(), fingerprint(network)?)?;
        let name = |precision| format!("{precision:?}").to_lowercase();
        equal("precision", name(self.precision), name(config.precision))?;
        let keys = || network.layers().iter().map(|layer| layer.key.as_str());
        for size in &self.sizes {
            let own = size.layers.iter().map(|layer| layer.key.as_str());
            let (found, wanted) = (size.layers.len(), network.layers().len());
            if found == wanted && !own.eq(keys()) {
                let other = "other layers, or in another order".to_owned();
                equal("layers", other, "the network's in order".to_owned())?;
            }
            equal("layers", found.to_string(), wanted.to_string())?;
            let (found, wanted) = (size.message_bytes.len(), network.edges().len());
            equal("edges", found.to_string(), wanted.to_string())?;
        }
        let threads = |count: usize| count.to_string();
        let (found, wanted) = (self.threads_per_node, config.threads_per_node);
        equal("threads per node", threads(found), threads(wanted))
    }
}

fn layers_on(plan: &Plan, node: NodeId) -> impl Iterator<Item = usize> + '_ {
    let stages = plan.layout.placement.stages_on(node);
    stages.flat_map(|stage| plan.partition.layers_of(stage))
}
