//! Links between the threads of one process: bounded crossbeam channels, one inbox a node.

use super::{Body, Hub, Link, MessageId, Subject, codec};
use crate::config::Transport;
use crate::error::{Cause, RunError};
use crate::ids::{MicroBatchCount, NodeId};
use crate::schedule::{Layout, Lowered, Slots};
use brigade_layer::Pool;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, TrySendError, bounded};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a thread that waits tries again and again, yielding in between, before it parks.
/// Parking costs tens of microseconds; spinning without yielding is a catastrophe where nodes share
/// cores.
const SPIN: Duration = Duration::from_micros(50);
/// How long it parks before it looks whether the others are still there.
const PARK: Duration = Duration::from_millis(5);

enum Content {
    /// Moved: the very tensor that was sent.
    Moved(Body),
    /// Encoded as between machines.
    Bytes(Vec<u8>),
}

enum Frame {
    Message(MessageId, NodeId, Content),
    Failure(Arc<RunError>),
}

struct LocalLink {
    node: NodeId,
    transport: Transport,
    deadline: Duration,
    pool: Pool,
    hub: Arc<Hub>,
    inbox: Receiver<Frame>,
    peers: Vec<(Sender<Frame>, Pool)>,
    slots: Slots,
    early: Vec<(MessageId, NodeId, Content)>,
    sent_bytes: u64,
}

/// Links among all nodes of one process, one for each pool.
pub(crate) fn local_links(
    layout: &Layout,
    micro_batches: MicroBatchCount,
    transport: Transport,
    deadline: Duration,
    pools: &[Pool],
) -> Vec<Box<dyn Link>> {
    let hub = Arc::new(Hub::new(layout.nodes(), layout));
    let (peers, inboxes): (Vec<_>, Vec<_>) = (layout.nodes().iter())
        .map(|node| bounded(layout.most_messages_to(node, micro_batches)))
        .unzip();
    (layout.nodes().iter().zip(inboxes).zip(pools))
        .map(|((node, inbox), pool)| {
            let (hub, pool) = (hub.clone(), pool.clone());
            let peers = peers.iter().cloned().zip(pools.iter().cloned()).collect();
            let (slots, early) = (Slots::default(), Vec::new());
            let link = LocalLink {
                node,
                transport,
                deadline,
                pool,
                hub,
                inbox,
                peers,
                slots,
                early,
                sent_bytes: 0,
            };
            Box::new(link) as Box<dyn Link>
        })
        .collect()
}

impl Link for LocalLink {
    fn begin(&mut self, lowered: &Lowered) {
        self.slots.clone_from(&lowered.slots);
    }

    fn send(&mut self, to: NodeId, id: MessageId, body: Body) -> Result<(), Cause> {
        self.sent_bytes += body.payload_bytes();
        if let Subject::Lane(lane, _) = id.subject {
            let (under_way, slots) = (self.hub.enter(lane), self.slots.of(lane));
            if under_way > slots {
                return Err(Cause::Bug(format!(
                    "{under_way} messages in {slots} slots of {lane:?}"
                )));
            }
        }
        let (peer, pool) = &self.peers[to.index()];
        let content = match (self.transport, body) {
            // On its way it is the receiver's: it takes one of the receiver's slots.
            (Transport::Local, Body::Tensor(tensor)) => {
                Content::Moved(Body::Tensor(pool.adopt(tensor)?))
            }
            (Transport::Local, scalars) => Content::Moved(scalars),
            (Transport::Encoded, body) => Content::Bytes(
                codec::encode(id, &body).map_err(|error| Cause::Bug(error.to_string()))?,
            ),
        };
        match peer.try_send(Frame::Message(id, self.node, content)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(self.lost(to)),
            Err(TrySendError::Full(_)) => Err(Cause::Bug(format!(
                "the queue of node {to} is full at {id}"
            ))),
        }
    }

    fn post(&mut self, _: NodeId, _: MessageId) -> Result<(), Cause> {
        // A slot of a bounded queue is always ready.
        Ok(())
    }

