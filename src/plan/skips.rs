//! The values that go past stages, for people.

use super::edges::travelling;
use crate::ids::{LayerIndex, StageId};
use crate::partition::Partition;
use crate::schedule::Layout;
use brigade_layer::{LayerShapes, Network, Precision};
use std::collections::BTreeSet;
use std::fmt;

/// A value that goes straight from one stage to another that is not the next one, forward; its
/// gradients come back the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skip {
    /// The key of the layer that makes it.
    pub from: String,
    /// The key of the first layer of the other stage that reads it.
    pub to: String,
    /// Its stage.
    pub from_stage: StageId,
    /// The stage that it goes to.
    pub to_stage: StageId,
    /// What travels for a full micro-batch, in bytes; nothing where both stages are on one node.
    pub bytes: u64,
}

impl Skip {
    /// Of a network that is cut: each value once for every stage that it goes to.
    pub(super) fn of(
        network: &Network,
        (partition, layout): (&Partition, &Layout),
        (shapes, wire): (&[LayerShapes], Precision),
    ) -> Vec<Self> {
        let (mut skips, mut gone) = (Vec::new(), BTreeSet::new());
        let key = |layer: LayerIndex| network.layers()[layer.index()].key.clone();
        for edge in network.edges() {
            let [from_stage, to_stage] = [edge.from, edge.to].map(|at| partition.stage_of(at));
            let past = to_stage.index() > from_stage.index() + 1;
            if !past || !gone.insert((edge.from, edge.output, to_stage)) {
                continue;
            }
            let node_of = |stage| layout.placement.node_of(stage);
            let tensor = shapes[edge.from.index()].outputs[edge.output];
            skips.push(Self {
                from: key(edge.from),
                to: key(edge.to),
                from_stage,
                to_stage,
                bytes: match node_of(from_stage) == node_of(to_stage) {
                    true => 0,
                    false => travelling(tensor, wire).bytes(),
                },
            });
        }
        skips
    }
}

/// `skip enc1 -> dec1: stage 0 -> stage 3, 128 KiB a micro-batch`
impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            from,
            to,
            from_stage,
            to_stage,
            bytes,
        } = self;
        write!(
            f,
            "skip {from} -> {to}: stage {from_stage} -> stage {to_stage}, "
        )?;
        match *bytes {
            0 => write!(f, "on one node"),
            1..1024 => write!(f, "{bytes} B a micro-batch"),
            1024..1_048_576 => write!(f, "{} KiB a micro-batch", rounded(*bytes, 1024)),
            _ => write!(f, "{} MiB a micro-batch", rounded(*bytes, 1 << 20)),
        }
    }
}

/// With one digit behind the point, where there is something.
fn rounded(bytes: u64, unit: u64) -> String {
    let tenths = (bytes as f64 / unit as f64 * 10.0).round() / 10.0;
    tenths.to_string()
}
