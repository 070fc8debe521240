//! Promise: measuring keeps within a node's memory, one layer at a time, and leaves out what is too
//! large.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::Config;
use brigade::layer::*;
use brigade::nn::{AdamW, Linear, MeanSquaredError};
use brigade::profile::{Effort, MOST_FLOPS, Profile};
use common::numbers;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Counts how many of its kind are alive, and looks at its node's memory.
#[derive(Clone, Debug)]
struct Watched {
    number: usize,
    flops: u64,
}

struct WatchedLayer(Param);

static ALIVE: AtomicUsize = AtomicUsize::new(0);
static MOST_ALIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
const WIDTH: usize = 4096;

impl LayerSpec for Watched {
    type Layer = WatchedLayer;
    fn params(&self) -> Vec<ParamSpec> {
        vec![ParamSpec::new("p", [WIDTH], ParamRole::Weight, Init::Ones)]
    }
    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        Ok(vec![inputs[0]])
    }
    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        Cost {
            forward_flops: self.flops,
            forward_working_bytes: inputs[0].bytes(),
            backward_working_bytes: inputs[0].bytes(),
            ..Cost::default()
        }
    }
    fn build(&self, cx: &BuildCtx<'_>) -> Result<WatchedLayer, LayerError> {
        assert!(
            self.flops <= MOST_FLOPS,
            "{} is too large to be built",
            self.number
        );
        let alive = ALIVE.fetch_add(1, Ordering::SeqCst) + 1;
        MOST_ALIVE.fetch_max(alive, Ordering::SeqCst);
        Ok(WatchedLayer(Param::build(&self.params()[0], cx)?))
    }
}

impl Drop for WatchedLayer {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Layer for WatchedLayer {
    type Stash = ();
    type Kept = ();
    fn forward(&mut self, inputs: Tensors, cx: &mut Ctx<'_>) -> Result<(Tensors, ()), LayerError> {
        PEAK.fetch_max(cx.pool().report().peak_bytes as usize, Ordering::SeqCst);
        Ok((inputs, ()))
    }
    fn backward_input(
        &mut self,
        gradients: Tensors,
        (): (),
        _: &mut Ctx<'_>,
    ) -> Result<(Tensors, ()), LayerError> {
        Ok((gradients, ()))
    }
    fn backward_weight(&mut self, (): (), cx: &mut Ctx<'_>) -> Result<(), LayerError> {
        self.0.gradient_add(cx.pool())?[0] += 1.0;
        Ok(())
    }
    fn params(&mut self, visit: &mut dyn FnMut(&mut dyn ParamAccess)) {
        visit(&mut self.0);
    }
}

/// Eight large layers that differ, the sixth with so many operations.
fn watched(flops: u64) -> Network {
    let mut builder = Network::builder()
        .input(TensorSpec::f32([6]))
        .target(TensorSpec::f32([6]))
        .layer("first", Linear::new(6, 6));
    for number in 0..8 {
        let flops = if number == 5 { flops } else { 1000 };
        builder = builder.layer(&format!("l{number}"), Watched { number, flops });
    }
    builder.loss("loss", MeanSquaredError).build().unwrap()
}

#[test]
fn measuring_keeps_within_a_node_s_memory_and_skips_what_is_too_large() {
    let optimizer = AdamW::new(1e-3);
    // Four tensors of a parameter, and a little for the rest; all layers would be eight times that.
    let limit = 4 * 4 * WIDTH + 8192;
    let measured = |flops: u64, limit: usize| {
        let config = Config {
            node_memory_bytes: Some(limit as u64),
            nodes: 2,
            batch_size: 8,
            micro_batch_size: 4,
            ..Config::default()
        };
        let (network, data) = (watched(flops), numbers(8));
        Profile::measure(&network, &data, &config, &optimizer, Effort::Quick).unwrap()
    };
    let which = |profile: &Profile| -> Vec<bool> {
        let layers = profile.sizes[0].layers.iter();
        layers.map(|layer| layer.measured).collect()
    };
    let profile = measured(1000, limit);
    assert_eq!(which(&profile), [true; 10]);
    let peak = PEAK.load(Ordering::SeqCst);
    assert!((4 * 3 * WIDTH..=limit).contains(&peak), "{peak} of {limit}");
    assert!(MOST_ALIVE.load(Ordering::SeqCst) <= 2, "one a node");
    assert_eq!(ALIVE.load(Ordering::SeqCst), 0);

    // What is too large is estimated, and not even built.
    let flops = 10 * MOST_FLOPS;
    let profile = measured(flops, limit);
    let large = &profile.sizes[0].layers[6];
    assert_eq!(
        which(&profile).iter().filter(|measured| **measured).count(),
        9
    );
    assert!(!large.measured && large.time.forward > profile.sizes[0].layers[5].time.forward);
    assert_eq!(large.parameter_bytes, 4 * WIDTH as u64);

    // Where nothing large fits, the plan says so, not the measuring.
    let profile = measured(1000, 16 * 1024);
    assert_eq!(which(&profile)[1..9], [false; 8]);
    assert!(
        profile.sizes[0]
            .layers
            .iter()
            .all(|layer| layer.time.forward > Duration::ZERO)
    );
}
