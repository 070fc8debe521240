//! What a training starts from: a plan that was saved, one that is chosen now, or the options.

use super::config_file::Decided;
use super::failure::Failure;
use super::options::{RunOptions, TrainOptions};
use super::ordering;
use super::subject::{Known, space};
use super::text::Corpus;
use crate::planner::Planner;
use crate::process;
use crate::{Config, Plan, Predicted, SavedPlan, ScheduleKind};
use brigade_layer::{Network, Optimizer};
use brigade_nn::{Decoder, TokenWindows};
use std::sync::Arc;

/// What a training starts from.
#[derive(Clone)]
pub(super) struct Starting {
    pub(super) network: Network,
    pub(super) config: Config,
    pub(super) optimizer: Arc<dyn Optimizer>,
    pub(super) plan: Plan,
    pub(super) corpus: Corpus,
    pub(super) decoder: Decoder,
    /// What was measured to plan, in words.
    pub(super) known: Option<String>,
}

impl Starting {
    pub(super) fn of(options: &TrainOptions) -> Result<Self, Failure> {
        let run = &options.run;
        let config = run.checked_config()?;
        let optimizer = run.optimizer()?;
        let corpus = Corpus::of(run)?;
        let windows = corpus.windows(run)?;
        let decoder = run.network.decoder(corpus.vocab)?;
        let network = run.tuned(&decoder)?;
        let (config, plan, known) = match &options.plan {
            Some(path) => {
                let saved = SavedPlan::load(path)?;
                let config = saved.config(&config);
                let plan = saved.plan(&network, &config, &*optimizer)?;
                (config, plan, None)
            }
            None if run.leaves_open() => chosen(run, &network, &windows, &config, &*optimizer)?,
            None => {
                let schedule = ordering::schedule(run, &network, &windows, &*optimizer, None)?;
                let schedule = schedule.as_ref();
                let plan = Plan::with_schedule(&network, &config, &*optimizer, schedule)?;
                (config, plan, None)
            }
        };
        Ok(Self {
            decoder,
            network,
            config,
            optimizer,
            plan,
            corpus,
            known,
        })
    }

    /// Options that were decided otherwise than given, so that a configuration file is the same run
    /// again.
    pub(super) fn settings(&self, options: &TrainOptions) -> Decided {
        let mut decided = Decided::from([("out", None), ("plan", None), ("resume", None)]);
        if self.corpus.has_ids() && options.run.output.synthetic_vocab.is_none() {
            decided.insert("vocab", Some(self.corpus.vocab.to_string()));
        }
        let used = self.corpus.vocabulary.as_ref();
        let used = used.is_some_and(|vocabulary| vocabulary.json().is_some());
        let looked_up = options.run.network.from.is_some() || options.resume.is_some();
        if let (Some(file), true, true) = (&options.run.tokens.tokenizer, used, looked_up) {
            decided.insert("tokenizer", Some(file.display().to_string()));
        }
        if let Some(from) = &options.run.network.from {
            let from = std::path::absolute(from).unwrap_or_else(|_| from.clone());
            decided.insert("from", Some(from.display().to_string()));
            decided.extend(options.run.network.left_to_its_origin());
        }
        if options.plan.is_none() && !options.run.leaves_open() {
            return decided;
        }
        let run = self.decided(&options.run);
        let cuts: Vec<_> = self
            .plan
            .partition
            .cuts()
            .iter()
            .map(usize::to_string)
            .collect();
        let cuts = if cuts.is_empty() {
            "balanced".to_owned()
        } else {
            cuts.join(",")
        };
        let (pipeline, training) = (&run.pipeline, &run.training);
        let kind: Option<ScheduleKind> = self.plan.schedule.parse().ok();
        let any = kind.is_some_and(ScheduleKind::takes_any_chunks);
        let chunks = self.plan.layout.placement.chunks().filter(|_| any);
        let chunks = chunks.map(|chunks| chunks.to_string());
        decided.extend([
            ("nodes", Some(pipeline.nodes.to_string())),
            ("chunks", chunks),
            ("cuts", Some(cuts)),
            ("schedule", Some(pipeline.schedule.to_string())),
            ("batch-size", Some(training.batch_size.to_string())),
            (
                "micro-batch-size",
                Some(training.micro_batch_size.to_string()),
            ),
            ("precision", Some(training.precision.to_string())),
            ("wire", Some(pipeline.wire.to_string())),
            ("recompute", Some(pipeline.recompute.to_string())),
        ]);
        decided
    }

    /// The options as they were decided.
    pub(super) fn decided(&self, run: &RunOptions) -> RunOptions {
        run.decided(&self.config, &self.plan)
    }
}

/// What the planner chooses.
fn chosen(
    run: &RunOptions,
    network: &Network,
    windows: &TokenWindows,
    config: &Config,
    optimizer: &dyn Optimizer,
) -> Result<(Config, Plan, Option<String>), Failure> {
    let space = space(run, config);
    let sizes = &space.micro_batch_sizes;
    let known = Known::measured(network, windows, config, optimizer, sizes)?;
    let planner = Planner::new(network, config, optimizer, &known.profile)?;
    let planned = planner.space(space).plan()?;
    let (mut plan, best) = (planned.plan, &planned.candidates[0]);
    if let Err(error) = plan.fits(config) {
        let advice = planned.advice.join(", or ");
        return Err(Failure::Other(format!("{error}; what would do: {advice}")));
    }
    plan.predicted = Some(Predicted {
        step_time: best.step_time,
        bubble: best.bubble,
    });
    let words = format!("{}; chosen: {}", known.in_words(), best.words());
    let words = process::is_first().then_some(words);
    Ok((planned.config, plan, words))
}
