//! What the courier knows of one trainer.

use super::gather::{Gather, Gathering};
use super::raw::{Comm, Duplicating, MpiError};
use crate::error::{Cause, RunError};
use crate::ids::NodeId;
use crate::wire::Patience;
use crate::wire::hub::{Beat, Hub};
use crate::wire::local::Frame;
use crossbeam_channel::{Sender, TrySendError};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A communicator in the making, who waits for it, and since when.
type Making = (Duplicating, Sender<Result<(), Cause>>, Instant);

/// One trainer's communicator and nodes.
pub(super) struct Room {
    pub(super) comm: Option<Comm>,
    making: Option<Making>,
    pub(super) hub: Option<Arc<Hub>>,
    pub(super) inboxes: Vec<(NodeId, Sender<Frame>)>,
    /// Of every node.
    ranks: Vec<usize>,
    pub(super) deadline: Option<Duration>,
    failed: Option<Arc<RunError>>,
    pub(super) gone: Vec<usize>,
    gathering: Option<Gathering>,
    /// Why a gather failed: what is left of it may come to the next.
    spoiled: Option<Cause>,
}

impl Room {
    /// Of the processes themselves, before there is a trainer.
    pub(super) fn first(comm: Comm) -> Self {
        Self {
            comm: Some(comm),
            making: None,
            hub: None,
            inboxes: Vec::new(),
            ranks: Vec::new(),
            deadline: None,
            failed: None,
            gone: Vec::new(),
            gathering: None,
            spoiled: None,
        }
    }

    pub(super) fn new(
        making: Duplicating,
        answer: Sender<Result<(), Cause>>,
        (hub, ranks): (Arc<Hub>, Vec<usize>),
        inboxes: Vec<(NodeId, Sender<Frame>)>,
        deadline: Duration,
    ) -> Self {
        Self {
            comm: None,
            making: Some((making, answer, Instant::now())),
            hub: Some(hub),
            inboxes,
            ranks,
            deadline: Some(deadline),
            failed: None,
            gone: Vec::new(),
            gathering: None,
            spoiled: None,
        }
    }

    /// Begins to gather, unless an earlier gather failed.
    pub(super) fn gather(
        &mut self,
        comm: Comm,
        ranks: (usize, usize),
        gather: Gather,
    ) -> Result<(), MpiError> {
        match &self.spoiled {
            Some(cause) => {
                let _ = gather.answer.send(Err(cause.clone()));
            }
            None => self.gathering = Some(Gathering::start(comm, ranks, gather)?),
        }
        Ok(())
    }

    pub(super) fn is_spoiled(&self) -> bool {
        self.spoiled.is_some()
    }

    /// Whether nobody waits for the courier to go on with something.
    pub(super) fn is_quiet(&self) -> bool {
        self.making.is_none() && self.gathering.is_none()
    }

    fn nodes_of(&self, rank: usize) -> impl Iterator<Item = NodeId> {
        let ranks = self.ranks.iter().enumerate();
        let nodes = ranks.filter(move |(_, of)| **of == rank);
        nodes.map(|(node, _)| NodeId::new(node as u32))
    }

    /// All others are there from now on.
    pub(super) fn meet(&self, own: usize) {
        for rank in self.ranks.iter().filter(|rank| **rank != own) {
            self.heard(*rank);
        }
    }

    pub(super) fn heard(&self, rank: usize) {
        if let Some(hub) = &self.hub {
            self.nodes_of(rank).for_each(|node| hub.heard(node));
        }
    }

    /// All others were there until now.
    pub(super) fn forgive(&mut self, own: usize) {
        self.meet(own);
        if let Some((_, _, since)) = &mut self.making {
            *since = Instant::now();
        }
        if let Some(gathering) = &mut self.gathering {
            gathering.forgive();
        }
    }

