//! What a lowered schedule takes when F, I, W and the links take given times. The engine's own
//! model, with a clock.

use super::model::{self, Capacity};
use super::{Action, CheckError, Layout, Lowered, Span, Timeline, Work};
use crate::ids::{MicroBatchCount, NodeId, SharedId, StageId};
use std::collections::BTreeMap;

/// Times in any one unit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Times {
    /// Of F, for every stage.
    pub forward: Vec<f64>,
    /// Of I, for every stage.
    pub input: Vec<f64>,
    /// Of W, for every stage.
    pub weight: Vec<f64>,
    /// Of the optimizer's work, for every node; a node that is not there takes none.
    pub step: Vec<f64>,
    /// From the end of a send to when the message can be taken.
    pub link_latency: f64,
}

impl Times {
    /// The same times for every stage, and links and optimizer that take none.
    pub fn equal(stages: usize, forward: f64, input: f64, weight: f64) -> Self {
        let all = |time| vec![time; stages];
        Self {
            forward: all(forward),
            input: all(input),
            weight: all(weight),
            step: Vec::new(),
            link_latency: 0.0,
        }
    }

    fn of(&self, stage: StageId, work: Work) -> f64 {
        let at = |list: &[f64]| list.get(stage.index()).copied().unwrap_or(0.0);
        match work {
            Work::F => at(&self.forward),
            Work::I => at(&self.input),
            Work::W => at(&self.weight),
            Work::B => at(&self.input) + at(&self.weight),
        }
    }
}

/// Plays a lowered schedule with these times.
///
/// # Errors
/// When the schedule gets stuck.
pub fn simulate(
    lowered: &Lowered,
    layout: &Layout,
    micro_batches: MicroBatchCount,
    times: &Times,
) -> Result<Timeline, Box<CheckError>> {
    let mut clock = vec![0.0f64; lowered.nodes.len()];
    let mut arrives = BTreeMap::new();
    // When a sum or exchange is over: when the last of its members has come.
    let mut over = BTreeMap::<Option<SharedId>, f64>::new();
    let mut nodes: Vec<Vec<Span>> = lowered
        .nodes
        .iter()
        .map(|row| Vec::with_capacity(row.len()))
        .collect();
    let slots = |lane| lowered.slots.of(lane);
    model::walk(
        &lowered.nodes,
        layout,
        micro_batches,
        Capacity::Slots(&slots),
        &mut |event| {
            let now = clock[event.node.index()];
            let end = match event.action {
                Action::Compute(compute) => now + times.of(compute.stage, compute.work),
                Action::Send(t) => {
                    arrives.insert((t.lane, t.micro_batch), now + times.link_latency);
                    now
                }
                Action::Wait(t) => arrives
                    .remove(&(t.lane, t.micro_batch))
                    .unwrap_or(now)
                    .max(now),
                Action::SumShared(shared) => {
                    let members = layout
                        .sum_of(shared)
                        .map_or(Vec::new(), |sum| layout.members(sum));
                    *over
                        .entry(Some(shared))
                        .or_insert_with(|| last(&clock, &members))
                }
                Action::Exchange => {
                    let members: Vec<_> = layout.nodes().iter().collect();
                    *over.entry(None).or_insert_with(|| last(&clock, &members))
                }
                Action::Step => now + times.step.get(event.node.index()).copied().unwrap_or(0.0),
                Action::Post(_) => now,
            };
            nodes[event.node.index()].push(Span {
                action: event.action,
                start: now,
                end,
            });
            clock[event.node.index()] = end;
        },
    )?;
    let makespan = clock.iter().copied().fold(0.0, f64::max);
    Ok(Timeline { nodes, makespan })
}

/// The first to pass a sum or exchange is its root, and by then all members have come and wait.
fn last(clock: &[f64], members: &[NodeId]) -> f64 {
    members
        .iter()
        .map(|node| clock[node.index()])
        .fold(0.0, f64::max)
}
