//! `brigade train`.

use super::config_file::Decided;
use super::failure::Failure;
use super::interrupt::Interrupt;
use super::options::{OutputOptions, RunOptions, TrainOptions, counted};
use super::output::{Output, StepLine, warn};
use super::run_folder::RunFolder;
use super::starting::Starting;
use super::summary::{describe, tokens_per_second};
use super::tokenizer::Vocabulary;
use crate::process;
use crate::trace::StepTrace;
use crate::{Config, Fault, SaveTo, StepReport, Trainer};
use brigade_layer::{Network, Optimizer};
use brigade_nn::{Decoder, TokenWindows, Tokens};
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

mod drill;
mod finish;
mod from;
mod saving;

use from::From;

/// How many lines a run prints for people where there is no progress bar.
const LINES: u64 = 20;
/// Steps are traced from here on: caches are warm by then.
const FIRST_TRACED: u64 = 10;
/// After fewer steps, or longer ones, a prediction is not worth measuring layers for.
const LEAST_STEPS: usize = 10;
const LONG_STEP: Duration = Duration::from_secs(2);
/// The speed in the progress bar is of so many steps.
const RECENT: usize = 20;

pub(super) fn train(
    options: &TrainOptions,
    settings: &dyn Fn(&Decided) -> String,
    to: &mut dyn Write,
) -> Result<(), Failure> {
    let (mut from, mut options) = (From::of(options)?, options.clone());
    if let Some(folder) = from.folder() {
        options.run.output.out = Some(folder.to_owned());
    }
    if let Some(run) = from.run() {
        options.run.network.go_on(run)?;
        options.run.tokens.go_on(run);
    }
    if from.folder().is_none() {
        leaves_its_origin(&options.run)?;
    }
    let options = &options;
    let starting = Starting::of(options)?;
    let settings = settings(&starting.settings(options));
    let decided = starting.decided(&options.run);
    let mut left = decided.saving.retries;
    let mut fault = drill::wanted(starting.config.nodes)?;
    if left > 0 && process::count() > 1 {
        if process::is_first() {
            warn(
                "--retries is for one process; over MPI a job ends as a whole, and \
                 docs/launch/again starts it again",
            );
        }
        left = 0;
    }
    let interrupt = Interrupt::listen()?;
    loop {
        let starting = (starting.clone(), fault.take());
        let how = (&*settings, &mut from, &interrupt);
        let failure = match attempt(&decided, starting, how, to) {
            Err(failure @ Failure::Node(_)) if left > 0 && !interrupt.asked() => failure,
            ended => return ended,
        };
        left -= 1;
        from = from.again(failure, left)?;
    }
}

/// What a training starts from is not to be overwritten by it.
fn leaves_its_origin(options: &RunOptions) -> Result<(), Failure> {
    let (from, out) = (&options.network.from, &options.output.out);
    let Some((from, out)) = from.as_ref().zip(out.as_ref()) else {
        return Ok(());
    };
    let known = |path: &Path| path.canonicalize().ok();
    match known(from).is_some_and(|from| Some(from) == known(out)) {
        false => Ok(()),
        true => Err(Failure::Usage(format!(
            "--out {} is the model that --from starts from; give another folder",
            out.display()
        ))),
    }
}

/// Trains from where it is to go on, to the end or to a failure.
fn attempt(
    options: &RunOptions,
    (starting, fault): (Starting, Option<Fault>),
    (settings, from, interrupt): (&str, &mut From, &Interrupt),
    to: &mut dyn Write,
) -> Result<(), Failure> {
    let mut run = Run::start(options, (starting, fault), (to, interrupt))?;
    let trained = run.open(settings, from).and_then(|()| run.steps());
    run.output.end_progress();
    let cut_short = trained.is_err();
    let finished = trained.and_then(|()| run.finish());
    if let Err(failure) = &finished {
        run.trainer.give_up(failure);
        if cut_short {
            // What there is may say why.
            let _ = run.page(&[], None, None);
        }
    }
    finished
}

/// A training in progress.
struct Run<'a> {
    options: &'a RunOptions,
    output: Output<'a>,
    trainer: Trainer,
    network: Network,
    config: Config,
    optimizer: Arc<dyn Optimizer>,
    decoder: Decoder,
    /// What was measured to plan, in words.
    known: Option<String>,
    folder: Option<RunFolder>,
    windows: TokenWindows,
    validation: Tokens,
    /// What tokens are as text, if that is known.
    vocabulary: Option<Arc<Vocabulary>>,
    source: String,
    /// What it trains on, with its digest.
    data: String,
    interrupt: &'a Interrupt,
    /// Whether it was said that something cannot be written.
    warned: bool,
    /// Where checkpoints go, if the run leaves a folder behind.
    saves: Option<SaveTo>,
    /// The last checkpoint, and after how many steps it was saved.
    saved: Option<(u64, PathBuf)>,
    /// Steps that were taken before this start.
    earlier: Vec<StepReport>,
    steps: Vec<StepReport>,
    validations: Vec<(u64, f64)>,
    traces: Vec<StepTrace>,
}

