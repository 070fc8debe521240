//! What a node needs to start.

use super::command::{Command, Reply};
use crate::ids::NodeId;
use crate::plan::Plan;
use crate::wire::Link;
use brigade_layer::{Network, Optimizer, Pool, Precision};
use crossbeam_channel::{Receiver, Sender};
use std::sync::{Arc, OnceLock};

/// What a node needs to start.
pub(crate) struct WorkerSetup {
    pub(crate) node: NodeId,
    pub(crate) network: Arc<Network>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) optimizer: Arc<dyn Optimizer>,
    pub(crate) seed: u64,
    pub(crate) clip: Option<f32>,
    pub(crate) precision: Precision,
    pub(crate) threads: usize,
    /// What a job that nobody waits for panicked of, on a thread of the node's.
    pub(crate) panicked: Arc<OnceLock<String>>,
    pub(crate) pool: Pool,
    pub(crate) link: Box<dyn Link>,
    pub(crate) commands: Receiver<Command>,
    pub(crate) replies: Sender<(NodeId, Reply)>,
}
