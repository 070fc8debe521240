//! The plan: everything that is decided before a thread starts, as data.
//!
//! ```text
//! Network ──price──► Partition ──place──► Layout ──define, lower, check──► Plan: a list per node
//! ```

use crate::config::Config;
use crate::error::PlanError;
use crate::ids::{LayerIndex, NodeId, StageId};
use crate::launch::launch;
use crate::partition::Partition;
use crate::schedule::{Definition, Layout, Schedule, Timeline, Times, counted, simulate};
use brigade_layer::{LayerShapes, Network, Optimizer, Precision};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::ops::Range;

mod arriving;
mod edges;
mod file;
mod generating;
mod layout;
mod lying;
mod memory;
mod order;
mod proven;
mod recompute;
mod skips;
mod tally;
mod traffic;
mod uncarried;
mod walk;
mod working;

pub(crate) use edges::EdgeSpecs;
#[cfg(feature = "mpi")]
pub(crate) use edges::travelling;
pub use file::{Predicted, SavedPlan};
pub use memory::NodeMemory;
use order::{Ordered, order};
pub(crate) use recompute::{Segment, by_stage, directly_backward};
pub use skips::Skip;
pub(crate) use traffic::{FLAG_SCALARS, scalars_from, verdict_len};
use walk::forward_rows;
pub use walk::{PassKind, Walk};

/// How a network is trained: which layers on which node, in which order, and what that takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// The name of the schedule.
    pub schedule: String,
    /// Keys of the layers, in order.
    pub layers: Vec<String>,
    /// The layers of every stage.
    pub partition: Partition,
    /// Stages on nodes, and what crosses between them.
    pub layout: Layout,
    /// The schedule as it defines a training step of a full mini-batch.
    #[serde(skip)]
    pub definition: Definition,
    /// Values that go past stages: what tells the network that is cut from a chain.
    #[serde(skip)]
    pub skips: Vec<Skip>,
    /// A training step of a full mini-batch.
    pub training: Walk,
    /// Layers that are computed again in the backward pass: segments, each within one stage,
    /// ascending.
    pub recomputed: Vec<Range<usize>>,
    /// What every node is predicted to hold.
    pub memory: Vec<NodeMemory>,
    /// Payload bytes that every node sends in a training step of a full mini-batch.
    pub sent_bytes: Vec<u64>,
    /// In which numbers tensors travel between nodes.
    pub wire: Precision,
    /// In which numbers products are computed.
    pub precision: Precision,
    /// SHA-256 of the network's description, in hexadecimal.
    pub network: String,
    /// The machine of every node, where several processes train.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// What a step is expected to take, where somebody has worked it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted: Option<Predicted>,
}

impl Plan {
    /// Plans the training of a network. Nothing of it is allocated.
    ///
    /// # Errors
    /// When a setting is wrong, the network does not fit together, or a node would need more memory
    /// than it may hold.
    pub fn new(
        network: &Network,
        config: &Config,
        optimizer: &dyn Optimizer,
    ) -> Result<Self, PlanError> {
        Self::with_schedule(network, config, optimizer, &config.schedule)
    }

