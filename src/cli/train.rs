//! `brigade train`.

use super::breakdown::Breakdown;
use super::failure::Failure;
use super::generate::{go_on, harmless};
use super::interrupt::Interrupt;
use super::options::{OutputOptions, RunOptions, TrainOptions};
use super::output::{Output, StepLine};
use super::run_folder::RunFolder;
use super::starting::Starting;
use super::summary::{Bubble, Summary, describe, facts, peaks, sharing, tokens_per_second};
use crate::process;
use crate::report::Report;
use crate::trace::StepTrace;
use crate::{NodeReport, StepReport, Trainer};
use brigade_nn::{Sampling, TokenWindows};
use serde_json::json;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

/// How many lines a run prints for people where there is no progress bar.
const LINES: u64 = 20;
/// Steps are traced from here on: caches are warm by then.
const FIRST_TRACED: u64 = 10;
/// The speed in the progress bar is of so many steps.
const RECENT: usize = 20;

pub(super) fn train(
    options: &TrainOptions,
    settings: &str,
    to: &mut dyn Write,
) -> Result<(), Failure> {
    let starting = Starting::of(options)?;
    let decided = starting.decided(&options.run);
    let mut run = Run::start(&decided, starting, to)?;
    let trained = run.open(settings).and_then(|()| run.steps());
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

/// Whether the run leaves a folder behind.
fn writes(options: &RunOptions) -> bool {
    options.output.out.is_some() || options.output.synthetic_vocab.is_none()
}

/// A training in progress.
struct Run<'a> {
    options: &'a RunOptions,
    output: Output<'a>,
    trainer: Trainer,
    parameters: u64,
    /// What was measured to plan, in words.
    known: Option<String>,
    folder: Option<RunFolder>,
    windows: TokenWindows,
    validation: Arc<[i32]>,
    source: String,
    interrupt: Interrupt,
    steps: Vec<StepReport>,
    validations: Vec<(u64, f64)>,
    traces: Vec<StepTrace>,
}

impl<'a> Run<'a> {
    fn start(
        options: &'a RunOptions,
        starting: Starting,
        to: &'a mut dyn Write,
    ) -> Result<Self, Failure> {
        let interrupt = Interrupt::listen()?;
        let Starting {
            network,
            config,
            optimizer,
            plan,
            corpus,
            parameters,
            known,
            ..
        } = starting;
        let windows = corpus.windows(options)?;
        let trainer = Trainer::start_with_plan(&network, &config, optimizer, plan)?;
        let output = Output::new(to, options.output.json);
        Ok(Self {
            options,
            output,
            trainer,
            parameters,
            known,
            folder: None,
            windows,
            validation: corpus.validation,
            source: corpus.source,
            interrupt,
            steps: Vec::new(),
            validations: Vec::new(),
            traces: Vec::new(),
        })
    }

    /// Makes the run folder and says what is trained.
    fn open(&mut self, settings: &str) -> Result<(), Failure> {
        let (options, plan) = (self.options, self.trainer.plan());
        if writes(options) && process::is_first() {
            let out = options.output.out.as_deref();
            self.folder = Some(RunFolder::open(out, plan, settings)?);
        }
        self.output.say(&format!(
            "A GPT of {} parameters on {}\n",
            self.parameters, self.source
        ))?;
        if let Some(known) = &self.known {
            self.output.say(&format!("{known}\n"))?;
        }
        self.output.say(&describe(plan))?;
        // Lines of what happens inside would tear the bar.
        if !tracing::enabled!(tracing::Level::INFO) {
            self.output.show_progress(options.training.steps);
        }
        Ok(())
    }

    /// Trains to the end, or until somebody wants to stop.
    fn steps(&mut self) -> Result<(), Failure> {
        let steps = self.options.training.steps;
        let traced = self.traced_steps();
        for step in 0..steps {
            let report = if traced.contains(&step) {
                let (report, trace) = self.trainer.step_traced(&self.windows)?;
                self.traces.push(trace);
                report
            } else {
                self.trainer.step(&self.windows)?
            };
            let mut line = StepLine::from(&report);
            self.steps.push(report);
            let stop = self.stopped();
            let stop = self.trainer.any(stop)?;
            if step + 1 == traced.end || stop && step + 1 < traced.end {
                self.save_traces()?;
            }
            let every = self.options.output.eval_every;
            let validated = match every > 0 && (step + 1) % every == 0 && step + 1 < steps {
                true => self.validate(&mut line),
                false => Ok(()),
            };
            self.note(&line, step + 1)?;
            validated?;
            if stop {
                break;
            }
        }
        Ok(())
    }

    /// Whether nobody wants the run to go on.
    fn stopped(&self) -> bool {
        self.interrupt.asked() || self.output.is_closed()
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
        let first = FIRST_TRACED.min(steps.saturating_sub(wanted));
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
        self.report(None, None)
    }

