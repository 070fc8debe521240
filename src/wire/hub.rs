//! What the links of one process share: who is alive, how far each has come, and how full each lane
//! is.

use crate::ids::{NodeCount, NodeId};
use crate::schedule::{Lane, Layout};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// One line a node, written by its own link and read by the others'.
#[derive(Debug)]
struct Line {
    alive: AtomicBool,
    /// Counts every action begun.
    progress: AtomicU64,
    /// The entry of its list that it has begun last.
    entry: AtomicU64,
}

/// Shared by the links of one process.
#[derive(Debug)]
pub(crate) struct Hub {
    lines: Vec<Line>,
    lanes: Vec<(Lane, AtomicU32)>,
}

impl Hub {
    pub(crate) fn new(nodes: NodeCount, layout: &Layout) -> Self {
        let line = || Line {
            alive: AtomicBool::new(true),
            progress: AtomicU64::new(0),
            entry: AtomicU64::new(0),
        };
        let mut lanes: Vec<_> = layout
            .routes
            .iter()
            .map(|route| (route.lane, AtomicU32::new(0)))
            .collect();
        lanes.sort_by_key(|(lane, _)| *lane);
        Self {
            lines: nodes.iter().map(|_| line()).collect(),
            lanes,
        }
    }

    pub(super) fn alive(&self, node: NodeId) -> bool {
        self.lines[node.index()].alive.load(Ordering::Acquire)
    }

    pub(super) fn gone(&self, node: NodeId) {
        self.lines[node.index()]
            .alive
            .store(false, Ordering::Release);
    }

    pub(super) fn progress(&self, node: NodeId, entry: usize) {
        let line = &self.lines[node.index()];
        line.entry.store(entry as u64, Ordering::Relaxed);
        line.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Changes whenever any node begins an action.
    pub(super) fn total_progress(&self) -> u64 {
        self.lines
            .iter()
            .map(|line| line.progress.load(Ordering::Relaxed))
            .sum()
    }

    /// The entry of its list that a node has begun last.
    pub(super) fn entry(&self, node: NodeId) -> u64 {
        self.lines[node.index()].entry.load(Ordering::Relaxed)
    }

    /// A message enters a lane: how many are under way now.
    pub(super) fn enter(&self, lane: Lane) -> u32 {
        self.lane(lane)
            .map_or(0, |count| count.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// A message is taken out of a lane.
    pub(super) fn leave(&self, lane: Lane) {
        if let Some(count) = self.lane(lane) {
            count.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn lane(&self, lane: Lane) -> Option<&AtomicU32> {
        self.lanes
            .binary_search_by_key(&lane, |(lane, _)| *lane)
            .ok()
            .map(|at| &self.lanes[at].1)
    }
}
