//! This process among all of the job: one courier, any number of trainers.

use super::courier::Courier;
use super::flags::Flags;
use super::gather::Gather;
use super::link::MpiLink;
use super::orders::Order;
use crate::error::{Cause, RunError, Standings};
use crate::ids::NodeId;
use crate::launch::{Launch, launch};
use crate::plan::Plan;
use crate::wire::local::LocalLinks;
use crate::wire::{Hub, Joined, Link, Machine, NoMeeting, Patience, pack, unpack};
use brigade_layer::Network;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// MPI is one for each process.
static WORLD: OnceLock<Result<World, NoMeeting>> = OnceLock::new();
/// What MPI says when it has started.
pub(super) struct Met {
    pub(super) rank: usize,
    pub(super) size: usize,
    pub(super) host: String,
    pub(super) largest_tag: usize,
}

/// All processes of the job.
pub(crate) struct World {
    orders: Sender<Order>,
    rank: usize,
    largest_tag: usize,
    machines: Vec<Machine>,
    flags: Arc<Flags>,
    next: AtomicU32,
    gathers: Mutex<()>,
}

/// The job that this process belongs to, if a launcher started it as one of several.
/// Those that are not there yet are waited for so long.
pub(crate) fn world(meeting: Duration) -> Result<Option<&'static World>, NoMeeting> {
    let Some(launch) = launch() else {
        return Ok(None);
    };
    let world = WORLD.get_or_init(|| World::start(launch, meeting));
    world.as_ref().map(Some).map_err(Clone::clone)
}

impl NoMeeting {
    fn here(problem: String) -> Self {
        let everywhere = false;
        Self {
            problem,
            everywhere,
        }
    }
}

impl World {
    fn start(launch: Launch, meeting: Duration) -> Result<Self, NoMeeting> {
        let (world, met) = Self::begin(meeting).map_err(NoMeeting::here)?;
        let (rank, size) = (met.rank, met.size);
        if (rank, size) != (launch.rank, launch.size) {
            let (own, all) = (launch.rank, launch.size);
            return Err(NoMeeting {
                problem: format!(
                    "the launcher says rank {own} of {all} and MPI says rank {rank} of {size}: it \
                     is a launcher of another MPI library than the one this program was built with"
                ),
                everywhere: true,
            });
        }
        world.meet(met.host, meeting).map_err(NoMeeting::here)
    }

    /// Starts MPI, and brings what it says.
    fn begin(meeting: Duration) -> Result<(Self, Met), String> {
        let (orders, taken) = unbounded();
        let (tell, told) = bounded(1);
        let flags = Flags::of_process();
        let shared = flags.clone();
        std::thread::Builder::new()
            .name("brigade-mpi".into())
            .spawn(move || Courier::run(taken, &shared, &tell))
            .map_err(|error| error.to_string())?;
        let met = told.recv_timeout(meeting).unwrap_or_else(|error| {
            Err(match error {
                RecvTimeoutError::Timeout => {
                    format!("MPI does not start within {meeting:?}: another process does not come")
                }
                RecvTimeoutError::Disconnected => "MPI does not start".into(),
            })
        })?;
        // Once more, so that it comes before whatever MPI has registered.
        Flags::at_exit();
        let world = Self {
            orders,
            rank: met.rank,
            largest_tag: met.largest_tag,
            machines: Vec::new(),
            flags,
            next: AtomicU32::new(1),
            gathers: Mutex::new(()),
        };
        Ok((world, met))
    }

    /// Learns the machines of all.
    fn meet(self, host: String, meeting: Duration) -> Result<Self, String> {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let cores = cores.into_iter().map(|core| core.id).collect();
        let machine = Machine { host, cores };
        let all = self.share("machine", pack(&machine), Patience::within(meeting));
        let all = all.map_err(|cause| cause.to_string())?;
        let machines = all.iter().map(|bytes| unpack(bytes));
        Ok(Self {
            machines: machines.collect::<Result<_, _>>()?,
            ..self
        })
    }

    /// The machine of every process.
    pub(crate) fn machines(&self) -> &[Machine] {
        &self.machines
    }

    /// Every process brings something; all get all of it.
    pub(crate) fn share(
        &self,
        what: &'static str,
        bytes: Vec<u8>,
        patience: Patience,
    ) -> Result<Vec<Vec<u8>>, Cause> {
        let _one = one_at_a_time(&self.gathers);
        self.gather(0, (what, bytes), None, patience)
    }

