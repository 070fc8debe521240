//! `brigade generate`, and the sample at the end of a training.

use super::failure::Failure;
use super::model::Model;
use super::options::{number, whole};
use super::run_folder::newest;
use crate::Trainer;
use brigade_layer::{Batch, Tensor};
use brigade_nn::Sampling;
use clap::{Args, ValueHint};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Args)]
pub(super) struct GenerateOptions {
    /// Run folder; the newest of runs/1, runs/2, ... unless given.
    #[arg(value_name = "RUN", value_hint = ValueHint::DirPath)]
    run: Option<PathBuf>,
    /// What the text starts with.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "\n",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    prompt: String,
    /// Bytes to generate.
    #[arg(
        long, value_name = "N", default_value = "500",
        allow_negative_numbers = true, value_parser = whole::<usize>
    )]
    tokens: usize,
    /// Below 1 the likely becomes likelier; at 0 the likeliest is taken.
    #[arg(
        long, value_name = "T", default_value = "0.8", allow_negative_numbers = true,
        value_parser = number::<f64>
    )]
    temperature: f64,
    /// Draw only from so many; 0 for all.
    #[arg(
        long, value_name = "K", default_value = "0",
        allow_negative_numbers = true, value_parser = whole::<usize>
    )]
    top_k: usize,
    /// Seed of the draws.
    #[arg(
        long, value_name = "N", default_value = "1",
        allow_negative_numbers = true, value_parser = whole::<u64>
    )]
    seed: u64,
    /// Pipeline nodes; as many as the run had unless given. The text is the same.
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = whole::<usize>)]
    nodes: Option<usize>,
}

pub(super) fn generate(options: &GenerateOptions, to: &mut dyn Write) -> Result<(), Failure> {
    let sampling = Sampling {
        temperature: options.temperature,
        top_k: options.top_k,
        seed: options.seed,
    };
    if sampling.validate().is_err() {
        let problem = format!(
            "--temperature is {}; it must be 0 or more",
            options.temperature
        );
        return Err(Failure::Usage(problem));
    }
    let run = match &options.run {
        Some(run) => run.clone(),
        None => newest(Path::new("runs"))?,
    };
    let (mut trainer, context) = load(&run, options.nodes)?;
    let mut print = |bytes: &[u8]| {
        let printed = to.write_all(bytes).and_then(|()| to.flush());
        printed.map_err(|error| Failure::printing(&error))
    };
    let to_terminal = io::stdout().is_terminal();
    let prompt = options.prompt.as_bytes();
    let mut printed = print(prompt);
    go_on(
        &mut trainer,
        context,
        prompt,
        (options.tokens, sampling),
        |byte| {
            if printed.is_ok() {
                printed = print(&[match to_terminal {
                    true => harmless(byte),
                    false => byte,
                }]);
            }
            printed.is_ok()
        },
    )?;
    printed.and_then(|()| print(b"\n"))
}

/// A byte as a terminal may see it: without control characters other than ends of lines and tabs.
pub(super) fn harmless(byte: u8) -> u8 {
    match byte {
        b'\n' | b'\t' => byte,
        _ if byte.is_ascii_control() => b'?',
        _ => byte,
    }
}

/// The trained network of a run, and its context.
fn load(run: &Path, nodes: Option<usize>) -> Result<(Trainer, usize), Failure> {
    let model = Model::of(run)?;
    let mut options = model.options.clone();
    if options.output.synthetic_vocab.is_some() {
        let problem = "it was trained on random tokens: there is no text to generate";
        return Err(Failure::Other(format!("{}: {problem}", run.display())));
    }
    if model.is_run {
        model.weights()?;
    }
    // Cuts of a run fit its own number of nodes only; where they are does not change the text.
    let own = options.pipeline.nodes;
    let mut config = options.checked_config()?;
    if let Some(nodes) = nodes.filter(|nodes| *nodes != own) {
        options.pipeline.nodes = nodes;
        config.nodes = nodes;
        config.cuts = crate::Cuts::Balanced;
    }
    let network = model.decoder.network()?;
    let mut trainer = Trainer::start(&network, &config, options.training.optimizer()?)?;
    model.load(&mut trainer)?;
    Ok((trainer, model.decoder.context()))
}

/// Goes on where `prompt` ends, byte by byte, for as long as `each` wants more, on all processes if
/// there are several. The network sees
/// the last `context` bytes; behind the end of a shorter text stand zeros, which what comes before
/// them does not see.
pub(super) fn go_on(
    trainer: &mut Trainer,
    context: usize,
    prompt: &[u8],
    (count, sampling): (usize, Sampling),
    mut each: impl FnMut(u8) -> bool,
) -> Result<(), Failure> {
    let mut tokens: Vec<i32> = prompt.iter().map(|byte| i32::from(*byte)).collect();
    if tokens.is_empty() {
        tokens.push(i32::from(b'\n'));
    }
    for draw in 0..count as u64 {
        let seen = &tokens[tokens.len().saturating_sub(context)..];
        let mut window = seen.to_vec();
        window.resize(context, 0);
        let window = Tensor::from_vec([1, context], window)?;
        let logits = trainer.predict(&Batch::new(window.clone(), window)?)?;
        let vocab = logits.shape().last();
        let row = &logits.f32()?[(seen.len() - 1) * vocab..][..vocab];
        let token = sampling.choose(row, draw);
        let token = token.map_err(|error| Failure::Other(error.to_string()))?;
        tokens.push(token);
        let enough = !each(token as u8);
        if trainer.any(enough)? {
            break;
        }
    }
    Ok(())
}
