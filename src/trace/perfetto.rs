//! Traced steps as a file for Perfetto and chrome://tracing: one row a node, arrows from every send
//! to its receive; below them the same steps as they are simulated.
//!
//! The format is the JSON of the "Trace Event Format": complete events (`X`) with start and
//! duration in microseconds, metadata (`M`) that names rows, and flows (`s`, `f`) bound to the
//! slices that they start and end in.

use super::{ActionSpan, LayerSpan, StepTrace, median_times};
use crate::error::Error;
use crate::files::write_whole;
use crate::ids::{MicroBatchId, NodeId};
use crate::plan::Plan;
use crate::schedule::{Action, Direction, Lane, Transfer, Work};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// What happened, and what is predicted: a process of its own in the file.
#[derive(Clone, Copy)]
enum Origin {
    Measured,
    Simulated,
}

/// Traced steps as JSON text. Below the measured rows are simulated ones: each step played with the
/// median times of all of them, from where it began.
pub fn perfetto_json(plan: &Plan, traces: &[StepTrace]) -> String {
    let mut events = names(plan, Origin::Measured);
    add(&mut events, plan, traces, Origin::Measured);
    // A plan's own lists do not get stuck; if ever, the measured rows are there.
    if let Ok(timeline) = plan.simulate(&median_times(traces, plan))
        && !traces.is_empty()
    {
        let mut over = Duration::ZERO;
        let simulated = traces.iter().map(|trace| {
            let step = trace.simulated(&timeline, over);
            let ends = step.nodes.iter().filter_map(|node| node.actions.last());
            over = ends.map(|span| span.end).max().unwrap_or_default();
            step
        });
        let simulated: Vec<_> = simulated.collect();
        events.extend(names(plan, Origin::Simulated));
        add(&mut events, plan, &simulated, Origin::Simulated);
    }
    json!({ "displayTimeUnit": "ms", "traceEvents": events }).to_string()
}

fn add(events: &mut Vec<Value>, plan: &Plan, traces: &[StepTrace], origin: Origin) {
    for (number, trace) in traces.iter().enumerate() {
        for (node, own) in trace.nodes.iter().enumerate() {
            let actions = own.actions.iter().filter_map(|span| slice(span, trace));
            events.extend(actions.map(|event| on_row(event, origin, node)));
            let layers = own.layers.iter().map(|span| layer_slice(span, plan));
            events.extend(layers.map(|event| on_row(event, origin, node)));
        }
        if let Origin::Measured = origin {
            events.extend(arrows(number, trace));
        }
    }
}

/// Writes traced steps for Perfetto and chrome://tracing: whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn save_perfetto(
    path: impl AsRef<Path>,
    plan: &Plan,
    traces: &[StepTrace],
) -> Result<(), Error> {
    write_whole(path.as_ref(), perfetto_json(plan, traces).as_bytes())
}

