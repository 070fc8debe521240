//! Micro-batches of sizes that were not measured.
//!
//! ```text
//! between two measured sizes   on the straight line between them, by rows
//! outside                      as the nearest, by operations
//! ```

use super::{LayerProfile, Profile, SizeProfile, estimate, message_bytes, trained_bytes};
use crate::trace::LayerTime;
use brigade_layer::{Cost, LayerError, LayerShapes, Network};
use std::borrow::Cow;
use std::time::Duration;

impl Profile {
    /// What the layers take for micro-batches of `rows` rows: as measured, on the line between the
    /// two nearest sizes, or, outside of what was measured, as the nearest size by the operations
    /// that the network's layers say. Layers that say none take as much a row.
    ///
    /// # Errors
    /// When the network cannot take so many rows.
    pub fn at(&self, network: &Network, rows: usize) -> Result<SizeProfile, LayerError> {
        if let Some(size) = self.sizes.iter().find(|size| size.rows == rows) {
            return Ok(size.clone());
        }
        let shapes = network.infer(rows)?;
        let mut size = match (self.around(rows), self.nearest(rows)) {
            (Some((below, above)), _) => between(below, above, rows),
            (None, Some(nearest)) => {
                let known = network.infer(nearest.rows)?;
                let mut size = proportional(nearest, rows);
                let layers = nearest.layers.iter().zip(&mut size.layers);
                for ((known, shapes), (from, to)) in known.iter().zip(&shapes).zip(layers) {
                    by_operations(from, to, [known, shapes]);
                }
                size
            }
            (None, None) => described(network, &shapes, rows),
        };
        size.message_bytes = message_bytes(network, &shapes);
        Ok(size)
    }

    /// With [`at`](Self::at) of so many rows among its sizes: [`times`](Self::times) of plans with
    /// such micro-batches are of that.
    ///
    /// # Errors
    /// As [`at`](Self::at).
    pub fn sized(mut self, network: &Network, rows: usize) -> Result<Self, LayerError> {
        if self.sizes.iter().all(|size| size.rows != rows) {
            self.sizes.push(self.at(network, rows)?);
            self.sizes.sort_by_key(|size| size.rows);
        }
        Ok(self)
    }

    /// Without the network: all in proportion to the rows.
    pub(super) fn by_rows(&self, rows: usize) -> Cow<'_, SizeProfile> {
        if let Some(size) = self.sizes.iter().find(|size| size.rows == rows) {
            return Cow::Borrowed(size);
        }
        Cow::Owned(match (self.around(rows), self.nearest(rows)) {
            (Some((below, above)), _) => between(below, above, rows),
            (None, Some(nearest)) => proportional(nearest, rows),
            (None, None) => SizeProfile::default(),
        })
    }

    /// The sizes on both sides.
    fn around(&self, rows: usize) -> Option<(&SizeProfile, &SizeProfile)> {
        let below = self.sizes.iter().filter(|size| size.rows < rows);
        let above = self.sizes.iter().filter(|size| size.rows > rows);
        let below = below.max_by_key(|size| size.rows)?;
        Some((below, above.min_by_key(|size| size.rows)?))
    }

    fn nearest(&self, rows: usize) -> Option<&SizeProfile> {
        self.sizes
            .iter()
            .min_by_key(|size| size.rows.abs_diff(rows))
    }
}

/// Nothing was measured at all.
fn described(network: &Network, shapes: &[LayerShapes], rows: usize) -> SizeProfile {
    let layers = shapes.iter().enumerate();
    let layers = layers.map(|(at, shapes)| LayerProfile::described(network, at, Some(shapes)));
    let mut layers: Vec<_> = layers.collect();
    estimate::fill_in(&mut layers, shapes, &trained_bytes(network));
    SizeProfile {
        rows,
        layers,
        message_bytes: Vec::new(),
        exact: Vec::new(),
    }
}

