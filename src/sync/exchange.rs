//! The exchange at the end of a pass: a few scalars are gathered on the first node, folded in layer
//! order, and the verdict is told to all. So every node knows loss and norm, and all decide alike.
//!
//! ```text
//! training     a node   flags, [loss sum, terms,] a sum of squares for every layer of its own
//!              verdict  flags, loss, norm, first layer whose gradient is not finite
//! evaluating   both     for every micro-batch: loss sum, terms, sum and count of every metric
//! ```

use super::{Flags, Node};
use crate::error::{Cause, NonFinite};
use crate::ids::{LayerIndex, NodeId};
use crate::partition::Partition;
use crate::plan::{FLAG_SCALARS, PassKind, Walk, scalars_from, verdict_len};
use crate::wire::{Body, Subject};
use brigade_layer::{Measure, Network};

/// What a node brings to the exchange.
#[derive(Debug, Default)]
pub(crate) struct Contribution {
    /// What it wants all to know, when training.
    pub(crate) flags: Flags,
    /// The loss sum and its terms, then a sum and a count for each metric, on the node that has
    /// the loss.
    pub(crate) measures: Vec<f64>,
    /// Sums of squares of its layers' gradients, in layer order, when training.
    pub(crate) squares: Vec<f64>,
}

impl Contribution {
    fn scalars(self, kind: PassKind) -> Vec<f64> {
        let flags = (kind == PassKind::Train).then(|| self.flags.scalars());
        let flags = flags.into_iter().flatten();
        flags.chain(self.measures).chain(self.squares).collect()
    }
}

/// What all nodes agree on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    /// What any node wanted all to know, when training.
    pub(crate) flags: Flags,
    /// The mean loss of the mini-batch, when training.
    pub(crate) loss: f64,
    /// The global norm of the gradients, when training.
    pub(crate) gradient_norm: f64,
    /// What is infinite or not a number, when training: the loss, or else the first layer's
    /// gradient.
    pub(crate) nonfinite: Option<NonFinite>,
    /// When evaluating, for every micro-batch: the loss, then the metrics.
    pub(crate) measures: Vec<Measure>,
}

pub(crate) fn exchange(
    mine: Contribution,
    walk: &Walk,
    network: &Network,
    node: &mut Node<'_>,
) -> Result<Verdict, Cause> {
    let nodes = node.plan.layout.nodes();
    let root = NodeId::new(0);
    let told = if node.node == root {
        let mut all = vec![mine.scalars(walk.kind)];
        for from in nodes.iter().skip(1) {
            all.push(
                node.link
                    .wait(from, node.id(Subject::Scalars(from)))?
                    .scalars()?,
            );
        }
        let verdict = fold(&all, walk, network, node)?;
        for to in nodes.iter().skip(1) {
            node.link.send(
                to,
                node.id(Subject::Verdict),
                Body::Scalars(verdict.clone()),
            )?;
        }
        verdict
    } else {
        let id = node.id(Subject::Scalars(node.node));
        let scalars = Body::Scalars(mine.scalars(walk.kind));
        node.link.send(root, id, scalars)?;
        node.link.wait(root, node.id(Subject::Verdict))?.scalars()?
    };
    match walk.kind {
        _ if told.len() != verdict_len(network, walk) => {
            Err(Cause::Bug(format!("a verdict of {} scalars", told.len())))
        }
        PassKind::Train => on_step(&told, network, &node.plan.partition),
        _ => Ok(on_measures(&told)),
    }
}

/// Folds what came, in layer order whatever the partition.
fn fold(
    all: &[Vec<f64>],
    walk: &Walk,
    network: &Network,
    node: &Node<'_>,
) -> Result<Vec<f64>, Cause> {
    let (partition, layout) = (&node.plan.partition, &node.plan.layout);
    for (from, scalars) in layout.nodes().iter().zip(all) {
        let expected = scalars_from(from, network, partition, layout, walk);
        if scalars.len() != expected {
            let found = scalars.len();
            return Err(Cause::Bug(format!(
                "node {from} gave {found} scalars instead of {expected}"
            )));
        }
    }
    let with_loss = layout.placement.node_of(partition.stage_of(network.loss()));
    match walk.kind {
        PassKind::Predict | PassKind::Generate { .. } => return Ok(Vec::new()),
        PassKind::Evaluate => return Ok(all[with_loss.index()].clone()),
        PassKind::Train => {}
    }
    let mut flags = Flags::default();
    let mut loss = 0.0;
    let mut squares = vec![0.0; network.layers().len()];
    for (from, scalars) in layout.nodes().iter().zip(all) {
        let (told, mut own) = scalars.split_at(FLAG_SCALARS);
        flags = flags.fold(Flags::read(told)?);
        if from == with_loss {
            loss = own[0] / own[1];
            own = &own[2..];
        }
        let layers = layout
            .placement
            .stages_on(from)
            .flat_map(|stage| partition.layers_of(stage));
        for (layer, square) in layers.zip(own) {
            squares[layer] = *square;
        }
    }
    let bad = squares.iter().position(|square| !square.is_finite());
    let norm = squares.iter().sum::<f64>().sqrt();
    let mut verdict = flags.scalars().to_vec();
    verdict.extend([loss, norm, bad.unwrap_or(squares.len()) as f64]);
    Ok(verdict)
}

fn on_step(told: &[f64], network: &Network, partition: &Partition) -> Result<Verdict, Cause> {
    let (flags, told) = told.split_at(FLAG_SCALARS);
    let (loss, gradient_norm, bad) = (told[0], told[1], told[2]);
    let (loss_is, at) = match loss.is_finite() {
        true => (None, bad as usize),
        false => (Some(loss), network.loss().index()),
    };
    let nonfinite = network.layers().get(at).map(|node| {
        let layer = LayerIndex::new(at as u32);
        NonFinite {
            loss: loss_is,
            layer,
            key: node.key.clone(),
            stage: partition.stage_of(layer),
        }
    });
    Ok(Verdict {
        flags: Flags::read(flags)?,
        loss,
        gradient_norm,
        nonfinite,
        measures: Vec::new(),
    })
}

fn on_measures(told: &[f64]) -> Verdict {
    let measure = |pair: &[f64]| Measure {
        sum: pair[0],
        count: pair[1],
    };
    Verdict {
        measures: told.chunks_exact(2).map(measure).collect(),
        ..Verdict::default()
    }
}
