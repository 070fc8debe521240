//! Lowering: the only place that inserts send, post, wait, shared sums, exchange and step.

use super::slots::{self, Slots};
use super::wiring::Wiring;
use super::{Action, CheckError, Compute, Definition, Layout, Problem, SharedSum, Work};
use crate::ids::{MicroBatchCount, MicroBatchId, NodeId, StageId};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A schedule as it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lowered {
    /// One list per node.
    pub nodes: Vec<Vec<Action>>,
    /// The slots of every lane between nodes.
    pub slots: Slots,
}

/// Turns a definition into what runs.
///
/// 1. On every stage W runs in ascending micro-batch order, so that gradients are summed in that
///    order: a B (or W) out of order becomes I there, and W when its turn comes.
/// 2. Tensors that cross to another node are waited for just before they are needed and sent as
///    soon as they exist. Between stages on one node they are handed over without a message.
/// 3. A training step ends with the shared sums, the exchange and the step; a forward pass with the
///    exchange.
/// 4. A receive is posted as soon as one of its lane's slots is free.
///
/// The actions of a pair are done one after the other. Time grows with the number of actions.
///
/// # Errors
/// When the definition is not complete, or can never finish whatever the slots.
pub fn lower(
    definition: &Definition,
    layout: &Layout,
    micro_batches: MicroBatchCount,
) -> Result<Lowered, Box<CheckError>> {
    lowered(definition, layout, micro_batches, |row, _, wiring| {
        with_transfers(&weights_in_order(row), wiring)
    })
}

/// A definition as it stands, to be simulated and not to be run: nothing is put into another order,
/// and a pair is one action: it needs what both need, and what both make leaves at its end.
///
/// # Errors
/// As [`lower`].
pub fn as_defined(
    definition: &Definition,
    layout: &Layout,
    micro_batches: MicroBatchCount,
) -> Result<Lowered, Box<CheckError>> {
    lowered(definition, layout, micro_batches, with_pairs)
}

fn lowered(
    definition: &Definition,
    layout: &Layout,
    micro_batches: MicroBatchCount,
    with_transfers: impl Fn(&[Compute], &[u32], &Wiring) -> Vec<Action>,
) -> Result<Lowered, Box<CheckError>> {
    complete(definition, layout, micro_batches)?;
    let wiring = Wiring::new(layout, micro_batches);
    handed_over(definition, layout, &wiring)?;
    let trains = trains(definition);
    let mut nodes: Vec<Vec<Action>> = Vec::with_capacity(definition.nodes.len());
    for (node, row) in layout.nodes().iter().zip(&definition.nodes) {
        let mut actions = with_transfers(row, definition.pairs_of(node), &wiring);
        if trains {
            let held = |sum: &&SharedSum| layout.members(sum).contains(&node);
            let sums = layout.shared.iter().filter(held);
            actions.extend(sums.map(|sum| Action::SumShared(sum.shared)));
        }
        actions.push(Action::Exchange);
        if trains {
            actions.push(Action::Step);
        }
        nodes.push(actions);
    }
    let slots = slots::count(&nodes, layout, &wiring)?;
    let by_lane: Vec<u32> = (0..wiring.lanes())
        .map(|lane| slots.of(wiring.lane(lane)))
        .collect();
    for row in &mut nodes {
        *row = with_posts(row, &by_lane, &wiring);
    }
    Ok(Lowered { nodes, slots })
}

fn trains(definition: &Definition) -> bool {
    let mut all = definition.nodes.iter().flatten();
    all.any(|compute| compute.work != Work::F)
}

