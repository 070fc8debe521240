//! What is said of a run before and after.

use super::options::RunOptions;
use super::output::{mib, picture, picture_width};
use crate::ids::NodeId;
use crate::schedule::Times;
use crate::trace::{StepTrace, median, median_step, median_times};
use crate::{NodeReport, Plan, Predicted};
use serde::Serialize;
use std::ops::Range;

/// So many skips are named.
const MOST_SKIPS: usize = 16;

/// The last line of `--json`, within `{"summary": ...}`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Summary {
    pub(super) steps: u64,
    /// Those that changed nothing, as their loss or a gradient was not finite.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) skipped_steps: u64,
    pub(super) tokens_per_s: f64,
    /// Of the last step; `null` in JSON where it is not finite.
    pub(super) final_loss: f64,
    /// Over all windows; none when the run was ended early.
    pub(super) val_loss: Option<f64>,
    pub(super) weights_sha256: String,
    /// The last checkpoint of this run.
    pub(super) checkpoint: Option<String>,
    /// Of the traced steps.
    pub(super) bubble: Option<Bubble>,
    /// The most that every node held.
    pub(super) peak_bytes: Vec<u64>,
    /// The most that it was predicted to hold.
    pub(super) predicted_peak_bytes: Vec<u64>,
    /// The median step, the first few left out.
    pub(super) step_ms: f64,
    /// What a step was expected to take, if that is known.
    pub(super) predicted: Option<Expected>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What a step was expected to take, with layers measured by themselves.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Expected {
    pub(super) step_ms: f64,
    pub(super) bubble: f64,
}

impl From<Predicted> for Expected {
    fn from(predicted: Predicted) -> Self {
        Self {
            step_ms: 1e3 * predicted.step_time,
            bubble: predicted.bubble,
        }
    }
}

impl Summary {
    /// Predicted beside measured, if both are known.
    pub(super) fn compared(&self) -> Option<String> {
        let Expected { step_ms, bubble } = self.predicted?;
        let off = 100.0 * (self.step_ms / step_ms - 1.0);
        let measured = self.bubble.map_or(String::new(), |found| {
            format!(", {:.1}% measured", 100.0 * found.measured)
        });
        Some(format!(
            "a step: {step_ms:.1} ms predicted, {:.1} ms measured ({off:+.1}%); bubble {:.1}% \
             predicted{measured}",
            self.step_ms,
            100.0 * bubble,
        ))
    }
}

/// Shares of a step in which the mean node computes nothing.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Bubble {
    /// In the median traced step.
    pub(super) measured: f64,
    /// Of the plan's lists, played with the median times of the traced actions.
    pub(super) simulated: f64,
}

impl Bubble {
    /// Of traced steps, if there are any.
    pub(super) fn of(plan: &Plan, traces: &[StepTrace]) -> Option<Self> {
        let measured = median_step(traces)?.1.bubble();
        let times = median_times(traces, plan);
        let timeline = plan.simulate(&times).ok()?;
        let simulated = timeline.bubble();
        Some(Self {
            measured,
            simulated,
        })
    }
}

/// Which layers are on which node, what they hold, and the timeline of a step at equal costs.
pub(super) fn describe(plan: &Plan) -> String {
    let mut text =
        String::from("node  layers                          parameters  predicted memory\n");
    for (node, memory) in plan.layout.nodes().iter().zip(&plan.memory) {
        let layers = plan.layers_in_words(node);
        let parameters = memory.parameter_bytes / 4;
        let peak = mib(memory.peak_bytes());
        let host = host(plan, node);
        text += &format!("{node:<4}  {layers:<30}  {parameters:>10}  {peak:>11.1} MiB{host}\n");
    }
    text += &recomputed(plan);
    text += &skips(plan);
    let batch = plan.training.batch;
    let stages = plan.layout.placement.stages().index();
    // Equal stages, backward twice as long as forward: the usual picture.
    let times = Times::equal(stages, 1.0, 1.0, 1.0);
    let micro_batches = batch.micro_batches();
    if let Ok(timeline) = plan.simulate(&times) {
        let schedule = &plan.schedule;
        text += &format!(
            "\nOne step of {schedule} with {micro_batches} micro-batches, were all stages equal:\n"
        );
        text += &picture(&timeline, picture_width());
    }
    text
}

/// Below the table: the layers that are computed again, if there are any.
pub(super) fn recomputed(plan: &Plan) -> String {
    let word = |segment: &Range<usize>| match segment.len() {
        1 => segment.start.to_string(),
        _ => format!("{}-{}", segment.start, segment.end - 1),
    };
    let words: Vec<_> = plan.recomputed.iter().map(word).collect();
    match words.is_empty() {
        true => String::new(),
        false => format!(
            "computed again in the backward pass: layers {}\n",
            words.join(", ")
        ),
    }
}