fn microseconds(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

fn on_row(mut event: Value, origin: Origin, node: usize) -> Value {
    event["pid"] = (origin as u8).into();
    event["tid"] = node.into();
    event
}

fn names(plan: &Plan, origin: Origin) -> Vec<Value> {
    let what = match origin {
        Origin::Measured => "measured",
        Origin::Simulated => "simulated",
    };
    let title = format!("brigade, {}, {what}", plan.schedule);
    let named = json!({ "ph": "M", "name": "process_name", "args": { "name": title } });
    let sorted = json!({
        "ph": "M", "name": "process_sort_index", "args": { "sort_index": origin as u8 }
    });
    let mut events: Vec<_> = [named, sorted].map(|event| on_row(event, origin, 0)).into();
    for node in plan.layout.nodes().iter() {
        let stages: Vec<_> = plan.layout.placement.stages_on(node).collect();
        let list: Vec<_> = stages.iter().map(ToString::to_string).collect();
        let many = if stages.len() == 1 { "" } else { "s" };
        let name = format!("node {node}: stage{many} {}", list.join(", "));
        let named = json!({ "ph": "M", "name": "thread_name", "args": { "name": name } });
        let sorted = json!({
            "ph": "M", "name": "thread_sort_index", "args": { "sort_index": node.index() }
        });
        events.extend([named, sorted].map(|event| on_row(event, origin, node.index())));
    }
    events
}

/// An action as a slice. Getting ready to receive takes no time worth drawing.
fn slice(span: &ActionSpan, trace: &StepTrace) -> Option<Value> {
    let (name, category) = match span.action {
        Action::Compute(compute) => {
            let category = match compute.work {
                Work::F => "forward",
                Work::I => "backward for inputs",
                Work::W => "backward for weights",
                Work::B => "backward",
            };
            (format!("{}{}", compute.work, compute.micro_batch), category)
        }
        Action::Send(transfer) => (format!("send {}", what(&transfer)), "send"),
        Action::Wait(transfer) => (format!("wait {}", what(&transfer)), "wait"),
        Action::SumShared(shared) => (format!("sum of shared parameter {shared}"), "sum"),
        Action::Exchange => ("exchange".to_owned(), "exchange"),
        Action::Step => ("optimizer".to_owned(), "optimizer"),
        Action::Post(_) => return None,
    };
    let mut args = json!({ "action": span.action.to_string(), "step": trace.step.get() });
    if let Some(stage) = span.action.stage() {
        args["stage"] = stage.get().into();
    }
    if let Some(micro_batch) = span.action.micro_batch() {
        args["micro_batch"] = micro_batch.get().into();
    }
    Some(event(name, category, (span.start, span.end), args))
}

fn what(transfer: &Transfer) -> String {
    match transfer.lane.direction {
        Direction::Forward => format!("activation {}", transfer.micro_batch),
        Direction::Backward => format!("gradient {}", transfer.micro_batch),
    }
}

fn layer_slice(span: &LayerSpan, plan: &Plan) -> Value {
    let key = (plan.layers.get(span.layer.index())).map_or("", String::as_str);
    let args = json!({ "layer": span.layer.get(), "micro_batch": span.micro_batch.get() });
    let name = format!("{} {key}", span.work);
    event(name, "layer", (span.start, span.end), args)
}

fn event(name: String, category: &str, (start, end): (Duration, Duration), args: Value) -> Value {
    json!({
        "ph": "X",
        "name": name,
        "cat": category,
        "ts": microseconds(start),
        "dur": microseconds(end - start),
        "args": args,
    })
}

/// From the start of every send to a moment in its wait at which it can have arrived.
fn arrows(number: usize, trace: &StepTrace) -> Vec<Value> {
    let mut sends = BTreeMap::<(Lane, MicroBatchId), (usize, ActionSpan)>::new();
    let all = || {
        let nodes = trace.nodes.iter().enumerate();
        nodes.flat_map(|(node, own)| own.actions.iter().map(move |span| (node, *span)))
    };
    for (node, span) in all() {
        if let Action::Send(transfer) = span.action {
            sends.insert((transfer.lane, transfer.micro_batch), (node, span));
        }
    }
    let numbers: BTreeMap<_, _> = sends.keys().zip(0u64..).collect();
    let mut events = Vec::new();
    for (node, wait) in all() {
        let Action::Wait(transfer) = wait.action else {
            continue;
        };
        let message = (transfer.lane, transfer.micro_batch);
        let Some((from, send)) = sends.get(&message) else {
            continue;
        };
        // Numbers of different steps differ.
        let id = number as u64 * numbers.len() as u64 + numbers[&message];
        // The receiver may go on before the sender has noted that it is done.
        let leaves = send.start;
        let earliest = wait.start.max(leaves);
        let lands = earliest + wait.end.saturating_sub(earliest) / 2;
        let category = match transfer.lane.direction {
            Direction::Forward => "activation",
            Direction::Backward => "gradient",
        };
        let flow = |phase: &str, at: Duration, node: usize| {
            let mut event = json!({
                "ph": phase,
                "name": category,
                "cat": category,
                "id": id,
                "ts": microseconds(at),
                "args": { "from": NodeId::new(*from as u32).get(), "lane": transfer.lane.edge.get() },
            });
            if phase == "f" {
                event["bp"] = "e".into();
            }
            on_row(event, Origin::Measured, node)
        };
        events.extend([flow("s", leaves, *from), flow("f", lands, node)]);
    }
    events
}
