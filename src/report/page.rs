//! What is on the page. Everything but the marks of drawings is escaped where it is put.

use super::nodes::Table;
use super::palette::Ink;
use askama::Template;

/// The whole.
#[derive(Template)]
#[template(path = "report.html")]
pub(super) struct Page<'a> {
    pub(super) title: &'a str,
    pub(super) facts: &'a [(String, String)],
    pub(super) sections: Vec<Section>,
    pub(super) table: Table,
    pub(super) sample: Option<&'a str>,
}

/// Figures under one heading, in one wide column or two narrow ones.
pub(super) struct Section {
    pub(super) heading: &'static str,
    pub(super) columns: Vec<Vec<Figure>>,
}

impl Section {
    pub(super) fn new(heading: &'static str, columns: Vec<Vec<Figure>>) -> Self {
        Self { heading, columns }
    }
}

/// A drawing with its words.
pub(super) struct Figure {
    pub(super) heading: String,
    pub(super) legend: Vec<Key>,
    pub(super) drawing: Drawing,
    pub(super) caption: String,
}

/// The inside of an SVG; its texts are escaped by plotters.
pub(super) struct Drawing {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) marks: String,
}

/// An entry of a legend.
pub(super) struct Key {
    shape: &'static str,
    ink: Ink,
    label: &'static str,
}

impl Key {
    pub(super) fn block(ink: Ink, label: &'static str) -> Self {
        Self {
            shape: "block",
            ink,
            label,
        }
    }

    pub(super) fn line(ink: Ink, label: &'static str) -> Self {
        Self {
            shape: "stroke",
            ink,
            label,
        }
    }

    pub(super) fn dot(ink: Ink, label: &'static str) -> Self {
        Self {
            shape: "dot",
            ink,
            label,
        }
    }
}

/// How wide figures are drawn, in pixels; the page fits them to the window.
pub(super) const NARROW: f64 = 460.0;
pub(super) const WIDE: f64 = 1000.0;
