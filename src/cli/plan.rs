//! `brigade plan`: what a training would be like.

use super::failure::Failure;
use super::options::{OrderArg, PlanOptions, ScheduleArg};
use super::output::{Output, mib, picture, picture_width, time};
use super::subject::Subject;
use super::summary::{host, recomputed, skips};
use crate::ids::NodeId;
use crate::planner::Candidate;
use crate::process::{self, Processes};
use crate::schedule::csv::{CsvSchedule, Dialect};
use crate::schedule::{Timeline, Times};
use crate::{Config, Plan, Predicted};
use serde_json::{Value, json};
use std::io::Write;

/// So many of the best are shown.
const SHOWN: usize = 8;

pub(super) fn plan(options: &PlanOptions, to: &mut dyn Write) -> Result<(), Failure> {
    let subject = Subject::of(options)?;
    let mut chosen = Chosen::of(&subject, options)?;
    let nodes = chosen.plan.layout.nodes();
    chosen.plan.hosts = Processes::meet(subject.config.deadline())?.hosts_of(nodes)?;
    let timeline = chosen.plan.simulate(&chosen.times)?;
    chosen.plan.predicted = Some(Predicted {
        step_time: timeline.makespan,
        bubble: timeline.bubble(),
    });
    let fits = chosen.plan.fits(&chosen.config).is_ok();
    let out = options.run.output.out.as_deref().filter(|_| fits);
    if let Some(path) = out.filter(|_| process::is_first()) {
        chosen.plan.save(path)?;
    }
    let mut output = Output::new(to, options.run.output.json);
    output.tell(&chosen.as_json(&subject, &timeline))?;
    output.say(&subject.what)?;
    output.say(&format!("{}\n", subject.known.in_words()))?;
    output.say(&chosen.table())?;
    output.say(&chosen.step(&subject, &timeline))?;
    if !chosen.candidates.is_empty() {
        output.say(&chosen.others())?;
    }
    if let Some(path) = out {
        output.say(&format!(
            "\nwritten to {}: brigade train --plan {0}",
            path.display()
        ))?;
    }
    let threads = chosen.config.nodes * chosen.config.threads_per_node;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if subject.known.seconds.is_some() && threads > cores {
        output.say(&format!(
            "The prediction is for {threads} cores; this machine has {cores}."
        ))?;
    }
    chosen.fits()
}

/// The plan, and what it was chosen from.
struct Chosen {
    plan: Plan,
    config: Config,
    times: Times,
    candidates: Vec<Candidate>,
    pruned: usize,
    advice: Vec<String>,
    /// What the busiest node takes for a micro-batch, in seconds.
    bottleneck: f64,
}

impl Chosen {
    fn of(subject: &Subject, options: &PlanOptions) -> Result<Self, Failure> {
        if let OrderArg::Given(ScheduleArg::File(path)) = &options.run.pipeline.schedule {
            return Self::in_order(subject, &CsvSchedule::read(path, Dialect::Current)?);
        }
        let planned = subject.planner(options)?.plan()?;
        Ok(Self {
            bottleneck: planned
                .candidates
                .first()
                .map_or(0.0, |best| best.bottleneck),
            plan: planned.plan,
            config: planned.config,
            times: planned.times,
            candidates: planned.candidates,
            pruned: planned.pruned,
            advice: planned.advice,
        })
    }

    /// In the order of a file.
    fn in_order(subject: &Subject, order: &CsvSchedule) -> Result<Self, Failure> {
        let Subject {
            network, config, ..
        } = subject;
        subject.known.profile.check(network, config)?;
        let plan = Plan::proposed(network, config, &*subject.optimizer, order)?;
        let rows = config.mini_batch().largest();
        let times = subject
            .known
            .profile
            .clone()
            .sized(network, rows)?
            .times(&plan);
        let busy = |node: NodeId| -> f64 {
            let stages = plan.layout.placement.stages_on(node);
            let takes = |at: usize| times.forward[at] + times.input[at] + times.weight[at];
            stages.map(|stage| takes(stage.index())).sum()
        };
        let bottleneck = plan.layout.nodes().iter().map(busy).fold(0.0, f64::max);
        Ok(Self {
            config: config.clone(),
            bottleneck,
            plan,
            times,
            candidates: Vec::new(),
            pruned: 0,
            advice: Vec::new(),
        })
    }

    /// Milliseconds of F and of B (I and W) of a node's stages for one micro-batch.
    fn node_ms(&self, node: NodeId) -> (f64, f64) {
        let stages = self.plan.layout.placement.stages_on(node);
        stages.fold((0.0, 0.0), |(forward, backward), stage| {
            let (at, times) = (stage.index(), &self.times);
            let both = times.input[at] + times.weight[at];
            (forward + 1e3 * times.forward[at], backward + 1e3 * both)
        })
    }

    fn table(&self) -> String {
        let plan = &self.plan;
        let mut text = String::from(
            "node  stages  layers                          parameters   F, ms   B, ms      memory\n",
        );
        for (node, memory) in plan.layout.nodes().iter().zip(&plan.memory) {
            let stages: Vec<_> = plan.layout.placement.stages_on(node).collect();
            let stages: Vec<_> = stages.iter().map(ToString::to_string).collect();
            let layers = plan.layers_in_words(node);
            let parameters = memory.parameter_bytes / 4;
            let (forward, backward) = self.node_ms(node);
            let peak = mib(memory.peak_bytes());
            let limit = match self.config.limit_of(node) {
                Some(limit) => format!(" of {:.1}", mib(limit)),
                None => String::new(),
            };
            let (stages, host) = (stages.join(","), host(plan, node));
            text += &format!(
                "{node:<4}  {stages:<6}  {layers:<30}  {parameters:>10}  {forward:>6.2}  \
                 {backward:>6.2}  {peak:>6.1}{limit} MiB{host}\n"
            );
        }
        text + &recomputed(plan) + &skips(plan)
    }

