//! What the links of one process share: who is alive, how far each has come, and how full each lane
//! is.

use crate::ids::{NodeId, PassId};
use crate::plan::Walk;
use crate::schedule::{Lane, Layout};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One line a node, written by its own link and read by the others'.
#[derive(Debug)]
struct Line {
    alive: AtomicBool,
    /// Counts every action begun.
    progress: AtomicU64,
    /// How many passes it has begun: the number of the last one, and one.
    begun: AtomicU64,
    /// The entry of its list that it has begun last.
    entry: AtomicU64,
    /// When it began that, in milliseconds since the hub was made.
    moved: AtomicU64,
    /// How long that may take, in milliseconds.
    allowed: AtomicU64,
    /// When its process was last heard of, in milliseconds since the hub was made; of a node in
    /// this process it is not counted.
    heard: AtomicU64,
}

/// A [`Line`]'s `heard`, where the node is in this process.
const HERE: u64 = u64::MAX;
/// A [`Line`]'s `entry`, while its node waits to be asked for something.
const AT_REST: u64 = u64::MAX;
/// A [`Line`]'s `entry`, while its node reads data, ahead of its list.
const BEGINS: u64 = u64::MAX - 1;

/// Where a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    Rest,
    Begins,
    Entry(usize),
}

/// Shared by the links of one process.
#[derive(Debug)]
pub(crate) struct Hub {
    made: Instant,
    pub(super) layout: Layout,
    /// Of every node, where there are several processes.
    pub(super) ranks: Vec<usize>,
    /// The lists that are walked in this process.
    walk: Mutex<Option<(PassId, Arc<Walk>)>>,
    lines: Vec<Line>,
    lanes: Vec<(Lane, AtomicU32)>,
}

