//! A table of the nodes.

use super::units::{bytes, grouped, seconds};
use crate::ids::NodeId;
use crate::plan::Plan;
use crate::stage::NodeReport;

/// Headings, and a row for every node.
pub(super) struct Table {
    pub(super) head: Vec<&'static str>,
    pub(super) rows: Vec<Row>,
    pub(super) note: &'static str,
}

/// Words on the left, numbers on the right.
pub(super) struct Row {
    pub(super) node: String,
    pub(super) stages: String,
    pub(super) layers: String,
    pub(super) numbers: Vec<String>,
}

pub(super) fn table(plan: &Plan, reports: &[NodeReport]) -> Table {
    let mut head = vec!["Parameters", "Sends a step"];
    let mut note = "What is sent in a step is predicted.";
    if !reports.is_empty() {
        head.extend(["Sent", "Busy", "Waited"]);
        note = "What is sent in a step is predicted; sent altogether, busy and waited in the last \
                pass are measured.";
    }
    let nodes = plan.layout.nodes().iter();
    let rows = nodes.map(|node| Row {
        node: node.to_string(),
        stages: stages(plan, node),
        layers: layers(plan, node),
        numbers: numbers(plan, node, reports),
    });
    Table {
        head,
        rows: rows.collect(),
        note,
    }
}

fn stages(plan: &Plan, node: NodeId) -> String {
    let stages = plan.layout.placement.stages_on(node);
    let stages: Vec<_> = stages.map(|stage| stage.to_string()).collect();
    stages.join(", ")
}

/// How many, the first and the last.
fn layers(plan: &Plan, node: NodeId) -> String {
    let layers: Vec<_> = plan.layers_on(node).collect();
    match layers.as_slice() {
        [] => "none".to_owned(),
        [only] => (*only).to_owned(),
        [first, .., last] => format!("{first} … {last} ({})", layers.len()),
    }
}

fn numbers(plan: &Plan, node: NodeId, reports: &[NodeReport]) -> Vec<String> {
    let at = node.index();
    let mut numbers = vec![
        grouped(plan.memory[at].parameter_bytes / 4),
        bytes(plan.sent_bytes[at]),
    ];
    if reports.is_empty() {
        return numbers;
    }
    let own = reports.iter().find(|report| report.node == node);
    numbers.extend(own.map_or_else(
        || ["–", "–", "–"].map(str::to_owned),
        |report| {
            [
                bytes(report.sent_bytes),
                seconds(report.busy.as_secs_f64()),
                seconds(report.waited.as_secs_f64()),
            ]
        },
    ));
    numbers
}
