//! What it takes to generate, and plans of trainers that only infer.

use super::memory::Prediction;
use super::working::Surroundings;
use super::{
    NodeMemory, PassKind, Plan, Skip, Walk, forward_rows, layout, network_fingerprint, traffic,
};
use crate::config::Config;
use crate::error::PlanError;
use crate::ids::MicroBatchCount;
use crate::launch::launch;
use crate::partition::Partition;
use crate::schedule::{Schedule, forward_only};
use brigade_layer::{Cost, LayerError, LayerShapes, Network, Optimizer};

/// Positions of a piece of a sequence, at most. Longer prompts go in pieces of this length, so that
/// nodes work on several at once and hold little: part of the numbers, like a micro-batch.
const PIECE: usize = 256;

impl Plan {
    /// Plans a trainer that only generates, evaluates and predicts: nodes hold parameters, what is
    /// kept along a sequence, and what going forward takes. Nothing of it is allocated.
    ///
    /// # Errors
    /// As [`Plan::new`]; a network that cannot generate is to evaluate within a node's memory.
    pub fn for_inference(network: &Network, config: &Config) -> Result<Self, PlanError> {
        config.validate()?;
        let (batch, schedule) = (config.mini_batch(), &config.schedule);
        let shapes = network.infer(batch.largest())?;
        let costs = shapes.iter().map(|layer| layer.cost.forward_flops);
        let mut costs: Vec<u64> = costs.collect();
        if network.context().is_ok() {
            costs[network.loss().index()] = 0;
        }
        let placement = schedule.place(config.node_count(), config.chunks)?;
        let partition = Partition::new(&costs, placement.stages(), &config.cuts)?;
        let layout = layout::layout(network, &partition, placement);
        let definition = forward_only(&layout.placement, batch.micro_batches());
        let walk = Walk::new(PassKind::Evaluate, &definition, &layout, batch)?;
        let layers = network.layers().iter();
        let mut plan = Self {
            schedule: schedule.name().to_owned(),
            layers: layers.map(|layer| layer.key.clone()).collect(),
            sent_bytes: traffic::sent_bytes(network, &partition, &layout, (&walk, config.wire))?,
            skips: Skip::of(network, (&partition, &layout), (&shapes, config.wire)),
            partition,
            layout,
            definition,
            training: walk,
            recomputed: Vec::new(),
            memory: Vec::new(),
            wire: config.wire,
            precision: config.precision,
            network: network_fingerprint(network, &shapes),
            hosts: Vec::new(),
            predicted: None,
        };
        plan.memory = match network.context() {
            Ok(_) => plan.generating(network, config, None)?,
            Err(_) => plan.evaluating(network, config)?,
        };
        Ok(plan)
    }

    /// Whether it is for training.
    pub fn trains(&self) -> bool {
        self.training.kind == PassKind::Train
    }

    /// What every node holds that generates, for a trainer with this optimizer or one that only
    /// infers.
    ///
    /// # Errors
    /// When the network cannot generate, or a node may not hold that much: with the numbers of all.
    pub fn generating(
        &self,
        network: &Network,
        config: &Config,
        optimizer: Option<&dyn Optimizer>,
    ) -> Result<Vec<NodeMemory>, PlanError> {
        let (length, pieces) = self.pieces_of(network)?;
        let shapes = piece_shapes(network, length)?;
        let walk = Walk::through(length, &self.layout, pieces)?;
        let memory = self.forward_memory((network, config), (&shapes, &walk), optimizer);
        for (node, memory) in self.layout.nodes().iter().zip(&memory) {
            let limit_bytes = config.limit_of(node).unwrap_or(u64::MAX);
            if memory.peak_bytes() > limit_bytes {
                return Err(PlanError::NoRoomToGenerate {
                    node,
                    needed_bytes: memory.peak_bytes(),
                    sequence_bytes: memory.sequence_bytes,
                    limit_bytes,
                });
            }
        }
        Ok(memory)
    }

    /// What every node holds of a trainer that only infers while it evaluates or predicts.
    ///
    /// # Errors
    /// When a node may not hold that much: with the numbers of all.
    pub(crate) fn evaluating(
        &self,
        network: &Network,
        config: &Config,
    ) -> Result<Vec<NodeMemory>, PlanError> {
        let batch = self.training.batch;
        let shapes = network.infer(batch.largest())?;
        let batch = batch.with_rows(forward_rows(batch, self.layout.nodes().index()));
        let walk = Walk::forward(PassKind::Evaluate, &self.layout, batch)?;
        let memory = self.forward_memory((network, config), (&shapes, &walk), None);
        let memory = memory.into_iter().map(|node| NodeMemory {
            sequence_bytes: 0,
            ..node
        });
        let memory: Vec<_> = memory.collect();
        self.fit(config, &memory)?;
        Ok(memory)
    }

    fn forward_memory(
        &self,
        (network, config): (&Network, &Config),
        (shapes, walk): (&[LayerShapes], &Walk),
        optimizer: Option<&dyn Optimizer>,
    ) -> Vec<NodeMemory> {
        let prediction = Prediction {
            network,
            partition: &self.partition,
            layout: &self.layout,
            shapes,
            states: optimizer.map_or(0, |optimizer| optimizer.state_names().len()),
            threads: config.threads_per_node,
            across: launch().is_some(),
            wire: self.wire,
            precision: self.precision,
            saving_bytes: config.saving_bytes,
        };
        let surroundings = Surroundings::new(&prediction);
        let effects = surroundings.effects(walk, &[]);
        let of = |node| prediction.generating(node, &effects, optimizer.is_some());
        self.layout.nodes().iter().map(of).collect()
    }

    /// How long the pieces of a sequence are, and the most that go through the nodes at once.
    pub(crate) fn pieces_of(&self, network: &Network) -> Result<(usize, usize), LayerError> {
        let context = network.context()?;
        let length = context.clamp(1, PIECE);
        Ok((length, (context / length).clamp(1, self.most_pieces())))
    }

    /// The most micro-batches of any pass.
    pub(crate) fn most_micro_batches(&self) -> MicroBatchCount {
        let training = self.training.batch.micro_batches();
        training.max(MicroBatchCount::new(self.most_pieces() as u32))
    }

    /// The most pieces that go through the nodes at once: enough to keep all busy.
    pub(crate) fn most_pieces(&self) -> usize {
        4 * self.layout.nodes().index()
    }
}

/// Shapes and costs of what a node computes of a piece: a layer that sees the last position only
/// has a copy of that one, and the loss is left out.
pub(super) fn piece_shapes(
    network: &Network,
    length: usize,
) -> Result<Vec<LayerShapes>, LayerError> {
    let mut shapes = network.infer_piece(length)?;
    if let Some(last) = network.sees_last_only(&shapes) {
        let mut one = network.infer_piece(1)?.swap_remove(last.index());
        let seen = one.inputs.iter().map(brigade_layer::TensorSpec::bytes);
        one.cost.forward_working_bytes += seen.sum::<u64>();
        one.inputs.clone_from(&shapes[last.index()].inputs);
        shapes[last.index()] = one;
    }
    let logits = network.prediction_of(&shapes)?;
    let loss = &mut shapes[network.loss().index()];
    (loss.cost, loss.inputs) = (Cost::default(), vec![logits]);
    Ok(shapes)
}
