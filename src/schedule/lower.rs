//! Lowering: the only place that inserts send, post, wait, shared sums, exchange and step.

use super::model::{self, Event};
use super::{
    Action, CheckError, Compute, Definition, Direction, Lane, Layout, Problem, Route, Transfer,
    Work,
};
use crate::ids::{MicroBatchCount, MicroBatchId, NodeId, StageId};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// How many messages of a lane can be ahead of their receives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Slots(Vec<(Lane, u32)>);

impl Slots {
    /// The slots of a lane; 0 for a lane that does not leave its node.
    pub fn of(&self, lane: Lane) -> u32 {
        self.0
            .binary_search_by_key(&lane, |(lane, _)| *lane)
            .map_or(0, |at| self.0[at].1)
    }

    /// Every lane between nodes, with its slots.
    pub fn iter(&self) -> impl Iterator<Item = (Lane, u32)> + '_ {
        self.0.iter().copied()
    }
}

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
///    soon as they exist.
/// 3. A training step ends with the shared sums, the exchange and the step; a forward pass with the
///    exchange.
/// 4. A receive is posted as soon as one of its lane's slots is free.
///
/// # Errors
/// When the definition can never finish, whatever the slots.
pub fn lower(
    definition: &Definition,
    layout: &Layout,
    micro_batches: MicroBatchCount,
) -> Result<Lowered, Box<CheckError>> {
    let (count, found) = (layout.nodes().index(), definition.nodes.len());
    if count != found {
        let node = NodeId::new(count.min(found) as u32);
        return Err(CheckError::new(
            &[],
            node,
            0,
            Problem::Lists {
                nodes: count,
                found,
            },
        ));
    }
    let mut nodes: Vec<Vec<Action>> = Vec::with_capacity(found);
    for (node, row) in layout.nodes().iter().zip(&definition.nodes) {
        let row = weights_in_order(row);
        let trains = row.iter().any(|compute| compute.work != Work::F);
        let mut actions = with_transfers(&row, layout);
        if trains {
            let held = |sum: &&_| layout.members(sum).contains(&node);
            actions.extend(
                layout
                    .shared
                    .iter()
                    .filter(held)
                    .map(|sum| Action::SumShared(sum.shared)),
            );
        }
        actions.push(Action::Exchange);
        if trains {
            actions.push(Action::Step);
        }
        nodes.push(actions);
    }
    let slots = count_slots(&nodes, layout, micro_batches)?;
    let nodes = nodes
        .into_iter()
        .map(|row| with_posts(row, &slots))
        .collect();
    Ok(Lowered { nodes, slots })
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
    // What never had its turn (a micro-batch is missing) stays visible: the check names it.
    out.extend(
        late.into_iter()
            .map(|(stage, m)| Compute::new(stage, Work::W, m)),
    );
    out
}

/// The transfers of one compute action: what it waits for, and what it sends.
pub(super) fn transfers<'a>(
    compute: Compute,
    layout: &'a Layout,
) -> (
    impl Iterator<Item = Transfer> + 'a,
    impl Iterator<Item = Transfer> + 'a,
) {
    let direction = match compute.work {
        Work::F => Some(Direction::Forward),
        Work::I | Work::B => Some(Direction::Backward),
        Work::W => None,
    };
    let Compute {
        stage, micro_batch, ..
    } = compute;
    let transfer = move |route: &Route, peer| Transfer {
        stage,
        peer,
        lane: route.lane,
        micro_batch,
    };
    let routes = move |incoming: bool| {
        layout.routes.iter().filter(move |route| {
            Some(route.lane.direction) == direction
                && stage == if incoming { route.to } else { route.from }
                && layout.crosses(route)
        })
    };
    (
        routes(true).map(move |route| transfer(route, route.from)),
        routes(false).map(move |route| transfer(route, route.to)),
    )
}

