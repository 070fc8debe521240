//! How the program ends where several processes run it: the first one says what went wrong, once.

use super::failure::Failure;
use crate::process::{self, Processes};
use crate::{Standing, Standings};
use std::fmt::Write;
use std::time::Duration;

/// The errors that this process is to print: a line each, and below the first one where every node
/// stood, if it matters and this is the process to say it.
pub(super) fn texts(failure: Option<&Failure>) -> Vec<String> {
    let (mut texts, others) = lines(failure.map(ToString::to_string));
    let standings = failure.and_then(Failure::standings);
    if let (Some(text), Some(standings)) = (texts.first_mut(), standings)
        && says(standings, others, (process::rank(), process::count()))
    {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{standings}");
    }
    texts
}

/// Whether this of so many processes says where every node stood. One that was stopped and goes on
/// comes after the others have said it.
fn says(standings: &Standings, others: bool, (own, processes): (usize, usize)) -> bool {
    let lost = |node: &Standing| node.rank == Some(own) && node.is_lost();
    let speaks = !others || spokesman(standings, processes) == own;
    speaks && !standings.nodes().iter().any(lost)
}

/// The lines, and whether other processes print theirs by themselves.
fn lines(own: Option<String>) -> (Vec<String>, bool) {
    if process::count() == 1 {
        return (own.into_iter().collect(), false);
    }
    let rank = process::rank();
    let ends = Processes::meet(WELL).map(|processes| processes.end(own.clone()));
    match ends {
        Ok(Ok(_)) if rank > 0 => (Vec::new(), true),
        Ok(Ok(ends)) => (once(ends), false),
        // Where it cannot be told, the first process and whoever knows more speaks for himself.
        Ok(Err(_)) => {
            let line = own.map(|own| format!("rank {rank}: {own}"));
            (line.into_iter().collect(), true)
        }
        Err(_) if rank > 0 && process::nobody_can_meet() => (Vec::new(), true),
        // Some wait for others that do not come: the first one says so, most often for all, and the
        // launcher ends them.
        Err(_) => {
            if rank > 0 {
                std::thread::sleep(ALIKE);
            }
            (own.into_iter().collect(), true)
        }
    }
}

/// The process that says where every node stood, when all print: the first one whose nodes all wait
/// for others, so that none of them keeps it from printing; or else the first that is there.
fn spokesman(standings: &Standings, processes: usize) -> usize {
    let first = |keeps: &dyn Fn(&Standing) -> bool| {
        let of = |rank| move |standing: &&Standing| standing.rank == Some(rank);
        let kept = |rank: &usize| standings.nodes().iter().filter(of(*rank)).any(keeps);
        (0..processes).find(|rank| !kept(rank))
    };
    first(&|standing| standing.waits_for().is_none())
        .or_else(|| first(&Standing::is_lost))
        .unwrap_or(0)
}

/// The deadline of a program that ends before it knows another.
const WELL: Duration = Duration::from_secs(60);
/// How long the first process has to speak for all.
const ALIKE: Duration = Duration::from_secs(1);

