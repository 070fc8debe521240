//! Promise: a Llama, too, trains to the same numbers bit for bit, whatever the partition, schedule,
//! number of nodes and threads, transport and recomputation.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::layer::{Network, Precision};
use brigade::nn::{Llama, Rotary, RotaryScaling};
use common::precisions::from_any_pipeline;
use common::*;

const STEPS: usize = 4;

/// Grouped heads, a scaled rotation, a tied head, dropout: 8 layers.
fn llama(tied: bool) -> (Network, Tokens) {
    let scaling = RotaryScaling::Llama3 {
        factor: 8.0,
        low_frequency_factor: 1.0,
        high_frequency_factor: 4.0,
        original_context: 16,
    };
    let llama = Llama {
        vocab: 29,
        context: 8,
        width: 16,
        inner: 40,
        heads: 4,
        kv_heads: 2,
        head_width: 6,
        tied,
        attention_biases: !tied,
        rotary: Rotary {
            theta: 100.0,
            scaling,
        },
        dropout: 0.1,
        ..Llama::default()
    };
    let (_, data) = small_gpt();
    (llama.network().unwrap(), data)
}

#[test]
fn weights_losses_and_norms_do_not_depend_on_nodes_schedule_or_threads() {
    for tied in [true, false] {
        let (network, data) = llama(tied);
        assert_eq!(network.layers().len(), 8);
        let pairs = [(1, 2), (2, 1), (3, 1), (4, 2), (8, 1)];
        independence::of_nodes_and_threads(&network, (&data, STEPS), &pairs);
    }
}

#[test]
fn they_do_not_depend_on_cuts_transport_or_recomputation() {
    let (network, data) = llama(true);
    independence::of_cuts_transport_and_recomputation(&network, (&data, STEPS));
}

/// Heads that are computed in every way there is here.
#[test]
fn neither_precision_nor_rounded_messages_let_the_cut_show() {
    let llama = Llama {
        vocab: 96,
        context: 64,
        width: 128,
        inner: 336,
        heads: 4,
        kv_heads: 2,
        head_width: 32,
        dropout: 0.1,
        ..Llama::default()
    };
    let network = llama.network().unwrap();
    let data = Tokens {
        rows: 13,
        context: 64,
        vocab: 96,
    };
    for precision in [Precision::F32, Precision::Bf16] {
        from_any_pipeline(&network, (precision, precision), &data);
    }
}