    /// How far the nodes of this process are.
    pub(super) fn beats(&self) -> Vec<Beat> {
        let beats = self.hub.iter().flat_map(|hub| {
            let nodes = self.inboxes.iter();
            nodes.map(|(node, _)| hub.beat(*node))
        });
        beats.collect()
    }

    pub(super) fn deliver(&self, to: NodeId, frame: Frame) {
        if let Some((_, inbox)) = self.inboxes.iter().find(|(node, _)| *node == to) {
            // A node that is gone takes nothing any more; one that is there has room.
            let full = matches!(inbox.try_send(frame), Err(TrySendError::Full(_)));
            assert!(!full, "the queue of node {to} is full");
        }
    }

    /// A node in another process has failed.
    pub(super) fn fail(&mut self, error: &Arc<RunError>) {
        self.failed.get_or_insert_with(|| error.clone());
        for (_, inbox) in &self.inboxes {
            let _ = inbox.try_send(Frame::Failure(error.clone()));
        }
    }

    /// Another process has no part in this any more.
    pub(super) fn gone(&mut self, rank: usize) {
        if self.gone.contains(&rank) {
            return;
        }
        self.gone.push(rank);
        if let Some(hub) = &self.hub {
            self.nodes_of(rank).for_each(|node| hub.gone(node));
        }
    }

    /// Why one of these processes does not come, if it does not.
    fn lost(
        &self,
        missing: impl Iterator<Item = usize>,
        (waited, patience): (Duration, Patience),
        silent: &[Option<Duration>],
    ) -> Option<Cause> {
        if let Some(error) = &self.failed {
            return Some(Cause::Peer(Box::new((**error).clone())));
        }
        for rank in missing {
            let what = if self.gone.contains(&rank) {
                "has ended".to_owned()
            } else if let Some(silent) = silent[rank].filter(|silent| *silent > patience.silent) {
                format!("is silent for {silent:.1?}: stopped, or its machine is lost")
            } else if waited > patience.busy {
                format!("does not come for {waited:.1?}, though it is there")
            } else {
                continue;
            };
            return Some(Cause::ProcessLost { rank, what });
        }
        None
    }

    /// Goes on opening: whether something moved.
    pub(super) fn open_on(
        &mut self,
        own: usize,
        silent: &[Option<Duration>],
    ) -> Result<bool, MpiError> {
        let Some((making, _, since)) = &mut self.making else {
            return Ok(false);
        };
        let (made, waited) = (making.poll()?, since.elapsed());
        let patience = Patience::within(self.deadline.unwrap_or(Duration::MAX));
        let others = (0..silent.len()).filter(|rank| *rank != own);
        let answer = match made {
            Some(comm) => {
                self.comm = Some(comm);
                Ok(())
            }
            None => match self.lost(others, (waited, patience), silent) {
                Some(cause) => Err(cause),
                None => return Ok(false),
            },
        };
        if let Some((_, tell, _)) = self.making.take() {
            let _ = tell.send(answer);
        }
        Ok(true)
    }

    /// Goes on gathering: whether something moved.
    pub(super) fn gather_on(
        &mut self,
        own: usize,
        silent: &[Option<Duration>],
    ) -> Result<bool, MpiError> {
        let Some(gathering) = &mut self.gathering else {
            return Ok(false);
        };
        let (done, moved) = gathering.go_on()?;
        let waited = gathering.waited();
        let lost = match (done, gathering.refused()) {
            (true, None) => None,
            (_, Some(cause)) => Some(cause.clone()),
            (false, None) => {
                let missing = gathering.missing().into_iter();
                self.lost(missing.filter(|rank| *rank != own), waited, silent)
            }
        };
        match (done, lost, self.gathering.take()) {
            (_, Some(cause), Some(gathering)) => {
                self.spoiled = Some(cause.clone());
                gathering.fail(cause);
            }
            (true, None, Some(gathering)) => gathering.answer(),
            (_, _, still) => self.gathering = still,
        }
        Ok(moved || done)
    }
}
