//! What nodes agree on at the end of a pass, each in a fixed order: sums of shared gradients, loss,
//! gradient norm, whether to stop.

mod exchange;
mod flags;
mod shared;

pub(crate) use exchange::{Contribution, Verdict, exchange};
pub(crate) use flags::{Flags, Saving};
pub(crate) use shared::sum_shared;

use crate::error::Cause;
use crate::ids::{NodeId, PassId, ReplicaId};
use crate::plan::Plan;
use crate::wire::{Link, MessageId, Subject};
use brigade_layer::{LayerError, LayerIndex, ParamAccess, Pool, SharedId};

/// What synchronising needs of the node it runs on.
pub(crate) struct Node<'a> {
    pub(crate) node: NodeId,
    pub(crate) pass: PassId,
    pub(crate) plan: &'a Plan,
    pub(crate) pool: &'a Pool,
    pub(crate) link: &'a mut dyn Link,
}

impl Node<'_> {
    fn id(&self, subject: Subject) -> MessageId {
        MessageId {
            replica: ReplicaId::default(),
            pass: self.pass,
            subject,
        }
    }
}

/// Something to be done with a parameter.
pub(crate) type OnParam<'a> = &'a mut dyn FnMut(&mut dyn ParamAccess) -> Result<(), LayerError>;

/// Reaches the shared parameters that this node's layers hold.
pub(crate) trait Holders {
    fn with_shared(
        &mut self,
        layer: LayerIndex,
        shared: SharedId,
        act: OnParam<'_>,
    ) -> Result<(), Cause>;
}
