//! GPipe: fill and drain (Huang et al. 2019, arXiv 1811.06965).

use super::{Compute, Definition, Task, Work};

/// All forwards, then all backwards, both in ascending order.
///
/// Every node keeps the state of all micro-batches. Idle time: (P - 1) (F + B) of M (F + B).
///
/// ```text
/// node 0  F0 F1 F2       B0 B1 B2
/// node 1     F0 F1 F2 B0 B1 B2        (B as long as F here)
/// ```
pub(super) fn gpipe(task: &Task) -> Definition {
    let row = |node| {
        let all = |work| {
            let stages = task.placement.stages_on(node);
            let each = move |stage| {
                let micro_batches = task.micro_batches.iter();
                micro_batches.map(move |m| Compute::new(stage, work, m))
            };
            stages.flat_map(each)
        };
        all(Work::F).chain(all(Work::B)).collect()
    };
    task.nodes().iter().map(row).collect::<Vec<_>>().into()
}