/// Every stage on its node, and everything once.
fn complete(
    definition: &Definition,
    layout: &Layout,
    micro_batches: MicroBatchCount,
) -> Result<(), Box<CheckError>> {
    let (nodes, found) = (layout.nodes().index(), definition.nodes.len());
    if nodes != found {
        let node = NodeId::new(nodes.min(found) as u32);
        return Err(CheckError::new(
            &[],
            node,
            0,
            Problem::Lists { nodes, found },
        ));
    }
    let (stages, many) = (layout.placement.stages(), micro_batches.index());
    let mut done = vec![0u8; stages.index() * many];
    for (node, row) in layout.nodes().iter().zip(&definition.nodes) {
        for (at, compute) in row.iter().enumerate() {
            let error = |problem| Err(CheckError::in_definition(row, node, at, problem));
            let (stage, micro_batch) = (compute.stage.index(), compute.micro_batch.index());
            if stage >= stages.index() || micro_batch >= many {
                return error(Problem::OutOfRange);
            }
            let owner = layout.placement.node_of(compute.stage);
            if owner != node {
                return error(Problem::WrongNode(owner));
            }
            let (done, parts) = (&mut done[stage * many + micro_batch], parts(compute.work));
            if *done & parts != 0 {
                return error(Problem::Twice);
            }
            *done |= parts;
        }
        pairs(definition, node)?;
    }
    let works: &[Work] = match trains(definition) {
        true => &[Work::F, Work::I, Work::W],
        false => &[Work::F],
    };
    for (at, done) in done.into_iter().enumerate() {
        let (stage, micro_batch) = (StageId::new((at / many) as u32), (at % many) as u32);
        if let Some(work) = works.iter().find(|work| done & parts(**work) == 0) {
            let missing = Compute::new(stage, *work, MicroBatchId::new(micro_batch));
            let node = layout.placement.node_of(stage);
            let row = &definition.nodes[node.index()];
            let problem = Problem::Missing(missing.into());
            return Err(CheckError::in_definition(row, node, row.len(), problem));
        }
    }
    Ok(())
}

/// What stages of one node hand over to each other is there when it is needed: no message is waited
/// for.
fn handed_over(
    definition: &Definition,
    layout: &Layout,
    wiring: &Wiring,
) -> Result<(), Box<CheckError>> {
    for (node, row) in layout.nodes().iter().zip(&definition.nodes) {
        let mut done = BTreeSet::new();
        for (at, compute) in row.iter().enumerate() {
            let work = match compute.work {
                Work::F => Work::F,
                Work::I | Work::B => Work::I,
                Work::W => continue,
            };
            let makers = { wiring.local(*compute).iter() }
                .map(|stage| Compute::new(*stage, work, compute.micro_batch));
            if let Some(first) = { makers }.find(|maker| !done.contains(maker)) {
                let both = (first.stage, first.micro_batch);
                let same = |later: &&Compute| {
                    let part = parts(later.work) & parts(first.work) != 0;
                    part && (later.stage, later.micro_batch) == both
                };
                let first = row[at..].iter().find(same).copied().unwrap_or(first);
                let problem = Problem::TooEarly(first.into());
                return Err(CheckError::in_definition(row, node, at, problem));
            }
            done.insert(Compute::new(compute.stage, work, compute.micro_batch));
        }
    }
    Ok(())
}

/// Every pair is an F and the backward after it.
fn pairs(definition: &Definition, node: NodeId) -> Result<(), Box<CheckError>> {
    let row = &definition.nodes[node.index()];
    let mut least = 0;
    for at in definition.pairs_of(node).iter().map(|at| *at as usize) {
        let both = [at, at + 1].map(|at| row.get(at).map(|compute| compute.work));
        if at < least || !matches!(both, [Some(Work::F), Some(Work::I | Work::B)]) {
            return Err(CheckError::in_definition(row, node, at, Problem::NotAPair));
        }
        least = at + 2;
    }
    Ok(())
}

/// F, I and W as bits; B is I and W.
pub(super) fn parts(work: Work) -> u8 {
    match work {
        Work::F => 1,
        Work::I => 2,
        Work::W => 4,
        Work::B => 6,
    }
}

/// W of every stage in ascending micro-batch order. A B whose turn has not come is split.
fn weights_in_order(row: &[Compute]) -> Vec<Compute> {
    let mut next = BTreeMap::<StageId, u32>::new();
    let mut late = BTreeSet::<(StageId, MicroBatchId)>::new();
    let mut out = Vec::with_capacity(row.len());
    for &compute in row {
        let Compute {
            stage,
            work,
            micro_batch,
        } = compute;
        if matches!(work, Work::F | Work::I) {
            out.push(compute);
            continue;
        }
        let turn = next.entry(stage).or_default();
        if micro_batch.get() != *turn {
            late.insert((stage, micro_batch));
            if work == Work::B {
                out.push(Compute::new(stage, Work::I, micro_batch));
            }
            continue;
        }
        out.push(compute);
        *turn += 1;
        while late.remove(&(stage, MicroBatchId::new(*turn))) {
            out.push(Compute::new(stage, Work::W, MicroBatchId::new(*turn)));
            *turn += 1;
        }
    }
    out
}

fn with_transfers(row: &[Compute], wiring: &Wiring) -> Vec<Action> {
    let mut actions = Vec::with_capacity(3 * row.len() + 4);
    for &compute in row {
        wait_for(compute, wiring, &mut actions);
        actions.push(compute.into());
        send_from(compute, wiring, &mut actions);
    }
    actions
}

