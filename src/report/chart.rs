//! A small chart of values over steps.

use super::axis::Axis;
use super::canvas::{Canvas, DRAWN, draw, filled, font, stroke, units};
use super::page::{Drawing, NARROW};
use super::palette::Ink;
use plotters::chart::ChartBuilder;
use plotters::element::{Circle, PathElement};
use plotters::style::{FontStyle, TRANSPARENT};

/// Steps and values, in order of the steps.
pub(super) type Points = Vec<(f64, f64)>;

/// Some values and how they are drawn.
pub(super) struct Series {
    pub(super) points: Points,
    pub(super) ink: Ink,
    pub(super) width: f64,
    pub(super) dots: bool,
}

/// More than a figure has pixels to tell apart.
pub(super) const MOST_POINTS: usize = 1500;
/// More dots than this would hide each other.
const MOST_DOTS: usize = 60;

/// Draws series over each other.
pub(super) fn chart(height: f64, (x, y): (&Axis, &Axis), series: &[Series]) -> Drawing {
    draw((NARROW, height), |canvas| paint(canvas, (x, y), series))
}

fn paint(canvas: &Canvas, (x, y): (&Axis, &Axis), series: &[Series]) {
    let mut chart = ChartBuilder::on(canvas.area())
        .margin_top(units(8.0))
        .margin_right(units(24.0))
        .x_label_area_size(units(26.0))
        .y_label_area_size(units(56.0))
        .build_cartesian_2d(x.clone(), y.clone())
        .expect(DRAWN);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(stroke(Ink::Grid, 1.0))
        .axis_style(TRANSPARENT)
        .set_all_tick_mark_size(units(4.0))
        .label_style(font(Ink::Muted, 13.0, FontStyle::Normal))
        .draw()
        .expect(DRAWN);
    for series in series {
        let points = series.points.clone();
        if series.dots && points.len() <= MOST_DOTS || points.len() == 1 {
            let dots = points
                .iter()
                .map(|at| Circle::new(*at, units(3.5), filled(series.ink)));
            chart.draw_series(dots).expect(DRAWN);
        }
        if points.len() > 1 {
            let line = PathElement::new(points, stroke(series.ink, series.width));
            chart.draw_series([line]).expect(DRAWN);
        }
    }
}

/// So few points that the page stays small: of every stretch the smallest value and the largest, so
/// that no spike is lost.
pub(super) fn thinned(points: &[(f64, f64)]) -> Points {
    if points.len() <= MOST_POINTS {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil(MOST_POINTS / 2);
    let ends = points.chunks(stretch).flat_map(|stretch| {
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let low = stretch.iter().min_by(by_value);
        let high = stretch.iter().max_by(by_value);
        let mut both: Points = low.into_iter().chain(high).copied().collect();
        both.sort_by(|a, b| a.0.total_cmp(&b.0));
        both
    });
    ends.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_every_spike() {
        let mut points: Points = (0..50_000).map(|n| (f64::from(n), 1.0)).collect();
        points[31_234].1 = 9.0;
        let thin = thinned(&points);
        assert!(thin.len() <= MOST_POINTS, "{}", thin.len());
        assert!(thin.contains(&(31_234.0, 9.0)));
        assert!(thin.is_sorted_by(|a, b| a.0 <= b.0));
    }
}
