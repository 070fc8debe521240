//! A node's end where some of its peers are in other processes. Computing hands messages to the
//! courier and takes them out of the node's inbox; it never calls MPI.

use super::numbers::Numbers;
use super::orders::{Incoming, Order, Outgoing};
use super::world::Session;
use crate::error::{Cause, RunError, Standings};
use crate::ids::{NodeId, PassId};
use crate::plan::{EdgeSpecs, Plan, Walk, scalars_from, travelling, verdict_len};
use crate::schedule::{Lane, Slots};
use crate::wire::local::{Content, LocalLink};
use crate::wire::{Body, Link, MessageId, Patience, Subject, codec};
use brigade_layer::{DType, Network, Pool, TensorSpec};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A [`Link`] over MPI.
pub(super) struct MpiLink {
    local: LocalLink,
    session: Arc<Session>,
    node: NodeId,
    pool: Pool,
    network: Arc<Network>,
    plan: Arc<Plan>,
    walk: Option<WalkShapes>,
    posted: Vec<MessageId>,
    under_way: BTreeMap<Lane, Arc<AtomicU32>>,
    sent_bytes: u64,
}

/// What messages of a walk look like.
struct WalkShapes {
    walk: Arc<Walk>,
    numbers: Numbers,
    slots: Slots,
    edges: EdgeSpecs,
}

impl WalkShapes {
    fn new(
        walk: &Arc<Walk>,
        network: &Network,
        plan: &Plan,
        largest_tag: usize,
    ) -> Result<Self, Cause> {
        let batch = walk.batch;
        Ok(Self {
            walk: walk.clone(),
            numbers: Numbers::new(&plan.layout, batch.micro_batches(), largest_tag)?,
            slots: walk.lowered.slots.clone(),
            edges: EdgeSpecs::new(network, walk)?,
        })
    }
}

impl MpiLink {
    pub(super) fn new(
        local: LocalLink,
        session: Arc<Session>,
        network: Arc<Network>,
        plan: Arc<Plan>,
    ) -> Self {
        let (node, pool) = local.owner();
        Self {
            local,
            session,
            node,
            pool,
            network,
            plan,
            walk: None,
            posted: Vec::new(),
            under_way: BTreeMap::new(),
            sent_bytes: 0,
        }
    }

    fn is_here(&self, node: NodeId) -> bool {
        self.session.rank_of(node) == self.session.rank()
    }

    fn walk(&self) -> Result<&WalkShapes, Cause> {
        let none = || Cause::Bug("a message outside of a pass".into());
        self.walk.as_ref().ok_or_else(none)
    }

    /// A buffer for what is to come, in this node's memory.
    fn buffer(&self, from: NodeId, id: MessageId) -> Result<Incoming, Cause> {
        let shapes = self.walk()?;
        let (network, plan) = (&*self.network, &*self.plan);
        let spec = match id.subject {
            Subject::Lane(lane, micro_batch) => {
                travelling(shapes.edges.of(network, lane, micro_batch), plan.wire)
            }
            Subject::SharedPart(shared, _) | Subject::SharedTotal(shared) => {
                let specs = network.layers().iter().flat_map(|l| l.spec.param_specs());
                let param = { specs }.find(|param| param.shared == Some(shared));
                let none = || Cause::Bug(format!("no shared parameter {shared}"));
                TensorSpec {
                    shape: param.ok_or_else(none)?.shape,
                    dtype: DType::F32,
                }
            }
            Subject::Scalars(_) => {
                let (partition, layout) = (&plan.partition, &plan.layout);
                let count = scalars_from(from, network, partition, layout, &shapes.walk);
                return Ok(Incoming::Scalars(vec![0.0; count]));
            }
            Subject::Verdict => {
                return Ok(Incoming::Scalars(vec![
                    0.0;
                    verdict_len(network, &shapes.walk)
                ]));
            }
        };
        Ok(match spec.dtype {
            DType::I32 => Incoming::I32(self.pool.take(spec.shape)?),
            _ => Incoming::F32(self.pool.take(spec.shape)?),
        })
    }