impl Hub {
    pub(crate) fn new(layout: &Layout, ranks: Vec<usize>) -> Self {
        let line = || Line {
            alive: AtomicBool::new(true),
            progress: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            entry: AtomicU64::new(AT_REST),
            moved: AtomicU64::new(0),
            allowed: AtomicU64::new(0),
            heard: AtomicU64::new(HERE),
        };
        let mut lanes: Vec<_> = layout
            .routes
            .iter()
            .map(|route| (route.lane, AtomicU32::new(0)))
            .collect();
        lanes.sort_by_key(|(lane, _)| *lane);
        Self {
            made: Instant::now(),
            lines: layout.nodes().iter().map(|_| line()).collect(),
            layout: layout.clone(),
            ranks,
            walk: Mutex::new(None),
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

    /// A node begins a pass.
    pub(super) fn begin(&self, node: NodeId, pass: PassId, walk: &Arc<Walk>) {
        *self.walk.lock().unwrap_or_else(PoisonError::into_inner) = Some((pass, walk.clone()));
        let begun = pass.get().saturating_add(1);
        self.lines[node.index()]
            .begun
            .store(begun, Ordering::Relaxed);
        self.moved(node, BEGINS, Duration::ZERO, Instant::now());
    }

    /// A node has begun an entry of its list, which may take so long.
    pub(super) fn progress(&self, node: NodeId, entry: usize, begun: Instant, allowed: Duration) {
        self.moved(node, entry as u64, allowed, begun);
    }

    /// A node is done with its list.
    pub(super) fn rest(&self, node: NodeId) {
        self.moved(node, AT_REST, Duration::ZERO, Instant::now());
    }

    fn moved(&self, node: NodeId, entry: u64, allowed: Duration, at: Instant) {
        let line = &self.lines[node.index()];
        line.entry.store(entry, Ordering::Relaxed);
        line.allowed.store(millis(allowed), Ordering::Relaxed);
        let since = at.saturating_duration_since(self.made);
        line.moved.store(millis(since), Ordering::Relaxed);
        line.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// The lists that are walked in this process, and the pass.
    pub(super) fn walk(&self) -> Option<(PassId, Arc<Walk>)> {
        let walk = self.walk.lock();
        walk.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The pass that a node has begun last, and where it is in it.
    pub(super) fn at(&self, node: NodeId) -> (Option<PassId>, At) {
        let line = &self.lines[node.index()];
        let begun = line.begun.load(Ordering::Relaxed);
        let at = match line.entry.load(Ordering::Relaxed) {
            AT_REST => At::Rest,
            BEGINS => At::Begins,
            entry => At::Entry(entry as usize),
        };
        (begun.checked_sub(1).map(PassId::new), at)
    }

    /// How long ago a node began what it is at.
    pub(super) fn since(&self, node: NodeId) -> Duration {
        let moved = self.lines[node.index()].moved.load(Ordering::Relaxed);
        (self.made.elapsed()).saturating_sub(Duration::from_millis(moved))
    }

    /// Whether a node has not begun its list: its program has not asked it yet, or it reads data.
    pub(super) fn is_anyone_at_rest(&self) -> bool {
        let entries = self.lines.iter().map(|line| &line.entry);
        { entries }.any(|entry| entry.load(Ordering::Relaxed) >= BEGINS)
    }

    /// The longest that any node's present action may take.
    pub(super) fn longest_allowed(&self) -> Duration {
        let allowed = self.lines.iter().map(|line| &line.allowed);
        let longest = allowed.map(|allowed| allowed.load(Ordering::Relaxed)).max();
        Duration::from_millis(longest.unwrap_or(0))
    }

    /// For how long nothing has been heard of a node's process. Nothing, where it is this one.
    pub(super) fn silence(&self, node: NodeId) -> Option<Duration> {
        let heard = self.lines[node.index()].heard.load(Ordering::Relaxed);
        let heard = (heard != HERE).then(|| Duration::from_millis(heard));
        heard.map(|heard| self.made.elapsed().saturating_sub(heard))
    }

    /// Changes whenever any node begins an action.
    pub(super) fn total_progress(&self) -> u64 {
        let progress = self.lines.iter().map(|line| &line.progress);
        let counts = progress.map(|progress| progress.load(Ordering::Relaxed));
        counts.fold(0, u64::wrapping_add)
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How far a node has come, told from process to process.
#[cfg_attr(not(feature = "mpi"), allow(dead_code))]
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Beat {
    node: NodeId,
    progress: u64,
    begun: u64,
    entry: u64,
    /// How many milliseconds ago it began that.
    since: u64,
    allowed: u64,
}

#[cfg_attr(not(feature = "mpi"), allow(dead_code))]
impl Hub {
    /// What to tell of a node in this process.
    pub(super) fn beat(&self, node: NodeId) -> Beat {
        let line = &self.lines[node.index()];
        Beat {
            node,
            progress: line.progress.load(Ordering::Relaxed),
            begun: line.begun.load(Ordering::Relaxed),
            entry: line.entry.load(Ordering::Relaxed),
            since: millis(self.since(node)),
            allowed: line.allowed.load(Ordering::Relaxed),
        }
    }

    /// What was told of a node in another process.
    pub(super) fn told(&self, beat: Beat) {
        let Some(line) = self.lines.get(beat.node.index()) else {
            return;
        };
        let moved = millis(self.made.elapsed()).saturating_sub(beat.since);
        line.begun.store(beat.begun, Ordering::Relaxed);
        line.entry.store(beat.entry, Ordering::Relaxed);
        line.moved.store(moved, Ordering::Relaxed);
        line.allowed.store(beat.allowed, Ordering::Relaxed);
        line.progress.store(beat.progress, Ordering::Relaxed);
        self.heard(beat.node);
    }

    /// A node in another process is there.
    pub(super) fn heard(&self, node: NodeId) {
        let heard = millis(self.made.elapsed()).min(HERE - 1);
        self.lines[node.index()]
            .heard
            .store(heard, Ordering::Relaxed);
    }
}
