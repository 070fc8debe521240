//! Figures over several traced steps.

use super::{LayerSpan, StepTrace};
use crate::ids::{LayerIndex, StageId};
use crate::plan::Plan;
use crate::schedule::{Action, Timeline, Times, Work};
use std::collections::BTreeMap;
use std::time::Duration;

/// What one layer takes for one micro-batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerTime {
    /// Median time of F.
    pub forward: Duration,
    /// Median time of I.
    pub input: Duration,
    /// Median time of W.
    pub weight: Duration,
}

impl LayerTime {
    /// F, I and W together.
    pub fn total(&self) -> Duration {
        self.forward + self.input + self.weight
    }

    /// As the stage does it: I takes F too where the layer is computed again.
    pub(crate) fn recomputed(self, again: bool) -> Self {
        let more = if again { self.forward } else { Duration::ZERO };
        Self {
            input: self.input + more,
            ..self
        }
    }
}

/// The median, or 0 of nothing.
pub(crate) fn median(mut list: Vec<f64>) -> f64 {
    list.sort_by(f64::total_cmp);
    let middle = list.len() / 2;
    match list.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => list[middle],
        _ => list[middle - 1].midpoint(list[middle]),
    }
}

/// The traced step that took neither long nor short, with its timeline.
pub fn median_step(traces: &[StepTrace]) -> Option<(&StepTrace, Timeline)> {
    let timelines = traces.iter().map(|trace| (trace, trace.timeline()));
    let mut timelines: Vec<_> = timelines.filter(|(_, line)| line.makespan > 0.0).collect();
    timelines.sort_by(|a, b| a.1.makespan.total_cmp(&b.1.makespan));
    let middle = timelines.len() / 2;
    timelines.into_iter().nth(middle)
}

/// Median times of every stage's actions in seconds, to simulate the schedule with. A stage whose
/// I and W were only ever done together, as B, has them in the proportion of its layers' calls.
pub fn median_times(traces: &[StepTrace], plan: &Plan) -> Times {
    let stages = plan.partition.stages();
    let layers = layer_times(traces, plan.layers.len()).into_iter();
    let layers: Vec<_> = (0..)
        .map(LayerIndex::new)
        .zip(layers)
        .map(|(layer, time)| time.recomputed(plan.recomputes(layer)))
        .collect();
    let mut computes = BTreeMap::<(StageId, Work), Vec<f64>>::new();
    let mut steps = BTreeMap::<usize, Vec<f64>>::new();
    for (node, trace) in traces
        .iter()
        .flat_map(|trace| trace.nodes.iter().enumerate())
    {
        for span in &trace.actions {
            let taken = (span.end - span.start).as_secs_f64();
            match span.action {
                Action::Compute(compute) => computes
                    .entry((compute.stage, compute.work))
                    .or_default()
                    .push(taken),
                Action::Step => steps.entry(node).or_default().push(taken),
                Action::Send(_) | Action::Post(_) | Action::Wait(_) => {}
                Action::SumShared(_) | Action::Exchange => {}
            }
        }
    }
    let mut of = |stage, work| computes.remove(&(stage, work)).map(median);
    let mut times = Times::equal(stages.index(), 0.0, 0.0, 0.0);
    for stage in stages.iter() {
        let at = stage.index();
        times.forward[at] = of(stage, Work::F).unwrap_or(0.0);
        let (input, weight) = (of(stage, Work::I), of(stage, Work::W));
        let both = of(stage, Work::B);
        let own = &layers[plan.partition.layers_of(stage)];
        let calls =
            |part: fn(&LayerTime) -> Duration| own.iter().map(part).sum::<Duration>().as_secs_f64();
        let (inputs, weights) = (calls(|layer| layer.input), calls(|layer| layer.weight));
        let share = if weights > 0.0 {
            weights / (inputs + weights)
        } else {
            0.0
        };
        let split = both.map(|both| ((1.0 - share) * both, share * both));
        times.input[at] = input.or(split.map(|split| split.0)).unwrap_or(0.0);
        times.weight[at] = weight.or(split.map(|split| split.1)).unwrap_or(0.0);
    }
    let nodes = traces.iter().map(|trace| trace.nodes.len()).max();
    times.step = (0..nodes.unwrap_or(0))
        .map(|node| steps.remove(&node).map_or(0.0, median))
        .collect();
    times.links.all.latency = latency(traces);
    times
}

/// The median time from the end of a send to the end of the wait for it, where the wait began
/// before the send.
pub(crate) fn latency(traces: &[StepTrace]) -> f64 {
    let mut latencies = Vec::new();
    for trace in traces {
        let mut sent = BTreeMap::new();
        for span in trace.nodes.iter().flat_map(|node| &node.actions) {
            if let Action::Send(transfer) = span.action {
                sent.insert((transfer.lane, transfer.micro_batch), span.end);
            }
        }
        for span in trace.nodes.iter().flat_map(|node| &node.actions) {
            let Action::Wait(transfer) = span.action else {
                continue;
            };
            if let Some(sent) = sent.get(&(transfer.lane, transfer.micro_batch))
                && span.start < *sent
            {
                latencies.push(span.end.saturating_sub(*sent).as_secs_f64());
            }
        }
    }
    median(latencies)
}

/// Median times of every layer for one micro-batch; layers of nodes that were not traced have none.
pub fn layer_times(traces: &[StepTrace], layers: usize) -> Vec<LayerTime> {
    let mut calls = BTreeMap::<(LayerIndex, Work), Vec<f64>>::new();
    let spans = traces.iter().flat_map(|trace| &trace.nodes);
    for LayerSpan {
        layer,
        work,
        start,
        end,
        ..
    } in spans.flat_map(|node| &node.layers)
    {
        let taken = (*end - *start).as_secs_f64();
        calls.entry((*layer, *work)).or_default().push(taken);
    }
    let mut of = |layer, work| {
        let list = calls.remove(&(layer, work)).unwrap_or_default();
        Duration::from_secs_f64(median(list))
    };
    (0..layers as u32)
        .map(|layer| {
            let layer = LayerIndex::new(layer);
            LayerTime {
                forward: of(layer, Work::F),
                input: of(layer, Work::I),
                weight: of(layer, Work::W),
            }
        })
        .collect()
}

/// The mean time of every kernel in a step over all layers, the longest first.
pub fn kernel_times(traces: &[StepTrace]) -> Vec<(&str, Duration)> {
    let mut sums = BTreeMap::<&str, Duration>::new();
    let nodes = traces.iter().flat_map(|trace| &trace.nodes);
    for (_, time) in nodes.flat_map(|node| &node.kernels) {
        *sums.entry(&*time.kernel).or_default() += time.total;
    }
    let steps = traces.len().max(1) as u32;
    let mut times: Vec<_> = (sums.into_iter())
        .map(|(kernel, sum)| (kernel, sum / steps))
        .collect();
    times.sort_by_key(|(kernel, time)| (std::cmp::Reverse(*time), *kernel));
    times
}