    /// A counter of this lane's messages that MPI still reads, with room for one more. What its
    /// slots are proven for has arrived by now; MPI may be about to notice.
    fn room(&mut self, lane: Lane, id: MessageId, to: NodeId) -> Result<Arc<AtomicU32>, Cause> {
        let slots = self.walk()?.slots.of(lane);
        let count = self.under_way.entry(lane).or_default();
        let started = Instant::now();
        while count.load(Ordering::Acquire) >= slots {
            self.session.check()?;
            if self.local.is_gone(to) {
                return Err(Cause::LinkLost { peer: to });
            }
            let waited = started.elapsed();
            if waited > Patience::within(self.session.deadline()).busy {
                return Err(Cause::Stuck {
                    waited,
                    waits_for: format!("room to send {id}"),
                    peer: to,
                    peers: format!("all {slots} slots of its lane are on their way"),
                });
            }
            std::thread::yield_now();
        }
        count.fetch_add(1, Ordering::AcqRel);
        Ok(count.clone())
    }

    fn receive(&mut self, from: NodeId, id: MessageId) -> Result<(), Cause> {
        let tag = self.walk()?.numbers.tag(id, self.node)?;
        let buffer = self.buffer(from, id)?;
        self.session.order(Order::Receive {
            session: self.session.number(),
            rank: self.session.rank_of(from),
            tag,
            id,
            from,
            to: self.node,
            buffer,
        })?;
        self.posted.push(id);
        Ok(())
    }
}

impl Link for MpiLink {
    fn begin(&mut self, pass: PassId, walk: &Arc<Walk>) -> Result<(), Cause> {
        self.posted.clear();
        let known = self.walk.as_ref();
        if known.is_none_or(|known| !Arc::ptr_eq(&known.walk, walk)) {
            let largest_tag = self.session.largest_tag();
            let shapes = WalkShapes::new(walk, &self.network, &self.plan, largest_tag)?;
            self.walk = Some(shapes);
        }
        self.local.begin(pass, walk)
    }

    fn send(&mut self, to: NodeId, id: MessageId, body: Body) -> Result<(), Cause> {
        if self.is_here(to) {
            return self.local.send(to, id, body);
        }
        self.session.check()?;
        self.sent_bytes += body.payload_bytes();
        let under_way = match id.subject {
            Subject::Lane(lane, _) => Some(self.room(lane, id, to)?),
            _ => None,
        };
        let header = codec::header(id, &body).map_err(|error| Cause::Bug(error.to_string()))?;
        let tag = self.walk()?.numbers.tag(id, to)?;
        self.session.order(Order::Send(Outgoing {
            session: self.session.number(),
            rank: self.session.rank_of(to),
            tag,
            header,
            body,
            under_way,
        }))
    }

    fn post(&mut self, from: NodeId, id: MessageId) -> Result<(), Cause> {
        if self.is_here(from) {
            return self.local.post(from, id);
        }
        self.receive(from, id)
    }

    fn wait(&mut self, from: NodeId, id: MessageId) -> Result<Body, Cause> {
        if self.is_here(from) {
            return self.local.wait(from, id);
        }
        match self.posted.iter().position(|posted| *posted == id) {
            Some(at) => drop(self.posted.swap_remove(at)),
            None => {
                self.receive(from, id)?;
                self.posted.pop();
            }
        }
        let waiting = self.session.waits();
        let content = self.local.receive(from, id);
        drop(waiting);
        match content? {
            Content::Moved(body) => Ok(body),
            Content::Bytes(_) => Err(Cause::Bug("bytes came over MPI".into())),
        }
    }

    fn progress(&mut self, index: usize, begun: Instant, allowed: Duration) {
        self.local.progress(index, begun, allowed);
    }

    fn rest(&mut self) {
        self.local.rest();
    }

    fn tell_failure(&mut self, error: &RunError) {
        self.local.tell_failure(error);
        self.session.tell(error);
    }

    fn standings(&self) -> Standings {
        self.local.standings()
    }

    fn sent_bytes(&self) -> u64 {
        self.sent_bytes + self.local.sent_bytes()
    }
}
