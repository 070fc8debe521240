//! A link that fails on purpose, to test what the others make of it.

use super::{Body, Link, MessageId};
use crate::error::{Cause, RunError, Standings};
use crate::ids::{NodeId, PassId};
use crate::plan::Walk;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A failure to be provoked in tests: the link of a node is cut off after some sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The node whose link is cut off, without a word to the others.
    pub node: usize,
    /// How many messages it sends before.
    pub after_sends: u64,
}

/// A link that is cut off after some sends: nothing passes any more, not even the reason.
pub(crate) struct FaultyLink {
    link: Option<Box<dyn Link>>,
    sends_left: u64,
    peer: NodeId,
}

impl FaultyLink {
    pub(crate) fn new(link: Box<dyn Link>, fault: Fault, node: NodeId) -> Self {
        Self {
            link: Some(link),
            sends_left: fault.after_sends,
            peer: node,
        }
    }

    fn link(&mut self) -> Result<&mut Box<dyn Link>, Cause> {
        self.link
            .as_mut()
            .ok_or(Cause::LinkLost { peer: self.peer })
    }
}

impl Link for FaultyLink {
    fn begin(&mut self, pass: PassId, walk: &Arc<Walk>) -> Result<(), Cause> {
        self.link()?.begin(pass, walk)
    }

    fn send(&mut self, to: NodeId, id: MessageId, body: Body) -> Result<(), Cause> {
        if self.sends_left == 0 {
            self.link = None;
        }
        self.sends_left = self.sends_left.saturating_sub(1);
        self.peer = to;
        self.link()?.send(to, id, body)
    }

    fn post(&mut self, from: NodeId, id: MessageId) -> Result<(), Cause> {
        self.link()?.post(from, id)
    }

    fn wait(&mut self, from: NodeId, id: MessageId) -> Result<Body, Cause> {
        self.link()?.wait(from, id)
    }

    fn progress(&mut self, index: usize, begun: Instant, allowed: Duration) {
        if let Ok(link) = self.link() {
            link.progress(index, begun, allowed);
        }
    }

    fn rest(&mut self) {
        if let Ok(link) = self.link() {
            link.rest();
        }
    }

    fn tell_failure(&mut self, error: &RunError) {
        if let Ok(link) = self.link() {
            link.tell_failure(error);
        }
    }

    fn standings(&self) -> Standings {
        let link = self.link.as_ref();
        link.map(|link| link.standings()).unwrap_or_default()
    }

    fn sent_bytes(&self) -> u64 {
        self.link.as_ref().map_or(0, |link| link.sent_bytes())
    }
}
