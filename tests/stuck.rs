//! Promise: never stuck. A run in which nothing moves, or a node is lost, ends with where every
//! node stood and who held up the others.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::ids::NodeId;
use brigade::{Cause, Config, Cuts, Doing, Error, Fault, RunError, ScheduleKind, Trainer};
use common::*;
use std::time::Duration;

fn four_nodes() -> Config {
    Config {
        deadline_s: 0.2,
        ..with(4, ScheduleKind::OneFOneB, Cuts::Before(vec![1, 2, 3]), 1)
    }
}

/// A run in which the layer on node 2 sleeps for far longer than the deadline.
fn stuck(sleep: [Duration; 3]) -> RunError {
    let network = chain_with(Toy { sleep, ..toy() });
    let mut trainer = Trainer::start(&network, &four_nodes(), adamw()).unwrap();
    let Error::Run(error) = trainer.step(&numbers(13)).unwrap_err() else {
        panic!()
    };
    assert_eq!(trainer.errors().len(), 4);
    assert!(matches!(error.cause, Cause::Stuck { .. }), "{error}");
    *error
}

const LONG: Duration = Duration::from_millis(900);
const ZERO: Duration = Duration::ZERO;

/// A node that does not move is not waited for for ever.
#[test]
fn a_stuck_node_is_reported_with_who_waits_for_what() {
    let error = stuck([LONG, ZERO, ZERO]);
    let standings = &error.standings;
    let does = |node: u32| standings.nodes()[node as usize].doing;
    let waits_for = |node| Doing::WaitsFor {
        node: NodeId::new(node),
        more: 0,
    };
    assert_eq!(standings.nodes().len(), 4);
    assert_eq!(does(0), waits_for(1));
    assert_eq!(does(1), waits_for(2));
    assert_eq!(does(2), Doing::Works);
    assert_eq!(does(3), waits_for(2));

    let guilty = &standings.nodes()[2];
    assert_eq!(guilty.action.unwrap().to_string(), "2F0");
    assert!(guilty.row.contains("[2F0]"), "{}", guilty.row);
    let deadline = Duration::from_secs_f64(four_nodes().deadline_s);
    assert!(
        guilty.since >= deadline && guilty.since < LONG,
        "{guilty:?}"
    );
    assert!(!guilty.is_lost());
    for standing in standings.nodes() {
        let action = standing.action.unwrap().to_string();
        assert!(
            standing.row.contains(&format!("[{action}]")),
            "{standing:?}"
        );
    }
    // Whoever noticed: it comes down to node 2.
    let chain = standings.chain(error.node);
    assert_eq!(chain.last().unwrap().node.get(), 2);
    let line = error.to_string();
    assert!(line.contains("from node"), "{line}");
    assert!(line.contains("node 2 works on 2F0 for "), "{line}");
    assert!(!line.contains('\n'), "{line}");
}

/// Node 2 sleeps on its way back.
#[test]
fn the_picture_has_a_line_for_every_node_and_ends_with_who_holds_the_others_up() {
    let error = stuck([ZERO, ZERO, LONG]);
    let picture = error.picture().unwrap();
    let lines: Vec<_> = picture.lines().collect();
    assert_eq!(lines.len(), 5, "{picture}");
    for (node, line) in lines[..4].iter().enumerate() {
        assert!(line.starts_with(&format!("node {node}  ")), "{picture}");
        let marked = line.split_once('[').and_then(|(_, at)| at.split_once(']'));
        assert!(
            marked.unwrap().0.starts_with(&node.to_string()),
            "{picture}"
        );
    }
    assert!(lines[0].contains("waits for node 1"), "{picture}");
    assert!(lines[2].contains("works on 2B0"), "{picture}");
    assert!(lines[4].contains("node 2 works on 2B0 for "), "{picture}");
    assert!(lines[4].starts_with(&format!("node {} waits for ", error.node)));
}

/// A node that is gone without a word.
#[test]
fn a_lost_node_is_in_the_picture() {
    let fault = Fault {
        node: 2,
        after_sends: 3,
    };
    let network = chain_with(toy());
    let mut trainer = Trainer::start_faulty(&network, &four_nodes(), adamw(), fault).unwrap();
    trainer.step(&numbers(13)).unwrap_err();
    let told = |error: &RunError| {
        let lost = error.standings.nodes().get(2).is_some_and(|node| node.gone);
        lost && error.picture().unwrap().contains("node 2  is gone")
    };
    let roots: Vec<_> = trainer.errors().iter().map(RunError::root).collect();
    assert!(roots.iter().any(|error| told(error)), "{roots:?}");
}
