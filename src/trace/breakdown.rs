//! Where the time of a step went, by stage and kernel.

use super::StepTrace;
use crate::ids::{NodeId, StageId};
use crate::plan::Plan;
use crate::schedule::Action;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a node did with some of its time, on the mean of the traced steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Spent {
    /// The node.
    pub node: NodeId,
    /// The stage whose layers it was; none for what a node does once for all of them.
    pub stage: Option<StageId>,
    /// A kernel as layers name it, or what else a node does: `unnamed` in the layers of a stage,
    /// `optimizer`, `sums and exchange`, `waits`, and `idle` at the ends of a step.
    pub what: String,
    /// How often.
    pub calls: f64,
    /// Seconds in a step.
    pub seconds: f64,
    /// Floating-point operations in a step, as far as kernels say.
    pub flops: f64,
    /// Bytes read and written in a step at least, as far as kernels say.
    pub bytes: f64,
}

#[derive(Default)]
struct Sum {
    calls: u64,
    time: Duration,
    flops: u64,
    bytes: u64,
}

/// Everything that every node spent its time with, a node's stages after each other, each with what
/// took longest first. A node's rows add up to the step.
pub fn breakdown(traces: &[StepTrace], plan: &Plan) -> Vec<Spent> {
    let mut sums = BTreeMap::<(NodeId, Option<StageId>, &str), Sum>::new();
    for trace in traces {
        let makespan = trace.timeline().makespan;
        for (node, of_node) in plan.layout.nodes().iter().zip(&trace.nodes) {
            let mut busy = Duration::ZERO;
            let mut computes = BTreeMap::<StageId, Duration>::new();
            for span in &of_node.actions {
                let taken = span.end.saturating_sub(span.start);
                busy += taken;
                let what = match span.action {
                    Action::Compute(compute) => {
                        *computes.entry(compute.stage).or_default() += taken;
                        continue;
                    }
                    Action::Step => "optimizer",
                    Action::Exchange | Action::SumShared(_) => "sums and exchange",
                    Action::Wait(_) => "waits",
                    Action::Send(_) | Action::Post(_) => "sends",
                };
                let sum = sums.entry((node, None, what)).or_default();
                sum.calls += 1;
                sum.time += taken;
            }
            for (layer, kernel) in &of_node.kernels {
                let stage = plan.partition.stage_of(*layer);
                let sum = sums.entry((node, Some(stage), &kernel.kernel)).or_default();
                sum.calls += kernel.calls;
                sum.time += kernel.total;
                sum.flops += kernel.flops;
                sum.bytes += kernel.bytes;
                let left = computes.entry(stage).or_default();
                *left = left.saturating_sub(kernel.total);
            }
            for (stage, left) in computes {
                sums.entry((node, Some(stage), "unnamed")).or_default().time += left;
            }
            let step = Duration::try_from_secs_f64(makespan).unwrap_or_default();
            sums.entry((node, None, "idle")).or_default().time += step.saturating_sub(busy);
        }
    }
    let steps = traces.len().max(1) as f64;
    let mut rows: Vec<Spent> = (sums.into_iter())
        .map(|((node, stage, what), sum)| Spent {
            node,
            stage,
            what: what.to_owned(),
            calls: sum.calls as f64 / steps,
            seconds: sum.time.as_secs_f64() / steps,
            flops: sum.flops as f64 / steps,
            bytes: sum.bytes as f64 / steps,
        })
        .collect();
    let key = |row: &Spent| (row.node, row.stage.is_none(), row.stage);
    rows.sort_by(|a, b| key(a).cmp(&key(b)).then(b.seconds.total_cmp(&a.seconds)));
    rows
}
