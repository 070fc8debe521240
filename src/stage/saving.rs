//! What a node holds, copied tensor by tensor while it goes on training: parameters and optimizer
//! state change only where a step ends, so until then what is still to be copied is as it was.

use super::runner::Stage;
use super::setup::WorkerSetup;
use crate::error::Cause;
use crate::ids::{LayerIndex, StageId};
use crate::sync::Saving;
use brigade_layer::{Part, Pool, Shape, Tensor, TensorMut};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A tensor to be copied.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) layer: LayerIndex,
    /// The parameter's.
    pub(crate) key: String,
    pub(crate) part: Part,
    pub(crate) shape: Shape,
}

/// Where a node's copies go: to whoever writes them, in the order in which they are wanted.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    pub(crate) wanted: Arc<[Wanted]>,
    /// So many of them, the first ones, are copied at once: a layer may change by itself, in its
    /// forward pass, what is not trained and no statistic.
    pub(crate) at_once: usize,
    /// Hung up before all of them have come, what came is of no use.
    pub(crate) copies: Sender<Tensor>,
    /// Tensors that were written, one after the other.
    pub(crate) written: Receiver<()>,
    pub(crate) state: Arc<State>,
    /// So many bytes may be copied and not yet written, or one tensor.
    pub(crate) budget_bytes: u64,
    /// How long a tensor may take to be written.
    pub(crate) patience: Duration,
}

/// How far a node's file is.
#[derive(Debug, Default)]
pub(crate) struct State(Mutex<Known>);

#[derive(Debug, Default)]
enum Known {
    #[default]
    Busy,
    Done,
    Failed(String),
}

impl State {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self) -> Saving {
        match *self.known() {
            Known::Busy => Saving::Busy,
            Known::Done => Saving::Done,
            Known::Failed(_) => Saving::Failed,
        }
    }

    pub(crate) fn done(&self) {
        let mut known = self.known();
        if matches!(*known, Known::Busy) {
            *known = Known::Done;
        }
    }

    /// It will not be. The first reason counts.
    pub(crate) fn failed(&self, why: impl ToString) {
        let mut known = self.known();
        if !matches!(*known, Known::Failed(_)) {
            *known = Known::Failed(why.to_string());
        }
    }

    /// Why it will not be.
    pub(crate) fn why(&self) -> Option<String> {
        match &*self.known() {
            Known::Failed(why) => Some(why.clone()),
            Known::Busy | Known::Done => None,
        }
    }
}

/// A node's copies in the making.
#[derive(Debug)]
pub(super) struct Copying {
    /// Until nothing is left to be copied.
    outbox: Option<Outbox>,
    state: Arc<State>,
    /// The next one.
    at: usize,
    /// Bytes of those that are not yet written, in their order.
    under_way: VecDeque<u64>,
}

impl Copying {
    pub(super) fn new(outbox: Outbox) -> Self {
        Self {
            state: outbox.state.clone(),
            outbox: Some(outbox),
            at: 0,
            under_way: VecDeque::new(),
        }
    }

    pub(super) fn state(&self) -> Saving {
        self.state.get()
    }

    /// Copies what there is room for, or waits for room until nothing is left; the others see that
    /// the node is still at this entry of its list.
    pub(super) fn advance(
        &mut self,
        stages: &mut [(StageId, Stage)],
        setup: &mut WorkerSetup,
        entry: Option<usize>,
        all: bool,
    ) -> Result<(), Cause> {
        let WorkerSetup { pool, link, .. } = setup;
        match all {
            true => self.complete(stages, (pool, usize::MAX), |allowed| {
                if let Some(entry) = entry {
                    link.progress(entry, Instant::now(), allowed);
                }
            }),
            false => self.go_on(stages, (pool, usize::MAX)).map(|_| ()),
        }
    }

    /// Copies what a layer may change by itself.
    pub(super) fn begin(
        &mut self,
        stages: &mut [(StageId, Stage)],
        pool: &Pool,
    ) -> Result<(), Cause> {
        let at_once = self.outbox.as_ref().map_or(0, |outbox| outbox.at_once);
        self.complete(stages, (pool, at_once), |_| {})
    }

    /// Copies what there is room for of the first so many. Gives what has to be waited for before
    /// it can go on.
    fn go_on(
        &mut self,
        stages: &mut [(StageId, Stage)],
        (pool, until): (&Pool, usize),
    ) -> Result<Option<(Receiver<()>, Duration)>, Cause> {
        while let Some(outbox) = &self.outbox {
            while let Ok(()) = outbox.written.try_recv() {
                self.under_way.pop_front();
            }
            if self.at >= until {
                break;
            }
            let Some(wanted) = outbox.wanted.get(self.at) else {
                self.outbox = None;
                break;
            };
            if self.state() == Saving::Failed {
                self.outbox = None;
                break;
            }
            let wait = Some((outbox.written.clone(), outbox.patience));
            let held: u64 = self.under_way.iter().sum();
            let bytes = wanted.shape.elements() as u64 * 4;
            if held > 0 && held.saturating_add(bytes) > outbox.budget_bytes {
                return Ok(wait);
            }
            let into = match pool.f32(wanted.shape) {
                Ok(into) => into,
                // What is being written makes room.
                Err(_) if held > 0 => return Ok(wait),
                // The checkpoint fails, not the training.
                Err(error) => {
                    self.state.failed(error);
                    continue;
                }
            };
            let copy = copy(wanted, stages, into)?;
            self.at += 1;
            self.under_way.push_back(bytes);
            if outbox.copies.send(copy).is_err() {
                self.state.failed("nobody writes it any more");
            }
        }
        Ok(None)
    }

    /// Copies all that is left, waiting for room; `beat` is called whenever something moves. Who
    /// writes too slowly is given up: the checkpoint fails, not the training.
    fn complete(
        &mut self,
        stages: &mut [(StageId, Stage)],
        to: (&Pool, usize),
        mut beat: impl FnMut(Duration),
    ) -> Result<(), Cause> {
        while let Some((written, patience)) = self.go_on(stages, to)? {
            beat(patience);
            match written.recv_timeout(patience) {
                Ok(()) => drop(self.under_way.pop_front()),
                Err(RecvTimeoutError::Disconnected) => self.state.failed("nobody writes it"),
                Err(RecvTimeoutError::Timeout) => {
                    self.state
                        .failed(format!("nothing was written for {patience:?}"));
                }
            }
        }
        Ok(())
    }
}

fn copy(
    wanted: &Wanted,
    stages: &mut [(StageId, Stage)],
    mut into: TensorMut,
) -> Result<Tensor, Cause> {
    let mut found = false;
    for (_, stage) in stages.iter_mut() {
        stage.visit_params_of(wanted.layer, &mut |param| {
            if param.info().primary && param.info().key == wanted.key {
                param.read(wanted.part, into.data())?;
                found = true;
            }
            Ok(())
        })?;
    }
    match found {
        true => Ok(into.freeze()),
        false => Err(Cause::Bug(format!("no parameter {} to save", wanted.key))),
    }
}