/// What several say alike is said once; what the first does not say, with who says it.
fn once(ends: Vec<Option<String>>) -> Vec<String> {
    let mut said: Vec<(usize, String)> = Vec::new();
    for (rank, why) in ends.into_iter().enumerate() {
        if let Some(why) = why
            && said
                .iter()
                .all(|(_, other)| !other.contains(&why) && !why.contains(other))
        {
            said.push((rank, why));
        }
    }
    let line = |(rank, why)| match rank {
        0 => why,
        _ => format!("rank {rank}: {why}"),
    };
    said.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{NodeId, PassId, StepId};
    use crate::{Cause, Doing, Error, RunError};
    use std::sync::Arc;

    /// A run that nothing moved in: node 0 waits for node 1, each in a process of its own.
    fn stuck(doing: [Doing; 2]) -> RunError {
        let standing = |(node, doing)| Standing {
            node: NodeId::new(node),
            rank: Some(node as usize),
            pass: None,
            entry: None,
            action: None,
            row: String::new(),
            doing,
            since: Duration::from_secs(61),
            silent: None,
            gone: false,
        };
        let node = NodeId::new(0);
        let nodes = (0..).zip(doing).map(standing).collect();
        RunError {
            rank: None,
            node,
            step: StepId::new(3),
            pass: PassId::new(3),
            action: None,
            row: String::new(),
            cause: Cause::LinkLost {
                peer: NodeId::new(1),
            },
            standings: Arc::new(Standings::new(node, nodes)),
        }
    }

    const WAITS: Doing = Doing::WaitsFor {
        node: NodeId::new(1),
        more: 0,
    };

    #[test]
    fn where_every_node_stood_is_below_the_line_when_a_run_is_stuck_and_only_then() {
        let picture = "step 3, node 0: lost the link to node 1\n\
                       node 0, rank 0  waits for node 1  61.0s\n\
                       node 1, rank 1  reads data        61.0s\n\
                       node 0 waits for node 1, node 1 reads data for 61.0s";
        let error = stuck([WAITS, Doing::Begins]);
        // Also where another node heard of it first.
        let node = NodeId::new(1);
        let heard = RunError {
            node,
            standings: Arc::default(),
            cause: Cause::Peer(Box::new(error.clone())),
            ..error.clone()
        };
        let failure = Failure::from(Error::Run(Box::new(error.clone())));
        assert_eq!(failure.exit_code(), 1);
        assert_eq!(texts(Some(&failure)), [picture]);
        let heard = Failure::from(Error::Run(Box::new(heard)));
        let said = texts(Some(&heard)).concat();
        let (line, below) = said.split_once('\n').unwrap();
        assert_eq!(
            line,
            "step 3, node 1: node 0 failed: lost the link to node 1"
        );
        assert_eq!(below, picture.split_once('\n').unwrap().1);

        let other = RunError {
            standings: Arc::default(),
            ..error
        };
        let other = Failure::from(Error::Run(Box::new(other)));
        assert_eq!(texts(Some(&other)).concat().lines().count(), 1);
        assert_eq!(texts(None), Vec::<String>::new());
    }

    #[test]
    fn one_process_says_where_every_node_stood() {
        let of = |doing, lost: [bool; 2]| {
            let mut nodes = stuck(doing).standings.nodes().to_vec();
            for (node, lost) in nodes.iter_mut().zip(lost) {
                node.silent = lost.then_some(Duration::from_secs(2));
            }
            let standings = Standings::new(NodeId::new(0), nodes);
            let all_speak = [0, 1].map(|rank| says(&standings, true, (rank, 2)));
            assert_eq!(says(&standings, false, (0, 2)), !lost[0]);
            all_speak
        };
        let rest = Doing::BetweenPasses;
        assert_eq!(of([WAITS, Doing::Works], [false, false]), [true, false]);
        assert_eq!(of([Doing::Works, WAITS], [false, false]), [false, true]);
        assert_eq!(of([WAITS, WAITS], [true, false]), [false, true]);
        assert_eq!(of([rest, rest], [false, false]), [true, false]);
        assert_eq!(of([rest, rest], [true, false]), [false, true]);
    }

    #[test]
    fn what_several_say_is_said_once() {
        let ends = |list: &[&str]| {
            let end = |why: &&str| (!why.is_empty()).then(|| (*why).to_owned());
            once(list.iter().map(end).collect())
        };
        assert_eq!(ends(&["", ""]), Vec::<String>::new());
        assert_eq!(ends(&["no a", "no a", "no b"]), ["no a", "rank 2: no b"]);
        assert_eq!(
            ends(&["rank 1 has ended: no a", "no a"]),
            ["rank 1 has ended: no a"]
        );
    }
}
