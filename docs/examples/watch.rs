//! Training watched step by step: the loop is yours, so watching is plain calls.
//!
//! `cargo run --release --example watch`

use brigade::nn::{AdamW, Gpt, TokenWindows};
use brigade::schedule::render;
use brigade::trace::{kernel_times, layer_times, median_times, save_perfetto};
use brigade::{Config, Trainer};
use std::sync::Arc;

const PATIENCE: u32 = 3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = include_bytes!("../ARCHITECTURE.md");
    let tokens: Vec<i32> = text.iter().map(|byte| i32::from(*byte)).collect();
    let (training, validation) = tokens.split_at(tokens.len() * 9 / 10);
    let gpt = Gpt::default();
    let training = TokenWindows::random(Arc::from(training), gpt.context, 16, 1)?;
    let validation = TokenWindows::sequential(Arc::from(validation), gpt.context)?;

    let config = Config {
        nodes: 3,
        batch_size: 16,
        micro_batch_size: 2,
        clip: Some(1.0),
        ..Config::default()
    };
    let mut trainer = Trainer::start(&gpt.network()?, &config, AdamW::new(3e-3))?;

    // Every step says what it did; what to do about it is decided here.
    let (mut best, mut without_progress) = (f64::INFINITY, 0);
    while without_progress < PATIENCE && trainer.steps() < 600 {
        let report = trainer.step(&training)?;
        if report.gradient_norm > 10.0 {
            println!(
                "step {}: a gradient of {:.1}",
                report.step, report.gradient_norm
            );
        }
        if trainer.steps().is_multiple_of(40) {
            let evaluation = trainer.evaluate(&validation)?;
            println!(
                "step {:>3}: loss {:.3}, validation {:.3}, {:?} a step",
                report.step, report.loss, evaluation.loss, report.duration
            );
            let better = evaluation.loss < best;
            without_progress = if better { 0 } else { without_progress + 1 };
            best = best.min(evaluation.loss);
        }
    }
    println!(
        "the best validation loss was {best:.3}; stopped at {}",
        trainer.steps()
    );

    // A few more steps with notes on every action, layer and kernel: the same numbers.
    let mut traces = Vec::new();
    for _ in 0..3 {
        traces.push(trainer.step_traced(&training)?.1);
    }
    let plan = trainer.plan();
    let times = median_times(&traces, plan);
    let simulated = plan.simulate(&times)?;
    let measured = traces[1].timeline();
    println!("\nmeasured, bubble {:.0}%:", 100.0 * measured.bubble());
    print!("{}", render(&measured, 72));
    println!(
        "simulated with the same times, bubble {:.0}%:",
        100.0 * simulated.bubble()
    );
    print!("{}", render(&simulated, 72));

    println!("\nF, I and W of every layer for one micro-batch:");
    for (key, time) in plan
        .layers
        .iter()
        .zip(layer_times(&traces, plan.layers.len()))
    {
        let [forward, input, weight] = [time.forward, time.input, time.weight];
        println!("{key:<10} {forward:>10.1?} {input:>10.1?} {weight:>10.1?}");
    }
    println!("\nkernels of a step:");
    for (kernel, time) in kernel_times(&traces) {
        println!("{kernel:<14} {time:>10.1?}");
    }
    let file = std::env::temp_dir().join("brigade-watch.json");
    save_perfetto(&file, plan, &traces)?;
    println!(
        "\nopen {} in ui.perfetto.dev or chrome://tracing",
        file.display()
    );
    Ok(())
}
