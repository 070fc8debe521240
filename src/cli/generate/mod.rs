//! `brigade generate`, and the sample at the end of a training.

use super::alike;
use super::failure::Failure;
use super::model::Model;
use super::options::{number, whole};
use super::run_folder::newest;
use super::tokenizer::{BYTES, Vocabulary};
use crate::plan::hex;
use crate::planner::units::bytes;
use crate::{Config, Generation, Trainer};
use brigade_nn::{Decoder, Sampling};
use clap::{Args, ValueHint};
use sha2::{Digest, Sha256};
use speed::Speed;
use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

mod speed;

/// Up to here all of a model's context is taken.
const LONG_CONTEXT: usize = 4096;
/// Of a longer one no less than this, in steps of so many.
const LEAST_CONTEXT: usize = 2048;
const CONTEXT_STEP: usize = 256;

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
    /// Tokens that the network sees at most, for which every node takes memory before the first
    /// one; unless given the model's context, of one above 4096 what prompt and text need, 2048 or
    /// more.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<usize>)]
    context: Option<usize>,
    /// Bytes that a node may hold, as 512MiB or 2GiB; a plan that needs more is refused.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    node_memory: Option<u64>,
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
    let model = Model::of(&run)?;
    let config = options.config(&model)?;
    let read = vocabulary(&model).and_then(|vocabulary| {
        let prompt = beginning(&vocabulary, &options.prompt)?;
        Ok((vocabulary, prompt))
    });
    alike::tokens(&digest(&read), config.deadline())?;
    let (vocabulary, prompt) = read?;
    let decoder = options.shortened(&model.decoder, prompt.len())?;
    let mut trainer = Trainer::start_inference(&decoder.network()?, &config)?;
    model.load(&mut trainer)?;
    let mut print = |text: &str| {
        if options.json {
            return Ok(());
        }
        let printed = to.write_all(text.as_bytes()).and_then(|()| to.flush());
        printed.map_err(|error| Failure::printing(&error))
    };
    let to_terminal = io::stdout().is_terminal();
    let (mut printed, mut text) = (print(&options.prompt), String::new());
    let mut speed = Speed::new(prompt.len(), decoder.context());
    let asked = (options.tokens, sampling);
    let tokens = go_on(&mut trainer, &vocabulary, &prompt, asked, |token, piece| {
        if token.is_some() {
            speed.saw_token();
        }
        let before = text.len();
        text.push_str(piece);
        let stopped = options.stopped_at(&text, before);
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
    /// Where the text is to end, if that has come with what is behind its first bytes.
    fn stopped_at(&self, text: &str, before: usize) -> Option<usize> {
        let stop = self.stop.as_ref().filter(|stop| !stop.is_empty())?;
        let first = before.saturating_sub(stop.len());
        let from = (0..=first).rev().find(|at| text.is_char_boundary(*at))?;
        Some(from + text[from..].find(stop.as_str())? + stop.len())
    }

    /// How a model's nodes are to generate.
    fn config(&self, model: &Model) -> Result<Config, Failure> {
        // Cuts of a run fit its own number of nodes only; where they are does not change the text.
        let own = model.options.pipeline.nodes;
        let mut config = model.options.checked_config()?;
        config.threads_per_node = self.threads_per_node.unwrap_or(config.threads_per_node);
        config.node_memory_bytes = self.node_memory.or(config.node_memory_bytes);
        if let Some(nodes) = self.nodes.filter(|nodes| *nodes != own) {
            config.nodes = nodes;
            config.cuts = crate::Cuts::Balanced;
        }
        Ok(config)
    }

    /// The network, with no longer a context than is wanted: nodes take memory for all of it.
    fn shortened(&self, decoder: &Decoder, prompt: usize) -> Result<Decoder, Failure> {
        let own = decoder.context();
        let context = match self.context {
            Some(context) if (1..=own).contains(&context) => context,
            Some(context) => {
                let problem = format!("--context is {context}; it must be between 1 and {own}");
                return Err(Failure::Usage(problem));
            }
            None if own <= LONG_CONTEXT => return Ok(decoder.clone()),
            None => {
                let needed = prompt.saturating_add(self.tokens).max(LEAST_CONTEXT);
                let whole = needed.checked_next_multiple_of(CONTEXT_STEP);
                whole.unwrap_or(own).min(own)
            }
        };
        Ok(decoder.with_context(context)?)
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

/// What the tokens of a trained network stand for.
fn vocabulary(model: &Model) -> Result<Vocabulary, Failure> {
    let (options, folder) = (&model.options, &model.folder);
    if options.output.synthetic_vocab.is_some() {
        let problem = "it was trained on random tokens: there is no text to generate";
        return Err(Failure::Other(format!("{}: {problem}", folder.display())));
    }
    if model.is_run {
        model.weights()?;
    }
    let ids = options.tokens.vocab.is_some() || model.decoder.vocab() != BYTES;
    match Vocabulary::of_folder(folder)? {
        Some(vocabulary) => Ok(vocabulary),
        None if !ids => Ok(Vocabulary::Bytes),
        None => {
            let problem = "is for token ids: put the tokenizer.json that they are of there";
            Err(Failure::Other(format!("{} {problem}", folder.display())))
        }
    }
}

/// What tokens are and those of the prompt, or why they are not known.
fn digest(read: &Result<(Vocabulary, Vec<i32>), Failure>) -> String {
    match read {
        Ok((vocabulary, prompt)) => {
            let bytes: Vec<u8> = prompt.iter().flat_map(|it| it.to_le_bytes()).collect();
            let prompt = hex(&Sha256::digest(bytes));
            let tokenizer = vocabulary.sha256();
            let tokenizer = tokenizer.map_or("bytes".into(), |it| format!("tokenizer.json {it}"));
            format!("{tokenizer}, a prompt of tokens {prompt} (SHA-256)")
        }
        Err(failure) => format!("none ({failure})"),
    }
}

/// Goes on where `prompt` ends, token by token, for as long as `each` wants more of the text, on
/// all processes if there are several. What a token adds is nothing where a character goes on in
/// the next one; what is left of one at the end comes without a token.
pub(super) fn go_on(
    trainer: &mut Trainer,
    vocabulary: &Vocabulary,
    prompt: &[i32],
    (tokens, sampling): (usize, Sampling),
    mut each: impl FnMut(Option<i32>, &str) -> bool,
) -> Result<Vec<i32>, Failure> {
    let generation = Generation {
        tokens,
        ..Generation::default()
    };
    let mut decoding = vocabulary.decoding();
    // What the first token is as text may depend on the prompt.
    let mut prompt_tokens = prompt.iter();
    let mut failed = prompt_tokens.find_map(|token| decoding.push(*token).err());
    let choose = |logits: &[f32], draw| sampling.choose(logits, draw);
    let generated = trainer.generate(prompt, &generation, choose, |token| {
        if failed.is_some() {
            return ControlFlow::Break(());
        }
        match decoding.push(token) {
            Ok(piece) if each(Some(token), &piece) => return ControlFlow::Continue(()),
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
        each(None, &rest);
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use brigade_nn::Llama;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: GenerateOptions,
    }

    fn options(line: &str) -> GenerateOptions {
        let line = ["generate"].into_iter().chain(line.split_whitespace());
        Line::parse_from(line).options
    }

    #[test]
    fn the_context_is_no_longer_than_what_it_is_for() {
        let context = |own: usize, line: &str, prompt: usize| {
            let llama = Llama {
                context: own,
                ..Llama::default()
            };
            let shortened = options(line).shortened(&llama.into(), prompt);
            shortened
                .map(|decoder| decoder.context())
                .map_err(|it| it.to_string())
        };
        assert_eq!(context(64, "", 1000), Ok(64));
        assert_eq!(context(4096, "", 1), Ok(4096));
        assert_eq!(context(131_072, "", 1), Ok(2048));
        assert_eq!(context(131_072, "--tokens 3000", 7), Ok(3072));
        assert_eq!(context(8192, "--tokens 9000", 7), Ok(8192));
        assert_eq!(context(8192, "--tokens 18446744073709551615", 7), Ok(8192));
        assert_eq!(context(131_072, "--context 50", 100), Ok(50));
        for wrong in ["--context 0", "--context 65"] {
            let problem = context(64, wrong, 1).unwrap_err();
            assert!(problem.contains("between 1 and 64"), "{problem}");
        }
    }

    #[test]
    fn a_stop_is_found_wherever_it_is_in_pieces() {
        let options = options("--stop €€b");
        for pieces in [
            &["a€€bc"][..],
            &["a€", "€b", "c"],
            &["ééé€€", "b"],
            &["€", "€", "b"],
        ] {
            let (mut text, mut stopped) = (String::new(), None);
            for piece in pieces {
                let before = text.len();
                text += piece;
                stopped = stopped.or(options.stopped_at(&text, before));
            }
            assert_eq!(stopped.map(|at| text[..at].ends_with("€€b")), Some(true));
        }
        assert_eq!(options.stopped_at("aé€€", 3), None);
    }
}
