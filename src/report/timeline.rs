//! A traced step as it was measured, above the same step simulated, on one scale.
//!
//! ```text
//! Measured                      45 ms, bubble 38%
//! node 0 │ F0 F1 F2 ─────── B0 F3 B1 ──── │ 35% idle
//! Simulated                     41 ms, bubble 31%
//! node 0 │ F0 F1 F2 ────── B0 F3 B1 ──    │ 30% idle
//!        └ 0        10        20       30 ┘
//! ```

use super::axis::round_numbers;
use super::canvas::{Anchor, Canvas, draw, width};
use super::page::{Drawing, Figure, Key, Section, WIDE};
use super::palette::Ink;
use super::units::{grouped, percent, seconds, short, time_unit};
use crate::error::Error;
use crate::ids::NodeId;
use crate::placement::Placement;
use crate::plan::Plan;
use crate::schedule::{Action, Span, Timeline, Work};
use crate::trace::{StepTrace, median_step, median_times};

/// Room for the names of nodes on the left, and for their idle times on the right.
const LEFT: f64 = 68.0;
const RIGHT: f64 = 76.0;
const PLOT: f64 = WIDE - LEFT - RIGHT;
/// Room for a panel's heading, and for the labels under the last.
const HEAD: f64 = 34.0;
const FOOT: f64 = 30.0;
/// Boxes narrower than this are not drawn one by one.
const LEAST_BOX: f64 = 0.75;

/// A timeline with its heading.
pub(super) struct Panel<'a> {
    pub(super) name: String,
    /// What stands at the end of the heading.
    pub(super) numbers: String,
    pub(super) timeline: &'a Timeline,
    pub(super) placement: &'a Placement,
}

/// What times are in.
#[derive(Clone, Copy)]
pub(super) enum Unit {
    Seconds,
    /// Any: numbers without a unit.
    Any,
}

pub(super) fn section(plan: &Plan, traces: &[StepTrace]) -> Result<Option<Section>, Error> {
    let Some((measured, timeline)) = median_step(traces) else {
        return Ok(None);
    };
    let times = median_times(traces, plan);
    let simulated = plan.simulate(&times)?;
    let panel = |name: String, timeline| Panel {
        name,
        numbers: numbers(timeline),
        timeline,
        placement: &plan.layout.placement,
    };
    let panels = [
        panel(format!("Measured, step {}", measured.step), &timeline),
        panel("Simulated".to_owned(), &simulated),
    ];
    let legend = legend(&panels).into_iter();
    let figure = Figure {
        heading: format!("One step, schedule {}", plan.schedule),
        legend: legend.map(|(ink, label)| key(ink, label)).collect(),
        drawing: drawing(&panels, Unit::Seconds),
        caption: words(&panels, traces.len()),
    };
    Ok(Some(Section::new("Timeline", vec![vec![figure]])))
}

fn numbers(timeline: &Timeline) -> String {
    let (took, bubble) = (timeline.makespan, timeline.bubble());
    format!("{}, bubble {}", seconds(took), percent(bubble))
}

fn key(ink: Ink, label: &'static str) -> Key {
    match ink {
        Ink::Wait => Key::line(ink, label),
        _ => Key::block(ink, label),
    }
}

