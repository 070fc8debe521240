//! What the threads of the process want of the courier.

use super::gather::Gather;
use crate::error::{Cause, RunError};
use crate::ids::NodeId;
use crate::wire::hub::Hub;
use crate::wire::local::Frame;
use crate::wire::{Body, MessageId};
use brigade_layer::TensorMut;
use crossbeam_channel::Sender;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Something to be done.
pub(super) enum Order {
    Open {
        session: u32,
        hub: Arc<Hub>,
        inboxes: Vec<(NodeId, Sender<Frame>)>,
        ranks: Vec<usize>,
        deadline: Duration,
        answer: Sender<Result<(), Cause>>,
    },
    Send(Outgoing),
    Receive {
        session: u32,
        rank: usize,
        tag: i32,
        id: MessageId,
        from: NodeId,
        to: NodeId,
        buffer: Incoming,
    },
    Gather {
        session: u32,
        gather: Gather,
    },
    Tell {
        session: u32,
        error: Box<RunError>,
    },
    Close {
        session: u32,
    },
}

/// A message to be sent.
pub(super) struct Outgoing {
    pub(super) session: u32,
    pub(super) rank: usize,
    pub(super) tag: i32,
    pub(super) header: Vec<u8>,
    pub(super) body: Body,
    /// Counts the messages of its lane that MPI still reads.
    pub(super) under_way: Option<Arc<AtomicU32>>,
}

/// Where a message is received into.
pub(super) enum Incoming {
    F32(TensorMut<f32>),
    I32(TensorMut<i32>),
    Scalars(Vec<f64>),
}
