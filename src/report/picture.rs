//! A schedule's timeline as a file of its own.

use super::canvas::{Anchor, draw, width};
use super::page::{Drawing, WIDE};
use super::palette::Ink;
use super::timeline::{Panel, Unit, drawing, legend};
use super::units::percent;
use crate::schedule::{Action, Layout, Span, Timeline};

/// What colours look like, light and dark.
const COLOURS: &str = include_str!("colours.css");
/// Text in a legend.
const SIZE: f64 = 13.0;
const LEGEND: f64 = 30.0;
/// Around everything.
const MARGIN: f64 = 14.0;
const FONTS: &str = "system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif";

/// A timeline as SVG, with a legend, light or dark as whoever looks at it prefers. Times are
/// numbers in any one unit.
pub fn schedule_svg(title: &str, timeline: &Timeline, layout: &Layout) -> String {
    let totals = timeline.totals();
    let (makespan, span) = (totals.bubble_makespan(), totals.bubble_span());
    let panels = [Panel {
        name: title.to_owned(),
        numbers: format!("bubble {}, by span {}", percent(makespan), percent(span)),
        timeline: &work(timeline),
        placement: &layout.placement,
    }];
    let rows = drawing(&panels, Unit::Any);
    let keys = keys(&legend(&panels));
    // Drawings count in units, several to a pixel.
    let unit = f64::from(rows.width) / WIDE;
    let margin = unit * MARGIN;
    let (wide, high) = (
        f64::from(rows.width) + 2.0 * margin,
        f64::from(rows.height + keys.height) + 2.0 * margin,
    );
    let below = f64::from(rows.height) + margin;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide} {high}\" \
         width=\"{}\" height=\"{}\" font-family=\"{FONTS}\">\n\
         <style>\n{}</style>\n\
         <rect width=\"{wide}\" height=\"{high}\" fill=\"var(--page)\"/>\n\
         <g transform=\"translate({margin} {margin})\">{}</g>\n\
         <g transform=\"translate({margin} {below})\">{}</g>\n</svg>\n",
        wide / unit,
        high / unit,
        COLOURS,
        rows.marks,
        keys.marks,
    )
}

/// What nodes compute: whatever else they do is a bubble here.
fn work(timeline: &Timeline) -> Timeline {
    let computes = |span: &&Span| {
        matches!(span.action, Action::Compute(_) | Action::Step) && span.end > span.start
    };
    let of = |spans: &Vec<Span>| spans.iter().filter(computes).copied().collect();
    Timeline {
        nodes: timeline.nodes.iter().map(of).collect(),
        makespan: timeline.makespan,
    }
}

/// What boxes mean, in one row.
fn keys(legend: &[(Ink, &'static str)]) -> Drawing {
    draw((WIDE, LEGEND), |canvas| {
        let mut x = 68.0;
        for (ink, label) in legend {
            canvas.rect((x, LEGEND / 2.0 - 6.0), (12.0, 12.0), *ink);
            let at = (x + 18.0, LEGEND / 2.0);
            canvas.text(at, label, Anchor::Start, (Ink::Muted, SIZE));
            x += 38.0 + 0.86 * width(label, SIZE);
        }
    })
}
