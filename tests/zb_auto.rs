//! Promise: zb-auto finds orders as good as the published ones, on small tasks the best there is,
//! and keeps every limit at every moment.
//!
//! Orders are replayed by code of their own.
#![allow(missing_docs, clippy::unwrap_used)]

mod orders;

use brigade::ids::{MicroBatchCount, NodeCount};
use brigade::placement::Placement;
use brigade::schedule::{Costs, Schedule, ScheduleKind, Task, Times};
use orders::Given;
use std::time::Instant;

/// Numbers between 0 and 1, the same every time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) as f64 / (1u64 << 31) as f64
    }

    fn between(&mut self, least: f64, most: f64) -> f64 {
        least + (most - least) * self.next()
    }
}

fn uneven(numbers: &mut Numbers, stages: usize, micro_batches: usize, room: f64) -> Given {
    let times = (0..stages)
        .map(|_| [0; 3].map(|_| numbers.between(0.3, 2.0)))
        .collect();
    let kept: Vec<[f64; 2]> = (0..stages)
        .map(|_| [numbers.between(0.5, 1.5), numbers.between(0.2, 1.2)])
        .collect();
    let limits = kept
        .iter()
        .map(|[before, after]| before.max(*after) * room)
        .collect();
    Given {
        stages,
        micro_batches,
        times,
        link: numbers.between(0.0, 0.5),
        kept,
        limits,
    }
}

/// Nodes, micro-batches; milliseconds of F, I, W and a message; hidden size and heads; the share of
/// idle time of 1F1B, ZB-1P and ZB-2P.
type Published = (usize, usize, [f64; 4], [f64; 2], [f64; 3]);

/// Tables 5 and 9 of Qi et al., ICLR 2024, arXiv 2401.10241, with models of 1.5, 6.2, 14.6 and 28.3
/// billion parameters.
#[rustfmt::skip]
const PUBLISHED: [Published; 12] = [
    ( 8,  24, [18.522, 18.086,  9.337, 0.601], [2304.0, 24.0], [0.2431, 0.1585, 0.0433]),
    ( 8,  32, [18.513, 18.086,  9.331, 0.626], [2304.0, 24.0], [0.1985, 0.1242, 0.0039]),
    ( 8,  64, [18.546, 18.097,  9.321, 0.762], [2304.0, 24.0], [0.1240, 0.0674, 0.0026]),
    ( 8,  24, [29.718, 29.444, 19.927, 0.527], [4096.0, 32.0], [0.2347, 0.1323, 0.0029]),
    ( 8,  32, [29.802, 29.428, 19.530, 0.577], [4096.0, 32.0], [0.1898, 0.1045, 0.0022]),
    ( 8,  64, [29.935, 29.621, 19.388, 0.535], [4096.0, 32.0], [0.1091, 0.0554, 0.0010]),
    (16,  48, [11.347, 11.248,  8.132, 0.377], [5120.0, 40.0], [0.2552, 0.1397, 0.0066]),
    (16,  64, [11.307, 11.254,  8.101, 0.379], [5120.0, 40.0], [0.2082, 0.1088, 0.0054]),
    (16, 128, [11.325, 11.308,  8.109, 0.378], [5120.0, 40.0], [0.1251, 0.0576, 0.0028]),
    (32,  96, [10.419, 10.207,  7.715, 0.408], [6144.0, 48.0], [0.2646, 0.1421, 0.0038]),
    (32, 128, [10.408, 10.204,  7.703, 0.408], [6144.0, 48.0], [0.2168, 0.1106, 0.0029]),
    (32, 256, [10.402, 10.248,  7.698, 0.460], [6144.0, 48.0], [0.1352, 0.0594, 0.0018]),
];

#[test]
fn as_good_as_published() {
    println!(
        "idle share of the span:       1F1B           ZB-1P           ZB-2P  (of the makespan)"
    );
    for (p, m, [f, i, w, link], [hidden, heads], [one, zb_1p, zb_2p]) in PUBLISHED {
        let kept = [34.0 * hidden + 5.0 * heads * 1024.0, 32.0 * hidden];
        let mut given = Given::equal(p, m, [f, i, w], p as f64 * kept[0]);
        (given.link, given.kept) = (link, vec![kept; p]);
        let idle = |time: f64| 1.0 - m as f64 * (f + i + w) / time;

        let ours = idle(
            given
                .play(&given.rows(ScheduleKind::OneFOneB).unwrap())
                .unwrap()
                .span,
        );
        let ours_1p = idle(given.auto().span);
        given.limits = vec![2.0 * p as f64 * kept[0]; p];
        let taken = given.auto();
        let ours_2p = idle(taken.span);
        println!(
            "{p:>3} nodes, {m:>3}: {one:.4} {ours:.4}, {zb_1p:.4} {ours_1p:.4}, \
             {zb_2p:.4} {ours_2p:.4} ({:.4})",
            idle(taken.makespan)
        );
        assert!(
            (ours - one).abs() < 0.00005 + 1e-9,
            "1F1B: {ours} and {one}"
        );
        assert!(ours_1p < zb_1p + 0.002 && ours_2p < zb_2p + 0.002);
        let last = (p - 1) as f64 * (f + link) + m as f64 * (f + i + w);
        assert!(
            taken.makespan < last * 1.000_001,
            "no longer than the last node must"
        );
    }
}

