//! Links between the threads of one process: bounded crossbeam channels, one inbox a node.

use super::{AWAY, Body, Hub, Link, MessageId, Patience, Subject, codec};
use crate::config::Transport;
use crate::error::{Cause, RunError, Standings};
use crate::ids::{MicroBatchCount, NodeId, PassId};
use crate::plan::Walk;
use crate::schedule::{Layout, Slots};
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

pub(super) enum Content {
    /// Moved: the very tensor that was sent.
    Moved(Body),
    /// Encoded as between machines.
    Bytes(Vec<u8>),
}

pub(super) enum Frame {
    Message(MessageId, NodeId, Content),
    Failure(Arc<RunError>),
    /// What carries messages between processes does not work any more.
    #[cfg(feature = "mpi")]
    Broken(Cause),
}

/// One node's end, with an inbox that its peers fill: nodes of the same process, or whoever
/// receives for it from others.
pub(super) struct LocalLink {
    node: NodeId,
    transport: Transport,
    deadline: Duration,
    pool: Pool,
    hub: Arc<Hub>,
    inbox: Receiver<Frame>,
    /// The inboxes of the nodes in this process.
    peers: Vec<Option<(Sender<Frame>, Pool)>>,
    slots: Slots,
    walk: Option<Arc<Walk>>,
    early: Vec<(MessageId, NodeId, Content)>,
    sent_bytes: u64,
}

/// The links of a process's nodes, and what they have in common.
pub(crate) struct LocalLinks {
    pub(super) links: Vec<LocalLink>,
    #[cfg(feature = "mpi")]
    pub(super) hub: Arc<Hub>,
    #[cfg(feature = "mpi")]
    pub(super) inboxes: Vec<(NodeId, Sender<Frame>)>,
}

impl LocalLinks {
    /// When all nodes are in this process.
    pub(crate) fn boxed(self) -> Vec<Box<dyn Link>> {
        let links = self.links.into_iter();
        links.map(|link| Box::new(link) as Box<dyn Link>).collect()
    }
}

/// Links among nodes of one process, each with its pool; `ranks` has the process of every node,
/// where there are several.
pub(crate) fn local_links(
    (layout, ranks): (&Layout, Vec<usize>),
    micro_batches: MicroBatchCount,
    (transport, deadline): (Transport, Duration),
    pools: &[(NodeId, Pool)],
) -> LocalLinks {
    let hub = Arc::new(Hub::new(layout, ranks));
    let mut peers: Vec<Option<(Sender<Frame>, Pool)>> = vec![None; layout.nodes().index()];
    let mut receivers = Vec::new();
    for (node, pool) in pools {
        let (sender, receiver) = bounded(layout.most_messages_to(*node, micro_batches));
        peers[node.index()] = Some((sender, pool.clone()));
        receivers.push(receiver);
    }
    let link = |((node, pool), inbox): (&(NodeId, Pool), _)| LocalLink {
        node: *node,
        transport,
        deadline,
        pool: pool.clone(),
        hub: hub.clone(),
        inbox,
        peers: peers.clone(),
        slots: Slots::default(),
        walk: None,
        early: Vec::new(),
        sent_bytes: 0,
    };
    LocalLinks {
        links: pools.iter().zip(receivers).map(link).collect(),
        #[cfg(feature = "mpi")]
        hub: hub.clone(),
        #[cfg(feature = "mpi")]
        inboxes: pools
            .iter()
            .filter_map(|(node, _)| {
                let inbox = peers[node.index()].as_ref()?;
                Some((*node, inbox.0.clone()))
            })
            .collect(),
    }
}

impl Link for LocalLink {
    fn begin(&mut self, pass: PassId, walk: &Arc<Walk>) -> Result<(), Cause> {
        self.hub.begin(self.node, pass, walk);
        if !self
            .walk
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, walk))
        {
            self.slots.clone_from(&walk.lowered.slots);
            self.walk = Some(walk.clone());
        }
        Ok(())
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
        let Some((peer, pool)) = &self.peers[to.index()] else {
            return Err(Cause::Bug(format!("node {to} is in another process")));
        };
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
        let content = self.receive(from, id)?;
        if let Subject::Lane(lane, _) = id.subject {
            self.hub.leave(lane);
        }
        self.open(from, id, content)
    }

    fn progress(&mut self, index: usize, begun: Instant, allowed: Duration) {
        self.hub.progress(self.node, index, begun, allowed);
    }

    fn rest(&mut self) {
        self.hub.rest(self.node);
    }

    fn tell_failure(&mut self, error: &RunError) {
        let error = Arc::new(error.clone());
        for (peer, inbox) in self.peers.iter().enumerate() {
            if let Some((sender, _)) = inbox
                && peer != self.node.index()
            {
                // A peer that is gone or flooded learns of it when this link is dropped.
                let _ = sender.try_send(Frame::Failure(error.clone()));
            }
        }
    }

    fn standings(&self) -> Standings {
        self.hub.standings(self.node, self.deadline)
    }

    fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }
}

impl LocalLink {
    /// The node whose end this is, and its buffers.
    #[cfg(feature = "mpi")]
    pub(super) fn owner(&self) -> (NodeId, Pool) {
        (self.node, self.pool.clone())
    }

    /// Whether this node, or its process, has gone.
    #[cfg(feature = "mpi")]
    pub(super) fn is_gone(&self, node: NodeId) -> bool {
        !self.hub.alive(node)
    }

    /// Takes messages in until the wanted one comes.
    pub(super) fn receive(&mut self, from: NodeId, id: MessageId) -> Result<Content, Cause> {
        if let Some(at) = self.early.iter().position(|(early, ..)| *early == id) {
            return Ok(self.early.swap_remove(at).2);
        }
        let started = Instant::now();
        let mut watch = Watch {
            progress: self.hub.total_progress(),
            since: started,
            attentive: started,
            looked: started,
        };
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
                #[cfg(feature = "mpi")]
                Some(Frame::Broken(cause)) => return Err(cause),
                None => self.check_deadline(&mut watch, from, id)?,
            }
        }
    }

    fn check_deadline(&self, watch: &mut Watch, from: NodeId, id: MessageId) -> Result<(), Cause> {
        let (hub, progress) = (&self.hub, self.hub.total_progress());
        watch.look(progress);
        let waited = watch.since.elapsed();
        let attentive = watch.attentive.elapsed();
        let silence = hub.silence(from).map(|silence| silence.min(attentive));
        let silent = silence.filter(|silence| *silence >= self.deadline);
        let mut allowed = self.deadline.max(hub.longest_allowed());
        if hub.is_anyone_at_rest() {
            allowed = allowed.max(Patience::within(self.deadline).busy);
        }
        if waited < allowed && silent.is_none() {
            return Ok(());
        }
        Err(Cause::Stuck {
            waited: waited.max(silent.unwrap_or_default()),
            waits_for: id.to_string(),
            peer: from,
            peers: self.standings().chain_in_words(from),
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

/// What a node that waits has seen.
struct Watch {
    progress: u64,
    /// Since when nobody has made progress.
    since: Instant,
    /// Since when it looks without having been stopped itself.
    attentive: Instant,
    looked: Instant,
}

impl Watch {
    fn look(&mut self, progress: u64) {
        let now = Instant::now();
        let away = now - self.looked > AWAY;
        if away {
            self.attentive = now;
        }
        if away || progress != self.progress {
            (self.progress, self.since) = (progress, now);
        }
        self.looked = now;
    }
}

impl Drop for LocalLink {
    fn drop(&mut self) {
        self.hub.gone(self.node);
    }
}
