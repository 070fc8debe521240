//! Promise: it fits, or it says so first, for Llamas too: what is predicted before training bounds
//! what is held.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::nn::Llama;
use common::fitting::stays_within_many_plans;
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
        least = least.min(stays_within_many_plans(&network, &data));
    }
    println!("the least that a node held of what was predicted: {least:.2}");
}
