//! Which layers are computed again in the backward pass, and what that takes.

use crate::config::Recompute;
use crate::error::PlanError;
use crate::ids::LayerIndex;
use crate::partition::Partition;
use crate::schedule::{Action, Compute, Lowered, Work};
use brigade_layer::{LayerShapes, Network, Source};
use std::collections::BTreeSet;
use std::ops::Range;

/// The segments that these settings mean: ranges of layers within a stage, ascending. Each begins
/// with a layer that takes part in the backward pass; those without one are left out.
pub(super) fn segments(
    recompute: &Recompute,
    network: &Network,
    partition: &Partition,
    lowered: Option<&Lowered>,
) -> Result<Vec<Range<usize>>, PlanError> {
    let stages = partition.stages();
    let wrong = |value: String, allowed: String| {
        Err(PlanError::Setting {
            setting: "recompute",
            value,
            allowed,
        })
    };
    let layers = network.layers().len();
    let segments: Vec<Range<usize>> = match recompute {
        Recompute::Never => Vec::new(),
        Recompute::Always => of_stages(partition, &vec![true; stages.index()]),
        Recompute::ExceptLast => {
            let direct = directly_backward(lowered, stages.index());
            let others: Vec<bool> = direct.into_iter().map(|direct| !direct).collect();
            of_stages(partition, &others)
        }
        Recompute::Stages(which) if which.len() != stages.index() => {
            let allowed = format!("{} stages, as the network is cut", stages.index());
            return wrong(format!("a choice for {} stages", which.len()), allowed);
        }
        Recompute::Stages(which) => of_stages(partition, which),
        Recompute::Layers(ranges) => {
            if let Some(range) = ranges.iter().find(|range| range.end > layers) {
                let allowed = format!("within the {layers} layers of the network");
                return wrong(format!("{range:?}"), allowed);
            }
            let cut = ranges.iter().flat_map(|range| cut(range, partition));
            cut.collect()
        }
    };
    let trains = |layer| network.needs_gradient(LayerIndex::new(layer as u32));
    let from_first = |segment: Range<usize>| {
        let first = segment.clone().find(|layer| trains(*layer))?;
        Some(first..segment.end)
    };
    Ok(segments.into_iter().filter_map(from_first).collect())
}

fn of_stages(partition: &Partition, which: &[bool]) -> Vec<Range<usize>> {
    let stages = partition.stages();
    let chosen = stages.iter().zip(which).filter(|(_, chosen)| **chosen);
    chosen
        .map(|(stage, _)| partition.layers_of(stage))
        .collect()
}

/// The parts of a range that lie in different stages.
fn cut(range: &Range<usize>, partition: &Partition) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut start = range.start;
    while start < range.end {
        let stage = partition.stage_of(LayerIndex::new(start as u32));
        let end = partition.layers_of(stage).end.min(range.end);
        parts.push(start..end);
        start = end;
    }
    parts
}

/// The stages of which every F is followed by the I or B of the same micro-batch, on their node.
/// Before there is an order, the last one is taken for it.
pub(crate) fn directly_backward(lowered: Option<&Lowered>, stages: usize) -> Vec<bool> {
    let Some(lowered) = lowered else {
        return (1..=stages).map(|stage| stage == stages).collect();
    };
    let mut direct = vec![true; stages];
    for row in &lowered.nodes {
        let mut computes = row.iter().filter_map(computed).peekable();
        while let Some(compute) = computes.next() {
            let next = computes.peek().is_some_and(|next| {
                let backward = matches!(next.work, Work::I | Work::B);
                let both = [compute, *next].map(|one| (one.stage, one.micro_batch));
                backward && both[0] == both[1]
            });
            direct[compute.stage.index()] &= next || compute.work != Work::F;
        }
    }
    direct
}

fn computed(action: &Action) -> Option<Compute> {
    match action {
        Action::Compute(compute) => Some(*compute),
        _ => None,
    }
}

/// One segment: what its second forward pass needs and does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Its layers.
    pub(crate) layers: Range<usize>,
    /// Those that run again, in order: all that train, and what feeds them.
    pub(crate) again: Vec<LayerIndex>,
    /// Values from outside that they read: layer and output.
    pub(crate) kept: Vec<(LayerIndex, usize)>,
}

