//! Where the time of a step went: layers by node, and kernels.

use super::canvas::{Anchor, Canvas, draw, width};
use super::page::{Drawing, Figure, Key, NARROW};
use super::palette::Ink;
use super::units::{grouped, percent, seconds};
use crate::ids::{LayerIndex, NodeId};
use crate::plan::Plan;
use crate::trace::{LayerTime, StepTrace, kernel_times, layer_times};
use std::time::Duration;

/// Room for what bars mean in numbers, on their right.
const RIGHT: f64 = 74.0;
const GAP: f64 = 10.0;
const ROW: f64 = 20.0;
const THICK: f64 = 12.0;
const SIZE: f64 = 13.0;
/// A network may have thousands.
const MOST_LAYERS: usize = 40;
const MOST_KERNELS: usize = 12;
/// More characters do not fit beside a bar.
const MOST_CHARACTERS: usize = 20;

/// Where bars start, and how long one of a second is.
#[derive(Clone, Copy)]
struct Bars {
    left: f64,
    scale: f64,
}

impl Bars {
    /// With room for these names.
    fn beside<'a>(names: impl Iterator<Item = &'a str>, longest: Duration) -> Self {
        let widths = names.map(|name| width(&clipped(name), SIZE));
        let left = widths.fold(44.0, f64::max) + GAP;
        let scale = (NARROW - RIGHT - left) / longest.as_secs_f64();
        Self { left, scale }
    }

    /// A row with its name, its parts one after the other, and all of them in numbers.
    fn row(self, canvas: &Canvas, y: f64, name: &str, parts: &[(Duration, Ink)]) {
        let middle = y + ROW / 2.0;
        let end = self.left - GAP;
        canvas.text(
            (end, middle),
            &clipped(name),
            Anchor::End,
            (Ink::Text, SIZE),
        );
        let mut x = self.left;
        for (part, ink) in parts {
            let wide = part.as_secs_f64() * self.scale;
            canvas.rect((x, middle - THICK / 2.0), (wide, THICK), *ink);
            x += wide;
        }
        let all: Duration = parts.iter().map(|(part, _)| *part).sum();
        let all = seconds(all.as_secs_f64());
        canvas.text((NARROW, middle), &all, Anchor::End, (Ink::Muted, SIZE));
    }
}

/// One row: the start of a node's layers, or a layer.
enum Row {
    Node(NodeId, Duration),
    Layer(LayerIndex, LayerTime),
}

pub(super) fn layers(plan: &Plan, traces: &[StepTrace]) -> Option<Figure> {
    let times = layer_times(traces, plan.layers.len());
    let longest = times.iter().map(LayerTime::total).max()?;
    if longest.is_zero() {
        return None;
    }
    let mut shown: Vec<usize> = (0..times.len()).collect();
    shown.sort_by_key(|layer| std::cmp::Reverse(times[*layer].total()));
    shown.truncate(MOST_LAYERS);
    shown.sort_unstable();
    let some = match shown.len() < times.len() {
        true => format!(
            " Only the slowest {MOST_LAYERS} of {} layers are shown.",
            grouped(times.len() as u64)
        ),
        false => String::new(),
    };
    Some(Figure {
        heading: "Time per layer".to_owned(),
        legend: vec![
            Key::block(Ink::Forward, "F forward"),
            Key::block(Ink::Input, "I backward for inputs"),
            Key::block(Ink::Weight, "W backward for weights"),
        ],
        drawing: drawing(plan, &rows(plan, &times, &shown), longest),
        caption: format!(
            "Median times for one micro-batch. A rule marks where the network is cut; beside a \
             node is what all its layers take.{some}"
        ),
    })
}