/// Below the table: the values that go past stages, if there are any.
pub(super) fn skips(plan: &Plan) -> String {
    let mut text = String::new();
    for skip in plan.skips.iter().take(MOST_SKIPS) {
        text += &format!("{skip}\n");
    }
    match plan.skips.len().saturating_sub(MOST_SKIPS) {
        0 => text,
        more => format!("{text}and {more} more skips\n"),
    }
}

/// Behind a row of a table: the node's machine, where there are several processes.
pub(super) fn host(plan: &Plan, node: NodeId) -> String {
    plan.host_of(node)
        .map_or(String::new(), |host| format!("  {host}"))
}

/// What every node held at most, beside what was predicted.
pub(super) fn peaks(plan: &Plan, reports: &[NodeReport]) -> String {
    let mut text = String::from("node  peak memory  predicted");
    for (report, predicted) in reports.iter().zip(&plan.memory) {
        let (peak, predicted) = (mib(report.memory.peak_bytes), mib(predicted.peak_bytes()));
        let node = report.node;
        text += &format!("\n{node:<4}  {peak:>7.1} MiB  {predicted:>5.1} MiB");
    }
    text
}

/// Said where it explains why nodes wait longer than they would with cores of their own.
pub(super) fn sharing(options: &RunOptions) -> String {
    let threads = options.pipeline.nodes * options.pipeline.threads_per_node;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    match threads > cores {
        true => format!(" ({threads} threads share {cores} cores)"),
        false => String::new(),
    }
}

/// What stands at the top of a run's report.
pub(super) fn facts(
    options: &RunOptions,
    (family, source): (&str, &str),
    summary: Option<&Summary>,
) -> Vec<(String, String)> {
    let (network, pipeline, training) = (&options.network, &options.pipeline, &options.training);
    let (layers, width, heads) = (network.layers, network.width, network.heads);
    let (nodes, threads) = (pipeline.nodes, pipeline.threads_per_node);
    let nodes = format!("{nodes} x {threads} threads{}", sharing(options));
    let tied = if network.tied { ", tied head" } else { "" };
    let mut facts = vec![
        ("data", source.to_owned()),
        (
            "network",
            format!("{family}, {layers} blocks, width {width}, {heads} heads{tied}"),
        ),
        ("context", format!("{} tokens", network.context)),
        ("nodes", nodes),
        ("schedule", pipeline.schedule.to_string()),
        (
            "batch",
            format!(
                "{} sequences in micro-batches of {}",
                training.batch_size, training.micro_batch_size
            ),
        ),
        (
            "precision",
            format!(
                "{} products, {} on the wire",
                training.precision, pipeline.wire
            ),
        ),
        ("seed", training.seed.to_string()),
    ];
    if !pipeline.recompute.is_never() {
        facts.push(("recomputed", pipeline.recompute.to_string()));
    }
    facts.extend(options.tuning.in_words());
    if let Some(summary) = summary {
        let validation = summary
            .val_loss
            .map_or("none".to_owned(), |loss| format!("{loss:.4}"));
        let steps = match summary.skipped_steps {
            0 => summary.steps.to_string(),
            skipped => format!("{}, {skipped} of them skipped", summary.steps),
        };
        facts.extend([
            ("steps", steps),
            ("training loss", format!("{:.4}", summary.final_loss)),
            ("validation loss", validation),
            ("speed", format!("{:.0} tokens/s", summary.tokens_per_s)),
            ("prediction", summary.compared().unwrap_or("none".into())),
            (
                "weights, SHA-256",
                format!("{}…", &summary.weights_sha256[..12]),
            ),
        ]);
    }
    facts
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// The median step, the first 3 left out where there are more.
pub(super) fn usual_step(steps_ms: &[f64]) -> f64 {
    let counted = if steps_ms.len() > 3 {
        &steps_ms[3..]
    } else {
        steps_ms
    };
    median(counted.to_vec())
}

/// Tokens of a step over the usual step.
pub(super) fn tokens_per_second(tokens: usize, steps_ms: &[f64]) -> f64 {
    match usual_step(steps_ms) {
        0.0 => 0.0,
        usual => tokens as f64 / usual * 1e3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_leaves_the_first_three_steps_out() {
        assert_eq!(
            tokens_per_second(100, &[900.0, 900.0, 900.0, 10.0, 20.0, 60.0]),
            5000.0
        );
        assert_eq!(
            tokens_per_second(100, &[900.0, 900.0, 900.0, 10.0, 30.0]),
            5000.0
        );
        assert_eq!(tokens_per_second(100, &[10.0]), 10_000.0);
        assert_eq!(tokens_per_second(100, &[]), 0.0);
    }
}
