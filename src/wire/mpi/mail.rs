//! Messages of nodes on their way.

use super::orders::{Incoming, Outgoing};
use super::raw::{Comm, Moving, MpiError};
use crate::error::Cause;
use crate::ids::NodeId;
use crate::wire::local::{Content, Frame};
use crate::wire::{Body, MessageId, codec};
use brigade_layer::{Tensor, TensorMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

enum Payload<T, I, S> {
    F32(Moving<T>),
    I32(Moving<I>),
    Scalars(Moving<S>),
}

struct Sending {
    header: Moving<Vec<u8>>,
    payload: Payload<Tensor, Tensor, Vec<f64>>,
    under_way: Option<Arc<AtomicU32>>,
}

struct Receiving {
    session: u32,
    id: MessageId,
    from: NodeId,
    to: NodeId,
    header: Moving<Vec<u8>>,
    payload: Payload<TensorMut<f32>, TensorMut<i32>, Vec<f64>>,
}

impl<T, I, S> Payload<T, I, S> {
    fn done(&mut self) -> Result<bool, MpiError> {
        match self {
            Self::F32(moving) => moving.done(),
            Self::I32(moving) => moving.done(),
            Self::Scalars(moving) => moving.done(),
        }
    }
}

/// A message that has arrived: of which trainer, for which node.
pub(super) type Delivery = (u32, NodeId, Frame);

/// All messages of nodes that have not left or not arrived yet.
#[derive(Default)]
pub(super) struct Mail {
    sending: Vec<Sending>,
    receiving: Vec<Receiving>,
}

impl Mail {
    /// Whether everything has left.
    pub(super) fn has_left(&self) -> bool {
        self.sending.is_empty()
    }

    /// Nothing is received for this trainer any more.
    pub(super) fn close(&mut self, session: u32) {
        self.receiving
            .retain(|receiving| receiving.session != session);
    }

    pub(super) fn send(&mut self, comm: Comm, outgoing: Outgoing) -> Result<(), MpiError> {
        let Outgoing {
            rank,
            tag,
            header,
            body,
            under_way,
            ..
        } = outgoing;
        let header = comm.send(rank, tag, header)?;
        let payload = match body {
            Body::Tensor(tensor) => Payload::F32(comm.send(rank, tag, tensor)?),
            Body::Scalars(scalars) => Payload::Scalars(comm.send(rank, tag, scalars)?),
        };
        self.sending.push(Sending {
            header,
            payload,
            under_way,
        });
        Ok(())
    }

    pub(super) fn receive(
        &mut self,
        comm: Comm,
        (session, rank, tag): (u32, usize, i32),
        (id, from, to): (MessageId, NodeId, NodeId),
        buffer: Incoming,
    ) -> Result<(), MpiError> {
        let header = comm.receive(rank, tag, vec![0; codec::HEADER_BYTES])?;
        let payload = match buffer {
            Incoming::F32(buffer) => Payload::F32(comm.receive(rank, tag, buffer)?),
            Incoming::I32(buffer) => Payload::I32(comm.receive(rank, tag, buffer)?),
            Incoming::Scalars(buffer) => Payload::Scalars(comm.receive(rank, tag, buffer)?),
        };
        self.receiving.push(Receiving {
            session,
            id,
            from,
            to,
            header,
            payload,
        });
        Ok(())
    }

    /// Lets go of what has left.
    pub(super) fn send_on(&mut self) -> Result<bool, MpiError> {
        let (mut at, before) = (0, self.sending.len());
        while at < self.sending.len() {
            let sending = &mut self.sending[at];
            if sending.payload.done()? && sending.header.done()? {
                let Sending {
                    under_way, payload, ..
                } = self.sending.swap_remove(at);
                // The buffer is home before another one is allowed for.
                drop(payload);
                if let Some(count) = under_way {
                    count.fetch_sub(1, Ordering::AcqRel);
                }
            } else {
                at += 1;
            }
        }
        Ok(self.sending.len() < before)
    }

    /// What has arrived.
    pub(super) fn receive_on(&mut self) -> Result<Vec<Delivery>, MpiError> {
        let (mut at, mut arrived) = (0, Vec::new());
        while at < self.receiving.len() {
            let receiving = &mut self.receiving[at];
            if receiving.payload.done()? && receiving.header.done()? {
                arrived.extend(self.receiving.swap_remove(at).delivery());
            } else {
                at += 1;
            }
        }
        Ok(arrived)
    }
}

impl Receiving {
    fn delivery(self) -> Option<Delivery> {
        let body = match self.payload {
            Payload::F32(moving) => moving.take().ok().map(|t| Body::Tensor(t.freeze())),
            Payload::I32(moving) => moving.take().ok().map(|t| Body::Tensor(t.freeze())),
            Payload::Scalars(moving) => moving.take().ok().map(Body::Scalars),
        };
        let (body, header) = (body?, self.header.take().ok()?);
        let frame = match codec::expect_header(&header, self.id, &body) {
            Ok(()) => Frame::Message(self.id, self.from, Content::Moved(body)),
            Err(problem) => Frame::Broken(Cause::BadMessage {
                peer: self.from,
                problem,
            }),
        };
        Some((self.session, self.to, frame))
    }
}