    /// As [`new`](Self::new), in the order of this schedule instead of the configuration's.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_schedule(
        network: &Network,
        config: &Config,
        optimizer: &dyn Optimizer,
        schedule: &dyn Schedule,
    ) -> Result<Self, PlanError> {
        let plan = Self::proposed(network, config, optimizer, schedule)?;
        plan.fits(config)?;
        tracing::info!(
            nodes = config.nodes,
            schedule = %plan.schedule,
            micro_batches = plan.training.batch.micro_batches().index(),
            cuts = ?plan.partition.cuts(),
            peak_bytes = ?plan.memory.iter().map(NodeMemory::peak_bytes).collect::<Vec<_>>(),
            "planned"
        );
        Ok(plan)
    }

    /// As [`with_schedule`](Self::with_schedule), whether nodes may hold what they need or not.
    ///
    /// # Errors
    /// As [`new`](Self::new), except that a node would need more memory than it may hold.
    pub fn proposed(
        network: &Network,
        config: &Config,
        optimizer: &dyn Optimizer,
        schedule: &dyn Schedule,
    ) -> Result<Self, PlanError> {
        config.validate()?;
        optimizer.validate()?;
        optimizer.suits(&network.params())?;
        let batch = config.mini_batch();
        let shapes = network.infer(batch.largest())?;
        let costs: Vec<u64> = shapes.iter().map(|layer| layer.cost.flops()).collect();
        let placement = schedule.place(config.node_count(), config.chunks)?;
        if placement.nodes() != config.node_count() {
            return Err(PlanError::Illegal {
                schedule: schedule.name().to_owned(),
                reason: format!("its placement on {}", counted(placement.nodes(), "node")),
                nearest: format!("a placement on {}", counted(config.nodes, "node")),
            });
        }
        let partition = Partition::new(&costs, placement.stages(), &config.cuts)?;
        let layout = layout::layout(network, &partition, placement);
        let prediction = memory::Prediction {
            network,
            partition: &partition,
            layout: &layout,
            shapes: &shapes,
            states: optimizer.state_names().len(),
            threads: config.threads_per_node,
            across: launch().is_some(),
            wire: config.wire,
            precision: config.precision,
            saving_bytes: config.saving_bytes,
        };
        let Ordered {
            definition,
            training,
            recomputed,
            memory,
        } = order(schedule, &prediction, (batch, &config.recompute), &|node| {
            config.limit_of(node)
        })?;
        let sent_bytes =
            traffic::sent_bytes(network, &partition, &layout, (&training, config.wire))?;
        Ok(Self {
            schedule: schedule.name().to_owned(),
            layers: network
                .layers()
                .iter()
                .map(|layer| layer.key.clone())
                .collect(),
            skips: Skip::of(network, (&partition, &layout), (&shapes, config.wire)),
            partition,
            layout,
            definition,
            training,
            recomputed,
            memory,
            sent_bytes,
            wire: config.wire,
            precision: config.precision,
            network: network_fingerprint(network, &shapes),
            hosts: Vec::new(),
            predicted: None,
        })
    }

    /// Whether every node may hold what it is predicted to need.
    ///
    /// # Errors
    /// When one may not: with the numbers of all.
    pub fn fits(&self, config: &Config) -> Result<(), PlanError> {
        self.fit(config, &self.memory)
    }

    fn fit(&self, config: &Config, memory: &[NodeMemory]) -> Result<(), PlanError> {
        for (node, needs) in self.layout.nodes().iter().zip(memory) {
            let needed_bytes = needs.peak_bytes();
            let limit_bytes = config.limit_of(node).unwrap_or(u64::MAX);
            if needed_bytes > limit_bytes {
                let all = memory.iter();
                return Err(PlanError::DoesNotFit {
                    node,
                    needed_bytes,
                    limit_bytes,
                    all_needed_bytes: all.map(NodeMemory::peak_bytes).collect(),
                });
            }
        }
        Ok(())
    }

    /// The lists for another kind of pass or another number of rows, at most a full mini-batch;
    /// when generating, of pieces of a sequence.
    ///
    /// # Errors
    /// When there are no rows or more than may go together, or it is not for training.
    pub fn walk(&self, kind: PassKind, rows: usize) -> Result<Walk, PlanError> {
        let full = self.training.batch;
        let most = match kind {
            PassKind::Generate { .. } => self.most_pieces(),
            _ => full.rows(),
        };
        if rows == 0 || rows > most {
            return Err(PlanError::TooManyRows { rows, most });
        }
        let batch = full.with_rows(rows);
        match kind {
            PassKind::Train if !self.trains() => Err(PlanError::Setting {
                setting: "trainer",
                value: "one for inference".into(),
                allowed: "started for training: Trainer::start".into(),
            }),
            PassKind::Train => {
                let definition = self.definition.first(batch.micro_batches());
                Ok(Walk::new(kind, &definition, &self.layout, batch)?)
            }
            PassKind::Evaluate | PassKind::Predict => Walk::forward(kind, &self.layout, batch),
            PassKind::Generate { length } => Walk::through(length, &self.layout, rows),
        }
    }

    /// A training step of a full mini-batch with these times.
    ///
    /// # Errors
    /// When the lists get stuck, which those of a plan that was made here do not.
    pub fn simulate(&self, times: &Times) -> Result<Timeline, PlanError> {
        let Walk { lowered, batch, .. } = &self.training;
        Ok(simulate(
            lowered,
            &self.layout,
            batch.micro_batches(),
            times,
        )?)
    }

    /// How many rows go forward together in an evaluation or prediction: enough micro-batches to
    /// keep all nodes busy, not so many that they pile up in front of a slow one.
    pub(crate) fn forward_rows(&self) -> usize {
        forward_rows(self.training.batch, self.layout.nodes().index())
    }

    /// Whether a layer is computed again in the backward pass.
    pub fn recomputes(&self, layer: LayerIndex) -> bool {
        let after = self
            .recomputed
            .partition_point(|segment| segment.start <= layer.index());
        let segment = after.checked_sub(1).map(|before| &self.recomputed[before]);
        segment.is_some_and(|segment| segment.contains(&layer.index()))
    }

    /// The keys of a node's layers, in order.
    pub fn layers_on(&self, node: NodeId) -> impl Iterator<Item = &str> {
        let stages = self.layout.placement.stages_on(node);
        stages.flat_map(|stage| {
            self.layers[self.partition.layers_of(stage)]
                .iter()
                .map(String::as_str)
        })
    }

    /// The machine of a node, where there are several processes.
    pub fn host_of(&self, node: NodeId) -> Option<&str> {
        self.hosts.get(node.index()).map(String::as_str)
    }

    /// A node's layers in a few words: the first and the last of each of its stages, and how many
    /// they are.
    pub fn layers_in_words(&self, node: NodeId) -> String {
        let stages: Vec<_> = self.layout.placement.stages_on(node).collect();
        let of = |stage: &StageId| match &self.layers[self.partition.layers_of(*stage)] {
            [] => "none".to_owned(),
            [only] => only.to_owned(),
            [first, .., last] => format!("{first} to {last}"),
        };
        let words: Vec<_> = stages.iter().map(of).collect();
        let (words, count) = (words.join(", "), self.layers_on(node).count());
        match count {
            0 | 1 => words,
            _ => format!("{words} ({count})"),
        }
    }

    /// SHA-256 of everything that is decided, in hexadecimal: equal for equal plans, compared by
    /// all nodes before the first step. Hosts, and what was
    /// predicted, are no part of it.
    pub fn fingerprint(&self) -> String {
        let decided = Self {
            hosts: Vec::new(),
            predicted: None,
            memory: Vec::new(),
            ..self.clone()
        };
        hex(&Sha256::digest(decided.to_json().as_bytes()))
    }

    /// The plan as readable JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a plan has no map with other keys than text")
    }
}

/// SHA-256 of the description of a network whose layers have these shapes.
pub(crate) fn network_fingerprint(network: &Network, shapes: &[LayerShapes]) -> String {
    let mut hash = Sha256::new();
    for (layer, shapes) in network.layers().iter().zip(shapes) {
        let line = format!(
            "{}|{}|{:?}|{:?}|{shapes:?}\n",
            layer.key, layer.scope, layer.spec, layer.inputs
        );
        hash.update(line.as_bytes());
    }
    hex(&hash.finalize())
}

/// Bytes as hexadecimal text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
