//! Promise: every schedule is the published one. Here: the ready schedules order, idle and keep
//! what their papers say, and refuse what they cannot order.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "common/replay.rs"]
mod replay;

use brigade::PlanError;
use brigade::ScheduleKind::{self, *};
use brigade::ids::{MicroBatchCount, NodeCount, NodeId};
use brigade::placement::Placement;
use brigade::schedule::{Compute, Definition, Schedule, Task, Work};
use replay::replay;
use std::collections::BTreeMap;
use std::ops::Range;

const EQUAL: [f64; 3] = [1.0, 1.0, 1.0];

fn task(kind: ScheduleKind, nodes: u32, micro_batches: u32, chunks: Option<usize>) -> Task {
    let placement = kind.place(NodeCount::new(nodes), chunks).unwrap();
    Task::new(placement, MicroBatchCount::new(micro_batches))
}

/// All but the one that depends on costs, which has tests of its own.
fn published() -> impl Iterator<Item = ScheduleKind> {
    let all = ScheduleKind::ALL.into_iter();
    all.filter(|kind| !kind.uses_costs())
}

/// Every legal one of these, with its chunks.
fn for_all(kind: ScheduleKind, law: impl Fn(&Task, &Definition, [u32; 3])) {
    let chunks: Range<u32> = match kind {
        Interleaved1F1B | LoopedBfs | InterleavedZb => 1..5,
        GPipe | OneFOneB | ZbH1 => 1..2,
        _ => 2..3,
    };
    let mut seen = 0;
    for chunks in chunks {
        for nodes in 1..=8 {
            for micro_batches in 1..=32 {
                let task = task(kind, nodes, micro_batches, Some(chunks as usize));
                if let Ok(definition) = kind.define(&task) {
                    law(&task, &definition, [nodes, micro_batches, chunks]);
                    seen += 1;
                }
            }
        }
    }
    assert!(seen >= 150, "{kind}: {seen}");
}

/// As the golden file writes it: pairs in parentheses.
fn rows_of(definition: &Definition) -> Vec<String> {
    let row = |(node, list): (usize, &Vec<Compute>)| {
        let pairs = definition.pairs_of(NodeId::new(node as u32));
        let pair = |at: &usize| pairs.contains(&(*at as u32));
        let second = |at: &usize| *at > 0 && pair(&(at - 1));
        let cell = |at: usize| match list.get(at + 1).filter(|_| pair(&at)) {
            Some(next) => format!("({};{next})OVERLAP_F_B", list[at]),
            None => list[at].to_string(),
        };
        let cells = (0..list.len()).filter(|at| !second(at)).map(cell);
        cells.collect::<Vec<_>>().join(",")
    };
    definition.nodes.iter().enumerate().map(row).collect()
}

#[test]
fn every_order_is_the_published_one_action_by_action() {
    let mut seen = 0;
    for block in include_str!("goldens/schedules.txt").split("# ").skip(1) {
        let (name, rows) = block.trim().split_once('\n').unwrap();
        let mut parts = name.split('_');
        let kind: ScheduleKind = parts.next().unwrap().parse().unwrap();
        let numbers: Vec<u32> = parts.map(|part| part[1..].parse().unwrap()).collect();
        let chunks = numbers.get(2).map(|chunks| *chunks as usize);
        let task = task(kind, numbers[0], numbers[1], chunks);
        let definition = kind.define(&task).unwrap();
        let rows: Vec<_> = rows.lines().collect();
        assert_eq!(rows_of(&definition), rows, "{name}");
        seen += 1;
    }
    assert_eq!(seen, 9);
}

#[test]
fn zb_h1_is_interleaved_zb_with_one_chunk() {
    for_all(InterleavedZb, |task, definition, [_, _, chunks]| {
        if chunks == 1 {
            assert_eq!(ZbH1.define(task).unwrap(), *definition);
        }
    });
}

