//! What layers take that were not measured: their operations, at the speed of those that were.

use super::LayerProfile;
use crate::trace::LayerTime;
use brigade_layer::{Cost, LayerShapes};
use std::time::Duration;

/// Operations a second where nothing like it was measured: products on one core with AVX-512.
pub(super) const DEFAULT_FLOPS: f64 = 1e11;
/// With fewer operations a byte a layer is at the mercy of memory, and says nothing of others.
const LEAST_INTENSITY: u64 = 16;
/// Bytes of parameters that an optimizer updates in a second where nothing was measured.
const DEFAULT_UPDATE: f64 = 1e9;

/// Operations, and how long they take, of one kind of work.
type Kind = (fn(&Cost) -> u64, fn(&LayerTime) -> Duration);

/// F, I and W.
const KINDS: [Kind; 3] = [
    (|cost| cost.forward_flops, |time| time.forward),
    (|cost| cost.input_flops, |time| time.input),
    (|cost| cost.weight_flops, |time| time.weight),
];

/// Times for the layers that were not measured; so many bytes of parameters train in each.
pub(super) fn fill_in(layers: &mut [LayerProfile], shapes: &[LayerShapes], trained: &[u64]) {
    if layers.iter().all(|layer| layer.measured) {
        return;
    }
    let measured = || {
        layers
            .iter()
            .zip(shapes)
            .filter(|(layer, _)| layer.measured)
    };
    let of_kind = |(flops, time): Kind| {
        let dense = measured().filter(|(layer, shapes)| is_dense(layer, shapes));
        let all = dense.map(|(layer, shapes)| (flops(&shapes.cost), time(&layer.time)));
        middle_rate(all)
    };
    let rates = KINDS.map(of_kind);
    let rate = |at: usize| rates[at].or(rates[0]).unwrap_or(DEFAULT_FLOPS);
    let updates = { layers.iter().zip(trained) }.filter(|(layer, _)| layer.measured);
    let updates = updates.map(|(layer, bytes)| (*bytes, layer.update));
    let update = middle_rate(updates).unwrap_or(DEFAULT_UPDATE);
    for ((layer, shapes), bytes) in layers.iter_mut().zip(shapes).zip(trained) {
        if layer.measured {
            continue;
        }
        let trains = layer.stash_bytes > 0 || layer.parameter_bytes > 0;
        let takes = |at: usize| seconds(KINDS[at].0(&shapes.cost), rate(at));
        layer.time.forward = takes(0);
        if trains {
            (layer.time.input, layer.time.weight) = (takes(1), takes(2));
        }
        layer.update = seconds(*bytes, update);
    }
}

/// Whether arithmetic outweighs what must be read and written.
fn is_dense(layer: &LayerProfile, shapes: &LayerShapes) -> bool {
    let bytes = layer.parameter_bytes + layer.output_bytes;
    shapes.cost.forward_flops >= LEAST_INTENSITY.saturating_mul(bytes)
}

/// The speed at which the middle one of all operations was done: layers with many, as those that
/// are not measured, count most.
fn middle_rate(all: impl Iterator<Item = (u64, Duration)>) -> Option<f64> {
    let useful = all.filter(|(amount, taken)| *amount > 0 && *taken > Duration::ZERO);
    let mut rates: Vec<_> = useful
        .map(|(amount, taken)| (amount as f64 / taken.as_secs_f64(), amount as f64))
        .collect();
    rates.sort_by(|one, other| one.0.total_cmp(&other.0));
    let half = rates.iter().map(|(_, amount)| amount).sum::<f64>() / 2.0;
    let mut before = 0.0;
    let middle = rates.iter().find(|(_, amount)| {
        before += amount;
        before >= half
    });
    middle.map(|(rate, _)| *rate)
}

/// As long as a clock can count, at most.
fn seconds(amount: u64, rate: f64) -> Duration {
    Duration::try_from_secs_f64(amount as f64 / rate).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_operation_counts() {
        let second = Duration::from_secs(1);
        let all = [(1, second), (2, second), (1000, second), (0, second)];
        assert_eq!(middle_rate(all.into_iter()), Some(1000.0));
        assert_eq!(middle_rate([].into_iter()), None);
    }
}
