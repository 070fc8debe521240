//! The lists of all nodes for one pass.

use super::generating::piece_shapes;
use crate::batch::MiniBatch;
use crate::error::PlanError;
use crate::schedule::{
    Action, CheckError, Definition, Layout, Lowered, check, forward_only, lower, stash_peaks,
};
use brigade_layer::{LayerError, LayerShapes, Network};
use serde::Serialize;

/// What one walk through the lists is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub enum PassKind {
    /// A training step.
    Train,
    /// Forward, with the loss and the metrics.
    Evaluate,
    /// Forward up to the network's output.
    Predict,
    /// Forward up to the network's output through pieces of one sequence, one after the other: the
    /// micro-batches.
    Generate {
        /// Positions of each piece.
        length: usize,
    },
}

impl PassKind {
    /// Shapes of what every layer computes of a micro-batch of so many rows, or of a piece.
    pub(super) fn shapes(
        self,
        network: &Network,
        rows: usize,
    ) -> Result<Vec<LayerShapes>, LayerError> {
        match self {
            Self::Generate { length } => piece_shapes(network, length),
            Self::Train | Self::Evaluate | Self::Predict => network.infer(rows),
        }
    }

    /// Whether it ends with the network's output, before the loss.
    pub(crate) fn predicts(self) -> bool {
        matches!(self, Self::Predict | Self::Generate { .. })
    }
}

/// One list per node for one size of mini-batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Walk {
    /// What it is for.
    pub kind: PassKind,
    /// How its rows are cut into micro-batches.
    pub batch: MiniBatch,
    /// The lists.
    pub lowered: Lowered,
    /// The most micro-batches that each stage keeps for its backward pass.
    pub stash_limits: Vec<usize>,
}

impl Walk {
    pub(super) fn forward(
        kind: PassKind,
        layout: &Layout,
        batch: MiniBatch,
    ) -> Result<Self, PlanError> {
        let definition = forward_only(&layout.placement, batch.micro_batches());
        Ok(Self::new(kind, &definition, layout, batch)?)
    }

    /// Pieces of so many positions. Whoever asks for them puts the answers together, so that the
    /// nodes need no exchange of their own at the end.
    pub(super) fn through(
        length: usize,
        layout: &Layout,
        pieces: usize,
    ) -> Result<Self, PlanError> {
        let (kind, batch) = (PassKind::Generate { length }, MiniBatch::new(pieces, 1));
        let mut walk = Self::forward(kind, layout, batch)?;
        for list in &mut walk.lowered.nodes {
            list.retain(|action| *action != Action::Exchange);
        }
        Ok(walk)
    }

    /// Lowers and checks.
    pub(super) fn new(
        kind: PassKind,
        definition: &Definition,
        layout: &Layout,
        batch: MiniBatch,
    ) -> Result<Self, Box<CheckError>> {
        let micro_batches = batch.micro_batches();
        let lowered = lower(definition, layout, micro_batches)?;
        check(&lowered, layout, micro_batches, None, &|lane| {
            lowered.slots.of(lane)
        })?;
        let stash_limits = stash_peaks(&lowered, layout);
        Ok(Self {
            kind,
            batch,
            lowered,
            stash_limits,
        })
    }
}

/// Whole micro-batches, so that the numbers do not depend on how many go together.
pub(super) fn forward_rows(batch: MiniBatch, nodes: usize) -> usize {
    let whole = (batch.rows() / batch.largest()).max(1);
    batch.largest() * whole.min(4 * nodes)
}
