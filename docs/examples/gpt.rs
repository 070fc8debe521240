//! A GPT on a text, over four nodes, from the library.
//!
//! `cargo run --release --example gpt [FILE]`

use brigade::nn::{AdamW, Gpt, LearningRate, TokenWindows};
use brigade::schedule::{Times, render};
use brigade::{Config, Trainer};
use std::sync::Arc;

const STEPS: u64 = 200;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "docs/ARCHITECTURE.md".into());
    let tokens: Arc<[i32]> = std::fs::read(&file)?.into_iter().map(i32::from).collect();

    let gpt = Gpt {
        width: 96,
        blocks: 3,
        tied: true,
        dropout: 0.05,
        ..Gpt::default()
    };
    let network = gpt.network()?;
    let config = Config {
        nodes: 4,
        batch_size: 16,
        micro_batch_size: 2,
        clip: Some(1.0),
        ..Config::default()
    };
    let lr = LearningRate::Cosine {
        peak: 3e-3,
        min: 3e-4,
        warmup_steps: 20,
        steps: STEPS,
    };
    let mut trainer = Trainer::start(
        &network,
        &config,
        AdamW {
            weight_decay: 0.1,
            ..AdamW::new(lr)
        },
    )?;

    let plan = trainer.plan();
    for node in plan.layout.nodes().iter() {
        let layers: Vec<_> = plan.layers_on(node).collect();
        println!("node {node}: {}", layers.join(", "));
    }
    let times = Times::equal(4, 1.0, 1.0, 1.0);
    let simulation = plan.simulate(&times)?;
    print!("{}", render(&simulation, 72));

    let windows = TokenWindows::random(tokens.clone(), gpt.context, 16, 1)?;
    for _ in 0..STEPS {
        let report = trainer.step(&windows)?;
        if report.step.get() % 20 == 0 {
            println!(
                "step {:>3}  loss {:.4}  {:?}",
                report.step, report.loss, report.duration
            );
        }
    }
    let all = trainer.evaluate(&TokenWindows::sequential(tokens, gpt.context)?)?;
    println!(
        "loss over the whole text {:.4}, {:?}",
        all.loss, all.metrics
    );
    Ok(())
}
