//! Colours by what they mean. What they look like, light and dark, is in `report.html`.
//!
//! plotters knows only literal colours, so each ink is drawn in one of its own, and the finished
//! drawing gets the name of a CSS property in its place.

use plotters::style::RGBColor;

/// What a mark means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    Text,
    Muted,
    Grid,
    /// The ground of a row.
    Track,
    /// A series.
    Line,
    /// The same series, every value of it.
    Thin,
    /// What is to be told from the series.
    Mark,
    Forward,
    Backward,
    Input,
    Weight,
    /// The same of a node's further stages.
    ForwardLate,
    BackwardLate,
    InputLate,
    WeightLate,
    Optimizer,
    Wait,
    /// Text on light boxes, and on dark ones.
    OnLight,
    OnDark,
    Parameters,
    Gradients,
    State,
    Working,
    Slots,
}

impl Ink {
    const ALL: [Self; 24] = [
        Self::Text,
        Self::Muted,
        Self::Grid,
        Self::Track,
        Self::Line,
        Self::Thin,
        Self::Mark,
        Self::Forward,
        Self::Backward,
        Self::Input,
        Self::Weight,
        Self::ForwardLate,
        Self::BackwardLate,
        Self::InputLate,
        Self::WeightLate,
        Self::Optimizer,
        Self::Wait,
        Self::OnLight,
        Self::OnDark,
        Self::Parameters,
        Self::Gradients,
        Self::State,
        Self::Working,
        Self::Slots,
    ];

    /// The CSS property.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Muted => "muted",
            Self::Grid => "grid",
            Self::Track => "track",
            Self::Line => "line",
            Self::Thin => "thin",
            Self::Mark => "mark",
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::Input => "input",
            Self::Weight => "weight",
            Self::ForwardLate => "forward-late",
            Self::BackwardLate => "backward-late",
            Self::InputLate => "input-late",
            Self::WeightLate => "weight-late",
            Self::Optimizer => "optimizer",
            Self::Wait => "wait",
            Self::OnLight => "on-light",
            Self::OnDark => "on-dark",
            Self::Parameters => "parameters",
            Self::Gradients => "gradients",
            Self::State => "state",
            Self::Working => "working",
            Self::Slots => "slots",
        }
    }

    /// The colour that stands for it while drawing.
    pub(super) fn stand_in(self) -> RGBColor {
        RGBColor(0xB0, 0x1D, self as u8)
    }
}

/// Puts the properties in the place of the colours. The quotes around a colour cannot come from a
/// text in the drawing: there they are escaped.
pub(super) fn by_name(mut svg: String) -> String {
    for ink in Ink::ALL {
        let RGBColor(red, green, blue) = ink.stand_in();
        let colour = format!("\"#{red:02X}{green:02X}{blue:02X}\"");
        svg = svg.replace(&colour, &format!("\"var(--{})\"", ink.name()));
    }
    svg
}
