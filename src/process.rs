//! The processes that train together: this one alone, or all that an MPI launcher started.
//!
//! ```text
//! mpirun -n 2:   rank 0: node 0, node 1        rank 1: node 2, node 3
//!                one process, a thread a node  another one, on the same machine or elsewhere
//! ```
//!
//! A program is the same for both: every process calls the same methods of [`Trainer`] with the
//! same arguments, and all get the same answers. Only what it prints and writes is for one of them:
//! ```
//! if brigade::process::is_first() {
//!     println!("one of {}", brigade::process::count());
//! }
//! ```
//!
//! [`Trainer`]: crate::Trainer

use crate::error::{Cause, Error, PlanError};
use crate::ids::NodeCount;
use crate::launch::launch;
use crate::wire::{Patience, World, pack, unpack, world};
use core_affinity::CoreId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The number of this process, from 0.
pub fn rank() -> usize {
    launch().map_or(0, |launch| launch.rank)
}

/// The number of this process, where there are several.
pub(crate) fn own() -> Option<usize> {
    launch().map(|launch| launch.rank)
}

/// How many processes there are.
pub fn count() -> usize {
    launch().map_or(1, |launch| launch.size)
}

/// Whether this is the one that prints and writes.
pub fn is_first() -> bool {
    rank() == 0
}

/// Whether all processes find alike that they cannot meet.
#[cfg(feature = "cli")]
pub(crate) fn nobody_can_meet() -> bool {
    matches!(world(Duration::ZERO), Err(no) if no.everywhere)
}

/// Processes that have met.
#[derive(Clone, Copy)]
pub(crate) struct Processes(Option<&'static World>);

impl Processes {
    /// Meets the others, if there are any and unless they have met, within so long.
    pub(crate) fn meet(meeting: Duration) -> Result<Self, Error> {
        let world = world(meeting).map_err(|no| PlanError::Processes {
            problem: no.problem,
        })?;
        Ok(Self(world))
    }

    pub(crate) fn world(self) -> Option<&'static World> {
        self.0
    }

    /// The cores that this process may use for itself: those it was given, shared out among the
    /// processes of its machine that were given the same.
    pub(crate) fn cores(self) -> Vec<CoreId> {
        let all = core_affinity::get_core_ids().unwrap_or_default();
        let Some(world) = self.0 else {
            return all;
        };
        let (machines, own) = (world.machines(), rank());
        let alike: Vec<_> = (0..machines.len())
            .filter(|rank| machines[*rank] == machines[own])
            .collect();
        let at = alike.iter().position(|alike| *alike == own).unwrap_or(0);
        let cut = |at: usize| at * all.len() / alike.len();
        all[cut(at)..cut(at + 1)].to_vec()
    }

    /// The machine of every node, where there are several processes.
    pub(crate) fn hosts_of(self, nodes: NodeCount) -> Result<Vec<String>, PlanError> {
        let Some(world) = self.0 else {
            return Ok(Vec::new());
        };
        let host = |rank: usize| world.machines()[rank].host.clone();
        Ok(self.ranks_of(nodes)?.into_iter().map(host).collect())
    }

    /// The process of every node: the same number for each as far as that goes out, neighbours in
    /// one process and on one machine where possible.
    pub(crate) fn ranks_of(self, nodes: NodeCount) -> Result<Vec<usize>, PlanError> {
        match self.0 {
            None => Ok(vec![0; nodes.index()]),
            Some(world) => {
                let hosts = world.machines().iter().map(|machine| machine.host.as_str());
                place(nodes.index(), &hosts.collect::<Vec<_>>())
            }
        }
    }

    /// Every process brings something, and all get all of it, in the order of the processes. One
    /// that ends meanwhile tells why.
    pub(crate) fn share<T: Serialize + DeserializeOwned>(
        self,
        what: &'static str,
        mine: T,
        deadline: Duration,
    ) -> Result<Vec<T>, Cause> {
        let Some(world) = self.0 else {
            return Ok(vec![mine]);
        };
        let mine = Brought::Share(what.into(), pack(&mine));
        let patience = Patience::within(deadline);
        let all: Vec<Brought> = open(world.share(MEETING, pack(&mine), patience)?)?;
        let shared = |(rank, brought)| match brought {
            Brought::Share(theirs, bytes) if theirs == what => Ok(bytes),
            Brought::Share(theirs, _) => Err(Cause::Diverged {
                rank,
                theirs,
                ours: what.into(),
            }),
            Brought::End(None) => Err(Cause::ProcessLost {
                rank,
                what: "has ended".into(),
            }),
            Brought::End(Some(why)) => Err(Cause::ProcessLost {
                rank,
                what: format!("has ended: {why}"),
            }),
        };
        let all: Result<_, Cause> = all.into_iter().enumerate().map(shared).collect();
        open(all?)
    }

    /// How each process ends, in the order of the processes: `None` is well.
    #[cfg(feature = "cli")]
    pub(crate) fn end(self, why: Option<String>) -> Result<Vec<Option<String>>, Cause> {
        let Some(world) = self.0 else {
            return Ok(vec![why]);
        };
        let patience = match &why {
            None => Patience::within(ENDING_WELL),
            Some(_) => ENDING_BADLY,
        };
        let mine = Brought::End(why);
        let all: Vec<Brought> = open(world.share(MEETING, pack(&mine), patience)?)?;
        let end = |brought| match brought {
            Brought::Share(..) => None,
            Brought::End(why) => why,
        };
        Ok(all.into_iter().map(end).collect())
    }
}

