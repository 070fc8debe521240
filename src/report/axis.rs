//! The range of an axis, and where its labels are. Labels are chosen here because those of plotters
//! are neither round on a logarithmic axis nor few enough for a small chart.

use super::units::grouped;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use std::ops::Range;

/// How values lie on an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    /// As powers of 10.
    Logarithmic,
}

/// A range with the values that get a label.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    pub(super) scale: Scale,
    /// The ends, in the coordinate of the scale.
    from: f64,
    to: f64,
    ticks: Vec<f64>,
}

/// From this ratio of the largest value to the smallest the scale is logarithmic.
const WIDE: f64 = 30.0;

/// Whether a number has a place on an axis: the ends of the range of f64 leave no room around them.
pub(super) fn drawable(value: f64) -> bool {
    value.is_finite() && value.abs() < 1e100
}

/// The smallest and largest of drawable values. What is too small to be divided by is 0.
fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values
        .filter(|value| drawable(*value))
        .map(|value| if value.abs() < 1e-100 { 0.0 } else { value })
        .fold(None, |found, value| {
            let (low, high) = found.unwrap_or((value, value));
            Some((value.min(low), value.max(high)))
        })
}

impl Axis {
    /// From the first step to the last.
    pub(super) fn of_steps(steps: impl Iterator<Item = f64>) -> Option<Self> {
        let (from, to) = apart(bounds(steps)?);
        let mut ticks = round_numbers(from, to, 5.0);
        ticks.retain(|tick| tick.fract() == 0.0);
        let scale = Scale::Linear;
        Some(Self {
            scale,
            from,
            to,
            ticks,
        })
    }

    /// Around all values with about so many labels, logarithmic when they are far from each other.
    pub(super) fn around(values: impl Iterator<Item = f64>, labels: f64) -> Option<Self> {
        let (low, high) = bounds(values)?;
        let scale = match low > 0.0 && high / low > WIDE {
            true => Scale::Logarithmic,
            false => Scale::Linear,
        };
        let (from, to) = apart((scale.place(low), scale.place(high)));
        let margin = 0.04 * (to - from);
        let (from, to) = (from - margin, to + margin);
        let ticks = match scale {
            Scale::Linear => round_numbers(from, to, labels),
            Scale::Logarithmic => round_powers(from, to),
        };
        Some(Self {
            scale,
            from,
            to,
            ticks,
        })
    }

    /// From 0 to the largest value.
    pub(super) fn from_zero(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (_, high) = bounds(values)?;
        let to = if high > 0.0 { 1.08 * high } else { 1.0 };
        let ticks = round_numbers(0.0, to, 3.0);
        let scale = Scale::Linear;
        Some(Self {
            scale,
            from: 0.0,
            to,
            ticks,
        })
    }