    /// A step is written down and shown.
    fn note(&mut self, line: &StepLine, done: u64) -> Result<(), Failure> {
        if let Some(folder) = &mut self.folder {
            folder.step(line)?;
        }
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
        let in_turn = done.is_multiple_of(steps.div_ceil(LINES)) || done == 1 || done == steps;
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

    /// Saves first, then says how it went.
    fn finish(&mut self) -> Result<(), Failure> {
        if writes(self.options) {
            let path = self.folder.as_ref().map(RunFolder::weights);
            self.trainer.save_weights(path.unwrap_or_default())?;
        }
        self.report(None, None)?;
        let stopped = self.stopped();
        let stopped = self.trainer.any(stopped)?;
        let validation = match stopped {
            true => None,
            false => {
                let context = self.options.network.context;
                let all = TokenWindows::sequential(self.validation.clone(), context)?;
                let loss = self.trainer.evaluate(&all)?.loss;
                self.validations.push((self.trainer.steps() - 1, loss));
                Some(loss)
            }
        };
        let sample = self.sample(stopped)?;
        let summary = self.summary(validation)?;
        self.report(Some(&summary), sample.as_deref())?;
        self.break_down()?;
        self.output.tell(&json!({ "summary": summary }))?;
        self.say_how_it_went(&summary, sample.as_deref())
    }

    /// Says where the time went, if asked to.
    fn break_down(&mut self) -> Result<(), Failure> {
        if !self.options.output.breakdown || self.traces.is_empty() {
            return Ok(());
        }
        let config = self.options.checked_config()?;
        let with = (config.precision, config.threads_per_node);
        let breakdown = Breakdown::of(&self.traces, self.trainer.plan(), with);
        self.output.say(&format!("\n{}", breakdown.text()))?;
        self.output.tell(&json!({ "breakdown": breakdown }))
    }

    fn summary(&mut self, val_loss: Option<f64>) -> Result<Summary, Failure> {
        let ms = |step: &StepReport| step.duration.as_secs_f64() * 1e3;
        let steps_ms: Vec<_> = self.steps.iter().map(ms).collect();
        let tokens = self.options.tokens_per_step();
        let nodes = self.trainer.report()?;
        let plan = self.trainer.plan();
        Ok(Summary {
            steps: self.trainer.steps(),
            tokens_per_s: tokens_per_second(tokens, &steps_ms),
            final_loss: self.steps.last().map_or(f64::NAN, |step| step.loss),
            val_loss,
            bubble: Bubble::of(plan, &self.traces),
            peak_bytes: nodes.iter().map(|node| node.memory.peak_bytes).collect(),
            predicted_peak_bytes: plan.memory.iter().map(|node| node.peak_bytes()).collect(),
            weights_sha256: self.trainer.weights_sha256()?,
        })
    }

    /// A little text, as the network would go on after a new line.
    fn sample(&mut self, stopped: bool) -> Result<Option<String>, Failure> {
        let bytes = self.options.output.sample;
        let numbers = self.options.output.synthetic_vocab.is_some();
        if stopped || numbers || self.options.output.json || bytes == 0 {
            return Ok(None);
        }
        let sampling = Sampling {
            temperature: 0.8,
            ..Sampling::default()
        };
        let (context, mut text) = (self.options.network.context, Vec::new());
        let interrupt = &self.interrupt;
        go_on(
            &mut self.trainer,
            context,
            b"\n",
            (bytes, sampling),
            |byte| {
                text.push(harmless(byte));
                !interrupt.asked()
            },
        )?;
        Ok(Some(String::from_utf8_lossy(&text).into_owned()))
    }

    /// Writes the report, as far as the run has come.
    fn report(&mut self, summary: Option<&Summary>, sample: Option<&str>) -> Result<(), Failure> {
        if !writes(self.options) {
            return Ok(());
        }
        let nodes = self.trainer.report()?;
        self.page(&nodes, summary, sample)
    }

    fn page(
        &self,
        nodes: &[NodeReport],
        summary: Option<&Summary>,
        sample: Option<&str>,
    ) -> Result<(), Failure> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let facts = facts(self.options, &self.source, summary);
        let page = Report {
            title: "A training run",
            facts: &facts,
            plan: self.trainer.plan(),
            steps: &self.steps,
            validations: &self.validations,
            traces: &self.traces,
            nodes,
            sample,
        };
        Ok(page.save(folder.path().join("report.html"))?)
    }

    fn say_how_it_went(&mut self, summary: &Summary, sample: Option<&str>) -> Result<(), Failure> {
        let Summary {
            steps,
            final_loss,
            tokens_per_s,
            weights_sha256,
            ..
        } = summary;
        let took: f64 = self
            .steps
            .iter()
            .map(|step| step.duration.as_secs_f64())
            .sum();
        let losses = match summary.val_loss {
            Some(loss) => format!("validation loss {loss:.4}, training loss {final_loss:.4}"),
            None => format!("stopped after step {steps}, training loss {final_loss:.4}"),
        };
        self.output.say(&format!(
            "\n{losses}; {tokens_per_s:.0} tokens/s, {took:.1} s of steps"
        ))?;
        if let Some(bubble) = summary.bubble {
            self.output.say(&format!(
                "bubble {:.1}% measured in {} traced steps, {:.1}% simulated with their times{}",
                100.0 * bubble.measured,
                self.traces.len(),
                100.0 * bubble.simulated,
                sharing(self.options)
            ))?;
        }
        let nodes = self.trainer.report()?;
        self.output.say(&peaks(self.trainer.plan(), &nodes))?;
        self.output
            .say(&format!("weights_sha256 {weights_sha256}"))?;
        if let Some(sample) = sample {
            self.output
                .say(&format!("\nA sample:\n{}\n", sample.trim()))?;
        }
        if let Some(folder) = &self.folder {
            let (path, trace) = match self.traces.is_empty() {
                true => (folder.path().display(), ""),
                false => (folder.path().display(), "trace.json, "),
            };
            self.output.say(&format!(
                "{path} has report.html, {trace}weights.safetensors, losses.csv, plan.json and config.toml"
            ))?;
        }
        Ok(())
    }
}
