//! What goes past stages: the stages in a row, and an arc for each pair that a skip joins.

use super::canvas::{Anchor, Canvas, draw, width};
use super::page::{Figure, Section, WIDE};
use super::palette::Ink;
use super::units::bytes;
use crate::ids::StageId;
use crate::plan::{Plan, Skip};
use std::collections::BTreeMap;
use std::f64::consts::PI;

const SIZE: f64 = 13.0;
const BOX: f64 = 40.0;
const GAP: f64 = 14.0;
const ROW: f64 = 22.0;
/// What an arc rises for each stage that it passes, and at most.
const RISE: f64 = 34.0;
const HIGHEST: f64 = 190.0;
/// Straight pieces of an arc.
const PIECES: usize = 40;
/// More do not fit.
const MOST_STAGES: usize = 24;
const MOST_ARCS: usize = 16;

/// Skips between the same two stages.
struct Arc<'a> {
    ends: (StageId, StageId),
    skips: Vec<&'a Skip>,
}

/// Nothing for a chain.
pub(super) fn section(plan: &Plan) -> Option<Section> {
    let stages = plan.layout.placement.stages();
    if plan.skips.is_empty() || stages.index() > MOST_STAGES {
        return None;
    }
    let mut pairs = BTreeMap::<(StageId, StageId), Vec<&Skip>>::new();
    for skip in &plan.skips {
        let ends = (skip.from_stage, skip.to_stage);
        pairs.entry(ends).or_default().push(skip);
    }
    let arcs: Vec<_> = { pairs.into_iter() }
        .map(|(ends, skips)| Arc { ends, skips })
        .collect();
    let shown = &arcs[..arcs.len().min(MOST_ARCS)];
    let tallest = shown.iter().map(rise).fold(0.0, f64::max) + ROW;
    let height = tallest + BOX + GAP + ROW * shown.len() as f64;
    let drawing = draw((WIDE, height), |canvas| {
        let centre = |stage: StageId| (stage.get() as f64 + 0.5) * WIDE / stages.index() as f64;
        for stage in stages.iter() {
            stage_box(canvas, plan, stage, (centre(stage), tallest));
        }
        for (number, arc) in (1..).zip(shown) {
            let ends = (centre(arc.ends.0), centre(arc.ends.1));
            arch(canvas, ends, (tallest, rise(arc)), number);
            let y = tallest + BOX + GAP + ROW * (number as f64 - 0.5);
            listed(canvas, y, number, arc);
        }
    });
    let more = match arcs.len() - shown.len() {
        0 => String::new(),
        more => format!(" {more} more pairs of stages are not shown."),
    };
    let figure = Figure {
        heading: "Skips".to_owned(),
        legend: Vec::new(),
        drawing,
        caption: format!(
            "Values that go past stages, straight from the one that makes them to the one that \
             reads them; their gradients come back the same way.{more}"
        ),
    };
    Some(Section::new("Network", vec![vec![figure]]))
}

fn rise(arc: &Arc<'_>) -> f64 {
    let passed = arc.ends.1.get() - arc.ends.0.get() - 1;
    (RISE * (passed as f64 + 0.5)).min(HIGHEST)
}

fn stage_box(canvas: &Canvas, plan: &Plan, stage: StageId, (x, y): (f64, f64)) {
    let stages = plan.layout.placement.stages().index();
    let wide = (WIDE / stages as f64 - GAP).min(150.0);
    canvas.rect((x - wide / 2.0, y), (wide, BOX), Ink::Track);
    let node = plan.layout.placement.node_of(stage);
    let [first, second] = [format!("stage {stage}"), format!("node {node}")];
    let names = match width(&first, SIZE) < wide {
        true => [first, second],
        false => [stage.to_string(), node.to_string()],
    };
    for (line, (name, ink)) in (0..).zip(names.iter().zip([Ink::Text, Ink::Muted])) {
        let y = y + BOX * (0.3 + 0.4 * f64::from(line));
        canvas.text((x, y), name, Anchor::Middle, (ink, SIZE));
    }
}

/// Half an ellipse over the boxes, with its number on top.
fn arch(canvas: &Canvas, (from, to): (f64, f64), (ground, rise): (f64, f64), number: usize) {
    let (middle, half) = ((from + to) / 2.0, (to - from) / 2.0);
    let point = |piece: usize| {
        let angle = PI * piece as f64 / PIECES as f64;
        (middle - half * angle.cos(), ground - rise * angle.sin())
    };
    canvas.path((0..=PIECES).map(point), Ink::Line);
    let (tip, back) = ((to, ground), 5.0);
    canvas.path(
        [
            (to - back, ground - 2.0 * back),
            tip,
            (to + back, ground - 2.0 * back),
        ],
        Ink::Line,
    );
    let at = (middle, ground - rise - 0.4 * ROW);
    canvas.text(at, &number.to_string(), Anchor::Middle, (Ink::Text, SIZE));
}

fn listed(canvas: &Canvas, y: f64, number: usize, arc: &Arc<'_>) {
    let first = arc.skips[0];
    let more = match arc.skips.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let (from, to) = arc.ends;
    let all = arc.skips.iter().map(|skip| skip.bytes);
    let travels = match all.fold(0, u64::saturating_add) {
        0 => "on one node".to_owned(),
        all => format!("{} a micro-batch", bytes(all)),
    };
    let (made, read) = (&first.from, &first.to);
    let text = format!("{number}   {made} → {read}{more}: stage {from} → stage {to}, {travels}");
    canvas.text((0.0, y), &text, Anchor::Start, (Ink::Text, SIZE));
}
