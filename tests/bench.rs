//! Promise: layers and steps can be measured, as often as asked for.
#![allow(missing_docs, clippy::unwrap_used)]

use brigade::bench::{Layers, steps};
use brigade::layer::{Batch, Tensor, TensorSpec};
use brigade::nn::{AdamW, Gpt, MeanSquaredError, Mlp, TokenWindows};
use brigade::{Config, Trainer};
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
