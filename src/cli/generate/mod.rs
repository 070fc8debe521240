//! `brigade generate`, and the sample at the end of a training.

use super::failure::Failure;
use super::model::Model;
use super::options::{number, whole};
use super::run_folder::newest;
use super::tokenizer::{BYTES, Vocabulary};
use crate::{Generation, Trainer};
use brigade_nn::Sampling;
use clap::{Args, ValueHint};
use speed::Speed;
use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

mod speed;

#[derive(Clone, Debug, Args)]
pub(super) struct GenerateOptions {
    /// Run folder, or one of Hugging Face; the newest of runs/1, runs/2, ... unless given.
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
    /// Tokens to generate, at most.
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
    /// Draw only from the likeliest, as few as reach this probability together; 1 for all.
    #[arg(
        long, value_name = "P", default_value = "1", allow_negative_numbers = true,
        value_parser = number::<f64>
    )]
    top_p: f64,
    /// Seed of the draws.
    #[arg(
        long, value_name = "N", default_value = "1",
        allow_negative_numbers = true, value_parser = whole::<u64>
    )]
    seed: u64,
    /// The text ends behind this.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Option<String>,
    /// Pipeline nodes; as many as the run had unless given. The text is the same.
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = whole::<usize>)]
    nodes: Option<usize>,
    /// Threads of each node; as many as the run had unless given. The text is the same.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<usize>)]
    threads_per_node: Option<usize>,
    /// One JSON object at the end instead of the text as it comes.
    #[arg(long)]
    json: bool,
}

pub(super) fn generate(options: &GenerateOptions, to: &mut dyn Write) -> Result<(), Failure> {
    let sampling = options.sampling()?;
    let run = match &options.run {
        Some(run) => run.clone(),
        None => newest(Path::new("runs"))?,
    };
    let (mut trainer, vocabulary) = load(&run, (options.nodes, options.threads_per_node))?;
    let prompt = beginning(&vocabulary, &options.prompt)?;
    let mut print = |text: &str| {
        if options.json {
            return Ok(());
        }
        let printed = to.write_all(text.as_bytes()).and_then(|()| to.flush());
        printed.map_err(|error| Failure::printing(&error))
    };
    let to_terminal = io::stdout().is_terminal();
    let (mut printed, mut text) = (print(&options.prompt), String::new());
    let mut speed = Speed::new(prompt.len());
    let asked = (options.tokens, sampling);
    let tokens = go_on(&mut trainer, &vocabulary, &prompt, asked, |piece| {
        speed.saw_token();
        let before = text.len();
        text.push_str(piece);
        let stopped = options.stopped_at(&text);
        text.truncate(stopped.unwrap_or(text.len()));
        if printed.is_ok() {
            let new = text.get(before..).unwrap_or_default();
            printed = match to_terminal {
                true => print(&new.chars().map(harmless).collect::<String>()),
                false => print(new),
            };
        }
        printed.is_ok() && stopped.is_none()
    })?;
    printed.and_then(|()| print("\n"))?;
    speed.say();
    if options.json {
        let line = serde_json::to_string(&speed.line(&options.prompt, &text, &tokens));
        let line = line.map_err(|error| Failure::Other(error.to_string()))?;
        super::output::print(to, &line)?;
    }
    Ok(())
}

impl GenerateOptions {
    /// Where the text is to end, if that has come.
    fn stopped_at(&self, text: &str) -> Option<usize> {
        let stop = self.stop.as_ref().filter(|stop| !stop.is_empty())?;
        Some(text.find(stop.as_str())? + stop.len())
    }

    fn sampling(&self) -> Result<Sampling, Failure> {
        let sampling = Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            seed: self.seed,
        };
        if sampling.validate().is_ok() {
            return Ok(sampling);
        }
        let wrong = |option, value, allowed| format!("--{option} is {value}; it must be {allowed}");
        Err(Failure::Usage(match sampling.temperature >= 0.0 {
            true => wrong("top-p", self.top_p, "above 0 and at most 1"),
            false => wrong("temperature", self.temperature, "0 or more"),
        }))
    }
}

/// The tokens of what a text begins with: of nothing, those of a new line.
pub(super) fn beginning(vocabulary: &Vocabulary, prompt: &str) -> Result<Vec<i32>, Failure> {
    let mut tokens = vocabulary.encode(prompt)?;
    if tokens.is_empty() {
        tokens = vocabulary.encode("\n")?;
    }
    if tokens.is_empty() {
        // A tokenizer that makes nothing of a new line.
        tokens.push(0);
    }
    Ok(tokens)
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

/// The trained network of a run or of Hugging Face, and what its tokens stand for.
fn load(
    folder: &Path,
    (nodes, threads): (Option<usize>, Option<usize>),
) -> Result<(Trainer, Vocabulary), Failure> {
    let model = Model::of(folder)?;
    let options = &model.options;
    if options.output.synthetic_vocab.is_some() {
        let problem = "it was trained on random tokens: there is no text to generate";
        return Err(Failure::Other(format!("{}: {problem}", folder.display())));
    }
    if model.is_run {
        model.weights()?;
    }
    let ids = options.tokens.vocab.is_some() || model.decoder.vocab() != BYTES;
    let vocabulary = match Vocabulary::of_folder(folder)? {
        Some(vocabulary) => vocabulary,
        None if !ids => Vocabulary::Bytes,
        None => {
            let problem = "is for token ids: put the tokenizer.json that they are of there";
            return Err(Failure::Other(format!("{} {problem}", folder.display())));
        }
    };
    // Cuts of a run fit its own number of nodes only; where they are does not change the text.
    let own = options.pipeline.nodes;
    let mut config = options.checked_config()?;
    config.threads_per_node = threads.unwrap_or(config.threads_per_node);
    if let Some(nodes) = nodes.filter(|nodes| *nodes != own) {
        config.nodes = nodes;
        config.cuts = crate::Cuts::Balanced;
    }
    let network = model.decoder.network()?;
    let mut trainer = Trainer::start_inference(&network, &config)?;
    model.load(&mut trainer)?;
    Ok((trainer, vocabulary))
}

/// Goes on where `prompt` ends, token by token, for as long as `each` wants more of the text, on
/// all processes if there are several. What a token adds is nothing where a character goes on in
/// the next one.
pub(super) fn go_on(
    trainer: &mut Trainer,
    vocabulary: &Vocabulary,
    prompt: &[i32],
    (tokens, sampling): (usize, Sampling),
    mut each: impl FnMut(&str) -> bool,
) -> Result<Vec<i32>, Failure> {
    let generation = Generation {
        tokens,
        ..Generation::default()
    };
    let (mut decoding, mut failed) = (vocabulary.decoding(), None);
    // What the first token is as text may depend on the prompt.
    for token in prompt {
        decoding.push(*token)?;
    }
    let choose = |logits: &[f32], draw| sampling.choose(logits, draw);
    let generated = trainer.generate(prompt, &generation, choose, |token| {
        match decoding.push(token) {
            Ok(piece) if each(&piece) => return ControlFlow::Continue(()),
            Ok(_) => {}
            Err(failure) => failed = Some(failure),
        }
        ControlFlow::Break(())
    });
    let tokens = generated?.tokens;
    if let Some(failure) = failed {
        return Err(failure);
    }
    let rest = decoding.finish()?;
    if !rest.is_empty() {
        each(&rest);
    }
    Ok(tokens)
}
