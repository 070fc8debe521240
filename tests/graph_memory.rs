//! Promise: whatever the graph, the cut, the schedule, what is computed again, what is frozen and
//! how tensors travel, no node holds more than was predicted.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::layer::{From, Network, NetworkBuilder, Precision, Random, TensorSpec};
use brigade::{Config, Cuts, Recompute, ScheduleKind, Trainer, nn};
use common::*;
use std::ops::Range;

const WIDTH: usize = 16;
/// Tensors are larger than weights.
const ROWS: usize = 64;

/// Draws that follow from a number.
struct Draws(Random, u32);

impl Draws {
    fn new(number: u64) -> Self {
        Self(Random::named(number, "graphs and their memory"), 0)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.1 += 1;
        self.0.below(0, self.1, bound as u64) as usize
    }

    /// So many of the numbers from 1 on and below `bound`, ascending.
    fn ascending(&mut self, count: usize, bound: usize) -> Vec<usize> {
        let mut numbers: Vec<_> = (1..bound).collect();
        while numbers.len() > count {
            let gone = self.below(numbers.len());
            numbers.remove(gone);
        }
        numbers
    }
}

fn named(layer: usize) -> String {
    format!("{layer}")
}

/// Every layer reads the one before it; of several inputs the others are any, some of them twice.
fn graph(draws: &mut Draws, layers: usize) -> Network {
    let mut network = Network::builder()
        .input(TensorSpec::f32([WIDTH]))
        .target(TensorSpec::f32([WIDTH]))
        .layer("0", nn::Linear::new(WIDTH, WIDTH));
    for layer in 1..layers {
        network = any_layer(network, draws, layer);
    }
    network.loss("loss", nn::MeanSquaredError).build().unwrap()
}

fn any_layer(network: NetworkBuilder, draws: &mut Draws, layer: usize) -> NetworkBuilder {
    let key = named(layer);
    let kind = draws.below(9);
    let others = match kind {
        0..5 => 0,
        _ => 1 + draws.below(3),
    };
    let read: Vec<_> = (0..others).map(|_| named(draws.below(layer))).collect();
    let mut inputs = vec![From::Previous];
    inputs.extend(read.iter().map(|key| From::Layer(key)));
    match kind {
        0 | 1 => network.layer(&key, nn::Linear::new(WIDTH, WIDTH)),
        2 => network.layer(&key, nn::Activation::Relu),
        3 => network.layer(&key, nn::LayerNorm::new(WIDTH)),
        4 => network.layer(&key, nn::Dropout::new(0.1)),
        5 => network.layer_from(&key, toy(), &inputs),
        6 => network.layer_from(&key, nn::Sum::new().relu(), &inputs),
        _ => network.layer_from(&key, nn::Sum::new(), &inputs),
    }
}

/// Ranges of layers that do not meet.
fn segments(draws: &mut Draws, layers: usize) -> Vec<Range<usize>> {
    let count = 2 * (1 + draws.below(2));
    let ends = draws.ascending(count, layers);
    ends.chunks_exact(2).map(|ends| ends[0]..ends[1]).collect()
}

fn any_config(draws: &mut Draws, layers: usize) -> Config {
    let schedule = ScheduleKind::ALL[draws.below(ScheduleKind::ALL.len())];
    let nodes = 1 + draws.below(4);
    let recompute = match draws.below(4) {
        0 => Recompute::Always,
        1 | 2 => Recompute::Layers(segments(draws, layers)),
        _ => Recompute::Never,
    };
    let wire = [Precision::F32, Precision::Bf16][draws.below(2)];
    let mut config = Config {
        batch_size: 4 * ROWS + 3,
        micro_batch_size: ROWS,
        recompute,
        wire,
        ..with(nodes, schedule, Cuts::Uniform, 1 + draws.below(2))
    };
    let nodes = config.node_count();
    if let Ok(placement) = brigade::schedule::Schedule::place(&schedule, nodes, None) {
        let stages = placement.stages().index();
        if stages <= layers {
            config.cuts = Cuts::Before(draws.ascending(stages - 1, layers));
        }
    }
    config
}

#[test]
fn no_node_of_any_graph_holds_more_than_predicted() {
    let graphs = std::env::var("BRIGADE_TIMES").map_or(100, |times| times.parse().unwrap());
    let (mut tried, mut failed) = (0, Vec::new());
    for number in 0..graphs {
        let mut draws = Draws::new(number);
        let layers = 6 + draws.below(12);
        let mut network = graph(&mut draws, layers);
        let config = any_config(&mut draws, layers);
        if draws.below(2) == 0 {
            let frozen: Vec<_> = (0..layers).map(|_| draws.below(3) == 0).collect();
            let is_frozen = |key: &str| key.parse().is_ok_and(|layer: usize| frozen[layer]);
            network = network.freeze(is_frozen).unwrap_or(network);
        }
        if !is_legal(&network, &config) {
            continue;
        }
        let data = Numbers {
            rows: config.batch_size,
            inputs: WIDTH,
            targets: WIDTH,
        };
        let mut trainer = Trainer::start(&network, &config, adamw()).unwrap();
        trainer.step(&data).unwrap();
        trainer.evaluate(&data).unwrap();
        trainer.predict(&data).unwrap();
        trainer.step(&data).unwrap();
        let held = trainer.report().unwrap();
        for (held, memory) in held.iter().zip(&trainer.plan().memory) {
            let (held, predicted) = (held.memory.peak_bytes, memory.peak_bytes());
            if held > predicted {
                failed.push(format!("graph {number}: {held} of {predicted}, {config:?}"));
            }
        }
        tried += 1;
    }
    assert!(tried > graphs / 2, "{tried}");
    assert!(failed.is_empty(), "{failed:#?}");
}
