//! Promise: it fits, or it says so first, for Llamas too: what is predicted before training bounds
//! what is held.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::layer::Precision;
use brigade::nn::Llama;
use brigade::{Config, Cuts, Recompute, ScheduleKind};
use common::fitting::stays_within_its_plan;
use common::*;

#[test]
fn llamas_hold_no_more_than_planned_on_any_number_of_nodes() {
    let mut least = f64::MAX;
    // Where each part takes most: attention of long sequences, wide halves, the tokens, and groups.
    let shapes = [
        (16, 40, 8, [4, 2], 29, true),
        (16, 24, 96, [4, 1], 11, false),
        (8, 96, 4, [2, 2], 600, true),
    ];
    for (width, inner, context, [heads, kv_heads], vocab, tied) in shapes {
        let llama = Llama {
            vocab,
            context,
            width,
            inner,
            heads,
            kv_heads,
            head_width: 6,
            tied,
            dropout: 0.1,
            ..Llama::default()
        };
        let network = llama.network().unwrap();
        let data = Tokens {
            rows: 13,
            context,
            vocab: vocab as u64,
        };
        for nodes in [1, 2, 4, 8] {
            for schedule in [
                ScheduleKind::GPipe,
                ScheduleKind::OneFOneB,
                ScheduleKind::ZbH1,
                ScheduleKind::ZbV,
            ] {
                for (micro_batch_size, threads, precision, recompute) in [
                    (1, 1, Precision::F32, Recompute::Never),
                    (3, 2, Precision::F32, Recompute::Always),
                    (3, 1, Precision::Bf16, Recompute::Never),
                    (13, 2, Precision::Bf16, Recompute::Never),
                ] {
                    let config = Config {
                        micro_batch_size,
                        precision,
                        wire: precision,
                        recompute,
                        ..with(nodes, schedule, Cuts::Balanced, threads)
                    };
                    if is_legal(&network, &config) {
                        least = least.min(stays_within_its_plan(&network, &config, &data));
                    }
                }
            }
        }
    }
    println!("the least that a node held of what was predicted: {least:.2}");
}
