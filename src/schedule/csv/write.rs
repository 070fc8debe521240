//! From definitions and plans to text that PyTorch loads.

use super::Dialect;
use super::cell::{Action, Kind};
use crate::error::PlanError;
use crate::ids::{NodeId, StageId};
use crate::schedule::{self, Compute, Definition, Direction, Layout, Lowered, Route, Work};
use std::collections::{BTreeMap, BTreeSet};

/// The order of a definition, pairs as pairs, in the `compute_only` format.
pub fn compute_only(definition: &Definition, dialect: Dialect) -> String {
    let mut text = String::new();
    for (node, row) in (0..).map(NodeId::new).zip(&definition.nodes) {
        let pairs = definition.pairs_of(node);
        let mut cells = Vec::with_capacity(row.len());
        let mut at = 0;
        while let Some(first) = row.get(at) {
            let first = action(*first).text(dialect);
            let second = row.get(at + 1);
            let pair = second.filter(|_| pairs.binary_search(&(at as u32)).is_ok());
            at += 1 + usize::from(pair.is_some());
            cells.push(match pair {
                Some(second) => format!("({first};{})OVERLAP_F_B", action(*second).text(dialect)),
                None => first,
            });
        }
        line(&mut text, &cells);
    }
    text
}

/// What runs, in the `compute_comms` format: sends where they are in the plan, each receive at the
/// place that the receiver has come to when the message is sent. So between two nodes the messages
/// are in the same order on both, and no node waits for ever even if sending were to wait.
///
/// `REDUCE_GRAD` follows a stage's last gradient: without it, PyTorch does not divide by the number
/// of micro-batches.
///
/// # Errors
/// When PyTorch has no action for what the plan does, with the reason.
pub fn compute_comms(
    lowered: &Lowered,
    layout: &Layout,
    dialect: Dialect,
) -> Result<String, PlanError> {
    is_chain(layout)?;
    trains(lowered)?;
    let rows = with_receives(lowered, layout)?;
    let mut text = String::new();
    for row in rows {
        let row = with_waits(&row, dialect);
        let cells: Vec<_> = row.iter().map(|action| action.text(dialect)).collect();
        line(&mut text, &cells);
    }
    Ok(text)
}

fn line(text: &mut String, cells: &[String]) {
    text.push_str(&cells.join(","));
    text.push('\n');
}

fn action(compute: Compute) -> Action {
    let (stage, micro_batch) = (compute.stage.get(), compute.micro_batch.get());
    Action::new(stage, Kind::Compute(compute.work), micro_batch)
}

fn refused(reason: String) -> PlanError {
    PlanError::Illegal {
        schedule: "file in the compute_comms format".into(),
        reason,
        nearest: "the compute_only format".into(),
    }
}

/// PyTorch's stages send to the next one and get its gradient back, and nothing else.
fn is_chain(layout: &Layout) -> Result<(), PlanError> {
    let neighbour = |from: StageId, direction| match direction {
        Direction::Forward => from.get().checked_add(1),
        Direction::Backward => from.get().checked_sub(1),
    };
    for Route { lane, from, to } in &layout.routes {
        if neighbour(*from, lane.direction) != Some(to.get()) {
            return Err(refused(format!(
                "a message from stage {from} to stage {to}: PyTorch sends to the next stage only"
            )));
        }
    }
    let routes = layout.routes.iter().map(|route| (route.from, route.to));
    let routes: BTreeSet<_> = routes.collect();
    for after in layout.placement.stages().iter().skip(1) {
        let before = StageId::new(after.get() - 1);
        for (from, to) in [(before, after), (after, before)] {
            if !routes.contains(&(from, to)) {
                return Err(refused(format!(
                    "stage {from} without a message to stage {to}: PyTorch always sends one"
                )));
            }
        }
    }
    match layout.shared.first() {
        None => Ok(()),
        Some(sum) => Err(refused(format!(
            "shared parameter {}: PyTorch has no action that sums its gradients",
            sum.shared
        ))),
    }
}

fn trains(lowered: &Lowered) -> Result<(), PlanError> {
    let backward = |action: &schedule::Action| match action {
        schedule::Action::Compute(compute) => compute.work != Work::F,
        _ => false,
    };
    match lowered.nodes.iter().flatten().any(backward) {
        true => Ok(()),
        false => Err(refused(
            "a plan without backward: PyTorch refuses it".into(),
        )),
    }
}

/// Where a message arrives: stage, direction, micro-batch.
type Arrival = (u32, Direction, u32);

