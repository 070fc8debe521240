//! What a schedule lacks that does not carry an edge of its network, with the names of its layers.

use crate::error::PlanError;
use crate::ids::{NodeId, StageId};
use crate::partition::Partition;
use crate::schedule::{Action, CheckError, Compute, Direction, Problem, Transfer, Work};
use brigade_layer::{Edge, Network};

/// What the messages of lists are made from.
const LEFT_OUT: &str =
    "or give only what is computed (F, I, W, B): what is sent then follows from the network";

/// The error of a check; where it is about an edge between stages, with its layers.
pub(super) fn explained(
    error: Box<CheckError>,
    network: &Network,
    partition: &Partition,
) -> PlanError {
    let Some((edge, direction, advice)) = concerned(&error, network, partition) else {
        return PlanError::Check(error);
    };
    PlanError::Uncarried {
        edge: in_words(network, partition, edge, direction),
        problem: error,
        advice,
    }
}

/// The edge that the error is about, which way, and what to do.
fn concerned<'a>(
    error: &CheckError,
    network: &'a Network,
    partition: &Partition,
) -> Option<(&'a Edge, Direction, String)> {
    let node = error.node;
    let at = error.action.as_ref();
    let message = |transfer: Transfer, advice| {
        let edge = network.edges().get(transfer.lane.edge.index())?;
        Some((edge, transfer.lane.direction, advice))
    };
    match (&error.problem, at) {
        (Problem::TooEarly(first), Some(Action::Compute(then))) => match *first {
            Action::Wait(transfer) => message(transfer, lacks(node, transfer, *then)),
            Action::Compute(first) if first.stage != then.stage => {
                let (edge, direction) = between(first, *then, network, partition)?;
                let advice = format!("put {first} before {then} in the list of node {node}");
                Some((edge, direction, advice))
            }
            _ => None,
        },
        (Problem::NeverReceived, Some(Action::Send(transfer))) => {
            let Transfer {
                stage,
                peer,
                micro_batch: m,
                lane,
            } = *transfer;
            let way = way(lane.direction);
            let wait = format!("{peer}WAIT_{way}{m}<{stage}@{}", lane.edge);
            let advice = format!("wait for it with {wait} where stage {peer} needs it, {LEFT_OUT}");
            message(*transfer, advice)
        }
        (Problem::Missing(send @ Action::Send(transfer)), _) => {
            let way = way(transfer.lane.direction);
            let (stage, m) = (transfer.stage, transfer.micro_batch);
            let made = match way {
                "F" => format!("{stage}F{m}"),
                _ => format!("the I or B of stage {stage}, micro-batch {m}"),
            };
            message(*transfer, format!("put {send} behind {made}, {LEFT_OUT}"))
        }
        (Problem::Deadlock { waiting }, _) => {
            let wait = waiting.iter().find_map(|(node, action)| match action {
                Action::Wait(transfer) => Some((*node, *transfer)),
                _ => None,
            });
            let (node, transfer) = wait?;
            let advice = format!(
                "node {node} waits for it in vain: compute what makes it, and what that needs, \
                 before what waits for it"
            );
            message(transfer, advice)
        }
        (
            Problem::TooEarly(_) | Problem::SentTwice | Problem::Twice | Problem::LaneFull { .. },
            Some(Action::Send(transfer) | Action::Post(transfer) | Action::Wait(transfer)),
        ) => message(*transfer, format!("mend it there, {LEFT_OUT}")),
        _ => None,
    }
}

/// What lists lack in which an action does not wait for a message.
fn lacks(node: NodeId, transfer: Transfer, then: Compute) -> String {
    let Transfer {
        stage,
        peer,
        lane,
        micro_batch: m,
    } = transfer;
    let way = way(lane.direction);
    let send = format!("{peer}SEND_{way}{m}>{stage}@{}", lane.edge);
    let wait = Action::Wait(transfer);
    format!("send it with {send}, wait for it with {wait} before {then} on node {node}, {LEFT_OUT}")
}

fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Forward => "F",
        Direction::Backward => "B",
    }
}

/// The first edge over which one stage's action needs another's.
fn between<'a>(
    first: Compute,
    then: Compute,
    network: &'a Network,
    partition: &Partition,
) -> Option<(&'a Edge, Direction)> {
    let ends = |edge: &Edge| [edge.from, edge.to].map(|layer| partition.stage_of(layer));
    let (wanted, direction) = match then.work {
        Work::F => ([first.stage, then.stage], Direction::Forward),
        Work::I | Work::B | Work::W => ([then.stage, first.stage], Direction::Backward),
    };
    let backward = direction == Direction::Backward;
    let mut edges = network.edges().iter();
    let edge = edges.find(|edge| ends(edge) == wanted && (edge.gradient || !backward))?;
    Some((edge, direction))
}

/// `the skip from "a" to "b", stage 0 to stage 3`, or the gradient that comes back over it.
fn in_words(network: &Network, partition: &Partition, edge: &Edge, direction: Direction) -> String {
    let [from, to] = [edge.from, edge.to].map(|layer| partition.stage_of(layer));
    let [first, last] = [edge.from, edge.to].map(|layer| &network.layers()[layer.index()].key);
    let name = match is_skip(from, to) {
        true => "skip",
        false => "edge",
    };
    let name = format!("{name} from `{first}` to `{last}`");
    match direction {
        Direction::Forward => format!("the {name}, stage {from} to stage {to}"),
        Direction::Backward => format!("the gradient of the {name}, stage {to} to stage {from}"),
    }
}

/// Whether there are stages between the two.
fn is_skip(from: StageId, to: StageId) -> bool {
    to.index() > from.index() + 1
}
