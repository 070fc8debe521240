//! THE executor: one node's thread, which walks its list. The only place where actions become work.

use super::allowance::Allowance;
use super::answers;
use super::call::{Call, PassCtx};
use super::command::{Command, NodeReport, Outcome, Reply, Request};
use super::crossing::Crossing;
use super::holders::StageHolders;
use super::mailbox::Mailbox;
use super::pass::Pass;
use super::position::Position;
use super::program::Program;
use super::runner::Stage;
use super::saving::Copying;
use super::setup::WorkerSetup;
use super::step_end;
use crate::error::{Cause, Standings, panic_text};
use crate::ids::{NodeId, PassId, ReplicaId, StageId};
use crate::plan::{Walk, by_stage};
use crate::schedule::{Action, Transfer, Work};
use crate::sync::{self, Flags, Saving};
use crate::wire::{Body, MessageId, Subject};
use brigade_layer::Precision;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A node.
pub(crate) struct Worker {
    setup: WorkerSetup,
    stages: Vec<(StageId, Stage)>,
    mail: Mailbox,
    crossing: Crossing,
    at: Position,
    allowance: Allowance,
    copying: Option<Copying>,
    busy: Duration,
    waited: Duration,
}

impl Worker {
    /// The body of a node's thread: builds the node's own layers, then does what it is asked for
    /// until nobody asks.
    pub(crate) fn run(setup: WorkerSetup) {
        let mut worker = Self {
            setup,
            stages: Vec::new(),
            mail: Mailbox::default(),
            crossing: Crossing::default(),
            at: Position::default(),
            allowance: Allowance::default(),
            copying: None,
            busy: Duration::ZERO,
            waited: Duration::ZERO,
        };
        let mut walk = None;
        let built = worker.guard(&mut walk, |worker, _| worker.build().map(|()| Reply::Done));
        let mut going_on = worker.answer(built);
        while going_on {
            let Ok(command) = worker.setup.commands.recv() else {
                break;
            };
            let done = worker.guard(&mut walk, |worker, walk| worker.obey(command, walk));
            going_on = worker.answer(done);
        }
    }

    /// Turns errors and panics into an error that says where, and tells the others before hanging
    /// up.
    fn guard(
        &mut self,
        walk: &mut Option<Arc<Walk>>,
        act: impl FnOnce(&mut Self, &mut Option<Arc<Walk>>) -> Result<Reply, Cause>,
    ) -> Reply {
        let result = catch_unwind(AssertUnwindSafe(|| act(self, walk)));
        let cause = match result {
            Ok(Ok(reply)) => return reply,
            Ok(Err(cause)) => cause,
            Err(payload) => Cause::Panic(panic_text(payload.as_ref())),
        };
        let standings = match cause.is_waiting_in_vain() {
            true => self.setup.link.standings(),
            false => Standings::default(),
        };
        let error = (self.at).error(self.setup.node, walk.as_deref(), cause, standings);
        tracing::warn!(%error, "node fails");
        self.setup.link.tell_failure(&error);
        Reply::Failed(Box::new(error))
    }

    /// Whether to go on.
    fn answer(&mut self, reply: Reply) -> bool {
        let fine = !matches!(reply, Reply::Failed(_));
        self.setup.replies.send((self.setup.node, reply)).is_ok() && fine
    }

    fn build(&mut self) -> Result<(), Cause> {
        let WorkerSetup {
            node,
            network,
            plan,
            pool,
            seed,
            ..
        } = &self.setup;
        let shapes = network.infer(plan.training.batch.largest())?;
        let edges = network.edges().iter();
        let message_bytes =
            edges.map(|edge| shapes[edge.from.index()].outputs[edge.output].bytes());
        let param_bytes = plan.memory[node.index()].parameter_bytes;
        self.allowance = Allowance::new(message_bytes, param_bytes);
        let sees_last = network.sees_last_only(&shapes);
        let segments = by_stage(network, &plan.partition, &plan.recomputed);
        for stage in plan.layout.placement.stages_on(*node) {
            let segments = &segments[stage.index()];
            let costs = &shapes[plan.partition.layers_of(stage)];
            let forward: u64 = costs.iter().map(|layer| layer.cost.forward_flops).sum();
            let all: u64 = costs.iter().map(|layer| layer.cost.flops()).sum();
            let again: u64 = segments.iter().map(|segment| segment.flops(&shapes)).sum();
            (self.allowance).expect(stage, forward, all - forward + again);
            let stage_and = (stage, segments.as_slice());
            let program = Program::new(network, &plan.partition, &plan.layout, stage_and);
            self.stages.push((
                stage,
                Stage::build(program, network, (pool, *seed), sees_last)?,
            ));
            let layers = plan.partition.layers_of(stage);
            let held_bytes = pool.report().held_bytes;
            tracing::info!(%node, %stage, ?layers, held_bytes, "stage built");
        }
        Ok(())
    }

