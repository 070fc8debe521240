//! Looped breadth-first (Lamy-Poirier 2022, arXiv 2211.05953).

use super::{Compute, Definition, Task, Work};

/// GPipe on several stages a node: all micro-batches forward through the first stage of a node,
/// then all through its second, and so on; then all backward through the last one, the latest
/// micro-batch first, and so on down to the first.
///
/// Every node keeps the state of all micro-batches. Idle time with v chunks: (P - 1) (F + B) / v, a
/// v-th of GPipe's; with M < P, (P - M) (F + B) (v - 1) / v more.
///
/// ```text
/// node 0  0F0 0F1 2F0 2F1             2B1     2B0     0B1     0B0
/// node 1      1F0 1F1 3F0 3F1 3B1     3B0     1B1     1B0
/// ```
pub(super) fn looped_bfs(task: &Task) -> Definition {
    let row = |node| {
        let all = |work| {
            let stages = task.placement.stages_on(node);
            let each = move |stage| {
                let micro_batches = task.micro_batches.iter();
                micro_batches.map(move |m| Compute::new(stage, work, m))
            };
            stages.flat_map(each).collect::<Vec<_>>()
        };
        let backward = all(Work::B).into_iter().rev();
        all(Work::F).into_iter().chain(backward).collect()
    };
    task.nodes().iter().map(row).collect::<Vec<_>>().into()
}
