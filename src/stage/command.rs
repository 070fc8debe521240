//! What a node is asked for, and what it answers.

use super::saving::Outbox;
use crate::error::RunError;
use crate::ids::{LayerIndex, NodeId, PassId, StepId};
use crate::plan::Walk;
use crate::sync::Verdict;
use crate::trace::NodeTrace;
use brigade_layer::{Data, LayerError, ParamAccess, ParamBytes, Part, Pool, PoolReport, Tensor};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// A pass that all nodes are asked for.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) pass: PassId,
    pub(crate) step: StepId,
    pub(crate) walk: Arc<Walk>,
    pub(crate) data: Arc<dyn Data>,
    /// Whether somebody wants to stop after a training step.
    pub(crate) stop: Arc<AtomicBool>,
    /// Notes are wanted, with times since then.
    pub(crate) traced: Option<Instant>,
    /// What is gone along, when generating.
    pub(crate) along: Option<Along>,
}

/// A sequence whose pieces go through the nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Along {
    /// The most positions that it gets to have.
    pub(crate) length: usize,
    /// Whether it starts with this pass: what was kept along another is forgotten.
    pub(crate) starts: bool,
    /// Whether the output for the last position of the last piece is wanted.
    pub(crate) answers: bool,
}

/// Values of parameters, by key: every node asks for its own.
pub(crate) trait Values: Send + Sync {
    /// Hands over a parameter's numbers in their order, piece by piece: from which one on, and the
    /// piece.
    fn each(&self, key: &str, on: &mut OnPiece<'_>) -> Result<(), LayerError>;

    /// Gives a parameter its values.
    fn write(&self, param: &mut dyn ParamAccess, pool: &Pool) -> Result<(), LayerError> {
        let info = param.info();
        let (key, wanted, mut written) = (info.key.clone(), info.shape.elements(), 0);
        self.each(&key, &mut |start, piece| {
            written += piece.len();
            match piece.len() == wanted {
                true => param.write(Part::Value, piece, pool),
                false => param.write_at(Part::Value, start, piece, pool),
            }
        })?;
        match written == wanted {
            true => Ok(()),
            false => Err(LayerError::Value(format!(
                "{key} has {written} values of {wanted}"
            ))),
        }
    }

    /// The optimizer's state of this name, where there is more than values.
    fn state(&self, _key: &str, _name: &str) -> Result<Option<Cow<'_, [f32]>>, LayerError> {
        Ok(None)
    }
}

/// What is done with a piece of a parameter.
pub(crate) type OnPiece<'a> = dyn FnMut(usize, &[f32]) -> Result<(), LayerError> + 'a;

impl Values for BTreeMap<String, Vec<f32>> {
    fn each(&self, key: &str, on: &mut OnPiece<'_>) -> Result<(), LayerError> {
        let missing = || LayerError::Value(format!("{key} is not among the weights"));
        on(0, self.get(key).ok_or_else(missing)?)
    }
}

/// What a node is asked for.
#[derive(Clone)]
pub(crate) enum Command {
    Pass(Request),
    /// Take these values.
    Load(Arc<dyn Values>),
    /// The values of the parameter with this key, from whoever holds it first.
    Param(Arc<str>),
    Digests,
    Report,
    /// Copy what you hold into this, while you go on training.
    Save(Outbox),
    /// Copy all that is left.
    Complete,
    /// Forget what is kept along a sequence.
    Forget,
}

/// What a node found out in a pass.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) predictions: Vec<Tensor>,
    pub(crate) trace: Option<NodeTrace>,
}

/// What a node holds and has done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeReport {
    /// The node.
    pub node: NodeId,
    /// Its layers.
    pub layers: Vec<LayerIndex>,
    /// What its parameters hold.
    pub params: ParamBytes,
    /// Its buffers.
    pub memory: PoolReport,
    /// Payload bytes that it sent.
    pub sent_bytes: u64,
    /// Time spent computing in the last pass.
    pub busy: Duration,
    /// Time spent waiting for activations and gradients in the last pass.
    pub waited: Duration,
}

/// What a node answers.
#[derive(Debug)]
pub(crate) enum Reply {
    Done,
    Pass(Outcome),
    Values(Option<Vec<f32>>),
    Digests(Vec<(LayerIndex, [u8; 32])>),
    Report(Box<NodeReport>),
    Failed(Box<RunError>),
}