    /// A label of this axis: as many decimals as tell it from its neighbours.
    fn label(&self, tick: f64) -> String {
        let apart = match self.ticks.as_slice() {
            [first, second, ..] if self.scale == Scale::Linear => second - first,
            _ => return number(tick, tick.abs(), tick.abs()),
        };
        let largest = self
            .ticks
            .iter()
            .fold(apart, |most, tick| most.max(tick.abs()));
        number(tick, apart, largest)
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (start, end): (i32, i32)) -> i32 {
        let share = (self.scale.place(*value) - self.from) / (self.to - self.from);
        start + (share * f64::from(end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        match hint.weight().allow_light_points() {
            true => Vec::new(),
            false => self.ticks.clone(),
        }
    }

    fn range(&self) -> Range<f64> {
        self.scale.value(self.from)..self.scale.value(self.to)
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        value.to_string()
    }

    fn format_ext(&self, value: &f64) -> String {
        self.label(*value)
    }
}

impl Scale {
    /// Where a value lies.
    fn place(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Logarithmic => value.log10(),
        }
    }

    fn value(self, place: f64) -> f64 {
        match self {
            Self::Linear => place,
            Self::Logarithmic => 10f64.powf(place),
        }
    }
}

/// All labels of an axis are written alike: what counts is the size of the largest.
fn number(value: f64, apart: f64, size: f64) -> String {
    if !(1e-3..1e6).contains(&size) && value != 0.0 {
        // Past the leading digit as many as tell it from its neighbours.
        let digits = (value.abs().log10().floor() - apart.log10().floor()).clamp(0.0, 4.0);
        let text = format!("{value:.*e}", digits as usize);
        return text.replace(".0e", "e");
    }
    let decimals = (-apart.log10() - 1e-9).ceil().clamp(0.0, 6.0) as usize;
    match decimals {
        0 if value >= 1000.0 => grouped(value.round() as u64),
        _ if value == 0.0 => "0".to_owned(),
        _ => format!("{value:.decimals$}"),
    }
}

/// Values that are all the same get room around them.
fn apart((low, high): (f64, f64)) -> (f64, f64) {
    let size = low.abs().max(high.abs());
    if high - low > 1e-9 * size {
        return (low, high);
    }
    let room = if size > 0.0 { 0.5 * size.min(1.0) } else { 0.5 };
    // Next to a huge number a small room would be lost.
    let room = room.max(1e-3 * size);
    (low - room, high + room)
}

/// About so many round numbers in a range.
pub(super) fn round_numbers(from: f64, to: f64, about: f64) -> Vec<f64> {
    let rough = (to - from) / about;
    let power = 10f64.powf(rough.log10().floor());
    let step = power
        * match rough / power {
            ratio if ratio < 1.5 => 1.0,
            ratio if ratio < 3.5 => 2.0,
            ratio if ratio < 7.5 => 5.0,
            _ => 10.0,
        };
    let first = (from / step).ceil();
    let last = (to / step).floor();
    // A product of whole numbers: 3 * 0.1 is no label, 3 / 10 is.
    let at = |index: f64| match step < 1.0 {
        true => index / (1.0 / step).round(),
        false => index * step,
    };
    let count = (last - first).clamp(0.0, 20.0) as u32;
    (0..=count)
        .map(|index| at(first + f64::from(index)))
        .collect()
}

/// 1, 2 and 5 times the powers of 10 in a range of exponents; few of the powers in a wide one.
fn round_powers(from: f64, to: f64) -> Vec<f64> {
    let firsts: &[f64] = match to - from > 2.5 {
        true => &[1.0],
        false => &[1.0, 2.0, 5.0],
    };
    let every = ((to - from) / 6.0).ceil().max(1.0) as usize;
    (from.floor() as i32..=to.ceil() as i32)
        .step_by(every)
        .flat_map(|power| firsts.iter().map(move |first| first * 10f64.powi(power)))
        .filter(|tick| (from..=to).contains(&tick.log10()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks.iter().map(|tick| axis.label(*tick)).collect()
    }

    #[test]
    fn labels_are_round_and_few() {
        let steps = Axis::of_steps([0.0, 49_999.0].into_iter()).unwrap();
        assert_eq!(
            labels(&steps),
            ["0", "10,000", "20,000", "30,000", "40,000"]
        );
        let few = Axis::of_steps([0.0, 2.0].into_iter()).unwrap();
        assert_eq!(labels(&few), ["0", "1", "2"]);
        let loss = Axis::around([2.41, 5.58].into_iter(), 4.0).unwrap();
        assert_eq!(labels(&loss), ["3", "4", "5"]);
        let close = Axis::around([0.71, 0.745].into_iter(), 4.0).unwrap();
        assert_eq!(labels(&close), ["0.71", "0.72", "0.73", "0.74"]);
        let wide = Axis::around([0.004, 2.0].into_iter(), 4.0).unwrap();
        assert_eq!(labels(&wide), ["0.01", "0.1", "1"]);
        let rate = Axis::from_zero([3e-4, 1e-5].into_iter()).unwrap();
        assert_eq!(labels(&rate), ["0", "1e-4", "2e-4", "3e-4"]);
    }

    /// One value, nothing, and the ends of the range.
    #[test]
    fn every_axis_has_a_range() {
        for value in [0.0, -0.0, 1.0, -3.0, 1e-300, 1e90, -1e90, 5e-324] {
            for axis in [
                Axis::around([value].into_iter(), 4.0).unwrap(),
                Axis::from_zero([value].into_iter()).unwrap(),
                Axis::of_steps([value].into_iter()).unwrap(),
                Axis::around([value, 1.0].into_iter(), 4.0).unwrap(),
            ] {
                assert!(axis.from < axis.to, "{value:e}: {axis:?}");
                assert!(axis.ticks.len() <= 21, "{value:e}: {axis:?}");
                assert!(
                    axis.ticks.iter().all(|tick| tick.is_finite()),
                    "{value:e}: {axis:?}"
                );
            }
        }
        assert_eq!(
            Axis::around([f64::NAN, f64::INFINITY, 1e200].into_iter(), 4.0),
            None
        );
    }
}
