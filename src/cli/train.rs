//! `brigade train`.

use super::failure::Failure;
use super::options::TrainOptions;
use super::output::{Output, StepLine, Summary, describe, tokens_per_second};
use super::run_folder::RunFolder;
use super::text::Corpus;
use crate::Trainer;
use brigade_nn::TokenWindows;
use serde_json::json;
use std::io::Write;

/// How many lines a run prints for people.
const LINES: u64 = 20;

pub(super) fn train(options: &TrainOptions, to: &mut dyn Write) -> Result<(), Failure> {
    let mut output = Output {
        to,
        json: options.json,
    };
    let config = options.config()?;
    let optimizer = options.optimizer()?;
    let corpus = match options.synthetic_vocab {
        Some(vocab) => Corpus::synthetic(vocab, options.context, options.seed)?,
        None => Corpus::read(&options.data, options.context, options.out.as_deref())?,
    };
    let gpt = options.gpt(corpus.vocab);
    let network = gpt.network()?;
    let mut trainer = Trainer::start(&network, &config, optimizer)?;
    let mut folder = match (&options.out, options.synthetic_vocab) {
        (None, Some(_)) => None,
        (out, _) => Some(RunFolder::open(out.as_deref(), trainer.plan())?),
    };
    output.say(&format!(
        "A GPT of {} parameters on {}\n",
        gpt.parameters(),
        corpus.source
    ))?;
    output.say(&describe(trainer.plan()))?;

    let windows = TokenWindows::random(
        corpus.training,
        options.context,
        options.batch_size,
        options.seed,
    )?;
    let mut steps_ms = Vec::new();
    let mut final_loss = f64::NAN;
    for step in 0..options.steps {
        let line = StepLine::from(&trainer.step(&windows)?);
        if let Some(folder) = &mut folder {
            folder.step(&line)?;
        }
        output.tell(&line)?;
        let shown = (step + 1) % options.steps.div_ceil(LINES) == 0
            || step == 0
            || step + 1 == options.steps;
        if shown {
            let StepLine {
                loss,
                grad_norm,
                lr,
                step_ms,
                ..
            } = &line;
            output.say(&format!(
                "step {:>6} of {}  loss {loss:.4}  gradient norm {grad_norm:.3}  lr {lr:.2e}  {step_ms:.0} ms",
                step + 1,
                options.steps
            ))?;
        }
        final_loss = line.loss;
        steps_ms.push(line.step_ms);
    }

    // First of all nothing is lost.
    if let Some(folder) = &folder {
        folder.weights(&trainer.weights()?)?;
    }

    let validation = trainer.evaluate(&TokenWindows::sequential(
        corpus.validation,
        options.context,
    )?)?;
    let summary = Summary {
        tokens_per_s: tokens_per_second(options.batch_size * options.context, &steps_ms),
        final_loss,
        val_loss: validation.loss,
        weights_sha256: trainer.weights_sha256()?,
    };
    output.tell(&json!({ "summary": summary }))?;
    let Summary {
        tokens_per_s,
        val_loss,
        weights_sha256,
        ..
    } = &summary;
    output.say(&format!(
        "\nvalidation loss {val_loss:.4}, training loss {final_loss:.4}, {tokens_per_s:.0} tokens/s"
    ))?;
    output.say(&format!("weights_sha256 {weights_sha256}"))?;
    output.say(&peaks(&mut trainer)?)?;
    if let Some(folder) = &folder {
        output.say(&format!(
            "plan.json, losses.csv and weights.safetensors are in {}",
            folder.path().display()
        ))?;
    }
    Ok(())
}

/// What every node held at most, beside what was predicted.
fn peaks(trainer: &mut Trainer) -> Result<String, Failure> {
    let reports = trainer.report()?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let nodes: Vec<_> = (reports.iter().zip(&trainer.plan().memory))
        .map(|(report, predicted)| {
            let (peak, predicted) = (mib(report.memory.peak_bytes), mib(predicted.peak_bytes()));
            format!("{peak:.1} ({predicted:.1})")
        })
        .collect();
    Ok(format!(
        "peak MiB of every node (predicted): {}",
        nodes.join(", ")
    ))
}
