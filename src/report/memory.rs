//! What every node was predicted to hold, beside what it held.

use super::canvas::{Anchor, Canvas, draw};
use super::page::{Figure, Key, NARROW};
use super::palette::Ink;
use super::units::{bytes, percent};
use crate::ids::NodeId;
use crate::plan::{NodeMemory, Plan};
use crate::stage::NodeReport;

const LEFT: f64 = 68.0;
const RIGHT: f64 = 82.0;
const BAR: f64 = NARROW - LEFT - RIGHT;
const ROW: f64 = 38.0;
const SIZE: f64 = 13.0;

/// A kind of memory and how much of it.
type Part = (Ink, &'static str, u64);

/// What is held at the worst moment, by kind: in a training step, or in an evaluation if that takes
/// more.
fn parts(memory: &NodeMemory) -> Vec<Part> {
    let mut parts = vec![
        (Ink::Parameters, "parameters", memory.parameter_bytes),
        (Ink::Gradients, "gradients", memory.gradient_bytes),
        (Ink::State, "optimizer", memory.optimizer_bytes),
    ];
    match memory.forward_bytes > memory.working_bytes + memory.slot_bytes {
        true => parts.push((Ink::Mark, "evaluation", memory.forward_bytes)),
        false => parts.extend([
            (Ink::Working, "kept and at work", memory.working_bytes),
            (Ink::Slots, "on its way", memory.slot_bytes),
        ]),
    }
    if memory.checkpoint_bytes > 0 {
        parts.push((Ink::Thin, "checkpoint", memory.checkpoint_bytes));
    }
    parts
}

pub(super) fn figure(plan: &Plan, reports: &[NodeReport]) -> Figure {
    let nodes: Vec<_> = plan.layout.nodes().iter().zip(&plan.memory).collect();
    let measured = |node| {
        let own = reports.iter().find(|report| report.node == node);
        own.map(|report| report.memory.peak_bytes)
    };
    let predicted = nodes.iter().map(|(_, memory)| memory.peak_bytes());
    let peaks = nodes.iter().filter_map(|(node, _)| measured(*node));
    let most = predicted.chain(peaks).max().unwrap_or(0).max(1);
    let scale = BAR / most as f64;
    let drawing = draw((NARROW, nodes.len() as f64 * ROW), |canvas| {
        for (number, (node, memory)) in nodes.iter().enumerate() {
            let y = number as f64 * ROW;
            row(canvas, y, (*node, memory), scale);
            if let Some(peak) = measured(*node) {
                peak_row(canvas, y, peak, scale);
            }
        }
    });
    Figure {
        heading: "Memory per node".to_owned(),
        legend: legend(&plan.memory, !reports.is_empty()),
        drawing,
        caption: words(plan, &measured),
    }
}

fn row(canvas: &Canvas, y: f64, (node, memory): (NodeId, &NodeMemory), scale: f64) {
    let middle = y + 11.0;
    let name = format!("node {node}");
    canvas.text((LEFT - 10.0, middle), &name, Anchor::End, (Ink::Text, SIZE));
    let mut x = LEFT;
    for (ink, _, size) in parts(memory) {
        let wide = size as f64 * scale;
        canvas.rect((x, y + 4.0), (wide, 14.0), ink);
        x += wide;
    }
    let text = bytes(memory.peak_bytes());
    canvas.text((NARROW, middle), &text, Anchor::End, (Ink::Muted, SIZE));
}

fn peak_row(canvas: &Canvas, y: f64, peak: u64, scale: f64) {
    canvas.rect((LEFT, y + 20.0), (peak as f64 * scale, 4.0), Ink::Text);
    canvas.text(
        (NARROW, y + 26.0),
        &bytes(peak),
        Anchor::End,
        (Ink::Text, SIZE),
    );
}

/// Every kind that some node has, in the order of the bars.
fn legend(memory: &[NodeMemory], measured: bool) -> Vec<Key> {
    let mut keys: Vec<(Ink, &'static str)> = Vec::new();
    for (ink, label, size) in memory.iter().flat_map(parts) {
        if size > 0 && !keys.contains(&(ink, label)) {
            keys.push((ink, label));
        }
    }
    let keys = keys.into_iter().map(|(ink, label)| Key::block(ink, label));
    let peak = measured.then(|| Key::line(Ink::Text, "measured peak"));
    keys.chain(peak).collect()
}

fn words(plan: &Plan, measured: &dyn Fn(NodeId) -> Option<u64>) -> String {
    let nodes = plan.layout.nodes().iter().zip(&plan.memory);
    let share = |(node, memory): (NodeId, &NodeMemory)| {
        Some(measured(node)? as f64 / memory.peak_bytes().max(1) as f64)
    };
    let shares: Vec<f64> = nodes.filter_map(share).collect();
    let most = shares.iter().copied().fold(f64::NAN, f64::max);
    match shares.len() {
        0 => "Predicted, at the worst moment.".to_owned(),
        1 => format!(
            "Predicted at the worst moment, by kind; below it the measured peak, {} of it.",
            percent(most)
        ),
        _ => format!(
            "Predicted at the worst moment, by kind; below it the measured peak, on no node \
             more than {} of the prediction.",
            percent(most)
        ),
    }
}
