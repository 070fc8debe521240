//! What one asks for. Plain data; [`Config::validate`] says what is wrong with it before anything
//! is planned.

use crate::batch::MiniBatch;
use crate::error::PlanError;
use crate::ids::{NodeCount, NodeId};
use crate::partition::Cuts;
use crate::schedule::ScheduleKind;
use brigade_layer::Precision;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::time::Duration;

/// How to train: pipeline, batch, memory. The defaults train on one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Pipeline nodes. Default 1.
    pub nodes: usize,
    /// Stages per node. Default as many as the schedule needs: 1, or 2 for interleaved and
    /// V-shaped ones.
    pub chunks: Option<usize>,
    /// Where to cut the network. Default balanced.
    pub cuts: Cuts,
    /// In which order the nodes work. Default `1f1b`.
    pub schedule: ScheduleKind,
    /// Rows (samples) of a step, at most. Default 32.
    pub batch_size: usize,
    /// Rows of a micro-batch; the last one takes what remains. It is part of the numbers. Default
    /// 4.
    pub micro_batch_size: usize,
    /// In which numbers products are computed: part of the numbers that come out. Default `f32`.
    pub precision: Precision,
    /// In which numbers tensors travel between nodes. `bf16` halves what travels, and rounds at
    /// every boundary of two layers, cut or not: part of the numbers too. Default `f32`.
    pub wire: Precision,
    /// Which layers are computed again in the backward pass instead of keeping what they need for
    /// it: less memory for more time, and the same numbers. Default `never`.
    pub recompute: Recompute,
    /// Threads of every node. Default 1.
    pub threads_per_node: usize,
    /// The seed of initial values and of everything random. Default 1.
    pub seed: u64,
    /// The largest global norm of the gradients: above it they are scaled down. Default none.
    pub clip: Option<f32>,
    /// What happens when a loss or a gradient is infinite or not a number. Default `stop`.
    pub on_nonfinite: OnNonFinite,
    /// Bytes that a node may hold. A plan that needs more is refused. Default as much as the
    /// machine has.
    pub node_memory_bytes: Option<u64>,
    /// The same for each node by itself, where nodes differ; empty for all alike.
    pub node_limits: Vec<u64>,
    /// Bytes that a node may take for copies while a checkpoint is written next to training, or as
    /// many as its largest parameter has. Default 0: training waits until it is written.
    pub saving_bytes: u64,
    /// How tensors travel between nodes. Default moved between threads.
    pub transport: Transport,
    /// Seconds without any progress of any node after which waiting is an error; an action may
    /// take 20 times what is predicted for it before that counts. Between processes also seconds
    /// without a sign of life. Default 60.
    pub deadline_s: f64,
    /// Whether threads are pinned to cores. Default automatic.
    pub pinning: Pinning,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            nodes: 1,
            chunks: None,
            cuts: Cuts::Balanced,
            schedule: ScheduleKind::default(),
            batch_size: 32,
            micro_batch_size: 4,
            precision: Precision::F32,
            wire: Precision::F32,
            recompute: Recompute::default(),
            threads_per_node: 1,
            seed: 1,
            clip: None,
            on_nonfinite: OnNonFinite::default(),
            node_memory_bytes: None,
            node_limits: Vec::new(),
            saving_bytes: 0,
            transport: Transport::default(),
            deadline_s: 60.0,
            pinning: Pinning::default(),
        }
    }
}

/// How tensors travel between nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Transport {
    /// Moved between the threads of one process, never copied.
    #[default]
    Local,
    /// The same threads, but every message is encoded and decoded as between machines: for tests
    /// and measurements.
    Encoded,
}

/// Which layers are computed again in the backward pass. They come in segments, each within one
/// stage: F keeps the inputs of a segment, and I begins with its forward pass once more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Recompute {
    /// None.
    #[default]
    Never,
    /// Every stage is a segment, except those whose backward pass comes right after their forward
    /// pass for every micro-batch, where nothing would be saved: with `1f1b` the last one.
    ExceptLast,
    /// Every stage is a segment.
    Always,
    /// Each of these ranges of layers is a segment, or several where it is cut into stages.
    Layers(Vec<Range<usize>>),
    /// The stages that say so, by their number, are segments.
    Stages(Vec<bool>),
}

/// What happens when a loss or a gradient is infinite or not a number. It is found before anything
/// is updated, on all nodes in the same step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OnNonFinite {
    /// The step is an error on all nodes.
    #[default]
    Stop,
    /// The step counts, and nothing is updated: weights and the optimizer's state stay bit for bit
    /// what they were, and the gradients are forgotten. What a layer of one's own changes by itself
    /// in its forward pass stays changed.
    Skip,
}

/// Whether threads are pinned to cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Pinning {
    /// When the threads of all nodes are exactly as many as the cores that the process may use
    /// (`taskset` says which): one each. With fewer threads the system places them better, and two
    /// pipelines do not end up on the same cores.
    #[default]
    Auto,
    /// Never.
    Never,
}

