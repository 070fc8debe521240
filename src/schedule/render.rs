//! Pictures of a schedule in plain text.

use super::{Action, Compute, Span, Timeline};
use crate::ids::NodeId;
use std::fmt::Write;

/// How many entries of a list are shown before and after the marked one.
const AROUND: usize = 4;

/// A node's list around one entry, which is marked: `... 0F2 0SEND_F2>1@1 [0B0] 0F3 ...`.
pub fn render_row(row: &[Action], marked: usize) -> String {
    let (start, end) = (
        marked.saturating_sub(AROUND),
        (marked + AROUND + 1).min(row.len()),
    );
    let mut text = String::new();
    if start > 0 {
        text.push_str("... ");
    }
    for (index, action) in row.iter().enumerate().take(end).skip(start) {
        let space = if index + 1 < end { " " } else { "" };
        // Writing to a string cannot fail.
        let _ = match index == marked {
            true => write!(text, "[{action}]{space}"),
            false => write!(text, "{action}{space}"),
        };
    }
    if marked >= row.len() {
        text.push_str(" [end]");
    }
    if end < row.len() {
        text.push_str(" ...");
    }
    text
}

/// A stretch of a node's row in a picture: what it computes, or nothing, and the characters for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// What is computed; `None` while the node is idle or does something else.
    pub compute: Option<Compute>,
    /// As many characters as the stretch has columns.
    pub text: String,
}

/// Every node's row of a timeline, `width` columns for the whole makespan: each compute action with
/// its letter and micro-batch, dots where the node is idle. Letters of a node's further stages are
/// in lower case. Where there is no room for the whole number there is none.
pub fn stretches(timeline: &Timeline, width: usize) -> Vec<Vec<Stretch>> {
    let scale = if timeline.makespan > 0.0 {
        width as f64 / timeline.makespan
    } else {
        0.0
    };
    let column = |time: f64| ((time * scale).round() as usize).min(width);
    let idle = |columns: usize| Stretch {
        compute: None,
        text: ".".repeat(columns),
    };
    let row = |spans: &Vec<Span>| {
        // A list begins with a forward of the node's first stage.
        let (mut row, mut at, mut first) = (Vec::new(), 0, None);
        for span in spans {
            let Action::Compute(compute) = span.action else {
                continue;
            };
            let (start, end) = (column(span.start).max(at), column(span.end));
            if end <= start {
                continue;
            }
            if start > at {
                row.push(idle(start - at));
            }
            let columns = end - start;
            let mut name = format!("{}{}", compute.work, compute.micro_batch);
            if name.len() > columns {
                // F10 as F1 would be another micro-batch.
                name.truncate(1);
            }
            let first = *first.get_or_insert(compute.stage);
            let name = match compute.stage == first {
                true => name,
                false => name.to_lowercase(),
            };
            row.push(Stretch {
                compute: Some(compute),
                text: format!("{name:<columns$.columns$}"),
            });
            at = end;
        }
        if at < width {
            row.push(idle(width - at));
        }
        row
    };
    timeline.nodes.iter().map(row).collect()
}

/// A timeline in plain text: one row a node, as [`stretches`] has them.
///
/// ```text
/// node 0 |F0 F1 F2 F3 ......B0    F4 B1    ...|
/// node 1 |...F0 F1 F2 ...B0    F3 B1    ......|
/// ```
pub fn render(timeline: &Timeline, width: usize) -> String {
    render_with(timeline, width, |stretch| stretch.text.clone())
}

/// As [`render`], with every stretch as `paint` has it: in colour, say.
pub fn render_with(
    timeline: &Timeline,
    width: usize,
    paint: impl Fn(&Stretch) -> String,
) -> String {
    let label = timeline.nodes.len().saturating_sub(1).to_string().len();
    let mut text = String::new();
    for (node, row) in stretches(timeline, width).iter().enumerate() {
        let cells: String = row.iter().map(&paint).collect();
        let share = 100.0 * timeline.idle(NodeId::new(node as u32));
        let _ = writeln!(text, "node {node:label$} |{cells}| idle {share:.0}%");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{MicroBatchCount, MicroBatchId, NodeCount, StageId};
    use crate::placement::Placement;
    use crate::schedule::{Layout, Schedule, ScheduleKind, Task, Times, Work, lower, simulate};

    #[test]
    fn the_timeline_of_1f1b_shows_warm_up_steady_state_and_cool_down() {
        let (nodes, micro_batches) = (NodeCount::new(3), MicroBatchCount::new(4));
        let layout = Layout::chain(Placement::straight(nodes));
        let task = Task::new(layout.placement.clone(), micro_batches);
        let definition = ScheduleKind::OneFOneB.define(&task).unwrap();
        let lowered = lower(&definition, &layout, micro_batches).unwrap();
        let times = Times::equal(3, 1.0, 1.0, 1.0);
        let simulation = simulate(&lowered, &layout, micro_batches, &times).unwrap();
        let picture = "\
node 0 |F0F1F2........B0  F3B1  ..B2  ..B3  | idle 33%
node 1 |..F0F1....B0  F2B1  F3B2  ..B3  ....| idle 33%
node 2 |....F0B0  F1B1  F2B2  F3B3  ........| idle 33%
";
        assert_eq!(render(&simulation, 36), picture);
        assert!((simulation.bubble() - 2.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn a_number_is_there_whole_or_not_at_all() {
        let timeline = |micro_batch| {
            let compute = Compute::new(StageId::new(0), Work::F, MicroBatchId::new(micro_batch));
            let (action, start, end) = (compute.into(), 0.0, 1.0);
            let nodes = vec![vec![Span { action, start, end }]];
            let makespan = 1.0;
            Timeline { nodes, makespan }
        };
        let text = |micro_batch, width| {
            let rows = stretches(&timeline(micro_batch), width);
            rows[0][0].text.clone()
        };
        assert_eq!(
            [1, 2, 3, 4].map(|width| text(10, width)),
            ["F", "F ", "F10", "F10 "]
        );
        assert_eq!([1, 2, 3].map(|width| text(7, width)), ["F", "F7", "F7 "]);
    }

    #[test]
    fn a_row_marks_its_action() {
        let row = vec![Action::Exchange, Action::Step];
        assert_eq!(render_row(&row, 1), "EXCHANGE [STEP]");
        assert_eq!(render_row(&row, 2), "EXCHANGE STEP [end]");
    }
}
