//! The exchange at the end of a pass: a few scalars are gathered on the first node, folded in layer
//! order, and the verdict is told to all. So every node knows loss and norm, and all decide alike.

use super::Node;
use crate::error::Cause;
use crate::ids::{LayerIndex, NodeId};
use crate::plan::{PassKind, Walk, scalars_from, verdict_len};
use crate::wire::{Body, Subject};
use brigade_layer::{Measure, Network};

/// What a node brings to the exchange.
#[derive(Debug, Default)]
pub(crate) struct Contribution {
    /// The loss sum and its terms, then a sum and a count for each metric, on the node that has
    /// the loss.
    pub(crate) measures: Vec<f64>,
    /// Sums of squares of its layers' gradients, in layer order, when training.
    pub(crate) squares: Vec<f64>,
}

/// What all nodes agree on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    /// The mean loss of the mini-batch, when training.
    pub(crate) loss: f64,
    /// The global norm of the gradients, when training.
    pub(crate) gradient_norm: f64,
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
        let mut all = vec![
            mine.measures
                .into_iter()
                .chain(mine.squares)
                .collect::<Vec<_>>(),
        ];
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
        let scalars = mine.measures.into_iter().chain(mine.squares).collect();
        let id = node.id(Subject::Scalars(node.node));
        node.link.send(root, id, Body::Scalars(scalars))?;
        node.link.wait(root, node.id(Subject::Verdict))?.scalars()?
    };
    read(&told, walk, network)
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
    let measures = match walk.kind {
        PassKind::Predict => return Ok(Vec::new()),
        PassKind::Evaluate => return Ok(all[with_loss.index()].clone()),
        PassKind::Train => &all[with_loss.index()][..2],
    };
    let mut squares = vec![0.0; network.layers().len()];
    for (from, scalars) in layout.nodes().iter().zip(all) {
        let own = if from == with_loss {
            &scalars[2..]
        } else {
            &scalars[..]
        };
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
    Ok(vec![
        measures[0] / measures[1],
        norm,
        bad.map_or(-1.0, |layer| layer as f64),
    ])
}

fn read(told: &[f64], walk: &Walk, network: &Network) -> Result<Verdict, Cause> {
    if told.len() != verdict_len(network, walk) {
        return Err(Cause::Bug(format!("a verdict of {} scalars", told.len())));
    }
    match walk.kind {
        PassKind::Train if told[2] >= 0.0 => Err(Cause::NonFiniteGradient {
            layer: LayerIndex::new(told[2] as u32),
        }),
        PassKind::Train => Ok(Verdict {
            loss: told[0],
            gradient_norm: told[1],
            measures: Vec::new(),
        }),
        PassKind::Evaluate | PassKind::Predict => {
            let measure = |pair: &[f64]| Measure {
                sum: pair[0],
                count: pair[1],
            };
            let measures = told.chunks_exact(2).map(measure).collect();
            Ok(Verdict {
                measures,
                ..Verdict::default()
            })
        }
    }
}