fn with_pairs(row: &[Compute], pairs: &[u32], wiring: &Wiring) -> Vec<Action> {
    let (mut actions, mut at) = (Vec::with_capacity(3 * row.len() + 4), 0);
    while at < row.len() {
        let paired = pairs.binary_search(&(at as u32)).is_ok();
        let together = &row[at..(at + 1 + usize::from(paired)).min(row.len())];
        (together.iter()).for_each(|compute| wait_for(*compute, wiring, &mut actions));
        actions.extend(together.iter().copied().map(Action::from));
        (together.iter()).for_each(|compute| send_from(*compute, wiring, &mut actions));
        at += together.len();
    }
    actions
}

fn wait_for(compute: Compute, wiring: &Wiring, actions: &mut Vec<Action>) {
    let incoming = |lane: &u32| Action::Wait(wiring.incoming(*lane, compute.micro_batch));
    actions.extend(wiring.waits(compute).iter().map(incoming));
}

fn send_from(compute: Compute, wiring: &Wiring, actions: &mut Vec<Action>) {
    let outgoing = |lane: &u32| Action::Send(wiring.outgoing(*lane, compute.micro_batch));
    actions.extend(wiring.sends(compute).iter().map(outgoing));
}

/// Posts every receive as soon as a slot is free: the first ones at once, each other when the one
/// `slots` before it was taken out.
fn with_posts(row: &[Action], slots: &[u32], wiring: &Wiring) -> Vec<Action> {
    let mut queues = BTreeMap::<usize, Vec<MicroBatchId>>::new();
    for action in row {
        if let Action::Wait(transfer) = action
            && let Some(lane) = wiring.number(transfer.lane)
        {
            queues.entry(lane).or_default().push(transfer.micro_batch);
        }
    }
    let posts: usize = queues.values().map(Vec::len).sum();
    let mut posted = Vec::with_capacity(row.len() + posts);
    let post = |lane: usize, m: &MicroBatchId| Action::Post(wiring.incoming(lane as u32, *m));
    for (&lane, queue) in &queues {
        let first = queue.iter().take(slots[lane] as usize);
        posted.extend(first.map(|m| post(lane, m)));
    }
    let mut taken = BTreeMap::<usize, usize>::new();
    for &action in row {
        posted.push(action);
        if let Action::Wait(transfer) = action
            && let Some(lane) = wiring.number(transfer.lane)
        {
            let taken = taken.entry(lane).or_default();
            let next = *taken + slots[lane] as usize;
            *taken += 1;
            posted.extend(queues[&lane].get(next).map(|m| post(lane, m)));
        }
    }
    posted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::NodeCount;
    use crate::placement::Placement;
    use crate::schedule::{Schedule, ScheduleKind, Task};

    fn text(row: &[Action]) -> String {
        row.iter()
            .map(Action::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn a_two_node_1f1b_as_it_runs() {
        let (nodes, micro_batches) = (NodeCount::new(2), MicroBatchCount::new(2));
        let layout = Layout::chain(Placement::straight(nodes));
        let task = Task::new(layout.placement.clone(), micro_batches);
        let definition = ScheduleKind::OneFOneB.define(&task).unwrap();
        let lowered = lower(&definition, &layout, micro_batches).unwrap();
        assert_eq!(
            text(&lowered.nodes[0]),
            "0POST_B0<1@0 0POST_B1<1@0 0F0 0SEND_F0>1@0 0F1 0SEND_F1>1@0 0WAIT_B0<1@0 0B0 \
             0WAIT_B1<1@0 0B1 EXCHANGE STEP"
        );
        assert_eq!(
            text(&lowered.nodes[1]),
            "1POST_F0<0@0 1POST_F1<0@0 1WAIT_F0<0@0 1F0 1B0 1SEND_B0>0@0 1WAIT_F1<0@0 1F1 1B1 \
             1SEND_B1>0@0 EXCHANGE STEP"
        );
    }

    #[test]
    fn a_backward_out_of_order_waits_for_its_turn_with_its_weights() {
        let row: Vec<Compute> = ["0F0", "0F1", "0F2", "0B2", "0B1", "0B0"]
            .iter()
            .map(|text| match text.parse().unwrap() {
                Action::Compute(compute) => compute,
                other => panic!("{other}"),
            })
            .collect();
        let lowered: Vec<_> = weights_in_order(&row)
            .iter()
            .map(Compute::to_string)
            .collect();
        assert_eq!(lowered.join(" "), "0F0 0F1 0F2 0I2 0I1 0B0 0W1 0W2");
    }
}