fn words([measured, simulated]: &[Panel<'_>; 2], traces: usize) -> String {
    let [took, simulated_took] =
        [measured, simulated].map(|panel| seconds(panel.timeline.makespan));
    let [bubble, simulated_bubble] =
        [measured, simulated].map(|panel| percent(panel.timeline.bubble()));
    let of = match traces {
        1 => "the times of this step".to_owned(),
        many => format!("the median times of {} traced steps", grouped(many as u64)),
    };
    format!(
        "Measured, the step took {took} and its bubble was {bubble}: the share of the time in \
         which the mean node computes nothing. Simulated with {of} it takes {simulated_took} \
         with a bubble of {simulated_bubble}. Numbers in boxes are micro-batches."
    )
}

/// What a box means, with the letter of its work.
fn kind(action: Action, placement: &Placement) -> (Ink, &'static str) {
    match action {
        Action::Compute(compute) => {
            let node = placement.node_of(compute.stage);
            let further = placement.stages_on(node).next() != Some(compute.stage);
            match (compute.work, further) {
                (Work::F, false) => (Ink::Forward, "F forward"),
                (Work::B, false) => (Ink::Backward, "B backward"),
                (Work::I, false) => (Ink::Input, "I backward for inputs"),
                (Work::W, false) => (Ink::Weight, "W backward for weights"),
                (Work::F, true) => (Ink::ForwardLate, FURTHER),
                (Work::B, true) => (Ink::BackwardLate, FURTHER),
                (Work::I, true) => (Ink::InputLate, FURTHER),
                (Work::W, true) => (Ink::WeightLate, FURTHER),
            }
        }
        Action::Step => (Ink::Optimizer, "optimizer"),
        Action::Send(_) | Action::Post(_) | Action::Wait(_) => (Ink::Wait, WAITING),
        Action::SumShared(_) | Action::Exchange => (Ink::Wait, WAITING),
    }
}

const WAITING: &str = "messages and waiting";
const FURTHER: &str = "paler: a node's further stages";

/// Only what there is.
pub(super) fn legend(panels: &[Panel<'_>]) -> Vec<(Ink, &'static str)> {
    let kinds = || {
        panels.iter().flat_map(|panel| {
            let spans = panel.timeline.nodes.iter().flatten();
            spans.map(|span| kind(span.action, panel.placement))
        })
    };
    let inks = [
        Ink::Forward,
        Ink::Backward,
        Ink::Input,
        Ink::Weight,
        Ink::ForwardLate,
        Ink::Optimizer,
    ];
    let boxes = (inks.iter()).filter_map(|ink| kinds().find(|(of, _)| of == ink));
    let waits = (panels.iter())
        .flat_map(|panel| panel.timeline.nodes.iter().flatten())
        .any(|span| draws_as_wait(span.action) && span.end > span.start);
    let waiting = waits.then_some((Ink::Wait, WAITING));
    boxes.chain(waiting).chain([(Ink::Track, "idle")]).collect()
}

fn draws_as_wait(action: Action) -> bool {
    !matches!(action, Action::Compute(_) | Action::Step)
}

pub(super) fn drawing(panels: &[Panel<'_>], unit: Unit) -> Drawing {
    let rows = panels
        .iter()
        .map(|panel| panel.timeline.nodes.len())
        .max()
        .unwrap_or(0);
    let (row, gap) = match rows {
        0..=8 => (26.0, 6.0),
        9..=16 => (20.0, 4.0),
        _ => (14.0, 2.0),
    };
    let panel_height = HEAD + rows as f64 * (row + gap);
    let last = panels
        .iter()
        .map(|panel| panel.timeline.makespan)
        .fold(0.0, f64::max);
    let scale = PLOT / last;
    let bottom = panels.len() as f64 * panel_height;
    draw((WIDE, bottom + FOOT), |canvas| {
        for (number, panel) in panels.iter().enumerate() {
            let top = number as f64 * panel_height;
            heading(canvas, panel, top);
            for (node, spans) in panel.timeline.nodes.iter().enumerate() {
                let y = top + HEAD + node as f64 * (row + gap);
                track(canvas, panel.timeline, node, (y, row), scale);
                boxes(canvas, spans, panel.placement, (y, row), scale);
            }
        }
        labels(canvas, last, unit, scale, bottom);
    })
}

fn heading(canvas: &Canvas, panel: &Panel<'_>, top: f64) {
    let middle = top + HEAD - 13.0;
    canvas.bold(
        (LEFT, middle),
        &panel.name,
        Anchor::Start,
        (Ink::Text, 13.0),
    );
    canvas.text(
        (LEFT + PLOT, middle),
        &panel.numbers,
        Anchor::End,
        (Ink::Text, 13.0),
    );
}

/// A node's name, the ground of its row, and how much of it stays empty.
fn track(canvas: &Canvas, timeline: &Timeline, node: usize, (y, row): (f64, f64), scale: f64) {
    let size = if row < 18.0 { 11.0 } else { 13.0 };
    let middle = y + row / 2.0;
    let name = format!("node {node}");
    canvas.text(
        (LEFT - 10.0, middle),
        &name,
        Anchor::End,
        (Ink::Muted, size),
    );
    canvas.rect((LEFT, y), (timeline.makespan * scale, row), Ink::Track);
    let idle = format!("{} idle", percent(timeline.idle(NodeId::new(node as u32))));
    canvas.text(
        (LEFT + PLOT + 10.0, middle),
        &idle,
        Anchor::Start,
        (Ink::Muted, size),
    );
}

fn boxes(canvas: &Canvas, spans: &[Span], placement: &Placement, (y, row): (f64, f64), scale: f64) {
    let mut drawn_to = 0.0;
    for span in spans {
        let (from, to) = (span.start * scale, span.end * scale);
        let (ink, _) = kind(span.action, placement);
        let tiny = to - from < LEAST_BOX;
        // Of boxes that are too small to be seen one is drawn where there is room for one.
        if tiny && (ink == Ink::Wait || from < drawn_to) {
            continue;
        }
        let wide = (to - from).max(LEAST_BOX);
        drawn_to = from + wide;
        if ink == Ink::Wait {
            let thick = row / 6.0;
            canvas.rect((LEFT + from, y + (row - thick) / 2.0), (wide, thick), ink);
            continue;
        }
        let space = if wide > 4.0 { 0.75 } else { 0.0 };
        canvas.rect((LEFT + from, y), (wide - space, row), ink);
        let text = name(span.action, wide, row);
        if let Some((text, size)) = text {
            let on = match ink {
                Ink::Backward | Ink::Weight => Ink::OnDark,
                _ => Ink::OnLight,
            };
            let middle = (LEFT + from + (wide - space) / 2.0, y + row / 2.0);
            canvas.text(middle, &text, Anchor::Middle, (on, size));
        }
    }
}

/// The longest name of a box that fits into it, and its size.
fn name(action: Action, wide: f64, row: f64) -> Option<(String, f64)> {
    let Action::Compute(compute) = action else {
        return None;
    };
    let size = if row < 18.0 { 9.5 } else { 12.0 };
    let number = compute.micro_batch.to_string();
    let names = [format!("{}{number}", compute.work), number];
    names
        .into_iter()
        .map(|name| (name, size))
        .find(|(name, size)| width(name, *size) + 4.0 < wide)
}

fn labels(canvas: &Canvas, last: f64, unit: Unit, scale: f64, bottom: f64) {
    let (per_second, unit) = match unit {
        Unit::Seconds => time_unit(last),
        Unit::Any => (1.0, ""),
    };
    for tick in round_numbers(0.0, last * per_second, 8.0) {
        let x = LEFT + tick / per_second * scale;
        canvas.line((x, bottom - 2.0), (x, bottom + 4.0), Ink::Muted);
        let text = match tick {
            0.0 => format!("0 {unit}").trim_end().to_owned(),
            _ => short_tick(tick),
        };
        canvas.text(
            (x, bottom + 16.0),
            &text,
            Anchor::Middle,
            (Ink::Muted, 13.0),
        );
    }
}

/// A round number without the zeros behind it.
fn short_tick(tick: f64) -> String {
    let text = short(tick);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}
