//! A table of the nodes.

use super::units::{bytes, grouped, seconds};
use crate::ids::NodeId;
use crate::plan::Plan;
use crate::schedule::Action;
use crate::stage::NodeReport;
use crate::trace::{StepTrace, median};

/// Headings, and a row for every node.
pub(super) struct Table {
    pub(super) head: Vec<&'static str>,
    pub(super) rows: Vec<Row>,
    pub(super) note: String,
}

/// Words on the left, numbers on the right.
pub(super) struct Row {
    pub(super) node: String,
    pub(super) stages: String,
    pub(super) layers: String,
    pub(super) numbers: Vec<String>,
}

pub(super) fn table(plan: &Plan, reports: &[NodeReport], traces: &[StepTrace]) -> Table {
    let mut head = vec!["Parameters", "Sends a step"];
    let mut note = "What is sent is predicted.".to_owned();
    if !traces.is_empty() {
        head.extend(["Busy a step", "Waits a step"]);
        note += " Busy and waiting are medians of the traced steps.";
    }
    if !reports.is_empty() {
        head.push("Sent altogether");
    }
    let nodes = plan.layout.nodes().iter();
    let rows = nodes.map(|node| Row {
        node: match plan.host_of(node) {
            Some(host) => format!("{node}, on {host}"),
            None => node.to_string(),
        },
        stages: stages(plan, node),
        layers: plan.layers_in_words(node),
        numbers: numbers(plan, node, reports, traces),
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

fn numbers(plan: &Plan, node: NodeId, reports: &[NodeReport], traces: &[StepTrace]) -> Vec<String> {
    let at = node.index();
    let mut numbers = vec![
        grouped(plan.memory[at].parameter_bytes / 4),
        bytes(plan.sent_bytes[at]),
    ];
    if !traces.is_empty() {
        numbers.extend([busy, waits].map(|of| {
            let with_node = traces.iter().filter(|trace| at < trace.nodes.len());
            let times: Vec<f64> = with_node.map(|trace| of(trace, node)).collect();
            match times.is_empty() {
                true => "–".to_owned(),
                false => seconds(median(times)),
            }
        }));
    }
    if !reports.is_empty() {
        let own = reports.iter().find(|report| report.node == node);
        numbers.push(own.map_or("–".to_owned(), |report| bytes(report.sent_bytes)));
    }
    numbers
}

/// Seconds in which a node computed.
fn busy(trace: &StepTrace, node: NodeId) -> f64 {
    trace.timeline().busy(node)
}

/// Seconds in which it waited for a message or for the others.
fn waits(trace: &StepTrace, node: NodeId) -> f64 {
    let spans = trace.nodes[node.index()].actions.iter();
    let waits = spans.filter(|span| {
        matches!(
            span.action,
            Action::Wait(_) | Action::SumShared(_) | Action::Exchange
        )
    });
    waits
        .map(|span| (span.end - span.start).as_secs_f64())
        .sum()
}