/// The most nodes or chunks that make sense to ask for: beyond it a number is taken for a
/// mistake.
const MOST: usize = 65_536;
/// The most threads of a node.
const MOST_THREADS: usize = 1024;
/// The most rows of a mini-batch.
const MOST_ROWS: usize = 1 << 30;
/// The most micro-batches of a mini-batch: the lists of the nodes grow with them.
const MOST_MICRO_BATCHES: usize = 65_536;
/// The most stages times micro-batches: the lists of more take gigabytes.
const MOST_LISTED: usize = 1 << 23;

impl Config {
    /// Checks every setting by itself.
    ///
    /// # Errors
    /// Names the setting, what it is, and what it may be.
    pub fn validate(&self) -> Result<(), PlanError> {
        let within = |setting: &'static str, value: usize, most: usize| {
            if (1..=most).contains(&value) {
                return Ok(());
            }
            let (value, allowed) = (value.to_string(), format!("between 1 and {most}"));
            Err(PlanError::Setting {
                setting,
                value,
                allowed,
            })
        };
        within("nodes", self.nodes, MOST)?;
        within("chunks", self.chunks.unwrap_or(1), MOST)?;
        within("threads_per_node", self.threads_per_node, MOST_THREADS)?;
        within("batch_size", self.batch_size, MOST_ROWS)?;
        within("micro_batch_size", self.micro_batch_size, self.batch_size)?;
        if self.batch_size.div_ceil(self.micro_batch_size) > MOST_MICRO_BATCHES {
            let least = self.batch_size.div_ceil(MOST_MICRO_BATCHES);
            let (setting, value) = ("micro_batch_size", self.micro_batch_size.to_string());
            let allowed =
                format!("at least {least}, for at most {MOST_MICRO_BATCHES} micro-batches");
            return Err(PlanError::Setting {
                setting,
                value,
                allowed,
            });
        }
        let (chunks, micro_batches) = (self.chunks.unwrap_or(1), self.mini_batch().micro_batches());
        let most = MOST_LISTED / micro_batches.index();
        let listed = [
            ("chunks", chunks, most),
            ("nodes", self.nodes, most / chunks),
        ];
        if let Some((setting, value, most)) = { listed }.into_iter().find(|(_, n, most)| n > most) {
            let value = value.to_string();
            let allowed = format!("at most {most} for {micro_batches} micro-batches");
            return Err(PlanError::Setting {
                setting,
                value,
                allowed,
            });
        }
        let positive = |setting: &'static str, value: f64| {
            if value.is_finite() && value > 0.0 {
                return Ok(());
            }
            let allowed = "a finite number above 0".to_owned();
            Err(PlanError::Setting {
                setting,
                value: value.to_string(),
                allowed,
            })
        };
        if !self.node_limits.is_empty() && self.node_limits.len() != self.nodes {
            return Err(PlanError::Setting {
                setting: "node_limits",
                value: format!("a list of {}", self.node_limits.len()),
                allowed: format!("empty, or one for each of {} nodes", self.nodes),
            });
        }
        if let Recompute::Layers(ranges) = &self.recompute {
            rising(ranges)?;
        }
        positive("clip", f64::from(self.clip.unwrap_or(1.0)))?;
        positive("deadline_s", self.deadline_s)?;
        if Duration::try_from_secs_f64(self.deadline_s).is_err() {
            let value = self.deadline_s.to_string();
            let allowed = "a number of seconds that a clock can count".to_owned();
            return Err(PlanError::Setting {
                setting: "deadline_s",
                value,
                allowed,
            });
        }
        Ok(())
    }

    /// The most bytes that a node may hold, if there is a limit.
    pub fn limit_of(&self, node: NodeId) -> Option<u64> {
        let own = self.node_limits.get(node.index()).copied();
        own.into_iter().chain(self.node_memory_bytes).min()
    }

    /// How many nodes.
    pub fn node_count(&self) -> NodeCount {
        NodeCount::new(self.nodes as u32)
    }

    /// A full mini-batch.
    pub fn mini_batch(&self) -> MiniBatch {
        MiniBatch::new(self.batch_size, self.micro_batch_size)
    }

    /// The deadline.
    pub fn deadline(&self) -> Duration {
        Duration::try_from_secs_f64(self.deadline_s).unwrap_or(Duration::MAX)
    }
}

/// Ranges of layers that each have some, one after the other.
fn rising(ranges: &[Range<usize>]) -> Result<(), PlanError> {
    let some = ranges.iter().all(|range| range.start < range.end);
    match some && ranges.windows(2).all(|pair| pair[0].end <= pair[1].start) {
        true => Ok(()),
        false => Err(PlanError::Setting {
            setting: "recompute",
            value: format!("{ranges:?}"),
            allowed: "ranges of layers in rising order that do not overlap".into(),
        }),
    }
}