fn between(below: &SizeProfile, above: &SizeProfile, rows: usize) -> SizeProfile {
    let share = (rows - below.rows) as f64 / (above.rows - below.rows) as f64;
    let time = |below: Duration, above: Duration| {
        let (below, above) = (below.as_secs_f64(), above.as_secs_f64());
        duration(below + share * (above - below))
    };
    let bytes = |below: u64, above: u64| {
        (below as f64 + share * (above as f64 - below as f64)).round() as u64
    };
    let layer = |(below, above): (&LayerProfile, &LayerProfile)| LayerProfile {
        key: below.key.clone(),
        measured: below.measured && above.measured,
        time: LayerTime {
            forward: time(below.time.forward, above.time.forward),
            input: time(below.time.input, above.time.input),
            weight: time(below.time.weight, above.time.weight),
        },
        update: time(below.update, above.update),
        parameter_bytes: below.parameter_bytes,
        stash_bytes: bytes(below.stash_bytes, above.stash_bytes),
        kept_bytes: bytes(below.kept_bytes, above.kept_bytes),
        output_bytes: bytes(below.output_bytes, above.output_bytes),
    };
    let messages = below.message_bytes.iter().zip(&above.message_bytes);
    SizeProfile {
        rows,
        layers: below.layers.iter().zip(&above.layers).map(layer).collect(),
        message_bytes: messages
            .map(|(below, above)| bytes(*below, *above))
            .collect(),
        exact: Vec::new(),
    }
}

/// Everything by the rows, but for what belongs to the parameters.
fn proportional(from: &SizeProfile, rows: usize) -> SizeProfile {
    let factor = rows as f64 / from.rows.max(1) as f64;
    let bytes = |bytes: u64| (factor * bytes as f64).round() as u64;
    let layer = |layer: &LayerProfile| LayerProfile {
        measured: false,
        time: LayerTime {
            forward: times(layer.time.forward, factor),
            input: times(layer.time.input, factor),
            weight: times(layer.time.weight, factor),
        },
        stash_bytes: bytes(layer.stash_bytes),
        kept_bytes: bytes(layer.kept_bytes),
        output_bytes: bytes(layer.output_bytes),
        ..layer.clone()
    };
    SizeProfile {
        rows,
        layers: from.layers.iter().map(layer).collect(),
        message_bytes: from.message_bytes.iter().map(|b| bytes(*b)).collect(),
        exact: Vec::new(),
    }
}

/// What the description of the layer says for both sizes counts more than the rows.
fn by_operations(from: &LayerProfile, to: &mut LayerProfile, shapes: [&LayerShapes; 2]) {
    let ratio = |part: fn(&Cost) -> u64| {
        let [known, wanted] = shapes.map(|shapes| part(&shapes.cost) as f64);
        (known > 0.0).then_some(wanted / known)
    };
    let time = |to: &mut Duration, from: Duration, part: fn(&Cost) -> u64| {
        if let Some(ratio) = ratio(part) {
            *to = times(from, ratio);
        }
    };
    let bytes = |to: &mut u64, from: u64, part: fn(&Cost) -> u64| {
        if let Some(ratio) = ratio(part) {
            *to = (ratio * from as f64).round() as u64;
        }
    };
    time(&mut to.time.forward, from.time.forward, |cost| {
        cost.forward_flops
    });
    time(&mut to.time.input, from.time.input, |cost| cost.input_flops);
    time(&mut to.time.weight, from.time.weight, |cost| {
        cost.weight_flops
    });
    bytes(&mut to.stash_bytes, from.stash_bytes, |cost| {
        cost.stash_bytes
    });
    bytes(&mut to.kept_bytes, from.kept_bytes, |cost| cost.kept_bytes);
    to.output_bytes = shapes[1].output_bytes();
}

fn times(time: Duration, factor: f64) -> Duration {
    duration(factor * time.as_secs_f64())
}

/// As long as a clock can count, at most.
fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}
