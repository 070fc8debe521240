//! Promise: what the planner says of networks and schedules that others have published is what they
//! published.
//!
//! # Source
//! Narayanan et al.: "Efficient large-scale language model training on GPU clusters using
//! Megatron-LM", 2021, arXiv 2104.04473: the bubble of interleaving (section 2.2.2) and table 1.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::nn::{Gpt, Sgd};
use brigade::planner::{Planner, Space};
use brigade::{Config, Cuts, ScheduleKind};
use common::planning::described;

/// Blocks, width, heads, billions of parameters.
const TABLE_1: [(usize, usize, usize, f64); 10] = [
    (24, 2304, 24, 1.7),
    (30, 3072, 32, 3.6),
    (36, 4096, 32, 7.5),
    (40, 6144, 48, 18.4),
    (48, 8192, 64, 39.1),
    (60, 10_240, 80, 76.1),
    (80, 12_288, 96, 145.6),
    (96, 16_384, 128, 310.1),
    (105, 20_480, 128, 529.6),
    (128, 25_600, 160, 1008.0),
];

#[test]
fn networks_have_as_many_parameters_as_published() {
    for (blocks, width, heads, billions) in TABLE_1 {
        let gpt = Gpt {
            vocab: 51_200,
            context: 2048,
            width,
            heads,
            blocks,
            ..Gpt::default()
        };
        let network = gpt.network().unwrap();
        let counted: u64 = network
            .params()
            .iter()
            .map(|(_, param)| param.bytes() / 4)
            .sum();
        assert_eq!(counted, gpt.parameters());
        let found = (counted as f64 / 1e8).round() / 10.0;
        assert_eq!(
            found, billions,
            "{blocks} blocks of width {width}: {counted}"
        );
    }
}

/// Idle time over computing time is (p - 1) / (v m).
#[test]
fn interleaving_is_as_idle_as_published() {
    for nodes in [2usize, 4, 8] {
        for chunks in [1usize, 2, 4] {
            for times in [1, 2, 4] {
                let micro_batches = nodes * times;
                let layers = described(nodes * chunks, |_| [1.0, 1.0, 1.0]);
                let network = layers.network().unwrap();
                let config = Config {
                    nodes,
                    chunks: (chunks > 1).then_some(chunks),
                    schedule: match chunks {
                        1 => ScheduleKind::OneFOneB,
                        _ => ScheduleKind::Interleaved1F1B,
                    },
                    batch_size: micro_batches,
                    micro_batch_size: 1,
                    cuts: Cuts::Uniform,
                    ..Config::default()
                };
                let profile = layers.profile(&config).unwrap();
                let optimizer = Sgd::default();
                let planner = Planner::new(&network, &config, &optimizer, &profile).unwrap();
                let planned = planner.space(Space::only(&config)).plan().unwrap();
                let best = &planned.candidates[0];
                let published = (nodes - 1) as f64 / (chunks * micro_batches) as f64;
                let found = best.step_time / best.work - 1.0;
                assert!(
                    (found - published).abs() < 1e-9,
                    "{nodes} nodes, {chunks} chunks, {micro_batches}: {found} {published}"
                );
            }
        }
    }
}
