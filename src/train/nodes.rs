//! The nodes' threads: started, asked, joined.

use crate::config::{Config, Pinning};
use crate::error::{Cause, Error, RunError, panic_text};
use crate::ids::{NodeId, PassId, StepId};
use crate::plan::Plan;
use crate::process::{self, Processes};
use crate::stage::{Command, Reply, Worker, WorkerSetup};
use crate::wire::{Fault, FaultyLink, Link, Session, from_bytes, local_links, pack, to_bytes};
use brigade_layer::{LayerError, Network, Optimizer, Pool, Tensor};
use core_affinity::CoreId;
use crossbeam_channel::{Receiver, Sender, bounded};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long, after one node has failed, the others are given to say that they have noticed.
const GRACE: Duration = Duration::from_secs(10);

/// Who gets what all bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    All,
    First,
}

/// The threads of a pipeline in this process, and what joins them with those of others.
pub(super) struct Nodes {
    here: Vec<NodeId>,
    session: Option<Arc<Session>>,
    commands: Vec<Sender<Command>>,
    replies: Receiver<(NodeId, Reply)>,
    threads: Vec<Option<JoinHandle<()>>>,
    errors: Vec<RunError>,
    step: StepId,
}

impl Nodes {
    pub(super) fn start(
        network: &Arc<Network>,
        config: &Config,
        plan: &Arc<Plan>,
        optimizer: &Arc<dyn Optimizer>,
        (processes, fault): (Processes, Option<Fault>),
    ) -> Result<Self, Error> {
        let ranks = processes.ranks_of(plan.layout.nodes())?;
        let own = process::rank();
        let is_here = |node: &NodeId| processes.world().is_none() || ranks[node.index()] == own;
        let pools: Vec<_> = (plan.layout.nodes().iter().filter(is_here))
            .map(|node| (node, Pool::new(config.limit_of(node))))
            .collect();
        let several = processes.world().map(|_| ranks.clone());
        let local = local_links(
            (&plan.layout, several.unwrap_or_default()),
            plan.most_micro_batches(),
            (config.transport, config.deadline()),
            &pools,
        );
        let (session, links) = match processes.world() {
            None => (None, local.boxed()),
            Some(world) => {
                let (session, links) = world
                    .open(local, (network, plan), ranks, config.deadline())
                    .map_err(|cause| at_start(pools[0].0, cause))?;
                (Some(session), links)
            }
        };
        let cores = cores(config, processes, pools.len());
        tracing::info!(
            nodes = pools.len(),
            threads = config.threads_per_node,
            pinned = !cores.is_empty(),
            "starting"
        );
        let (answer, replies) = bounded(2 * pools.len());
        let mut nodes = Self {
            here: pools.iter().map(|(node, _)| *node).collect(),
            session,
            commands: Vec::new(),
            replies,
            threads: Vec::new(),
            errors: Vec::new(),
            step: StepId::new(0),
        };
        for (at, ((node, pool), link)) in pools.into_iter().zip(links).enumerate() {
            let link: Box<dyn Link> = match fault.filter(|fault| fault.node == node.index()) {
                Some(fault) => Box::new(FaultyLink::new(link, fault, node)),
                None => link,
            };
            let (command, commands) = bounded(1);
            let setup = WorkerSetup {
                node,
                network: network.clone(),
                plan: plan.clone(),
                optimizer: optimizer.clone(),
                seed: config.seed,
                clip: config.clip,
                on_nonfinite: config.on_nonfinite,
                precision: config.precision,
                threads: config.threads_per_node,
                panicked: Arc::default(),
                pool,
                link,
                commands,
                replies: answer.clone(),
            };
            let first = at * config.threads_per_node;
            let own = cores
                .get(first..first + config.threads_per_node)
                .map(<[CoreId]>::to_vec);
            let thread = std::thread::Builder::new().name(format!("brigade-node-{node}"));
            let thread = thread
                .spawn(move || node_thread(setup, own))
                .map_err(|error| {
                    let what = "starting a thread for a node";
                    at_start(
                        node,
                        Cause::Machine {
                            what,
                            problem: error.to_string(),
                        },
                    )
                })?;
            nodes.commands.push(command);
            nodes.threads.push(Some(thread));
        }
        drop(answer);
        nodes.gather()?;
        // Nobody trains before everybody can.
        nodes.share("start", ())?;
        Ok(nodes)
    }

