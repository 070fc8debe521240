//! Promise: what is predicted comes true. Here: the simulator gives what the formulas say.
#![allow(missing_docs, clippy::unwrap_used)]

use brigade::ScheduleKind;
use brigade::ids::{MicroBatchCount, NodeCount};
use brigade::placement::Placement;
use brigade::schedule::{Definition, Layout, Schedule, Task, Times, lower, simulate};

fn define(kind: ScheduleKind, layout: &Layout, count: MicroBatchCount) -> Definition {
    let task = Task::new(layout.placement.clone(), count);
    kind.define(&task).unwrap()
}

fn for_all(law: impl Fn(ScheduleKind, u32, u32)) {
    for kind in ScheduleKind::ALL {
        for nodes in 1..=6 {
            (1..=12).for_each(|micro_batches| law(kind, nodes, micro_batches));
        }
    }
}

/// Bubbles at equal costs, by formula: (P - 1) (F + B) idle time on every node, for both schedules.
#[test]
fn simulated_bubbles_equal_the_closed_formula() {
    for_all(|kind, nodes, micro_batches| {
        let layout = Layout::chain(Placement::straight(NodeCount::new(nodes)));
        let count = MicroBatchCount::new(micro_batches);
        let lowered = lower(&define(kind, &layout, count), &layout, count).unwrap();
        let times = Times::equal(nodes as usize, 1.0, 1.2, 0.7);
        let simulation = simulate(&lowered, &layout, count, &times).unwrap();
        let (m, p) = (f64::from(micro_batches), f64::from(nodes));
        let makespan = (m + p - 1.0) * 2.9;
        if micro_batches >= nodes || kind == ScheduleKind::GPipe {
            assert!(
                (simulation.makespan - makespan).abs() < 1e-9,
                "{kind} {nodes} {micro_batches}"
            );
            assert!((simulation.bubble() - (p - 1.0) / (m + p - 1.0)).abs() < 1e-9);
        }
        for node in layout.nodes().iter() {
            assert!((simulation.busy(node) - m * 2.9).abs() < 1e-9);
        }
    });
}

#[test]
fn links_that_take_time_make_the_makespan_longer() {
    let (nodes, count) = (NodeCount::new(4), MicroBatchCount::new(1));
    let layout = Layout::chain(Placement::straight(nodes));
    let lowered = lower(&define(ScheduleKind::GPipe, &layout, count), &layout, count).unwrap();
    let times = Times::equal(4, 1.0, 1.0, 1.0).with_latency(0.5);
    // Three hops forward, three back; W of the last node is not in anybody's way but its own.
    let simulation = simulate(&lowered, &layout, count, &times).unwrap();
    assert!(
        (simulation.makespan - (4.0 + 8.0 + 3.0)).abs() < 1e-9,
        "{}",
        simulation.makespan
    );
}
