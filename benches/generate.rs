//! What a token costs beside its arithmetic, and what the whole costs.
//!
//! 1. A network of next to nothing (width 8, three histories) on 1, 2 and 4 nodes: microseconds a
//!    token. Prediction: a token is a command to every node, a hop between neighbours and an answer
//!    to who asked: with a core for each, two thread wake-ups (5 to 10 us each, nothing while they
//!    still spin) and a hop for each node more. At most 20 us on one node, 15 more for every node.
//!    Where nodes share cores, a hop is a switch of threads as well.
//! 2. Decoders in the style of GPT-2, 8 layers of width 256, byte tokens, on one node with one
//!    thread: tokens a second of the prompt and afterwards. Prediction: a token reads all 6.4
//!    million weights once, 26 MB, which come from the caches or from memory at 10 to 20 GB/s: 400
//!    to 800 tokens a second.
//!
//! `cargo bench --bench generate`, or with `-- engine` or `-- gpt` only one of them.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/common/mod.rs"]
mod common;

use brigade::layer::Network;
use brigade::nn::{Gpt, Sampling};
use brigade::{Config, Generation, Trainer};
use common::history::{History, prompt, storyteller};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

fn main() {
    let names = std::env::args().skip(1);
    let names: Vec<String> = names.filter(|name| !name.starts_with('-')).collect();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|given| given == name);
    if wanted("engine") {
        for nodes in [1, 2, 4] {
            let network = storyteller(128, History::default());
            let [_, token] = times(&network, nodes, 16, 100);
            let micros = token.as_secs_f64() * 1e6;
            println!("engine, {nodes} nodes: {micros:.1} us a token");
        }
    }
    if wanted("gpt") {
        let gpt = Gpt {
            vocab: 256,
            context: 512,
            width: 256,
            heads: 4,
            blocks: 8,
            tied: false,
            dropout: 0.0,
            ..Gpt::default()
        };
        for nodes in [1, 2] {
            let [first, token] = times(&gpt.network().unwrap(), nodes, 128, 128);
            let prompt = 128.0 / first.as_secs_f64();
            let rest = 1.0 / token.as_secs_f64();
            println!("GPT, {nodes} nodes: prompt {prompt:.0} tokens/s, then {rest:.0} tokens/s");
        }
    }
}

/// Until the first token, and the median of those after it, of the best of five sequences.
fn times(network: &Network, nodes: usize, length: usize, tokens: usize) -> [Duration; 2] {
    let config = Config {
        nodes,
        batch_size: 1,
        micro_batch_size: 1,
        ..Config::default()
    };
    let mut trainer = Trainer::start_inference(network, &config).unwrap();
    let generation = Generation {
        tokens,
        ..Generation::default()
    };
    let greedy = Sampling {
        temperature: 0.0,
        ..Sampling::default()
    };
    let choose = |logits: &[f32], draw| greedy.choose(logits, draw);
    let mut best = [Duration::MAX; 2];
    for _ in 0..5 {
        let mut came = vec![Instant::now()];
        let each = |_| {
            came.push(Instant::now());
            ControlFlow::Continue(())
        };
        (trainer.generate(&prompt(length), &generation, choose, each)).unwrap();
        let mut each: Vec<_> = came.windows(2).map(|two| two[1] - two[0]).collect();
        let first = each.remove(0);
        each.sort();
        let both = [first, each[each.len() / 2]];
        best = std::array::from_fn(|at| best[at].min(both[at]));
    }
    best
}