    fn obey(&mut self, command: Command, walk: &mut Option<Arc<Walk>>) -> Result<Reply, Cause> {
        match command {
            Command::Pass(request) => {
                if request.along.is_none_or(|along| along.starts) {
                    self.forget();
                }
                // Other shapes from here on: what waits at home would not fit them.
                if walk
                    .as_ref()
                    .is_none_or(|before| !Arc::ptr_eq(before, &request.walk))
                {
                    self.setup.pool.trim();
                }
                *walk = Some(request.walk.clone());
                self.pass(&request).map(Reply::Pass)
            }
            Command::Load(values) => {
                let states = self.setup.optimizer.state_names();
                answers::load(&mut self.stages, &*values, states, &self.setup.pool)
                    .map(|()| Reply::Done)
            }
            Command::Param(key) => answers::values(&mut self.stages, &key).map(Reply::Values),
            Command::Digests => answers::digests(&mut self.stages).map(Reply::Digests),
            Command::Report => self.report().map(|report| Reply::Report(Box::new(report))),
            Command::Save(outbox) => {
                let copying = self.copying.insert(Copying::new(outbox));
                copying.begin(&mut self.stages, &self.setup.pool)?;
                Ok(Reply::Done)
            }
            Command::Forget => {
                self.forget();
                Ok(Reply::Done)
            }
            Command::Complete => {
                self.copy_on(None, true)?;
                self.copying = None;
                Ok(Reply::Done)
            }
        }
    }

    /// One walk through the list.
    fn pass(&mut self, request: &Request) -> Result<Outcome, Cause> {
        let walk = &*request.walk;
        self.at = Position {
            pass: request.pass,
            step: request.step,
            index: 0,
            action: None,
        };
        let node = self.setup.node;
        tracing::debug!(%node, pass = %request.pass, kind = ?walk.kind, step = %request.step, "pass");
        (self.busy, self.waited) = (Duration::ZERO, Duration::ZERO);
        self.mail.clear();
        self.crossing.begin(&self.setup, &request.walk)?;
        self.setup.link.begin(request.pass, &request.walk)?;
        for (stage, runner) in &mut self.stages {
            runner.begin(walk.stash_limits[stage.index()], request.traced.is_some());
        }
        let mut pass = {
            let WorkerSetup {
                node,
                plan,
                network,
                pool,
                ..
            } = &self.setup;
            Pass::begin(request, *node, plan, network, pool)?
        };
        for (index, action) in walk.lowered.nodes[self.setup.node.index()]
            .iter()
            .enumerate()
        {
            self.at.index = index;
            self.at.action = Some(*action);
            tracing::trace!(node = %self.setup.node, index, %action, "begins");
            let (begun, allowed) = (Instant::now(), self.allowance.of(*action));
            self.setup.link.progress(index, begun, allowed);
            self.copy_on(Some(index), *action == Action::Step)?;
            let started = Instant::now();
            self.act(*action, walk, &mut pass)?;
            if let Some(text) = self.setup.panicked.get() {
                return Err(Cause::Panic(text.clone()));
            }
            self.account(*action, started, walk, &mut pass);
        }
        self.at.action = None;
        self.setup.link.rest();
        for (_, runner) in &mut self.stages {
            runner.end(pass.recorder.as_mut());
        }
        pass.outcome()
    }