    fn step(&self, subject: &Subject, timeline: &Timeline) -> String {
        let (schedule, batch) = (&self.plan.schedule, self.plan.training.batch);
        let (seconds, bubble) = (timeline.makespan, 100.0 * timeline.bubble());
        let speed = subject.tokens.map_or(String::new(), |tokens| {
            format!(" {:.0} tokens/s,", tokens as f64 / seconds)
        });
        format!(
            "One step of {schedule} with {} micro-batches of {}:\n{}\
             predicted: {} a step,{speed} bubble {bubble:.1}%, busiest node {} a micro-batch",
            batch.micro_batches(),
            batch.largest(),
            picture(timeline, picture_width()),
            time(seconds),
            time(self.bottleneck),
        )
    }

    /// The best few, and why the others lose.
    fn others(&self) -> String {
        let mut text = String::from("\n       step  bubble  most memory\n");
        let best = &self.candidates[0];
        for candidate in self.candidates.iter().take(SHOWN) {
            let most = candidate.peak_bytes.iter().max().copied().unwrap_or(0);
            let (step, bubble) = (time(candidate.step_time), 100.0 * candidate.bubble);
            let why = match candidate.lacking_bytes {
                0 if std::ptr::eq(candidate, best) => String::new(),
                0 => format!(": {}", candidate.loses_by(best)),
                lacking => format!(": does not fit, lacks {:.1} MiB", mib(lacking)),
            };
            let cuts = match candidate.proven {
                true => "",
                false => " (cuts not proven the best)",
            };
            let (words, most) = (candidate.words(), mib(most));
            text += &format!("{step:>11}  {bubble:>5.1}%  {most:>7.1} MiB  {words}{why}{cuts}\n");
        }
        let more = self.candidates.len().saturating_sub(SHOWN);
        match (more, self.pruned) {
            (0, 0) => {}
            (more, 0) => text += &format!("and {more} more\n"),
            (more, pruned) => {
                text += &format!("and {more} more; {pruned} cannot be faster and were not tried\n");
            }
        }
        text.trim_end().to_owned()
    }

    /// An error that says what would have to change, if it does not fit.
    fn fits(&self) -> Result<(), Failure> {
        let Err(error) = self.plan.fits(&self.config) else {
            return Ok(());
        };
        let advice = match self.advice.is_empty() {
            true => String::new(),
            false => format!("; what would do: {}", self.advice.join(", or ")),
        };
        Err(Failure::Other(format!("{error}{advice}")))
    }

    fn as_json(&self, subject: &Subject, timeline: &Timeline) -> Value {
        let plan = &self.plan;
        let node = |node: NodeId| {
            let memory = &plan.memory[node.index()];
            let (forward, backward) = self.node_ms(node);
            json!({
                "node": node.get(),
                "name": subject.nodes.as_ref().map(|nodes| &nodes[node.index()].name),
                "host": plan.host_of(node),
                "stages": plan.layout.placement.stages_on(node).map(|s| s.get()).collect::<Vec<_>>(),
                "layers": plan.layers_on(node).collect::<Vec<_>>(),
                "parameters": memory.parameter_bytes / 4,
                "forward_ms": forward,
                "backward_ms": backward,
                "peak_bytes": memory.peak_bytes(),
                "limit_bytes": self.config.limit_of(node),
                "memory": memory,
                "sent_bytes": plan.sent_bytes[node.index()],
            })
        };
        let batch = plan.training.batch;
        let peaks = plan.memory.iter().map(|memory| memory.peak_bytes());
        json!({
            "feasible": plan.fits(&self.config).is_ok(),
            "schedule": plan.schedule,
            "chunks": plan.layout.placement.chunks(),
            "micro_batches": batch.micro_batches().index(),
            "micro_batch_size": batch.largest(),
            "recomputed": plan.recomputed.iter().map(|s| [s.start, s.end - 1]).collect::<Vec<_>>(),
            "skips": plan.skips.iter().map(|skip| json!({
                "from": skip.from,
                "to": skip.to,
                "stages": [skip.from_stage.get(), skip.to_stage.get()],
                "bytes": skip.bytes,
            })).collect::<Vec<_>>(),
            "cuts": plan.partition.cuts(),
            "bottleneck": self.bottleneck,
            "step_time": timeline.makespan,
            "step_ms": 1e3 * timeline.makespan,
            "tokens_per_s": subject.tokens.map(|tokens| tokens as f64 / timeline.makespan),
            "bubble": timeline.bubble(),
            "peak_bytes": peaks.collect::<Vec<_>>(),
            "nodes": plan.layout.nodes().iter().map(node).collect::<Vec<_>>(),
            "candidates": self.candidates,
            "pruned": self.pruned,
            "advice": self.advice,
            "profile": subject.known.as_json(),
            "fingerprint": plan.fingerprint(),
        })
    }
}
