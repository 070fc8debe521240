//! `brigade generate`, and the sample at the end of a training.

use super::failure::Failure;
use super::options::{number, whole};
use super::run_folder::{CONFIG, WEIGHTS, newest};
use super::text::BYTES;
use super::vocabulary::Vocabulary;
use crate::{Error, Generation, Trainer, process};
use brigade_nn::Sampling;
use clap::{Args, ValueHint};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

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
    /// Tokens to generate, at most; a token is a byte.
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
    let mut prompt = vocabulary.tokens_of(&options.prompt);
    if prompt.is_empty() {
        prompt = vocabulary.tokens_of("\n");
    }
    let mut print = |bytes: &[u8]| {
        if options.json {
            return Ok(());
        }
        let printed = to.write_all(bytes).and_then(|()| to.flush());
        printed.map_err(|error| Failure::printing(&error))
    };
    let to_terminal = io::stdout().is_terminal();
    let (mut printed, mut text) = (print(options.prompt.as_bytes()), Vec::new());
    let mut speed = Speed::new(prompt.len());
    let tokens = go_on(&mut trainer, &prompt, (options.tokens, sampling), |token| {
        speed.saw_token();
        let mut new = vocabulary.text_of(&[token]);
        text.extend(&new);
        if to_terminal {
            new.iter_mut().for_each(|byte| *byte = harmless(*byte));
        }
        if printed.is_ok() {
            printed = print(&new);
        }
        let stop = options.stop.as_ref().filter(|stop| !stop.is_empty());
        printed.is_ok() && !stop.is_some_and(|stop| text.ends_with(stop.as_bytes()))
    })?;
    printed.and_then(|()| print(b"\n"))?;
    speed.say();
    if options.json {
        let text = String::from_utf8_lossy(&text);
        let line = speed.line(&options.prompt, &text, &tokens);
        let line = serde_json::to_string(&line);
        super::output::print(
            to,
            &line.map_err(|error| Failure::Other(error.to_string()))?,
        )?;
    }
    Ok(())
}

impl GenerateOptions {
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

/// How fast it goes.
struct Speed {
    prompt: usize,
    started: Instant,
    /// When the first and the last token came, and how many.
    came: Option<(Instant, Instant, usize)>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Line<'a> {
    prompt: &'a str,
    text: &'a str,
    tokens: &'a [i32],
    prompt_tokens: usize,
    /// From the beginning to the first token.
    prompt_tokens_per_s: Option<f64>,
    /// From the first token to the last.
    tokens_per_s: Option<f64>,
}

impl Speed {
    fn new(prompt: usize) -> Self {
        let (started, came) = (Instant::now(), None);
        Self {
            prompt,
            started,
            came,
        }
    }

    fn saw_token(&mut self) {
        let now = Instant::now();
        let (first, _, count) = self.came.unwrap_or((now, now, 0));
        self.came = Some((first, now, count + 1));
    }

    /// Tokens a second of the prompt and of what follows, where there was enough of it.
    fn per_second(&self) -> [Option<f64>; 2] {
        let Some((first, last, count)) = self.came else {
            return [None; 2];
        };
        let rate = |tokens: usize, seconds: f64| {
            (tokens > 0 && seconds > 0.0).then(|| tokens as f64 / seconds)
        };
        [
            rate(self.prompt, (first - self.started).as_secs_f64()),
            rate(count - 1, (last - first).as_secs_f64()),
        ]
    }

    /// A line for people who watch.
    fn say(&self) {
        let [prompt, rest] = self.per_second().map(|rate| match rate {
            Some(rate) => format!("{rate:.0} tokens/s"),
            None => "too short to measure".into(),
        });
        let line = format!("prompt {prompt}, then {rest}");
        match io::stderr().is_terminal() && process::is_first() {
            true => drop(writeln!(io::stderr(), "{line}")),
            false => tracing::info!("{line}"),
        }
    }

    fn line<'a>(&self, prompt: &'a str, text: &'a str, tokens: &'a [i32]) -> Line<'a> {
        let [prompt_tokens_per_s, tokens_per_s] = self.per_second();
        Line {
            prompt,
            text,
            tokens,
            prompt_tokens: self.prompt,
            prompt_tokens_per_s,
            tokens_per_s,
        }
    }
}

/// A byte as a terminal may see it: without control characters other than ends of lines and tabs.
pub(super) fn harmless(byte: u8) -> u8 {
    match byte {
        b'\n' | b'\t' => byte,
        _ if byte.is_ascii_control() => b'?',
        _ => byte,
    }
}

/// The trained network of a run, and what its tokens stand for.
fn load(
    run: &Path,
    (nodes, threads): (Option<usize>, Option<usize>),
) -> Result<(Trainer, Vocabulary), Failure> {
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
    // Cuts of a run fit its own number of nodes only; where they are does not change the text.
    let own = options.pipeline.nodes;
    let mut config = options.checked_config()?;
    config.threads_per_node = threads.unwrap_or(config.threads_per_node);
    if let Some(nodes) = nodes.filter(|nodes| *nodes != own) {
        options.pipeline.nodes = nodes;
        config.nodes = nodes;
        config.cuts = crate::Cuts::Balanced;
    }
    let network = options.network.decoder(BYTES)?.network()?;
    let mut trainer = Trainer::start_inference(&network, &config)?;
    trainer
        .load_weights_file(&file)
        .map_err(|error| match error {
            Error::Plan(error) => {
                let file = file.display();
                Failure::Other(format!("{file} is not of this run's network: {error}"))
            }
            other => other.into(),
        })?;
    Ok((trainer, Vocabulary::Bytes))
}

/// Goes on where `prompt` ends, token by token, for as long as `each` wants more, on all processes
/// if there are several.
pub(super) fn go_on(
    trainer: &mut Trainer,
    prompt: &[i32],
    (tokens, sampling): (usize, Sampling),
    mut each: impl FnMut(i32) -> bool,
) -> Result<Vec<i32>, Failure> {
    let generation = Generation {
        tokens,
        ..Generation::default()
    };
    let choose = |logits: &[f32], draw| sampling.choose(logits, draw);
    let generated = trainer.generate(prompt, &generation, choose, |token| match each(token) {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    });
    Ok(generated?.tokens)
}