/// The layers shown, each node's under its heading.
fn rows(plan: &Plan, times: &[LayerTime], shown: &[usize]) -> Vec<Row> {
    let node_of = |layer: usize| {
        let stage = plan.partition.stage_of(LayerIndex::new(layer as u32));
        plan.layout.placement.node_of(stage)
    };
    let mut rows = Vec::new();
    let mut under = None;
    for &layer in shown {
        let node = node_of(layer);
        if under.replace(node) != Some(node) {
            let own = (0..times.len()).filter(|layer| node_of(*layer) == node);
            let total = own.map(|layer| times[layer].total()).sum();
            rows.push(Row::Node(node, total));
        }
        rows.push(Row::Layer(LayerIndex::new(layer as u32), times[layer]));
    }
    rows
}

fn drawing(plan: &Plan, rows: &[Row], longest: Duration) -> Drawing {
    let height = |row: &Row| match row {
        Row::Node(..) => ROW + 12.0,
        Row::Layer(..) => ROW,
    };
    let names = rows.iter().filter_map(|row| match row {
        Row::Node(..) => None,
        Row::Layer(layer, _) => Some(plan.layers[layer.index()].as_str()),
    });
    let bars = Bars::beside(names, longest);
    draw((NARROW, rows.iter().map(height).sum()), |canvas| {
        let mut y = 0.0;
        for row in rows {
            match row {
                Row::Node(node, total) => node_row(canvas, y, *node, *total),
                Row::Layer(layer, time) => {
                    let parts = [
                        (time.forward, Ink::Forward),
                        (time.input, Ink::Input),
                        (time.weight, Ink::Weight),
                    ];
                    bars.row(canvas, y, &plan.layers[layer.index()], &parts);
                }
            }
            y += height(row);
        }
    })
}

fn node_row(canvas: &Canvas, y: f64, node: NodeId, total: Duration) {
    let middle = y + 12.0 + ROW / 2.0;
    canvas.line((0.0, y + 8.0), (NARROW, y + 8.0), Ink::Grid);
    canvas.bold(
        (0.0, middle),
        &format!("node {node}"),
        Anchor::Start,
        (Ink::Text, SIZE),
    );
    let total = seconds(total.as_secs_f64());
    canvas.bold((NARROW, middle), &total, Anchor::End, (Ink::Text, SIZE));
}

/// The end of a key says more than its beginning.
fn clipped(key: &str) -> String {
    let characters: Vec<char> = key.chars().collect();
    match characters.len() > MOST_CHARACTERS {
        true => {
            let end = characters[characters.len() + 1 - MOST_CHARACTERS..].iter();
            ['…'].iter().chain(end).collect()
        }
        false => key.to_owned(),
    }
}

/// The kernels that take longest, and all others together.
pub(super) fn kernels(traces: &[StepTrace]) -> Option<Figure> {
    let times = kernel_times(traces);
    let all: Duration = times.iter().map(|(_, time)| *time).sum();
    if all.is_zero() {
        return None;
    }
    let (shown, rest) = times.split_at(times.len().min(MOST_KERNELS));
    let mut rows: Vec<_> = shown.iter().map(|(name, time)| (*name, *time)).collect();
    if !rest.is_empty() {
        rows.push(("all others", rest.iter().map(|(_, time)| *time).sum()));
    }
    let longest = rows.iter().map(|(_, time)| *time).max()?;
    let bars = Bars::beside(rows.iter().map(|(name, _)| *name), longest);
    let drawing = draw((NARROW, rows.len() as f64 * ROW), |canvas| {
        for (number, (name, time)) in rows.iter().enumerate() {
            let y = number as f64 * ROW;
            bars.row(canvas, y, name, &[(*time, Ink::Line)]);
        }
    });
    let (first, most) = rows[0];
    let share = percent(most.as_secs_f64() / all.as_secs_f64());
    Some(Figure {
        heading: "Time per kernel".to_owned(),
        legend: Vec::new(),
        drawing,
        caption: format!("In one step, all nodes together: {first} takes {share} of it."),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_keys_keep_their_end() {
        assert_eq!(clipped("h.0.attn"), "h.0.attn");
        let long = clipped("transformer.blocks.11.mlp.c_proj");
        assert_eq!(long, "…locks.11.mlp.c_proj".to_owned());
        assert!(long.chars().count() <= MOST_CHARACTERS);
    }
}