#[test]
fn every_stage_does_every_micro_batch_once_and_in_order() {
    for kind in published() {
        for_all(kind, |task, definition, case| {
            let mut done: BTreeMap<(u32, Work), Vec<u32>> = BTreeMap::new();
            for (node, list) in definition.nodes.iter().enumerate() {
                for c in list {
                    assert_eq!(task.placement.node_of(c.stage).index(), node);
                    let of = |work| (c.stage.get(), work);
                    let works: &[Work] = match c.work {
                        Work::B => &[Work::I, Work::W],
                        _ => &[c.work],
                    };
                    for work in works {
                        let all = done.entry(of(*work)).or_default();
                        all.push(c.micro_batch.get());
                    }
                }
                let pairs = definition.pairs_of(NodeId::new(node as u32));
                assert!(pairs.windows(2).all(|two| two[0] + 1 < two[1]));
                for at in pairs.iter().map(|at| *at as usize) {
                    assert_eq!([list[at].work, list[at + 1].work], [Work::F, Work::B]);
                    assert_ne!(list[at].stage, list[at + 1].stage);
                }
            }
            let ascending: Vec<u32> = (0..case[1]).collect();
            assert_eq!(done.len(), 3 * task.placement.stages().index());
            for ((stage, work), mut all) in done {
                if kind == LoopedBfs && work != Work::F {
                    all.reverse();
                }
                assert_eq!(all, ascending, "{kind} {case:?} {stage} {work}");
            }
        });
    }
}

/// What each node idles by the formula, with the costs for which it holds.
fn idle(kind: ScheduleKind, [p, m, v]: [u32; 3], [f, i, w]: [f64; 3]) -> Option<f64> {
    let equal = f == i && i == w;
    let (missing, even) = (f64::from(p.saturating_sub(m)), p % 2 == 0);
    let [q, more, v] = [p - 1, m - 1, v].map(f64::from);
    match kind {
        GPipe | OneFOneB => Some(q * (f + i + w)),
        Interleaved1F1B | LoopedBfs => Some((q + missing * (v - 1.0)) * (f + i + w) / v),
        ZbH1 => (w <= i).then_some(q * (f + i - w) + missing * w),
        InterleavedZb => (w <= i && m >= p).then_some(q * (f + i - w) / v),
        ZbV => equal.then_some(f * (q / 2.0).max(2.0 * q - more)),
        DualPipeV => equal.then_some(q * f),
        _ if p == 1 => Some(0.0),
        VHalf if even => (equal && m > p / 2).then_some(q * f * 1.5),
        VHalf => (equal && m > p / 2).then_some(q * f * 1.5 - f / 2.0),
        VMin => (equal && m > 1).then_some(2.0 * q * f + f * if p % 3 == 0 { 0.5 } else { -0.5 }),
        _ => None,
    }
}

#[test]
fn idle_time_is_what_the_formulas_say_and_nothing_is_ever_stuck() {
    for kind in published() {
        let mut checked = std::cell::Cell::new(0);
        for costs in [EQUAL, [1.0, 1.3, 0.7], [1.0, 1.1, 0.2], [1.0, 0.8, 1.2]] {
            for_all(kind, |task, definition, case| {
                let replayed = replay(task, definition, costs).unwrap();
                let work = f64::from(case[1]) * costs.iter().sum::<f64>();
                if let Some(idle) = idle(kind, case, costs) {
                    let found = replayed.makespan - work;
                    let text = format!("{kind} {case:?} {costs:?}: {found} for {idle}");
                    assert!((found - idle).abs() < 1e-9, "{text}");
                    checked.set(checked.get() + 1);
                }
                // Without a barrier at the end of a step, nothing of ZB-V's is idle.
                if kind == ZbV && costs == EQUAL && case[1] >= 2 * case[0] - 1 {
                    assert!(replayed.spans.iter().all(|span| (span - work).abs() < 1e-9));
                }
            });
        }
        assert!(*checked.get_mut() > 150, "{kind}");
    }
}

#[test]
fn nodes_keep_what_the_formulas_say() {
    for kind in published() {
        for_all(kind, |task, definition, [p, m, v]| {
            let peaks = replay(task, definition, EQUAL).unwrap().peaks;
            let round = m / (m / p).max(1);
            for (r, peak) in (0..p).zip(peaks) {
                let peak = (peak * f64::from(v)).round() as u32;
                let (expected, exact) = match kind {
                    GPipe | LoopedBfs => (m * v, true),
                    OneFOneB => (m.min(p - r), true),
                    Interleaved1F1B => ((m * v).min((v - 1) * round + 2 * (p - 1 - r) + 1), true),
                    ZbH1 => (m.min(p), true),
                    InterleavedZb => ((m * v).min((v - 1) * round + p), true),
                    ZbV => ((2 * p).min(2 * m).min(m + 1 + r), true),
                    DualPipeV => (2 * p + 1, true),
                    VHalf => (2 * m.min((p + 2) / 2), m > p),
                    _ => (2 * m.min((p + 4) / 3), false),
                };
                let right = peak == expected || !exact && peak < expected;
                assert!(right, "{kind} {p} {m} {v}, node {r}: {peak} for {expected}");
            }
        });
    }
}

