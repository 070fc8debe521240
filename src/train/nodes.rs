//! The nodes' threads: started, asked, joined.

use crate::config::{Config, Pinning};
use crate::error::{Cause, Error, RunError};
use crate::ids::{NodeId, PassId, StepId};
use crate::plan::Plan;
use crate::stage::{Command, Reply, Worker, WorkerSetup};
use crate::wire::{Fault, FaultyLink, Link, local_links};
use brigade_layer::{Network, Optimizer, Pool};
use core_affinity::CoreId;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long, after one node has failed, the others are given to say that they have noticed.
const GRACE: Duration = Duration::from_secs(10);

/// The threads of a pipeline in this process.
pub(super) struct Nodes {
    commands: Vec<Sender<Command>>,
    replies: Receiver<(NodeId, Reply)>,
    threads: Vec<Option<JoinHandle<()>>>,
    errors: Vec<RunError>,
}

impl Nodes {
    pub(super) fn start(
        network: &Arc<Network>,
        config: &Config,
        plan: &Arc<Plan>,
        optimizer: &Arc<dyn Optimizer>,
        fault: Option<Fault>,
    ) -> Result<Self, Error> {
        let count = plan.layout.nodes();
        let pools: Vec<_> = count
            .iter()
            .map(|_| Pool::new(config.node_memory_bytes))
            .collect();
        let micro_batches = plan.training.batch.micro_batches();
        let links = local_links(
            &plan.layout,
            micro_batches,
            config.transport,
            config.deadline(),
            &pools,
        );
        let cores = cores(config);
        tracing::info!(
            nodes = count.index(),
            threads = config.threads_per_node,
            pinned = !cores.is_empty(),
            "starting"
        );
        let (answer, replies) = bounded(2 * count.index());
        let mut nodes = Self {
            commands: Vec::new(),
            replies,
            threads: Vec::new(),
            errors: Vec::new(),
        };
        for ((node, link), pool) in count.iter().zip(links).zip(pools) {
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
                threads: config.threads_per_node,
                pool,
                link,
                commands,
                replies: answer.clone(),
            };
            let first = node.index() * config.threads_per_node;
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
        Ok(nodes)
    }

    /// Asks all nodes for the same, and waits for all answers, in the order of the nodes.
    pub(super) fn ask(&mut self, command: &Command) -> Result<Vec<Reply>, Error> {
        if let Some(error) = RunError::root_of(&self.errors) {
            return Err(Box::new(error.clone()).into());
        }
        for sender in &self.commands {
            // A node that is gone has left its reason among the replies.
            let _ = sender.send(command.clone());
        }
        self.gather()
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
                other => replies[node.index()] = Some(other),
            }
        }
        match RunError::root_of(&self.errors).cloned() {
            Some(root) => {
                // Whoever was done before the failure reached it hears of it here.
                for (node, _) in replies
                    .iter()
                    .enumerate()
                    .filter(|(_, reply)| reply.is_some())
                {
                    let node = NodeId::new(node as u32);
                    let cause = Cause::Peer(Box::new(root.clone()));
                    let (action, row) = (None, String::new());
                    self.errors.push(RunError {
                        node,
                        action,
                        row,
                        cause,
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
    if let Some(own) = cores.as_ref().and_then(|cores| cores.first()) {
        core_affinity::set_for_current(*own);
    }
    let (node, replies) = (setup.node, setup.replies.clone());
    let others = cores.unwrap_or_default();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(setup.threads)
        .thread_name(move |thread| format!("brigade-node-{node}.{thread}"))
        .start_handler(move |thread| {
            if let Some(own) = others.get(thread) {
                core_affinity::set_for_current(*own);
            }
        })
        .use_current_thread()
        .build();
    match pool {
        Ok(_pool) => Worker::run(setup),
        Err(error) => {
            let cause = Cause::Machine {
                what: "starting the threads of a node",
                problem: error.to_string(),
            };
            let _ = replies.send((node, Reply::Failed(Box::new(start_error(node, cause)))));
        }
    }
}

/// The cores to pin to: all, when there are exactly as many threads, or none.
fn cores(config: &Config) -> Vec<CoreId> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let fits = config.nodes * config.threads_per_node == cores.len();
    if config.pinning == Pinning::Auto && fits {
        cores
    } else {
        Vec::new()
    }
}

fn start_error(node: NodeId, cause: Cause) -> RunError {
    RunError {
        node,
        step: StepId::new(0),
        pass: PassId::new(0),
        action: None,
        row: String::new(),
        cause,
    }
}

fn at_start(node: NodeId, cause: Cause) -> Error {
    Box::new(start_error(node, cause)).into()
}
