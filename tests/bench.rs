//! Promise: layers can be measured one at a time, and a plan simulated with what they take.
#![allow(missing_docs, clippy::unwrap_used)]

use brigade::bench::{Layers, Profile, steps};
use brigade::layer::{Batch, Tensor, TensorSpec};
use brigade::nn::{AdamW, Gpt, MeanSquaredError, Mlp, TokenWindows};
use brigade::{Config, Plan, Trainer};
use std::time::Duration;

fn gpt() -> (brigade::layer::Network, TokenWindows) {
    let gpt = Gpt {
        context: 8,
        width: 16,
        blocks: 3,
        ..Gpt::default()
    };
    let tokens: Vec<i32> = (0..500).map(|n| n * 7 % 256).collect();
    let data = TokenWindows::random(tokens, 8, 8, 1).unwrap();
    (gpt.network().unwrap(), data)
}

/// Of three equal blocks only one is built; the embedding and the head differ.
#[test]
fn equal_layers_are_measured_once() {
    let (network, data) = gpt();
    let mut layers = Layers::new(&network, &data, 4).unwrap();
    let mut keys = Vec::new();
    for layer in layers.by_ref() {
        let mut layer = layer.unwrap();
        keys.push(layer.key().to_owned());
        for taken in [
            layer.forward(2).unwrap(),
            layer.backward_input(2).unwrap(),
            layer.backward_weight(2).unwrap(),
            layer.update(&AdamW::new(1e-3)).unwrap(),
        ] {
            assert!(taken < Duration::from_secs(5));
        }
    }
    assert_eq!(
        keys,
        ["embed", "h.0.attn", "h.0.mlp", "ln_f", "lm_head", "loss"]
    );
    let kinds: Vec<_> = layers.kinds().iter().map(|kind| kind.get()).collect();
    assert_eq!(kinds, [0, 1, 2, 1, 2, 1, 2, 7, 8, 9]);
}

#[test]
fn a_profile_covers_every_layer_and_simulates_a_plan() {
    let (network, data) = gpt();
    let optimizer = AdamW::new(1e-3);
    for threads in [1, 2] {
        let each = Duration::from_millis(1);
        let config = Config {
            micro_batch_size: 4,
            threads_per_node: threads,
            ..Config::default()
        };
        let profile = Profile::measure(&network, &data, &config, &optimizer, each).unwrap();
        assert_eq!(profile.layers.len(), 10);
        assert_eq!(profile.layers[1], profile.layers[5], "of one kind");
        assert!(
            profile
                .layers
                .iter()
                .all(|layer| layer.total() > Duration::ZERO)
        );
        let config = Config {
            nodes: 3,
            batch_size: 8,
            ..Config::default()
        };
        let plan = Plan::new(&network, &config, &optimizer).unwrap();
        let timeline = profile.simulate(&plan).unwrap();
        assert_eq!(timeline.nodes.len(), 3);
        // Two micro-batches through every layer, however they overlap.
        let work: f64 = profile
            .layers
            .iter()
            .map(|layer| 2.0 * layer.total().as_secs_f64())
            .sum();
        assert!(timeline.makespan >= work / 3.0 && (0.0..1.0).contains(&timeline.bubble()));
    }
}

#[test]
fn steps_are_taken_as_often_as_asked_for() {
    let points = Tensor::from_vec([8, 1], vec![0.5; 8]).unwrap();
    let data = Batch::new(points.clone(), points).unwrap();
    let network = Mlp::new([1, 4, 1])
        .network(MeanSquaredError, TensorSpec::f32([1]))
        .unwrap();
    let config = Config {
        batch_size: 8,
        ..Config::default()
    };
    let mut trainer = Trainer::start(&network, &config, AdamW::new(1e-3)).unwrap();
    assert!(steps(&mut trainer, &data, 3).unwrap() > Duration::ZERO);
    assert_eq!(trainer.steps(), 3);
    assert!(
        Layers::new(&network, &data, 9).is_err(),
        "more rows than there are"
    );
}