    /// Every process brings something, and all mean the same by it; all get all of it.
    pub(super) fn share<T: Serialize + DeserializeOwned>(
        &mut self,
        what: &'static str,
        mine: T,
    ) -> Result<Vec<T>, Error> {
        let Some(session) = &self.session else {
            return Ok(vec![mine]);
        };
        let all = session.gather(what, pack(&mine), None);
        all.and_then(process::open)
            .map_err(|cause| self.lost(cause))
    }

    /// What every node has, in the order of the nodes.
    pub(super) fn share_by_node<T: Serialize + DeserializeOwned>(
        &mut self,
        what: &'static str,
        mine: Vec<T>,
    ) -> Result<Vec<T>, Error> {
        let mine: Vec<_> = self.here.iter().copied().zip(mine).collect();
        let mut all: Vec<_> = self.share(what, mine)?.into_iter().flatten().collect();
        all.sort_by_key(|(node, _)| *node);
        Ok(all.into_iter().map(|(_, thing)| thing).collect())
    }

    /// Every process brings bytes, of any length; all get all of them, or the first one does.
    pub(super) fn share_bytes(
        &mut self,
        what: &'static str,
        mine: Vec<u8>,
        to: To,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let Some(session) = &self.session else {
            return Ok(vec![mine]);
        };
        let only = (to == To::First).then_some(0);
        let all = session.gather(what, mine, only);
        all.map_err(|cause| self.lost(cause))
    }

    /// Tensors of numbers that only some processes have.
    pub(super) fn share_tensors(
        &mut self,
        what: &'static str,
        mine: Vec<Tensor>,
    ) -> Result<Vec<Tensor>, Error> {
        if self.session.is_none() {
            return Ok(mine);
        }
        let numbers: Result<Vec<&[f32]>, LayerError> = mine.iter().map(Tensor::f32).collect();
        let numbers = numbers.map_err(|error| self.lost(error.into()))?.concat();
        let shapes = mine.iter().map(Tensor::shape).collect::<Vec<_>>();
        let shapes = self.share(what, shapes)?;
        let all = self.share_bytes(what, to_bytes(&numbers), To::All)?;
        let mut tensors = Vec::new();
        for (shapes, bytes) in shapes.into_iter().zip(&all) {
            let mut numbers = from_bytes(bytes);
            for shape in shapes {
                let own = numbers.by_ref().take(shape.elements()).collect();
                tensors.push(Tensor::from_vec(shape, own)?);
            }
        }
        Ok(tensors)
    }

    /// From when times of a traced step count: as far after the beginning everywhere as on the
    /// first process, where all processes are in this call at once.
    pub(super) fn epoch(&mut self, started: Instant) -> Result<Instant, Error> {
        let now = Instant::now();
        let passed = self.share("clock", (now - started).as_secs_f64())?[0];
        let passed = Duration::try_from_secs_f64(passed).unwrap_or_default();
        Ok(now.checked_sub(passed).unwrap_or(started))
    }

    /// The pipeline is of no use any more, and the others are told why.
    pub(super) fn lost(&mut self, cause: Cause) -> Error {
        let step = self.step;
        let node = self.here[0];
        let session = (self.session.as_ref()).filter(|_| cause.is_waiting_in_vain());
        let standings = session.map(|session| session.standings(node));
        let error = RunError {
            step,
            standings: Arc::new(standings.unwrap_or_default()),
            ..start_error(node, cause)
        };
        if let Some(session) = &self.session {
            session.tell(&error);
        }
        self.errors.push(error.clone());
        Box::new(error).into()
    }

    /// Asks all nodes for the same, and waits for all answers, in the order of the nodes.
    pub(super) fn ask(&mut self, command: &Command) -> Result<Vec<Reply>, Error> {
        let commands = self.here.iter().map(|_| command.clone()).collect();
        self.ask_each(commands)
    }

    /// The same, where every node of this process is asked for something of its own.
    pub(super) fn ask_each(&mut self, commands: Vec<Command>) -> Result<Vec<Reply>, Error> {
        if let Some(error) = RunError::root_of(&self.errors) {
            return Err(Box::new(error.clone()).into());
        }
        if let Some(Command::Pass(request)) = commands.first() {
            self.step = request.step;
        }
        for (sender, command) in self.commands.iter().zip(commands) {
            // A node that is gone has left its reason among the replies.
            let _ = sender.send(command);
        }
        self.gather()
    }

    /// Whether all nodes are in this process.
    pub(super) fn alone(&self) -> bool {
        self.session.is_none()
    }