/// Idle share of the makespan at equal costs, to four digits.
const BUBBLES: [(ScheduleKind, usize, [f64; 4]); 9] = [
    (GPipe, 1, [0.2727, 0.1579, 0.3043, 0.1795]),
    (OneFOneB, 1, [0.2727, 0.1579, 0.3043, 0.1795]),
    (ZbH1, 1, [0.1111, 0.0588, 0.1273, 0.0680]),
    (Interleaved1F1B, 2, [0.1579, 0.0857, 0.1795, 0.0986]),
    (Interleaved1F1B, 4, [0.0857, 0.0448, 0.0986, 0.0519]),
    (LoopedBfs, 2, [0.1579, 0.0857, 0.1795, 0.0986]),
    (InterleavedZb, 2, [0.0588, 0.0303, 0.0680, 0.0352]),
    (ZbV, 2, [0.0588, 0.0303, 0.0680, 0.0352]),
    (DualPipeV, 2, [0.1111, 0.0588, 0.1273, 0.0680]),
];

/// How many forwards come before node r's first backward.
fn warm_up(kind: ScheduleKind, [p, m, v]: [u32; 3], r: u32) -> Option<u32> {
    let round = m / (m / p).max(1);
    let v_shaped = |down: u32, up: u32| Some(m.min(down + 1) + m.min(up + 1));
    match kind {
        GPipe | LoopedBfs => Some(m * v),
        OneFOneB | ZbH1 => Some(m.min(p - r)),
        Interleaved1F1B => Some((m * v).min((v - 1) * round + 2 * (p - 1 - r) + 1)),
        InterleavedZb => Some((m * v).min((v - 1) * round + p - r)),
        ZbV => (m >= 2 * p - 1).then_some(2 * (p - r) - 1 + 2 * r + 1),
        VHalf => v_shaped(p / 2, (r + u32::from(p % 2 == 0)) / 2),
        VMin => v_shaped(p / 3, (r + u32::from(p % 3 == 0)) / 3),
        DualPipeV => Some(2 * p + u32::from(r == p - 1)),
        ZbAuto => (m >= 2 * p).then_some(2 * (p - 1 - r) + 1),
        _ => None,
    }
}

#[test]
fn warm_ups_are_as_documented() {
    let before = |row: &Vec<Compute>| row.iter().take_while(|c| c.work == Work::F).count() as u32;
    let law = |kind: ScheduleKind, definition: &Definition, size: [u32; 3]| {
        for (row, r) in definition.nodes.iter().zip(0..) {
            if let Some(wanted) = warm_up(kind, size, r) {
                assert_eq!(before(row), wanted, "{kind} {size:?} node {r}");
            }
        }
    };
    for kind in published() {
        for_all(kind, |_, definition, size| law(kind, definition, size));
    }
    for (p, m) in (1..=8).flat_map(|p| [(p, 2 * p), (p, 4 * p)]) {
        let definition = ZbAuto.define(&task(ZbAuto, p, m, None)).unwrap();
        law(ZbAuto, &definition, [p, m, 1]);
    }
}

#[test]
fn bubbles_are_the_published_ones() {
    for (kind, chunks, bubbles) in BUBBLES {
        let cases = [(4, 8), (4, 16), (8, 16), (8, 32)];
        for ((nodes, micro_batches), bubble) in cases.into_iter().zip(bubbles) {
            let task = task(kind, nodes, micro_batches, Some(chunks));
            let replayed = replay(&task, &kind.define(&task).unwrap(), EQUAL).unwrap();
            let found = 1.0 - 3.0 * f64::from(micro_batches) / replayed.makespan;
            assert!((found - bubble).abs() < 0.000_05, "{kind} {nodes}: {found}");
        }
    }
}

