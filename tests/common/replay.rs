//! A second opinion on what a definition takes: shares no code with the simulator.

use brigade::ids::NodeId;
use brigade::schedule::{Compute, Definition, Task, Work};
use std::collections::HashMap;

/// What a definition takes.
pub(crate) struct Replay {
    pub(crate) makespan: f64,
    /// From its first action to its last, for every node.
    pub(crate) spans: Vec<f64>,
    /// Micro-batches between F and W, for every node: each chunk counts as its share.
    pub(crate) peaks: Vec<f64>,
}

/// Every node does its list in order, each action once its inputs are there. A node's F, I and W
/// take `costs`, a chunk its share of them. A pair is one action. `None`: stuck.
pub(crate) fn replay(task: &Task, definition: &Definition, costs: [f64; 3]) -> Option<Replay> {
    let (nodes, stages) = (definition.nodes.len(), task.placement.stages().get());
    let share = nodes as f64 / f64::from(stages);
    let [f, i, w] = costs.map(|cost| cost * share);
    let takes = |work| match work {
        Work::F => f,
        Work::I => i,
        Work::W => w,
        Work::B => i + w,
    };
    let mut done: HashMap<(Work, u32, u32), f64> = HashMap::new();
    let (mut at, mut now) = (vec![0; nodes], vec![0.0_f64; nodes]);
    let mut begin = vec![None; nodes];
    loop {
        let before = at.clone();
        for (node, list) in definition.nodes.iter().enumerate() {
            let paired = definition.pairs_of(NodeId::new(node as u32));
            while at[node] < list.len() {
                let both = paired.contains(&(at[node] as u32));
                let group = &list[at[node]..at[node] + 1 + usize::from(both)];
                let input = |c: &Compute| {
                    let (stage, m) = (c.stage.get(), c.micro_batch.get());
                    let from = match c.work {
                        Work::F if stage == 0 => return Some(0.0),
                        Work::F => (Work::F, stage - 1, m),
                        Work::W => (Work::I, stage, m),
                        Work::I | Work::B if stage + 1 == stages => (Work::F, stage, m),
                        Work::I | Work::B => (Work::I, stage + 1, m),
                    };
                    done.get(&from).copied()
                };
                let inputs: Option<Vec<f64>> = group.iter().map(input).collect();
                let Some(inputs) = inputs else { break };
                let start = inputs.into_iter().fold(now[node], f64::max);
                begin[node].get_or_insert(start);
                now[node] = start + group.iter().map(|c| takes(c.work)).sum::<f64>();
                for c in group {
                    // A full backward gives its gradient at its end.
                    let work = if c.work == Work::B { Work::I } else { c.work };
                    done.insert((work, c.stage.get(), c.micro_batch.get()), now[node]);
                }
                at[node] += group.len();
            }
        }
        let lists = definition.nodes.iter();
        if lists.zip(&at).all(|(list, at)| *at == list.len()) {
            break;
        }
        if at == before {
            return None;
        }
    }
    let peak = |list: &Vec<Compute>| {
        let (mut kept, mut peak) = (0_i32, 0);
        for compute in list {
            kept += match compute.work {
                Work::F => 1,
                Work::I => 0,
                Work::W | Work::B => -1,
            };
            peak = peak.max(kept);
        }
        f64::from(peak) * share
    };
    let spans = now.iter().zip(&begin);
    Some(Replay {
        makespan: now.iter().copied().fold(0.0, f64::max),
        spans: spans.map(|(end, begin)| end - begin.unwrap()).collect(),
        peaks: definition.nodes.iter().map(peak).collect(),
    })
}
