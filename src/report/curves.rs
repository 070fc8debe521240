//! Loss, gradient norm and learning rate over steps.

use super::axis::{Axis, Scale, drawable};
use super::chart::{MOST_POINTS, Points, Series, chart, thinned};
use super::page::{Figure, Key, Section};
use super::palette::Ink;
use super::units::{grouped, seconds, short};
use crate::trace::median;
use crate::train::StepReport;

/// A window of the smoothed line is this part of all steps.
const WINDOWS: usize = 50;
/// Fewer steps are not smoothed.
const LEAST_SMOOTHED: usize = 40;

const LOSS_HEIGHT: f64 = 356.0;
const BESIDE_HEIGHT: f64 = 156.0;

pub(super) fn section(steps: &[StepReport], validations: &[(u64, f64)]) -> Option<Section> {
    let left: Vec<_> = loss(steps, validations).into_iter().collect();
    let norm = points(steps, |step| step.gradient_norm);
    let rate = points(steps, |step| step.learning_rate);
    let norm = Axis::around(values(&norm), 2.5).and_then(|y| beside("Gradient norm", &norm, &y));
    let rate = Axis::from_zero(values(&rate)).and_then(|y| beside("Learning rate", &rate, &y));
    let right: Vec<_> = norm.into_iter().chain(rate).collect();
    let columns = [left, right].into_iter();
    let columns: Vec<_> = columns.filter(|column| !column.is_empty()).collect();
    (!columns.is_empty()).then(|| Section::new("Training", columns))
}

/// What can be drawn of a number of every step.
fn points(steps: &[StepReport], of: impl Fn(&StepReport) -> f64) -> Points {
    let points = steps.iter().map(|step| (step.step.get() as f64, of(step)));
    points.filter(|(_, value)| drawable(*value)).collect()
}

fn values(points: &[(f64, f64)]) -> impl Iterator<Item = f64> {
    points.iter().map(|(_, value)| *value)
}

fn loss(steps: &[StepReport], validations: &[(u64, f64)]) -> Option<Figure> {
    let losses = points(steps, |step| step.loss);
    let validations: Points = validations
        .iter()
        .map(|(step, loss)| (*step as f64, *loss))
        .filter(|(_, loss)| drawable(*loss))
        .collect();
    let all = || losses.iter().chain(&validations);
    let x = Axis::of_steps(all().map(|(step, _)| *step))?;
    let y = Axis::around(all().map(|(_, loss)| *loss), 5.0)?;
    let window = match losses.len() {
        few if few < LEAST_SMOOTHED => 1,
        many => (many / WINDOWS).max(2),
    };
    let mut series = Vec::new();
    let mut legend = Vec::new();
    if window > 1 {
        series.push(line(&losses, Ink::Thin, 1.0));
        legend.push(Key::line(Ink::Thin, "every step"));
        series.push(line(&smoothed(&losses, window), Ink::Line, 2.0));
        legend.push(Key::line(Ink::Line, "smoothed"));
    } else if !losses.is_empty() {
        series.push(line(&losses, Ink::Line, 2.0));
        legend.push(Key::line(Ink::Line, "training"));
    }
    if !validations.is_empty() {
        let mut validation = line(&validations, Ink::Mark, 1.5);
        validation.dots = true;
        series.push(validation);
        legend.push(Key::dot(Ink::Mark, "validation"));
    }
    Some(Figure {
        heading: "Loss".to_owned(),
        legend,
        drawing: chart(LOSS_HEIGHT, (&x, &y), &series),
        caption: words(steps, (losses.len(), window), &validations, y.scale),
    })
}

fn line(points: &[(f64, f64)], ink: Ink, width: f64) -> Series {
    Series {
        points: thinned(points),
        ink,
        width,
        dots: false,
    }
}

/// The mean of the last `window` values, of fewer at the beginning.
fn smoothed(points: &[(f64, f64)], window: usize) -> Points {
    let mean = |at: usize| {
        let last = &points[(at + 1).saturating_sub(window)..=at];
        values(last).sum::<f64>() / last.len() as f64
    };
    // No more than is drawn, from the last step backwards.
    let every = points.len().div_ceil(MOST_POINTS).max(1);
    let backwards = (0..points.len()).rev().step_by(every);
    let mut smoothed: Points = backwards.map(|at| (points[at].0, mean(at))).collect();
    smoothed.reverse();
    smoothed
}

fn words(
    steps: &[StepReport],
    (drawn, window): (usize, usize),
    validations: &[(f64, f64)],
    scale: Scale,
) -> String {
    let mut words = Vec::new();
    if let Some(last) = steps.last() {
        let durations = steps.iter().map(|step| step.duration.as_secs_f64());
        let median = seconds(median(durations.collect()));
        words.push(match steps.len() {
            1 => format!("1 step, {median}."),
            many => format!("{} steps, {median} each (median).", grouped(many as u64)),
        });
        let smooth = match window {
            1 => String::new(),
            _ => format!(" The smoothed line is the mean of the last {window} steps."),
        };
        words.push(format!("The last loss is {}.{smooth}", short(last.loss)));
    }
    if let Some((_, loss)) = validations.last() {
        words.push(format!("The last validation loss is {}.", short(*loss)));
    }
    match steps.len() - drawn {
        0 => {}
        1 => words.push("1 step without a finite loss left out.".to_owned()),
        many => words.push(format!(
            "{} steps without a finite loss left out.",
            grouped(many as u64)
        )),
    }
    if scale == Scale::Logarithmic {
        words.push("Logarithmic scale.".to_owned());
    }
    words.join(" ")
}

/// A small figure beside the loss.
fn beside(heading: &str, points: &[(f64, f64)], y: &Axis) -> Option<Figure> {
    let x = Axis::of_steps(points.iter().map(|(step, _)| *step))?;
    let (_, last) = points.last()?;
    let scale = match y.scale {
        Scale::Linear => "",
        Scale::Logarithmic => " Logarithmic scale.",
    };
    Some(Figure {
        heading: heading.to_owned(),
        legend: Vec::new(),
        drawing: chart(BESIDE_HEIGHT, (&x, y), &[line(points, Ink::Line, 1.25)]),
        caption: format!("At the last step {}.{scale}", short(*last)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_is_a_mean_of_what_came_before() {
        let points = [(0.0, 4.0), (1.0, 2.0), (2.0, 0.0), (3.0, 4.0)];
        assert_eq!(
            smoothed(&points, 2),
            [(0.0, 4.0), (1.0, 3.0), (2.0, 1.0), (3.0, 2.0)]
        );
    }
}