    fn gather(
        &self,
        session: u32,
        (what, bytes): (&'static str, Vec<u8>),
        only: Option<usize>,
        patience: Patience,
    ) -> Result<Vec<Vec<u8>>, Cause> {
        let (answer, answered) = bounded(1);
        let gather = Gather {
            what,
            bytes,
            only,
            patience,
            answer,
        };
        self.order(Order::Gather { session, gather })?;
        self.wait(&answered)?
    }

    fn order(&self, order: Order) -> Result<(), Cause> {
        self.orders.send(order).map_err(|_| self.why())
    }

    fn wait<T>(&self, answer: &Receiver<T>) -> Result<T, Cause> {
        answer.recv().map_err(|_| self.why())
    }

    /// Why the courier is not there any more.
    fn why(&self) -> Cause {
        let broken = self.flags.broken();
        broken.unwrap_or_else(|| Cause::Bug("the thread that owns MPI is gone".into()))
    }

    /// A trainer begins, on all processes alike; `ranks` has the process of every node.
    pub(crate) fn open(
        &'static self,
        local: LocalLinks,
        (network, plan): (&Arc<Network>, &Arc<Plan>),
        ranks: Vec<usize>,
        deadline: Duration,
    ) -> Result<Joined, Cause> {
        let session = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = bounded(1);
        let LocalLinks {
            links,
            hub,
            inboxes,
        } = local;
        self.order(Order::Open {
            session,
            hub: hub.clone(),
            inboxes,
            ranks: ranks.clone(),
            deadline,
            answer,
        })?;
        let session = Arc::new(Session {
            world: self,
            number: session,
            hub,
            ranks,
            deadline,
            gathers: Mutex::new(()),
        });
        self.wait(&answered)??;
        let over_mpi = |link| {
            let (network, plan) = (network.clone(), plan.clone());
            Box::new(MpiLink::new(link, session.clone(), network, plan)) as Box<dyn Link>
        };
        let links = links.into_iter().map(over_mpi).collect();
        Ok((session, links))
    }
}

/// Gathers of one kind follow each other, also from several threads.
fn one_at_a_time(gathers: &Mutex<()>) -> MutexGuard<'_, ()> {
    gathers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One trainer's part in all processes.
pub(crate) struct Session {
    world: &'static World,
    number: u32,
    hub: Arc<Hub>,
    /// Of every node.
    ranks: Vec<usize>,
    deadline: Duration,
    gathers: Mutex<()>,
}

impl Session {
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn rank(&self) -> usize {
        self.world.rank
    }

    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(super) fn largest_tag(&self) -> usize {
        self.world.largest_tag
    }

    pub(super) fn rank_of(&self, node: NodeId) -> usize {
        self.ranks[node.index()]
    }

    pub(super) fn order(&self, order: Order) -> Result<(), Cause> {
        self.world.order(order)
    }

    /// Fails when MPI does not work any more.
    pub(super) fn check(&self) -> Result<(), Cause> {
        self.world.flags.broken().map_or(Ok(()), Err)
    }

    /// A node waits for as long as this lives: the courier looks more often.
    pub(super) fn waits(&self) -> Waiting<'_> {
        self.world.flags.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.world.flags)
    }

    /// Where all nodes stand, as far as it is known here, to be told for this one.
    pub(crate) fn standings(&self, from: NodeId) -> Standings {
        self.hub.standings(from, self.deadline)
    }

    /// Tells all other processes why this one fails.
    pub(crate) fn tell(&self, error: &RunError) {
        // Whoever cannot be told hears that this process is gone.
        let (session, error) = (self.number, error.clone());
        let _ = self.order(Order::Tell {
            session,
            error: Box::new(error),
        });
    }

    /// Every process brings something; all get all of it, or only one does.
    pub(crate) fn gather(
        &self,
        what: &'static str,
        bytes: Vec<u8>,
        only: Option<usize>,
    ) -> Result<Vec<Vec<u8>>, Cause> {
        let _one = one_at_a_time(&self.gathers);
        let patience = Patience::within(self.deadline);
        self.world
            .gather(self.number, (what, bytes), only, patience)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let session = self.number;
        let _ = self.order(Order::Close { session });
    }
}

/// Counts a node that waits.
pub(super) struct Waiting<'a>(&'a Flags);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
