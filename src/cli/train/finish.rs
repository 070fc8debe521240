//! The end of a training: what is saved and said.

use super::{LEAST_STEPS, LONG_STEP, Run};
use crate::cli::breakdown::Breakdown;
use crate::cli::failure::Failure;
use crate::cli::generate::{beginning, go_on, harmless};
use crate::cli::run_folder::RunFolder;
use crate::cli::subject::Known;
use crate::cli::summary::{Bubble, Summary, facts, peaks, sharing, tokens_per_second, usual_step};
use crate::process;
use crate::report::Report;
use crate::{Error, NodeReport, Predicted, StepReport};
use brigade_nn::{Sampling, TokenWindows};
use serde_json::json;
use std::time::Duration;

impl Run<'_> {
    /// Saves first, then says how it went.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        self.heed_output();
        let stopped = self.trainer.any(self.interrupt.asked())?;
        self.save_last(stopped)?;
        if self.options.writes() {
            let path = self.folder.as_ref().map(RunFolder::weights);
            self.trainer.save_weights(path.unwrap_or_default())?;
        }
        self.report(None, None)?;
        let validation = match stopped {
            true => None,
            false => {
                let context = self.options.network.context;
                let all = TokenWindows::sequential(self.validation.clone(), context)?;
                let loss = self.trainer.evaluate(&all)?.loss;
                self.validations
                    .push((self.trainer.steps().saturating_sub(1), loss));
                Some(loss)
            }
        };
        let sample = self.sample(validation)?;
        let expected = self.expected(stopped)?;
        let summary = self.summary(validation, expected)?;
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

    /// What a step was expected to take: as planned, or as layers that are measured by themselves
    /// say now, where that takes no longer than a few steps.
    fn expected(&self, stopped: bool) -> Result<Option<Predicted>, Failure> {
        let plan = self.trainer.plan();
        let few = self.steps.len() < LEAST_STEPS || self.traces.is_empty();
        let took: Duration = self.steps.iter().map(|step| step.duration).sum();
        let long = took > self.steps.len() as u32 * LONG_STEP;
        if plan.predicted.is_some() || stopped || few || long || process::count() > 1 {
            return Ok(plan.predicted);
        }
        let rows = self.config.mini_batch().largest();
        let (network, config) = (&self.network, &self.config);
        let optimizer = &*self.optimizer;
        let known = Known::measured(network, &self.windows, config, optimizer, &[rows])?;
        let timeline = known.profile.simulate(plan)?;
        Ok(Some(Predicted {
            step_time: timeline.makespan,
            bubble: timeline.bubble(),
        }))
    }

    fn summary(
        &mut self,
        val_loss: Option<f64>,
        expected: Option<Predicted>,
    ) -> Result<Summary, Failure> {
        let ms = |step: &StepReport| step.duration.as_secs_f64() * 1e3;
        let steps_ms: Vec<_> = self.steps.iter().map(ms).collect();
        let tokens = self.options.tokens_per_step();
        let nodes = self.trainer.report()?;
        let plan = self.trainer.plan();
        let last = self.steps.last().or(self.earlier.last());
        Ok(Summary {
            steps: self.trainer.steps(),
            skipped_steps: { self.steps.iter() }
                .filter(|step| step.skipped.is_some())
                .count() as u64,
            tokens_per_s: tokens_per_second(tokens, &steps_ms),
            final_loss: last.map_or(f64::NAN, |step| step.loss),
            checkpoint: self
                .saved
                .as_ref()
                .map(|(_, path)| path.display().to_string()),
            val_loss,
            bubble: Bubble::of(plan, &self.traces),
            peak_bytes: nodes.iter().map(|node| node.memory.peak_bytes).collect(),
            predicted_peak_bytes: plan.memory.iter().map(|node| node.peak_bytes()).collect(),
            step_ms: usual_step(&steps_ms),
            predicted: expected.map(Into::into),
            weights_sha256: self.trainer.weights_sha256()?,
        })
    }

    /// A little text, as the network would go on after a new line, if it was validated and gives
    /// numbers at all.
    fn sample(&mut self, validation: Option<f64>) -> Result<Option<String>, Failure> {
        let sound = validation.is_some_and(f64::is_finite);
        let count = self.options.output.sample;
        let Some(vocabulary) = self.vocabulary.clone() else {
            return Ok(None);
        };
        if !sound || self.options.output.json || count == 0 {
            return Ok(None);
        }
        let sampling = Sampling {
            temperature: 0.8,
            ..Sampling::default()
        };
        if let Err(Error::Plan(error)) = self.trainer.sequence().map(drop) {
            self.output.warn(&format!("no text at the end: {error}"));
            return Ok(None);
        }
        let (mut text, interrupt) = (String::new(), &self.interrupt);
        let (prompt, asked) = (
            beginning(
                &vocabulary,
                "
",
            )?,
            (count, sampling),
        );
        go_on(
            &mut self.trainer,
            &vocabulary,
            &prompt,
            asked,
            |_, piece| {
                text.extend(piece.chars().map(harmless));
                !interrupt.asked()
            },
        )?;
        Ok(Some(text))
    }

    /// Writes the report, as far as the run has come.
    pub(super) fn report(
        &mut self,
        summary: Option<&Summary>,
        sample: Option<&str>,
    ) -> Result<(), Failure> {
        if !self.options.writes() {
            return Ok(());
        }
        let nodes = self.trainer.report()?;
        self.page(&nodes, summary, sample)
    }

    pub(super) fn page(
        &self,
        nodes: &[NodeReport],
        summary: Option<&Summary>,
        sample: Option<&str>,
    ) -> Result<(), Failure> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let facts = facts(self.options, (self.decoder.family(), &self.source), summary);
        let steps = [&self.earlier[..], &self.steps].concat();
        let page = Report {
            title: "A training run",
            facts: &facts,
            plan: self.trainer.plan(),
            steps: &steps,
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
            skipped_steps,
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
        if *skipped_steps > 0 {
            self.output.say(&format!(
                "{skipped_steps} of {} steps skipped: their loss or a gradient was not finite",
                self.steps.len()
            ))?;
        }
        if let Some(bubble) = summary.bubble {
            self.output.say(&format!(
                "bubble {:.1}% measured in {} traced steps, {:.1}% simulated with their times{}",
                100.0 * bubble.measured,
                self.traces.len(),
                100.0 * bubble.simulated,
                sharing(self.options)
            ))?;
        }
        if let Some(compared) = summary.compared() {
            self.output.say(&compared)?;
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
                "{path} has report.html, {trace}weights.safetensors, losses.csv, network.json, plan.json and config.toml"
            ))?;
            if let Some((step, _)) = &self.saved
                && *step < self.options.training.steps
            {
                self.output.say(&format!(
                    "saved after step {step}; go on with brigade train --resume {path}"
                ))?;
            }
        }
        Ok(())
    }
}
