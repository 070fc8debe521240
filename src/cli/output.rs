//! What `brigade train` prints: lines for people, or one JSON object a line.

use super::failure::Failure;
use crate::schedule::{Times, render, simulate};
use crate::{Plan, StepReport};
use serde::Serialize;
use std::io::Write;

/// One step, as `--json` prints it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct StepLine {
    pub(super) step: u64,
    pub(super) loss: f64,
    pub(super) grad_norm: f64,
    pub(super) lr: f64,
    pub(super) step_ms: f64,
}

impl From<&StepReport> for StepLine {
    fn from(report: &StepReport) -> Self {
        Self {
            step: report.step.get(),
            loss: report.loss,
            grad_norm: report.gradient_norm,
            lr: report.learning_rate,
            step_ms: report.duration.as_secs_f64() * 1e3,
        }
    }
}

/// The last line of `--json`, within `{"summary": ...}`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Summary {
    pub(super) tokens_per_s: f64,
    pub(super) final_loss: f64,
    pub(super) val_loss: f64,
    pub(super) weights_sha256: String,
}

/// Where lines go.
pub(super) struct Output<'a> {
    pub(super) to: &'a mut dyn Write,
    pub(super) json: bool,
}

impl Output<'_> {
    /// A line for people.
    pub(super) fn say(&mut self, line: &str) -> Result<(), Failure> {
        if self.json { Ok(()) } else { self.line(line) }
    }

    /// A line for programs.
    pub(super) fn tell(&mut self, object: &impl Serialize) -> Result<(), Failure> {
        if !self.json {
            return Ok(());
        }
        let line =
            serde_json::to_string(object).map_err(|error| Failure::Other(error.to_string()))?;
        self.line(&line)
    }

    fn line(&mut self, line: &str) -> Result<(), Failure> {
        writeln!(self.to, "{line}")
            .and_then(|()| self.to.flush())
            .map_err(|error| Failure::printing(&error))
    }
}

/// Which layers are on which node, what they hold, and the timeline of a step at equal costs.
pub(super) fn describe(plan: &Plan) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut text =
        String::from("node  layers                          parameters  predicted memory\n");
    for (node, memory) in plan.layout.nodes().iter().zip(&plan.memory) {
        let keys: Vec<_> = plan.layers_on(node).collect();
        let layers = match keys[..] {
            [] => String::new(),
            [only] => only.to_owned(),
            [first, .., last] => format!("{first} to {last} ({})", keys.len()),
        };
        let parameters = memory.parameter_bytes / 4;
        let peak = mib(memory.peak_bytes());
        text += &format!("{node:<4}  {layers:<30}  {parameters:>10}  {peak:>11.1} MiB\n");
    }
    let batch = plan.training.batch;
    let stages = plan.layout.placement.stages().index();
    // Equal stages, backward twice as long as forward: the usual picture.
    let times = Times::equal(stages, 1.0, 1.0, 1.0);
    if let Ok(simulation) = simulate(
        &plan.training.lowered,
        &plan.layout,
        batch.micro_batches(),
        &times,
    ) {
        text += &format!(
            "\nOne step of {} with {} micro-batches:\n",
            plan.schedule,
            batch.micro_batches()
        );
        text += &render(&simulation, 72);
    }
    text
}

/// Tokens of a step over the median step, the first 3 steps left out where there are more.
pub(super) fn tokens_per_second(tokens: usize, steps_ms: &[f64]) -> f64 {
    let counted = if steps_ms.len() > 3 {
        &steps_ms[3..]
    } else {
        steps_ms
    };
    let mut sorted = counted.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = match sorted.len() {
        0 => return 0.0,
        odd if odd % 2 == 1 => sorted[middle],
        _ => sorted[middle - 1].midpoint(sorted[middle]),
    };
    tokens as f64 / median * 1e3
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
