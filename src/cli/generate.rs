//! `brigade generate`, and the sample at the end of a training.

use super::failure::Failure;
use super::options::{number, whole};
use super::run_folder::{CONFIG, WEIGHTS, newest};
use super::tokenizer::{BYTES, Vocabulary};
use crate::{Error, Trainer};
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
    /// Tokens to generate.
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
    let (mut trainer, context, vocabulary) = load(&run, options.nodes)?;
    let mut print = |text: &str| {
        let printed = to.write_all(text.as_bytes()).and_then(|()| to.flush());
        printed.map_err(|error| Failure::printing(&error))
    };
    let to_terminal = io::stdout().is_terminal();
    let prompt = vocabulary.encode(&options.prompt)?;
    let mut printed = print(&options.prompt);
    let asked = (options.tokens, sampling);
    go_on(
        &mut trainer,
        context,
        (&vocabulary, prompt),
        asked,
        |piece| {
            if printed.is_ok() {
                printed = match to_terminal {
                    true => print(&piece.chars().map(harmless).collect::<String>()),
                    false => print(piece),
                };
            }
            printed.is_ok()
        },
    )?;
    printed.and_then(|()| print("\n"))
}

/// A character as a terminal may see it: without control characters other than ends of lines and
/// tabs.
pub(super) fn harmless(c: char) -> char {
    match c {
        '\n' | '\t' => c,
        _ if c.is_control() => '?',
        _ => c,
    }
}

/// The trained network of a run, its context, and what its tokens are as text.
fn load(run: &Path, nodes: Option<usize>) -> Result<(Trainer, usize, Vocabulary), Failure> {
    let mut options = super::options_of_run(&run.join(CONFIG))?;
    if options.output.synthetic_vocab.is_some() {
        let problem = "it was trained on random tokens: there is no text to generate";
        return Err(Failure::Other(format!("{}: {problem}", run.display())));
    }
    let file = run.join(WEIGHTS);
    if !file.exists() {
        let problem = "has no weights: the run ended before they were saved";
        return Err(Failure::Other(format!("{} {problem}", run.display())));
    }
    let vocabulary = match (Vocabulary::of_folder(run)?, options.tokens.vocab) {
        (Some(vocabulary), _) => vocabulary,
        (None, None) => Vocabulary::Bytes,
        (None, Some(_)) => {
            let problem = "was trained on token ids: put the tokenizer.json that they are of there";
            return Err(Failure::Other(format!("{} {problem}", run.display())));
        }
    };
    // Cuts of a run fit its own number of nodes only; where they are does not change the text.
    let own = options.pipeline.nodes;
    let mut config = options.checked_config()?;
    if let Some(nodes) = nodes.filter(|nodes| *nodes != own) {
        options.pipeline.nodes = nodes;
        config.nodes = nodes;
        config.cuts = crate::Cuts::Balanced;
    }
    let vocab = options.tokens.vocab.unwrap_or(BYTES);
    let network = options.network.decoder(vocab)?.network()?;
    let mut trainer = Trainer::start(&network, &config, options.training.optimizer()?)?;
    trainer
        .load_weights_file(&file)
        .map_err(|error| match error {
            Error::Plan(error) => {
                let file = file.display();
                Failure::Other(format!("{file} is not of this run's network: {error}"))
            }
            other => other.into(),
        })?;
    Ok((trainer, options.network.context, vocabulary))
}

/// Goes on where the prompt ends, token by token, for as long as `each` wants more of the text, on
/// all processes if there are several. The network sees the last `context` tokens; behind the end
/// of a shorter text stand zeros, which what comes before them does not see.
pub(super) fn go_on(
    trainer: &mut Trainer,
    context: usize,
    (vocabulary, prompt): (&Vocabulary, Vec<i32>),
    (count, sampling): (usize, Sampling),
    mut each: impl FnMut(&str) -> bool,
) -> Result<(), Failure> {
    let (mut tokens, mut decoding) = (prompt, vocabulary.decoding());
    if tokens.is_empty() {
        tokens = vocabulary.encode("\n")?;
        tokens.truncate(1);
        tokens.resize(1, 0);
    }
    // What the first token is as text may depend on the prompt.
    for token in &tokens {
        decoding.push(*token)?;
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
        let enough = !each(&decoding.push(token)?);
        if trainer.any(enough)? {
            return Ok(());
        }
    }
    each(&decoding.finish()?);
    Ok(())
}
