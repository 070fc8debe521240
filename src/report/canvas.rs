//! A drawing in CSS pixels, with fractions of them: the SVG backend of plotters counts in whole
//! units, so one pixel is several of its units.

use super::page::Drawing;
use super::palette::{Ink, by_name};
use plotters::backend::SVGBackend;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{PathElement, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontDesc, FontFamily, FontStyle, ShapeStyle, TextStyle};

/// Units to a pixel.
const UNITS: f64 = 4.0;
/// plotters divides the size of a font by this when it writes SVG.
const FONT: f64 = 1.24;
/// No font is measured: the mean width of a character, for its size.
const CHARACTER: f64 = 0.62;

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Where to draw.
pub(super) struct Canvas<'a>(Area<'a>);

/// Which point of a text is given; it is centred vertically.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// Draws, and names the colours.
pub(super) fn draw((width, height): (f64, f64), paint: impl FnOnce(&Canvas)) -> Drawing {
    let mut svg = String::new();
    let size = (units(width) as u32, units(height) as u32);
    {
        let canvas = Canvas(SVGBackend::with_string(&mut svg, size).into_drawing_area());
        paint(&canvas);
        canvas.0.present().expect(DRAWN);
    }
    // The page opens the element itself, with a size that fits and a name for those who listen.
    let inside = svg.split_once('>').map_or("", |(_, inside)| inside);
    let marks = inside.trim_end().trim_end_matches("</svg>");
    let marks = [
        " opacity=\"1\"",
        " stroke=\"none\"",
        " font-family=\"sans-serif\"",
    ]
    .iter()
    .fold(marks.to_owned(), |marks, default| {
        marks.replace(default, "")
    });
    Drawing {
        width: size.0,
        height: size.1,
        marks: by_name(marks),
    }
}

/// Why no error is returned.
pub(super) const DRAWN: &str = "drawing into a string cannot fail";

/// Pixels in units.
pub(super) fn units(pixels: f64) -> i32 {
    (pixels * UNITS).round() as i32
}

/// A filled shape.
pub(super) fn filled(ink: Ink) -> ShapeStyle {
    ink.stand_in().filled()
}

/// A line so many pixels thick.
pub(super) fn stroke(ink: Ink, width: f64) -> ShapeStyle {
    ink.stand_in().stroke_width(units(width) as u32)
}

/// A text of this size.
pub(super) fn font(ink: Ink, size: f64, style: FontStyle) -> TextStyle<'static> {
    let font = FontDesc::new(FontFamily::SansSerif, size * UNITS * FONT, style);
    TextStyle {
        color: ink.stand_in().to_backend_color(),
        ..font.into()
    }
}

/// About how wide a text is.
pub(super) fn width(text: &str, size: f64) -> f64 {
    CHARACTER * size * text.chars().count() as f64
}

impl<'a> Canvas<'a> {
    /// For plotters' own charts.
    pub(super) fn area(&self) -> &Area<'a> {
        &self.0
    }

    /// A rectangle: its corner, its width and height.
    pub(super) fn rect(&self, (x, y): (f64, f64), (width, height): (f64, f64), ink: Ink) {
        let corners = [(units(x), units(y)), (units(x + width), units(y + height))];
        let rectangle = Rectangle::new(corners, filled(ink));
        self.0.draw(&rectangle).expect(DRAWN);
    }

    /// A straight line.
    pub(super) fn line(&self, from: (f64, f64), to: (f64, f64), ink: Ink) {
        let ends = [from, to].map(|(x, y)| (units(x), units(y)));
        let line = PathElement::new(ends, stroke(ink, 1.0));
        self.0.draw(&line).expect(DRAWN);
    }

    /// Straight lines from point to point.
    pub(super) fn path(&self, points: impl IntoIterator<Item = (f64, f64)>, ink: Ink) {
        let points = points.into_iter().map(|(x, y)| (units(x), units(y)));
        let path = PathElement::new(points.collect::<Vec<_>>(), stroke(ink, 1.5));
        self.0.draw(&path).expect(DRAWN);
    }

    /// A text.
    pub(super) fn text(&self, at: (f64, f64), text: &str, anchor: Anchor, (ink, size): (Ink, f64)) {
        self.write(at, text, anchor, font(ink, size, FontStyle::Normal));
    }

    /// A bold text.
    pub(super) fn bold(&self, at: (f64, f64), text: &str, anchor: Anchor, (ink, size): (Ink, f64)) {
        self.write(at, text, anchor, font(ink, size, FontStyle::Bold));
    }

    fn write(&self, (x, y): (f64, f64), text: &str, anchor: Anchor, style: TextStyle) {
        let anchor = match anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let style = style.pos(Pos::new(anchor, VPos::Center));
        let text = Text::new(text.to_owned(), (units(x), units(y)), style);
        self.0.draw(&text).expect(DRAWN);
    }
}