    /// The one match: every action, once.
    fn act(&mut self, action: Action, walk: &Walk, pass: &mut Pass) -> Result<(), Cause> {
        match action {
            Action::Compute(compute) => {
                let Self {
                    setup,
                    stages,
                    mail,
                    ..
                } = self;
                let call = Call {
                    pass: PassCtx {
                        mode: pass.mode,
                        predicts: walk.kind.predicts(),
                        along: pass.along,
                        seed: setup.seed,
                        step: pass.step,
                        precision: setup.precision,
                        rounds: setup.plan.wire == Precision::Bf16,
                        on_nonfinite: setup.on_nonfinite,
                        threads: setup.threads,
                        pool: &setup.pool,
                        network: &setup.network,
                    },
                    stage: compute.stage,
                    micro_batch: compute.micro_batch,
                    first_row: walk.batch.rows_of(compute.micro_batch).start,
                    last: compute.micro_batch.get() + 1 == walk.batch.micro_batches().get(),
                };
                let stage = stages.iter_mut().find(|(stage, _)| *stage == compute.stage);
                let (_, stage) =
                    stage.ok_or_else(|| Cause::Bug(format!("no stage {}", compute.stage)))?;
                match compute.work {
                    Work::F => {
                        let forwarded = stage.forward(call, mail, &pass.feeds)?;
                        pass.keep(compute.micro_batch, forwarded);
                    }
                    Work::I | Work::B => {
                        let from = (mail, &pass.feeds);
                        let weights = compute.work == Work::B;
                        stage.backward_input(call, from, pass.loss_gradient, weights)?;
                    }
                    Work::W => stage.backward_weight(call)?,
                }
            }
            Action::Send(transfer) => {
                let tensor = self.mail.take(transfer.lane, transfer.micro_batch)?;
                let tensor = self.crossing.leaving(tensor, &self.setup)?;
                let (peer, id) = self.address(&transfer, pass);
                self.setup.link.send(peer, id, Body::Tensor(tensor))?;
            }
            Action::Post(transfer) => {
                let (peer, id) = self.address(&transfer, pass);
                self.setup.link.post(peer, id)?;
            }
            Action::Wait(transfer) => {
                let (peer, id) = self.address(&transfer, pass);
                let tensor = self.setup.link.wait(peer, id)?.tensor()?;
                let tensor = self.crossing.arriving(tensor, &transfer, &self.setup)?;
                self.mail.put(transfer.lane, transfer.micro_batch, tensor);
            }
            Action::SumShared(shared) => {
                let plan = self.setup.plan.clone();
                let sum = plan
                    .layout
                    .sum_of(shared)
                    .ok_or_else(|| Cause::Bug(format!("no sum of {shared}")))?;
                let (mut node, mut holders) = self.sync(pass.id);
                sync::sum_shared(sum, &mut node, &mut holders)?;
            }
            Action::Exchange => {
                let flags = Flags {
                    stop: pass.stop.load(Ordering::Relaxed),
                    saving: self.saving(),
                };
                let mine = step_end::contribution(&mut self.stages, flags, pass)?;
                let network = self.setup.network.clone();
                let (mut node, _) = self.sync(pass.id);
                let verdict = sync::exchange(mine, walk, &network, &mut node)?;
                pass.heed(verdict, self.setup.on_nonfinite)?;
            }
            Action::Step => step_end::update(&mut self.stages, &self.setup, pass)?,
        }
        Ok(())
    }

    fn forget(&mut self) {
        for (_, stage) in &mut self.stages {
            stage.forget();
        }
    }

    /// Adds what an action took to the figures.
    fn account(&mut self, action: Action, started: Instant, walk: &Walk, pass: &mut Pass) {
        let ended = Instant::now();
        let rows = action.micro_batch().map(|m| walk.batch.rows_of(m).len());
        let whole = rows == Some(self.setup.plan.training.batch.largest());
        let whole = whole && pass.along.is_none();
        self.allowance.saw(action, ended - started, whole);
        match action {
            Action::Compute(_) => self.busy += ended - started,
            Action::Wait(_) => self.waited += ended - started,
            Action::Send(_) | Action::Post(_) | Action::Step => {}
            Action::SumShared(_) | Action::Exchange => {}
        }
        if let Some(recorder) = &mut pass.recorder {
            recorder.action(action, started, ended);
        }
    }

    fn address(&self, transfer: &Transfer, pass: &Pass) -> (NodeId, MessageId) {
        let subject = Subject::Lane(transfer.lane, transfer.micro_batch);
        let id = MessageId {
            replica: ReplicaId::default(),
            pass: pass.id,
            subject,
        };
        (self.setup.plan.layout.placement.node_of(transfer.peer), id)
    }

    fn sync(&mut self, pass: PassId) -> (sync::Node<'_>, StageHolders<'_>) {
        let Self { setup, stages, .. } = self;
        let WorkerSetup {
            node,
            plan,
            pool,
            link,
            ..
        } = setup;
        (
            sync::Node {
                node: *node,
                pass,
                plan,
                pool,
                link: link.as_mut(),
            },
            StageHolders(stages),
        )
    }

    /// How far this node is with a checkpoint.
    fn saving(&self) -> Saving {
        (self.copying.as_ref()).map_or(Saving::None, Copying::state)
    }

    /// Copies more of what is to be saved, all of it before it changes.
    fn copy_on(&mut self, entry: Option<usize>, all: bool) -> Result<(), Cause> {
        match &mut self.copying {
            Some(copying) => copying.advance(&mut self.stages, &mut self.setup, entry, all),
            None => Ok(()),
        }
    }

    fn report(&mut self) -> Result<NodeReport, Cause> {
        let (layers, params) = answers::holdings(&mut self.stages)?;
        Ok(NodeReport {
            node: self.setup.node,
            layers,
            params,
            memory: self.setup.pool.report(),
            sent_bytes: self.setup.link.sent_bytes(),
            busy: self.busy,
            waited: self.waited,
        })
    }
}