    /// The nodes of this process.
    pub(super) fn here(&self) -> &[NodeId] {
        &self.here
    }

    pub(super) fn errors(&self) -> &[RunError] {
        &self.errors
    }

    fn gather(&mut self) -> Result<Vec<Reply>, Error> {
        let mut replies: Vec<Option<Reply>> = self.commands.iter().map(|_| None).collect();
        let (mut missing, mut failed_at) = (replies.len(), None::<Instant>);
        while missing > 0 {
            let next = match failed_at {
                None => self.replies.recv().ok(),
                Some(at) => self
                    .replies
                    .recv_timeout(GRACE.saturating_sub(at.elapsed()))
                    .ok(),
            };
            let Some((node, reply)) = next else { break };
            missing -= 1;
            match reply {
                Reply::Failed(error) => {
                    self.errors.push(*error);
                    failed_at.get_or_insert_with(Instant::now);
                }
                other => {
                    let at = self.here.iter().position(|here| *here == node);
                    replies[at.unwrap_or(0)] = Some(other);
                }
            }
        }
        match RunError::root_of(&self.errors).cloned() {
            Some(root) => {
                // Whoever was done before the failure reached it hears of it here.
                let done = self.here.iter().zip(&replies);
                for (&node, _) in done.filter(|(_, reply)| reply.is_some()) {
                    let cause = Cause::Peer(Box::new(root.clone()));
                    let (action, row) = (None, String::new());
                    self.errors.push(RunError {
                        rank: process::own(),
                        node,
                        action,
                        row,
                        cause,
                        standings: Arc::default(),
                        ..root
                    });
                }
                self.errors.sort_by_key(|error| error.node);
                Err(Box::new(root).into())
            }
            None if missing > 0 => {
                let problem = "a node's thread is gone without a word".to_owned();
                Err(at_start(NodeId::new(0), Cause::Bug(problem)))
            }
            None => Ok(replies.into_iter().flatten().collect()),
        }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.commands.clear();
        let started = Instant::now();
        for thread in self.threads.iter_mut().filter_map(Option::take) {
            // A node that hangs in a layer of the user's cannot be ended; waiting for it would hang
            // everyone.
            while !self.errors.is_empty() && !thread.is_finished() && started.elapsed() < GRACE {
                std::thread::sleep(Duration::from_millis(1));
            }
            if self.errors.is_empty() || thread.is_finished() {
                // What a thread panicked of was caught and reported by the worker.
                let _ = thread.join();
            }
        }
    }
}

/// A node's thread: pinned where that fits, member of a pool of its own, so that nothing lands in a
/// global one.
fn node_thread(setup: WorkerSetup, cores: Option<Vec<CoreId>>) {
    let (node, replies) = (setup.node, setup.replies.clone());
    let panicked = setup.panicked.clone();
    let cores = cores.unwrap_or_default();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(setup.threads)
        .thread_name(move |thread| format!("brigade-node-{node}.{thread}"))
        .start_handler(move |thread| {
            if let Some(own) = cores.get(thread) {
                core_affinity::set_for_current(*own);
            }
        })
        // Without this it ends the process.
        .panic_handler(move |payload| {
            let _ = panicked.set(panic_text(payload.as_ref()));
        })
        .build();
    match pool {
        // In the pool, not beside it: a thread that joins a pool is never given back.
        Ok(pool) => pool.install(|| Worker::run(setup)),
        Err(error) => {
            let cause = Cause::Machine {
                what: "starting the threads of a node",
                problem: error.to_string(),
            };
            let _ = replies.send((node, Reply::Failed(Box::new(start_error(node, cause)))));
        }
    }
}

/// The cores to pin to: all of this process, when there are exactly as many threads, or none.
fn cores(config: &Config, processes: Processes, nodes: usize) -> Vec<CoreId> {
    let cores = processes.cores();
    let fits = nodes * config.threads_per_node == cores.len();
    if config.pinning == Pinning::Auto && fits {
        cores
    } else {
        Vec::new()
    }
}

fn start_error(node: NodeId, cause: Cause) -> RunError {
    RunError {
        rank: process::own(),
        node,
        step: StepId::new(0),
        pass: PassId::new(0),
        action: None,
        row: String::new(),
        cause,
        standings: Arc::default(),
    }
}

fn at_start(node: NodeId, cause: Cause) -> Error {
    Box::new(start_error(node, cause)).into()
}
