//! What every node sends in a step: boundary tensors, gradients of shared parameters, a few
//! scalars. Nothing else.

use super::edges::travelling;
use super::{PassKind, Walk};
use crate::error::PlanError;
use crate::ids::NodeId;
use crate::partition::Partition;
use crate::schedule::{Action, Layout, SharedSum};
use brigade_layer::{Network, Precision};

const SCALAR_BYTES: u64 = 8;
/// How many scalars the flags of a training step are.
pub(crate) const FLAG_SCALARS: usize = 2;

/// How many scalars a node contributes to the exchange: when training its flags, where the loss is
/// its sum and terms, and the sum of squares of every layer's gradient; when evaluating, for every
/// micro-batch, loss sum, terms, and a sum and a count for every metric.
pub(crate) fn scalars_from(
    node: NodeId,
    network: &Network,
    partition: &Partition,
    layout: &Layout,
    walk: &Walk,
) -> usize {
    let stages = layout.placement.stages_on(node);
    let layers: usize = stages.map(|stage| partition.layers_of(stage).len()).sum();
    let has_loss = layout.placement.node_of(partition.stage_of(network.loss())) == node;
    match walk.kind {
        PassKind::Predict | PassKind::Generate { .. } => 0,
        PassKind::Train => FLAG_SCALARS + layers + if has_loss { 2 } else { 0 },
        PassKind::Evaluate if has_loss => verdict_len(network, walk),
        PassKind::Evaluate => 0,
    }
}

/// How many scalars the verdict has: flags, loss, gradient norm and the first layer whose gradient
/// is not finite; or what the node with the loss contributed to an evaluation.
pub(crate) fn verdict_len(network: &Network, walk: &Walk) -> usize {
    match walk.kind {
        PassKind::Train => FLAG_SCALARS + 3,
        PassKind::Evaluate => {
            walk.batch.micro_batches().index() * (2 + 2 * network.metrics().len())
        }
        PassKind::Predict | PassKind::Generate { .. } => 0,
    }
}

pub(super) fn sent_bytes(
    network: &Network,
    partition: &Partition,
    layout: &Layout,
    (walk, wire): (&Walk, Precision),
) -> Result<Vec<u64>, PlanError> {
    let mut bytes = vec![0; layout.nodes().index()];
    for micro_batch in walk.batch.micro_batches().iter() {
        // All but the last have the same number of rows.
        let rows = walk.batch.rows_of(micro_batch).len();
        let last = micro_batch.index() + 1 == walk.batch.micro_batches().index();
        if micro_batch.index() > 0 && !last {
            continue;
        }
        let shapes = network.infer(rows)?;
        let counts = |at: usize| {
            if last {
                at == micro_batch.index()
            } else {
                at + 1 < walk.batch.micro_batches().index()
            }
        };
        for (node, row) in walk.lowered.nodes.iter().enumerate() {
            for action in row {
                let Action::Send(transfer) = action else {
                    continue;
                };
                if counts(transfer.micro_batch.index()) {
                    let edge = network.edges()[transfer.lane.edge.index()];
                    let tensor = shapes[edge.from.index()].outputs[edge.output];
                    let sent: &mut u64 = &mut bytes[node];
                    *sent = sent.saturating_add(travelling(tensor, wire).bytes());
                }
            }
        }
    }
    let sums = (walk.kind == PassKind::Train).then_some(&layout.shared);
    for sum in sums.into_iter().flatten() {
        shared_bytes(network, layout, sum, &mut bytes);
    }
    let others = layout.nodes().index() as u64 - 1;
    for node in layout.nodes().iter() {
        let scalars = match node.index() {
            0 => others * verdict_len(network, walk) as u64,
            _ => scalars_from(node, network, partition, layout, walk) as u64,
        };
        let sent = &mut bytes[node.index()];
        *sent = sent.saturating_add(SCALAR_BYTES * scalars);
    }
    Ok(bytes)
}

/// Every holder on another node than the first sends its gradient there; the sum comes back once
/// for each such node.
fn shared_bytes(network: &Network, layout: &Layout, sum: &SharedSum, bytes: &mut [u64]) {
    let Some((first, stage)) = sum.holders.first() else {
        return;
    };
    let size = super::memory::shared_size(network, *first, sum);
    let root = layout.placement.node_of(*stage);
    for (_, stage) in &sum.holders {
        let node = layout.placement.node_of(*stage);
        if node != root {
            let sent = &mut bytes[node.index()];
            *sent = sent.saturating_add(size);
        }
    }
    let copies = size.saturating_mul(layout.members(sum).len() as u64 - 1);
    bytes[root.index()] = bytes[root.index()].saturating_add(copies);
}