/// How long a process that ends well waits for the others to say how they end.
#[cfg(feature = "cli")]
const ENDING_WELL: Duration = Duration::from_secs(60);
/// The same after a failure: less than it takes until the job is ended.
#[cfg(feature = "cli")]
const ENDING_BADLY: Patience = Patience {
    silent: Duration::from_secs(3),
    busy: Duration::from_secs(3),
};

/// What is brought where a process may end instead: a thing, or why it ends.
const MEETING: &str = "part";

/// What a process brings where all meet.
#[derive(Serialize, Deserialize)]
enum Brought {
    Share(String, Vec<u8>),
    End(Option<String>),
}

/// Reads what all brought.
pub(crate) fn open<T: DeserializeOwned>(all: Vec<Vec<u8>>) -> Result<Vec<T>, Cause> {
    let bad = |problem| Cause::Bug(format!("what another process brought: {problem}"));
    all.iter().map(|bytes| unpack(bytes).map_err(bad)).collect()
}

fn place(nodes: usize, hosts: &[&str]) -> Result<Vec<usize>, PlanError> {
    let ranks = hosts.len();
    if nodes < ranks {
        return Err(PlanError::Processes {
            problem: format!(
                "{ranks} processes for {nodes} nodes; start at most {nodes}, or ask for {ranks} nodes"
            ),
        });
    }
    let first = |host: &str| hosts.iter().position(|other| *other == host);
    let mut order: Vec<usize> = (0..ranks).collect();
    order.sort_by_key(|rank| (first(hosts[*rank]), *rank));
    Ok((0..nodes).map(|node| order[node * ranks / nodes]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_on_one_machine() {
        assert_eq!(place(4, &["a", "b", "a", "b"]).unwrap(), [0, 2, 1, 3]);
        assert_eq!(place(5, &["a", "a"]).unwrap(), [0, 0, 0, 1, 1]);
        assert_eq!(place(3, &["a", "b", "c"]).unwrap(), [0, 1, 2]);
        let refused = place(2, &["a", "b", "c"]).unwrap_err();
        let wanted = "3 processes for 2 nodes; start at most 2, or ask for 3 nodes";
        assert_eq!(refused.to_string(), wanted);
    }
}