impl Segment {
    pub(crate) fn new(network: &Network, layers: Range<usize>) -> Self {
        let (mut again, mut needed) = (Vec::new(), BTreeSet::new());
        for index in layers.clone().rev() {
            let layer = LayerIndex::new(index as u32);
            let mut outputs = (0..network.outputs(layer)).map(|output| (layer, output));
            if !network.needs_gradient(layer) && !outputs.any(|value| needed.contains(&value)) {
                continue;
            }
            again.push(layer);
            needed.retain(|(from, _)| *from != layer);
            let sources = network.layers()[index].inputs.iter();
            needed.extend(sources.filter_map(|source| match *source {
                Source::Feed(_) => None,
                Source::Output { layer, output } => Some((layer, output)),
            }));
        }
        again.reverse();
        Self {
            layers,
            again,
            kept: needed.into_iter().collect(),
        }
    }

    /// Whether a layer runs again.
    pub(crate) fn runs(&self, layer: usize) -> bool {
        let layer = LayerIndex::new(layer as u32);
        self.again.binary_search(&layer).is_ok()
    }

    /// Whether a value from outside is kept for it.
    pub(crate) fn keeps(&self, value: (LayerIndex, usize)) -> bool {
        self.kept.binary_search(&value).is_ok()
    }

    /// Floating-point operations of its second forward pass.
    pub(crate) fn flops(&self, shapes: &[LayerShapes]) -> u64 {
        let again = self.again.iter();
        let flops = again.map(|layer| shapes[layer.index()].cost.forward_flops);
        flops.fold(0, u64::saturating_add)
    }
}

/// The segments of every stage.
pub(crate) fn by_stage(
    network: &Network,
    partition: &Partition,
    segments: &[Range<usize>],
) -> Vec<Vec<Segment>> {
    let mut stages = vec![Vec::new(); partition.stages().index()];
    for layers in segments {
        let stage = partition.stage_of(LayerIndex::new(layers.start as u32));
        stages[stage.index()].push(Segment::new(network, layers.clone()));
    }
    stages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{MicroBatchCount, NodeCount};
    use crate::schedule::{Layout, Schedule, ScheduleKind, Task, lower};

    /// The stages that except-last leaves out, on so many nodes with so many micro-batches.
    fn left_out(kind: ScheduleKind, nodes: u32, micro_batches: u32) -> Vec<usize> {
        let micro_batches = MicroBatchCount::new(micro_batches);
        let placement = kind.place(NodeCount::new(nodes), None).unwrap();
        let layout = Layout::chain(placement.clone());
        let task = Task::new(placement, micro_batches);
        let lowered = lower(&kind.define(&task).unwrap(), &layout, micro_batches).unwrap();
        let direct = directly_backward(Some(&lowered), layout.placement.stages().index());
        (0..direct.len()).filter(|stage| direct[*stage]).collect()
    }

    #[test]
    fn except_last_leaves_out_stages_that_go_backward_at_once() {
        for kind in ScheduleKind::ALL {
            let last: &[usize] = match kind {
                // All forwards first, or another stage's work in between.
                ScheduleKind::GPipe | ScheduleKind::LoopedBfs => &[],
                ScheduleKind::VHalf | ScheduleKind::DualPipeV => &[],
                ScheduleKind::OneFOneB | ScheduleKind::ZbH1 | ScheduleKind::ZbAuto => &[3],
                _ => &[7],
            };
            assert_eq!(left_out(kind, 4, 8), last, "{kind}");
        }
        // With one micro-batch there is nothing between, where F and B of a stage are neighbours.
        assert_eq!(left_out(ScheduleKind::GPipe, 4, 1), [0, 1, 2, 3]);
        assert_eq!(left_out(ScheduleKind::OneFOneB, 1, 8), [0]);
    }

    #[test]
    fn before_there_is_an_order_the_last_stage_is_left_out() {
        assert_eq!(directly_backward(None, 3), [false, false, true]);
    }
}