/// Walks all lists, one action of computing a turn on every node.
fn with_receives(lowered: &Lowered, layout: &Layout) -> Result<Vec<Vec<Action>>, PlanError> {
    let (lists, nodes) = (lowered.nodes.len(), layout.nodes());
    if lists != nodes.index() {
        return Err(refused(format!(
            "a plan of {lists} lists for {nodes} nodes"
        )));
    }
    let stages = layout.placement.stages();
    let mut rows = vec![Vec::new(); lists];
    let mut left: Vec<_> = lowered.nodes.iter().map(|list| &list[..]).collect();
    let mut arrived = BTreeSet::<Arrival>::new();
    loop {
        let mut moved = false;
        for node in 0..left.len() {
            let mut computed = false;
            while let Some((next, rest)) = left[node].split_first() {
                match next {
                    schedule::Action::Compute(_) if computed => break,
                    schedule::Action::Compute(compute) => {
                        computed = true;
                        rows[node].push(action(*compute));
                    }
                    schedule::Action::Wait(t) => {
                        let arrival = (t.stage.get(), t.lane.direction, t.micro_batch.get());
                        if !arrived.contains(&arrival) {
                            break;
                        }
                    }
                    schedule::Action::Send(t) if t.peer.index() >= stages.index() => {
                        let peer = t.peer;
                        return Err(refused(format!("stage {peer}: there are {stages} stages")));
                    }
                    schedule::Action::Send(t) => {
                        let (way, m) = (t.lane.direction, t.micro_batch.get());
                        // Lanes between the same stages are one message there.
                        if arrived.insert((t.peer.get(), way, m)) {
                            let send = Action::new(t.stage.get(), Kind::Send(way), m);
                            let receive = Action::new(t.peer.get(), Kind::Receive(way), m);
                            rows[node].push(send);
                            rows[layout.placement.node_of(t.peer).index()].push(receive);
                        }
                    }
                    // Receives are placed by their sends. The rest is not the file's.
                    schedule::Action::Post(_)
                    | schedule::Action::SumShared(_)
                    | schedule::Action::Exchange
                    | schedule::Action::Step => {}
                }
                left[node] = rest;
                moved = true;
            }
        }
        match left.iter().find_map(|list| list.first()) {
            None => return Ok(rows),
            Some(action) if !moved => {
                return Err(refused(format!("a plan that never gets past {action}")));
            }
            Some(_) => {}
        }
    }
}

/// With what PyTorch wants beside: `REDUCE_GRAD`, and a wait for every send. A forward message has
/// surely arrived once its gradient is back; the others are waited for at the end.
fn with_waits(row: &[Action], dialect: Dialect) -> Vec<Action> {
    let (waits, reduces) = match dialect {
        Dialect::Current => (true, true),
        Dialect::Year2025 => (false, true),
        Dialect::Year2024 => (false, false),
    };
    let mut left = BTreeMap::<u32, usize>::new();
    for action in row.iter().filter(|action| action.kind.adds_gradients()) {
        *left.entry(action.stage).or_default() += 1;
    }
    let mut finished = Vec::new();
    let mut sent = BTreeSet::new();
    let mut late = Vec::new();
    let mut out = Vec::with_capacity(2 * row.len());
    for (at, action) in row.iter().enumerate() {
        let Action {
            stage,
            kind,
            micro_batch,
        } = *action;
        out.push(*action);
        match kind {
            Kind::Send(Direction::Forward) => _ = sent.insert((stage, micro_batch)),
            Kind::Send(Direction::Backward) => {
                late.push(Action::new(
                    stage,
                    Kind::WaitSend(Direction::Backward),
                    micro_batch,
                ));
            }
            _ if waits && kind.is_backward() && sent.remove(&(stage, micro_batch)) => {
                let wait = Kind::WaitSend(Direction::Forward);
                out.push(Action::new(stage, wait, micro_batch));
            }
            _ => {}
        }
        if kind.adds_gradients() {
            let left = left.entry(stage).or_default();
            *left -= 1;
            finished.extend((*left == 0).then_some(stage));
        }
        // The gradient that others wait for goes first.
        let sends = (row.get(at + 1)).is_some_and(|next| matches!(next.kind, Kind::Send(_)));
        if reduces && !sends {
            for stage in finished.drain(..) {
                out.push(Action::new(stage, Kind::Reduce, 0));
                out.extend(waits.then_some(Action::new(stage, Kind::WaitReduce, 0)));
            }
        }
    }
    if waits {
        let wait = |(stage, m)| Action::new(stage, Kind::WaitSend(Direction::Forward), m);
        out.extend(sent.into_iter().map(wait));
        out.extend(late);
    }
    out
}