    fn wait(&mut self, from: NodeId, id: MessageId) -> Result<Body, Cause> {
        let content = match self.early.iter().position(|(early, ..)| *early == id) {
            Some(at) => self.early.swap_remove(at).2,
            None => self.receive(from, id)?,
        };
        if let Subject::Lane(lane, _) = id.subject {
            self.hub.leave(lane);
        }
        self.open(from, id, content)
    }

    fn progress(&mut self, index: usize) {
        self.hub.progress(self.node, index);
    }

    fn tell_failure(&mut self, error: &RunError) {
        let error = Arc::new(error.clone());
        for (peer, (sender, _)) in self.peers.iter().enumerate() {
            if peer != self.node.index() {
                // A peer that is gone or flooded learns of it when this link is dropped.
                let _ = sender.try_send(Frame::Failure(error.clone()));
            }
        }
    }

    fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }
}

impl LocalLink {
    /// Takes messages in until the wanted one comes.
    fn receive(&mut self, from: NodeId, id: MessageId) -> Result<Content, Cause> {
        let started = Instant::now();
        let mut seen = (self.hub.total_progress(), started);
        loop {
            let frame = match self.inbox.try_recv() {
                Ok(frame) => Some(frame),
                Err(TryRecvError::Empty) if started.elapsed() < SPIN => {
                    std::thread::yield_now();
                    continue;
                }
                // Whether the peer lives is asked before the inbox is looked at for the last time:
                // what it sent before it went is there by then.
                Err(TryRecvError::Empty) => {
                    let alive = self.hub.alive(from);
                    match self.inbox.recv_timeout(PARK) {
                        Ok(frame) => Some(frame),
                        Err(RecvTimeoutError::Timeout) if alive => None,
                        Err(_) => return Err(Cause::LinkLost { peer: from }),
                    }
                }
                Err(TryRecvError::Disconnected) => return Err(Cause::LinkLost { peer: from }),
            };
            match frame {
                Some(Frame::Message(found, _, content)) if found == id => return Ok(content),
                Some(Frame::Message(found, sender, content)) => {
                    self.early.push((found, sender, content))
                }
                Some(Frame::Failure(error)) => return Err(Cause::Peer(Box::new((*error).clone()))),
                None => self.check_deadline(&mut seen, from, id)?,
            }
        }
    }

    fn check_deadline(
        &self,
        seen: &mut (u64, Instant),
        from: NodeId,
        id: MessageId,
    ) -> Result<(), Cause> {
        let progress = self.hub.total_progress();
        if progress != seen.0 {
            *seen = (progress, Instant::now());
        }
        let waited = seen.1.elapsed();
        if waited < self.deadline {
            return Ok(());
        }
        let peers: Vec<_> = (0..self.peers.len())
            .filter(|node| *node != self.node.index())
            .map(|node| {
                format!(
                    "node {node} is at entry {}",
                    self.hub.entry(NodeId::new(node as u32))
                )
            })
            .collect();
        Err(Cause::Stuck {
            waited,
            waits_for: id.to_string(),
            peer: from,
            peers: peers.join(", "),
        })
    }

    /// What arrives belongs to this node.
    fn open(&self, from: NodeId, id: MessageId, content: Content) -> Result<Body, Cause> {
        match content {
            Content::Moved(body) => Ok(body),
            Content::Bytes(bytes) => {
                let bad = |problem: String| Cause::BadMessage {
                    peer: from,
                    problem,
                };
                let (found, body) =
                    codec::decode(&bytes, &self.pool).map_err(|error| match error {
                        codec::CodecError::Layer(error) => Cause::Layer(error),
                        other => bad(other.to_string()),
                    })?;
                if found == id {
                    Ok(body)
                } else {
                    Err(bad(format!("it says it is {found}, not {id}")))
                }
            }
        }
    }

    /// The peer hung up: its reason, if it left one, ranks above that.
    fn lost(&self, peer: NodeId) -> Cause {
        while let Ok(frame) = self.inbox.try_recv() {
            if let Frame::Failure(error) = frame {
                return Cause::Peer(Box::new((*error).clone()));
            }
        }
        Cause::LinkLost { peer }
    }
}

impl Drop for LocalLink {
    fn drop(&mut self) {
        self.hub.gone(self.node);
    }
}
