//! Building blocks (Qi et al. 2024, arXiv 2405.15362): the same four actions at the same places of
//! every period of six, for one micro-batch after the other.

use super::row::{Row, Step};
use super::{Definition, Task};
use std::iter::Peekable;

/// Slots between two micro-batches: F, I and W of two stages.
const PERIOD: u32 = 6;
/// What has a slot. W has none: it goes where there is nothing else to do.
const SLOTTED: [Step; 4] = [Step::F(0), Step::F(1), Step::I(1), Step::I(0)];

/// Every node works in the order of its slots, which `slots` gives for its first micro-batch. In
/// each unit of time it does the next one, if its input is there and, for F, if at most `most`
/// chunks are kept then; else the oldest W; else it waits.
///
/// Never stuck if W in the free slots keeps at most `most`: by the time of each F, all W can be
/// done that the free slots before it would have done.
pub(super) fn stable(task: &Task, most: u32, slots: impl Fn(u32) -> [u32; 4]) -> Definition {
    let micro_batches = task.micro_batches.get();
    let order = |node| order(slots(node), micro_batches).peekable();
    let mut orders: Vec<_> = (0..task.nodes().get()).map(order).collect();
    let nodes = task.nodes().iter();
    let mut rows: Vec<_> = nodes.map(|node| Row::new(task, node)).collect();
    loop {
        let choose = |(node, order): (usize, &mut Peekable<_>)| {
            let ready = |step: &Step| ready(*step, &rows, node, micro_batches, most);
            let owed = (rows[node].owed() > 0).then_some(Step::Oldest);
            order.next_if(ready).or(owed)
        };
        let chosen: Vec<_> = orders.iter_mut().enumerate().map(choose).collect();
        if chosen.iter().all(Option::is_none) {
            return rows.into_iter().collect();
        }
        for (row, chosen) in rows.iter_mut().zip(chosen) {
            chosen.into_iter().for_each(|step| row.write(step));
        }
    }
}

/// What has a slot, in the order of the slots.
fn order(slots: [u32; 4], micro_batches: u32) -> impl Iterator<Item = Step> {
    let at = move |m: u32| slots.map(|slot| PERIOD * m + slot).into_iter().zip(SLOTTED);
    let mut all: Vec<_> = (0..micro_batches).flat_map(at).collect();
    all.sort_by_key(|(slot, _)| *slot);
    all.into_iter().map(|(_, step)| step)
}

/// Whether a node of the V can do this now. Every stage takes its micro-batches in order: an input
/// is there if the stage that gives it is further.
fn ready(step: Step, rows: &[Row], node: usize, micro_batches: u32, most: u32) -> bool {
    let own = &rows[node];
    let before = node.checked_sub(1).map(|before| &rows[before]);
    let behind = rows.get(node + 1);
    let fits = own.kept() < most;
    match step {
        Step::F(0) => fits && before.map_or(micro_batches, |row| row.forwards(0)) > own.forwards(0),
        Step::F(_) => {
            fits && behind.map_or(own.forwards(0), |row| row.forwards(1)) > own.forwards(1)
        }
        Step::I(0) => behind.map_or(own.backwards(1), |row| row.backwards(0)) > own.backwards(0),
        _ => before.map_or(own.forwards(1), |row| row.backwards(1)) > own.backwards(1),
    }
}