#[test]
fn fewer_micro_batches_than_nodes_are_fine() {
    let rows = [
        (OneFOneB, 9.0),
        (Interleaved1F1B, 7.5),
        (InterleavedZb, 3.5),
        (ZbV, 5.0),
    ];
    for (kind, idle) in rows {
        let task = task(kind, 4, 2, None);
        let replayed = replay(&task, &kind.define(&task).unwrap(), EQUAL).unwrap();
        assert!((replayed.makespan - 6.0 - idle).abs() < 1e-9, "{kind}");
        if kind == OneFOneB {
            assert_eq!(replayed.peaks, [2.0, 2.0, 2.0, 1.0]);
        }
    }
}

/// The schedule's words for the nearest it can, as numbers.
fn nearest(refused: PlanError) -> Vec<u32> {
    let PlanError::Illegal { nearest, .. } = refused else {
        panic!("{refused}");
    };
    let words = nearest.split(' ');
    words.filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn micro_batches_it_cannot_order_are_refused_and_the_nearest_named() {
    let mut refused = 0;
    for kind in published() {
        for (nodes, micro_batches) in (1..=8).flat_map(|nodes| (1..=32).map(move |m| (nodes, m))) {
            let define = |m| kind.define(&task(kind, nodes, m, None));
            let Err(error) = define(micro_batches) else {
                continue;
            };
            let near = nearest(error);
            let (low, high) = (near[0].min(micro_batches), near[near.len() - 1]);
            assert!(near.iter().all(|m| define(*m).is_ok()), "{kind} {near:?}");
            let between = (low + 1..high).filter(|m| define(*m).is_ok()).count();
            assert_eq!(between, 0, "{kind} {micro_batches} {near:?}");
            refused += 1;
        }
    }
    assert!(refused > 100, "{refused}");
    let text = |kind, m| {
        let refused: PlanError = ScheduleKind::define(&kind, &task(kind, 4, m, None)).unwrap_err();
        refused.to_string()
    };
    assert_eq!(
        text(Interleaved1F1B, 9),
        "schedule interleaved-1f1b cannot use 9 micro-batches on 4 nodes: \
         they do not divide into 2 equal rounds; nearest is 8 or 10 micro-batches"
    );
    assert_eq!(
        text(DualPipeV, 6),
        "schedule dualpipe-v cannot use 6 micro-batches on 4 nodes: \
         it needs two for each node; nearest is 8 micro-batches"
    );
}

#[test]
fn chunks_it_cannot_place_are_refused_and_the_nearest_named() {
    let nodes = NodeCount::new(3);
    for kind in published() {
        assert!(kind.place(nodes, None).is_ok());
        for chunks in 0..6 {
            if let Err(refused) = kind.place(nodes, Some(chunks)) {
                let near = nearest(refused)[0] as usize;
                let placement = kind.place(nodes, Some(near)).unwrap();
                assert_eq!(placement.chunks(), Some(near));
            }
        }
    }
    let refused = ZbV.place(nodes, Some(1)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "schedule zb-v cannot use 1 chunk: it places two stages on each node; nearest is 2 chunks"
    );
}

#[test]
fn a_placement_of_another_schedule_is_refused() {
    let of = |nodes: &[u32]| Placement::of(nodes.iter().copied().map(NodeId::new).collect());
    for nodes in [
        &[0, 1][..],
        &[0, 1, 0, 1],
        &[0, 1, 1, 0],
        &[0, 1, 1],
        &[1, 0],
        &[1, 0, 0, 1],
    ] {
        let placement = of(nodes).unwrap();
        for kind in published() {
            let own = kind.place(placement.nodes(), placement.chunks()).ok();
            let defined = kind.define(&Task::new(placement.clone(), MicroBatchCount::new(4)));
            assert_eq!(
                defined.is_ok(),
                own.as_ref() == Some(&placement),
                "{kind} {nodes:?}"
            );
        }
    }
    let looped = Placement::looped(NodeCount::new(2), 2);
    let refused = ZbV
        .define(&Task::new(looped, MicroBatchCount::new(4)))
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "schedule zb-v cannot use stages on nodes 0 1 0 1; nearest is stages on nodes 0 1 1 0"
    );
}