fn with_transfers(row: &[Compute], layout: &Layout) -> Vec<Action> {
    let mut actions = Vec::with_capacity(3 * row.len());
    for &compute in row {
        let (waits, sends) = transfers(compute, layout);
        actions.extend(waits.map(Action::Wait));
        actions.push(compute.into());
        actions.extend(sends.map(Action::Send));
    }
    actions
}

/// The most sends that can be ahead of their receives in the partial order of the lists.
///
/// Every node knows, for every other node, how far that node has surely come: through the messages
/// it received (a vector clock). A send of which `n` came before on its lane, while `k` receives
/// are surely done, finds at most `n - k` messages under way.
fn count_slots(
    nodes: &[Vec<Action>],
    layout: &Layout,
    micro_batches: MicroBatchCount,
) -> Result<Slots, Box<CheckError>> {
    let count = nodes.len();
    let mut clocks = vec![vec![0u32; count]; count];
    let mut carried = BTreeMap::<(Lane, MicroBatchId), Vec<u32>>::new();
    // Positions of a lane's receives in the receiver's list, ascending.
    let mut receives = BTreeMap::<Lane, (NodeId, Vec<u32>)>::new();
    for (node, row) in layout.nodes().iter().zip(nodes) {
        for (at, action) in row.iter().enumerate() {
            if let Action::Wait(transfer) = action {
                let list = receives.entry(transfer.lane).or_insert((node, Vec::new()));
                list.1.push(at as u32);
            }
        }
    }
    let mut sent = BTreeMap::<Lane, (u32, u32)>::new();
    model::walk(
        nodes,
        layout,
        micro_batches,
        model::Capacity::Unlimited,
        &mut |event| {
            let Event {
                node,
                index,
                action,
            } = event;
            let clock = &mut clocks[node.index()];
            clock[node.index()] = index as u32 + 1;
            match action {
                Action::Wait(t) => {
                    if let Some(theirs) = carried.remove(&(t.lane, t.micro_batch)) {
                        clock
                            .iter_mut()
                            .zip(theirs)
                            .for_each(|(mine, theirs)| *mine = theirs.max(*mine));
                    }
                }
                Action::Send(t) => {
                    let done = receives.get(&t.lane).map_or(0, |(peer, positions)| {
                        positions.partition_point(|at| *at < clock[peer.index()])
                    });
                    let (sends, most) = sent.entry(t.lane).or_default();
                    *sends += 1;
                    *most = (*most).max(*sends - done as u32);
                    carried.insert((t.lane, t.micro_batch), clock.clone());
                }
                Action::Compute(_)
                | Action::Post(_)
                | Action::SumShared(_)
                | Action::Exchange
                | Action::Step => {}
            }
        },
    )?;
    Ok(Slots(
        sent.into_iter()
            .map(|(lane, (_, most))| (lane, most))
            .collect(),
    ))
}

/// Posts every receive as soon as a slot is free: the first ones at once, each other when the one
/// `slots` before it was taken out.
fn with_posts(row: Vec<Action>, slots: &Slots) -> Vec<Action> {
    let mut queues = BTreeMap::<Lane, Vec<Transfer>>::new();
    for action in &row {
        if let Action::Wait(transfer) = action {
            queues.entry(transfer.lane).or_default().push(*transfer);
        }
    }
    let mut posted = Vec::with_capacity(row.len() * 4 / 3);
    for (lane, queue) in &queues {
        posted.extend(
            queue
                .iter()
                .take(slots.of(*lane) as usize)
                .copied()
                .map(Action::Post),
        );
    }
    let mut taken = BTreeMap::<Lane, usize>::new();
    for action in row {
        posted.push(action);
        if let Action::Wait(transfer) = action {
            let lane = transfer.lane;
            let taken = taken.entry(lane).or_default();
            let next = *taken + slots.of(lane) as usize;
            *taken += 1;
            posted.extend(queues[&lane].get(next).copied().map(Action::Post));
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
