//! Which actions decide how long a simulated step takes.

use super::{Action, Lane, Span, Timeline};
use crate::ids::{MicroBatchId, NodeId};
use std::collections::BTreeMap;

/// The critical path: compute actions, each of which begins when the one before it ends, or when
/// its message arrives, from the start to the end of the longest node. Nothing on it can take
/// longer without the whole taking longer. A message that waits for its link counts as under way.
pub fn critical_path(timeline: &Timeline) -> Vec<(NodeId, Span)> {
    let mut sends = BTreeMap::<(Lane, MicroBatchId), (usize, usize)>::new();
    for (node, spans) in timeline.nodes.iter().enumerate() {
        for (index, span) in spans.iter().enumerate() {
            if let Action::Send(transfer) = span.action {
                sends.insert((transfer.lane, transfer.micro_batch), (node, index));
            }
        }
    }
    // Where an action of all or several nodes is reached last, by what it is.
    let last_to = |action: Action| -> Option<(usize, usize)> {
        let nodes = timeline.nodes.iter().enumerate();
        let come = nodes.filter_map(|(node, spans)| {
            let index = spans.iter().rposition(|span| span.action == action)?;
            Some((spans[index].start, (node, index)))
        });
        come.max_by(|one, other| one.0.total_cmp(&other.0))
            .map(|(_, place)| place)
    };
    let ends = (timeline.nodes.iter().enumerate())
        .filter_map(|(node, spans)| Some((spans.last()?.end, (node, spans.len() - 1))));
    let longest = ends.max_by(|one, other| one.0.total_cmp(&other.0));
    let mut path = Vec::new();
    let mut at = longest.map(|(_, place)| place);
    while let Some((node, index)) = at {
        let span = timeline.nodes[node][index];
        let waited = span.end > span.start;
        at = match span.action {
            Action::Wait(transfer) if waited => {
                sends.get(&(transfer.lane, transfer.micro_batch)).copied()
            }
            Action::SumShared(_) | Action::Exchange if waited => {
                // Whoever came last came there by its own list.
                let last = last_to(span.action).unwrap_or((node, index));
                last.1.checked_sub(1).map(|before| (last.0, before))
            }
            _ => index.checked_sub(1).map(|before| (node, before)),
        };
        if let Action::Compute(_) | Action::Step = span.action
            && waited
        {
            path.push((NodeId::new(node as u32), span));
        }
    }
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{MicroBatchCount, NodeCount};
    use crate::placement::Placement;
    use crate::schedule::{Layout, Schedule, ScheduleKind, Task, Times, lower, simulate};

    #[test]
    fn the_slowest_stage_decides() {
        let layout = Layout::chain(Placement::straight(NodeCount::new(3)));
        let count = MicroBatchCount::new(4);
        let task = Task::new(layout.placement.clone(), count);
        let definition = ScheduleKind::GPipe.define(&task).unwrap();
        let lowered = lower(&definition, &layout, count).unwrap();
        let mut times = Times::equal(3, 1.0, 1.0, 1.0).with_latency(0.5);
        (times.forward[1], times.input[2]) = (3.0, 2.0);
        let timeline = simulate(&lowered, &layout, count, &times).unwrap();
        let path = critical_path(&timeline);
        let text: Vec<_> = (path.iter())
            .map(|(_, span)| span.action.to_string())
            .collect();
        let wanted = "0F0 1F0 1F1 1F2 1F3 2F3 2B0 2B1 2B2 2B3 1B3 0B3";
        assert_eq!(text.join(" "), wanted);
        // Its actions and four hops fill the whole time.
        let computing: f64 = path.iter().map(|(_, span)| span.end - span.start).sum();
        assert!((computing + 4.0 * 0.5 - timeline.makespan).abs() < 1e-9);
    }
}