#[test]
fn small_tasks_have_the_best_order() {
    let mut numbers = Numbers(1);
    let (mut cases, mut optimal, mut worst) = (0, 0, 0.0f64);
    for (stages, micro_batches) in (0..9).map(|size| (1 + size % 3, 1 + size / 3)) {
        for case in 0..48 {
            let room = [1.0, 1.5, 2.0, 2.5, 3.0, 6.0][case % 6];
            let mut given = uneven(&mut numbers, stages, micro_batches, room);
            if case % 8 == 0 {
                given = Given::equal(stages, micro_batches, [1.0; 3], room);
            }
            given.link = [0.0, 0.3, 1.0][case % 3];
            let gap = given.auto().makespan / given.best() - 1.0;
            (cases, worst) = (cases + 1, worst.max(gap));
            optimal += usize::from(gap < 1e-9);
            assert!(gap > -1e-9, "the best is not the best: {given:?}");
        }
    }
    println!(
        "{optimal} of {cases} are the best there is; the worst takes {:.2} % more",
        worst * 100.0
    );
    assert!(optimal * 100 >= cases * 95 && worst < 0.02);
}

#[test]
fn limits_are_kept_and_1f1b_is_no_better() {
    let mut numbers = Numbers(2);
    for stages in 1..=8 {
        for micro_batches in 1..=32 {
            let room = [1.0, 2.0, 3.5, 1.0 + stages as f64][micro_batches % 4];
            let given = uneven(&mut numbers, stages, micro_batches, room);
            let (ours, theirs) = (given.auto().makespan, given.one_f_one_b().makespan);
            assert!(
                ours <= theirs * (1.0 + 1e-8),
                "{given:?}: {ours} > {theirs}"
            );
        }
    }
}

#[test]
fn equal_stages_wait_no_longer_than_with_zb_h1() {
    for stages in 1..=8 {
        for times in [[1.0, 1.0, 1.0], [1.0, 1.3, 0.7], [2.0, 2.0, 1.0]] {
            let micro_batches = 2 * stages;
            let given = Given::equal(stages, micro_batches, times, stages as f64);
            let [f, i, w] = times;
            let idle = given.auto().makespan - micro_batches as f64 * (f + i + w);
            assert!(
                idle < (stages - 1) as f64 * (f + i - w) + 1e-9,
                "{stages} {times:?}: {idle}"
            );
        }
    }
}

#[test]
fn the_same_every_time_and_for_nobody_knows_what() {
    let given = uneven(&mut Numbers(3), 6, 20, 4.0);
    let rows = || given.rows(ScheduleKind::ZbAuto).unwrap();
    assert_eq!(rows(), rows());

    let task = |count| {
        Task::new(
            Placement::straight(NodeCount::new(4)),
            MicroBatchCount::new(count),
        )
    };
    let rows = ScheduleKind::ZbAuto.define(&task(8)).unwrap().nodes;
    let given = Given::equal(4, 8, [1.0; 3], 8.0);
    given.assert_lawful(&rows);
    assert_eq!(given.play(&rows).unwrap().makespan, 27.0);
    for costs in [
        Costs::default(),
        Costs {
            times: Times::equal(4, f64::NAN, -1.0, 0.0),
            ..Costs::default()
        },
    ] {
        let rows = ScheduleKind::ZbAuto
            .define(&task(8).with_costs(costs))
            .unwrap()
            .nodes;
        given.assert_lawful(&rows);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut given = Given::equal(3, 4, [1.0; 3], 2.0);
    given.limits[1] = 0.5;
    let error = given.rows(ScheduleKind::ZbAuto).unwrap_err().to_string();
    println!("{error}");
    assert!(
        error.contains("a limit of 0.5 on node 1") && error.ends_with("nearest is a limit of 1"),
        "{error}"
    );
}

/// How long it takes is printed, for people.
#[test]
fn big_tasks_are_ordered_within_their_limits_and_no_worse_than_1f1b() {
    let start = Instant::now();
    let given = uneven(&mut Numbers(4), 64, 512, 96.0);
    let taken = given.auto();
    println!(
        "64 nodes, 512 micro-batches: {:?}, {taken:?}",
        start.elapsed()
    );
    let theirs = given.one_f_one_b().makespan;
    assert!(
        taken.makespan <= theirs * (1.0 + 1e-8),
        "{taken:?}, 1F1B {theirs}"
    );
}