impl<'a> Run<'a> {
    fn start(
        options: &'a RunOptions,
        (starting, fault): (Starting, Option<Fault>),
        (to, interrupt): (&'a mut dyn Write, &'a Interrupt),
    ) -> Result<Self, Failure> {
        let Starting {
            network,
            config,
            optimizer,
            plan,
            corpus,
            decoder,
            known,
            ..
        } = starting;
        let windows = corpus.windows(options)?;
        let mut trainer =
            Trainer::start_drilled(&network, &config, optimizer.clone(), plan, fault)?;
        trainer.stop_on(interrupt.flag());
        let output = Output::new(to, options.output.json);
        Ok(Self {
            options,
            output,
            trainer,
            network,
            config,
            optimizer,
            decoder,
            known,
            folder: None,
            windows,
            data: corpus.digest()?,
            validation: corpus.validation,
            vocabulary: corpus.vocabulary,
            source: corpus.source,
            interrupt,
            warned: false,
            saves: None,
            saved: None,
            earlier: Vec::new(),
            steps: Vec::new(),
            validations: Vec::new(),
            traces: Vec::new(),
        })
    }

    /// Makes the run folder and says what is trained.
    fn open(&mut self, settings: &str, from: &mut From) -> Result<(), Failure> {
        self.go_on_from(settings, from)?;
        let (options, plan) = (self.options, self.trainer.plan());
        self.output.say(&format!(
            "A {} of {} on {}\n",
            self.decoder.family(),
            counted(&self.network),
            self.source
        ))?;
        if let Some(known) = &self.known {
            self.output.say(&format!("{known}\n"))?;
        }
        self.output.say(&describe(plan))?;
        // Lines of what happens inside would tear the bar.
        if !tracing::enabled!(tracing::Level::INFO) {
            let (steps, done) = (options.training.steps, self.trainer.steps());
            self.output.show_progress(steps, done);
        }
        Ok(())
    }

    /// Trains to the end, or until somebody wants to stop.
    fn steps(&mut self) -> Result<(), Failure> {
        let steps = self.options.training.steps;
        let traced = self.traced_steps();
        for step in self.trainer.steps()..steps {
            self.heed_output();
            let report = if traced.contains(&step) {
                let (report, trace) = self.trainer.step_traced(&self.windows)?;
                self.traces.push(trace);
                report
            } else {
                self.trainer.step(&self.windows)?
            };
            let mut line = StepLine::from(&report);
            let (stop, saved) = (report.stop, report.saved.clone());
            self.steps.push(report);
            let saved = saved.map_or(Ok(()), |saved| self.heed_saved(*saved, &mut line));
            if step + 1 == traced.end || stop && step + 1 < traced.end {
                let written = self.save_traces();
                self.mind(written)?;
            }
            let every = self.options.output.eval_every;
            let validated = match every > 0 && (step + 1) % every == 0 && step + 1 < steps {
                true => self.validate(&mut line),
                false => Ok(()),
            };
            self.note(&line, step + 1)?;
            saved.and(validated)?;
            // Its line is there before it is.
            if self.options.saves_after(step + 1) && !stop {
                self.save_beside()?;
            }
            if stop {
                break;
            }
        }
        Ok(())
    }

    /// Without a reader of its lines nobody wants the run to go on.
    fn heed_output(&self) {
        if self.output.is_closed() {
            self.interrupt.ask();
        }
    }

    fn save_traces(&self) -> Result<(), Failure> {
        match (&self.folder, &self.traces[..]) {
            (Some(folder), [_, ..]) => folder.traces(self.trainer.plan(), &self.traces),
            _ => Ok(()),
        }
    }

    /// Which steps are traced.
    fn traced_steps(&self) -> Range<u64> {
        let (steps, wanted) = (self.options.training.steps, self.options.output.trace_steps);
        let done = self.trainer.steps();
        let first = (done + FIRST_TRACED)
            .min(steps.saturating_sub(wanted))
            .max(done);
        first..(first + wanted).min(steps)
    }

    /// Loss over some windows of the validation text.
    fn validate(&mut self, line: &mut StepLine) -> Result<(), Failure> {
        let OutputOptions { eval_windows, .. } = self.options.output;
        let context = self.options.network.context;
        let all = TokenWindows::sequential(self.validation.clone(), context)?;
        let windows = all.at_most(eval_windows);
        let loss = self.trainer.evaluate(&windows)?.loss;
        self.validations.push((line.step, loss));
        line.val_loss = Some(loss);
        let written = self.report(None, None);
        self.mind(written)
    }

    /// A step is written down and shown.
    fn note(&mut self, line: &StepLine, done: u64) -> Result<(), Failure> {
        let written = self.folder.as_mut().map(|folder| folder.step(line));
        self.mind(written.unwrap_or(Ok(())))?;
        self.output.tell(line)?;
        let recent = &self.steps[self.steps.len().saturating_sub(RECENT)..];
        let recent: Vec<_> = recent
            .iter()
            .map(|step| step.duration.as_secs_f64() * 1e3)
            .collect();
        let tokens = self.options.tokens_per_step();
        self.output
            .advance(line, tokens_per_second(tokens, &recent));
        let steps = self.options.training.steps;
        if let Some(skipped) = &line.skipped {
            self.output
                .say(&format!("step {done:>6} of {steps}  skipped: {skipped}"))?;
        }
        let in_turn = done.is_multiple_of(steps.div_ceil(LINES)) || done == 1 || done == steps;
        let in_turn = in_turn && line.skipped.is_none();
        if line.val_loss.is_none() && (self.output.bar_is_enough() || !in_turn) {
            return Ok(());
        }
        let StepLine {
            loss,
            grad_norm,
            lr,
            step_ms,
            ..
        } = line;
        let validated =
            (line.val_loss).map_or(String::new(), |loss| format!("  validation {loss:.4}"));
        self.output.say(&format!(
            "step {done:>6} of {steps}  loss {loss:.4}  gradient norm {grad_norm:.3}  \
             lr {lr:.2e}  {step_ms:.0} ms{validated}"
        ))
    }
}
