//! The thread that owns MPI: carries messages between processes, and hears whether they live.
//!
//! ```text
//!  computing threads ──orders──► courier ═══ MPI ═══ courier ──inbox──► computing threads
//! ```
//!
//! It sleeps while nothing moves: on its orders, for at most a millisecond, since MPI cannot wake
//! it.

use super::flags::{Flags, Phase};
use super::mail::Mail;
use super::orders::Order;
use super::peers::Peers;
use super::raw::{Comm, Mpi, MpiError, wake_in_time};
use super::room::Room;
use super::world::Met;
use crate::error::{Cause, RunError, panic_text};
use crate::wire::AWAY;
use crate::wire::control::{Told, Word};
use crate::wire::local::Frame;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long it tries again and again after something moved, before it naps.
const SPIN: Duration = Duration::from_micros(100);
/// The shortest and the longest nap.
const NAPS: [Duration; 2] = [Duration::from_micros(20), Duration::from_millis(1)];
/// While a node waits, naps are this part of what it has waited.
const WAITING: u32 = 32;
/// Processes hear of each other at least and at most so often.
const BEATS: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];
/// After a failure everyone gets so long to leave before the job is ended.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// How long a process that ends waits for one of which nothing is heard.
pub(super) const SILENT: Duration = Duration::from_secs(60);

/// The thread's state.
pub(super) struct Courier<'a> {
    pub(super) mpi: Mpi,
    control: Comm,
    pub(super) rank: usize,
    pub(super) peers: Peers,
    pub(super) mail: Mail,
    orders: &'a Receiver<Order>,
    pub(super) flags: &'a Flags,
    pub(super) rooms: BTreeMap<u32, Room>,
    pub(super) going: Vec<(Instant, u32, usize)>,
    /// Communicators of trainers that are done here, and the ranks that are done too.
    pub(super) closed: BTreeMap<u32, (Comm, Vec<usize>)>,
    beaten: Instant,
    looked: Instant,
    pub(super) failed: Option<(Instant, String)>,
    pub(super) leaving: bool,
}

impl Courier<'_> {
    /// The body of the thread: tells rank, number of processes and machine, then carries until the
    /// process ends.
    pub(super) fn run(orders: Receiver<Order>, flags: &Flags, tell: &Sender<Result<Met, String>>) {
        wake_in_time();
        flags.enter(Phase::Starting);
        let mut courier = match Courier::start(&orders, flags) {
            Ok(courier) => courier,
            Err(MpiError(problem)) => {
                flags.enter(Phase::Done);
                let _ = tell.send(Err(format!("MPI does not start: {problem}")));
                return;
            }
        };
        flags.enter(Phase::Carrying);
        let _ = tell.send(Ok(Met {
            rank: courier.rank,
            size: courier.peers.len(),
            host: courier.mpi.host(),
            largest_tag: courier.mpi.largest_tag(),
        }));
        let carried = catch_unwind(AssertUnwindSafe(|| courier.carry()));
        let broken = match carried {
            Ok(Ok(())) => None,
            Ok(Err(MpiError(problem))) => Some(Cause::Machine {
                what: "MPI",
                problem,
            }),
            Err(payload) => Some(Cause::Bug(panic_text(payload.as_ref()))),
        };
        if let Some(cause) = broken {
            flags.break_with(&cause);
            for (_, inbox) in courier.rooms.values().flat_map(|room| &room.inboxes) {
                let _ = inbox.try_send(Frame::Broken(cause.clone()));
            }
            courier.rooms.clear();
            std::thread::sleep(GRACE);
            courier.abort(&cause.to_string());
        }
        let spoiled = courier.rooms.values().any(Room::is_spoiled);
        let Courier { mpi, failed, .. } = courier;
        flags.enter(Phase::Ending);
        // After a failure messages may be left that nobody takes: ending together could hang.
        if failed.is_none() && !spoiled {
            mpi.finalize();
        }
        flags.enter(Phase::Done);
    }

    fn start<'a>(orders: &'a Receiver<Order>, flags: &'a Flags) -> Result<Courier<'a>, MpiError> {
        let mpi = Mpi::initialize()?;
        let world = mpi.world();
        let (rank, size) = (world.rank()?, world.size()?);
        let (mut control, mut data) = (world.duplicate()?, world.duplicate()?);
        let (mut made, started) = ((None, None), Instant::now());
        while made.0.is_none() || made.1.is_none() {
            made = (made.0.or(control.poll()?), made.1.or(data.poll()?));
            if started.elapsed() > SILENT {
                return Err(MpiError("the other processes do not come".into()));
            }
            std::thread::yield_now();
        }
        let (Some(control), Some(data)) = made else {
            return Err(MpiError("no communicator".into()));
        };
        Ok(Courier {
            mpi,
            control,
            rank,
            orders,
            flags,
            rooms: BTreeMap::from([(0, Room::first(data))]),
            peers: Peers::new(control, rank, size)?,
            mail: Mail::default(),
            going: Vec::new(),
            closed: BTreeMap::new(),
            beaten: Instant::now(),
            looked: Instant::now(),
            failed: None,
            leaving: false,
        })
    }

    fn carry(&mut self) -> Result<(), MpiError> {
        let mut moved_at = Instant::now();
        loop {
            let mut moved = false;
            // Before the orders: what was ordered before the process wanted to end is done first.
            let exit = self.flags.exit.load(Ordering::Acquire);
            loop {
                match self.orders.try_recv() {
                    Ok(order) => self.obey(order)?,
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
                moved = true;
            }
            self.come_back();
            moved |= self.mail.send_on()?;
            moved |= self.receive_on()?;
            moved |= self.listen_on()?;
            moved |= self.gather_on()?;
            self.beat()?;
            self.part()?;
            if exit && self.may_leave()? {
                return Ok(());
            }
            self.end_if_failed();
            let quiet = moved_at.elapsed();
            if moved {
                moved_at = Instant::now();
            } else if quiet < SPIN {
                std::thread::yield_now();
            } else {
                let nap = self.nap(quiet);
                match self.orders.recv_timeout(nap) {
                    Ok(order) => {
                        self.obey(order)?;
                        moved_at = Instant::now();
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => std::thread::sleep(nap),
                }
            }
        }
    }

    /// How long to sleep where nothing has moved for so long: a wait becomes longer by a few
    /// percent at most.
    fn nap(&self, quiet: Duration) -> Duration {
        let waiting = self.flags.waiting.load(Ordering::Relaxed) > 0;
        let share = if waiting || !self.mail.has_left() {
            WAITING
        } else {
            1
        };
        (quiet / share).clamp(NAPS[0], NAPS[1])
    }

    /// After the whole process was stopped for a while, nobody else was silent.
    fn come_back(&mut self) {
        if self.looked.elapsed() > AWAY {
            self.peers.forgive();
            for room in self.rooms.values_mut() {
                room.forgive(self.rank);
            }
        }
        self.looked = Instant::now();
    }

    fn obey(&mut self, order: Order) -> Result<(), MpiError> {
        match order {
            Order::Open {
                session,
                hub,
                inboxes,
                ranks,
                deadline,
                answer,
            } => {
                let making = self.control.duplicate()?;
                let room = Room::new(making, answer, (hub, ranks), inboxes, deadline);
                room.meet(self.rank);
                self.rooms.insert(session, room);
            }
            Order::Send(outgoing) => {
                if let Some(comm) = self.comm(outgoing.session) {
                    self.mail.send(comm, outgoing)?;
                }
            }
            Order::Receive {
                session,
                rank,
                tag,
                id,
                from,
                to,
                buffer,
            } => {
                if let Some(comm) = self.comm(session) {
                    let (place, what) = ((session, rank, tag), (id, from, to));
                    self.mail.receive(comm, place, what, buffer)?;
                }
            }
            Order::Gather { session, gather } => {
                let Some(comm) = self.comm(session) else {
                    return Ok(());
                };
                let ranks = (self.rank, self.peers.len());
                if let Some(room) = self.rooms.get_mut(&session) {
                    room.gather(comm, ranks, gather)?;
                }
            }
            Order::Tell { session, error } => {
                self.failed
                    .get_or_insert_with(|| (Instant::now(), error.to_string()));
                // Whoever hears of another's failure has nothing new to tell.
                if !matches!(error.cause, Cause::Peer(_)) {
                    self.peers
                        .say(&Word::Failed(session, Told::from(error.root())))?;
                }
            }
            Order::Close { session } => {
                if let Some(room) = self.rooms.remove(&session)
                    && let Some(comm) = room.comm
                {
                    self.closed.insert(session, (comm, room.gone));
                }
                self.mail.close(session);
                self.peers.say(&Word::Gone(session))?;
            }
        }
        Ok(())
    }

    fn comm(&self, session: u32) -> Option<Comm> {
        self.rooms.get(&session).and_then(|room| room.comm)
    }

    fn receive_on(&mut self) -> Result<bool, MpiError> {
        let arrived = self.mail.receive_on()?;
        let moved = !arrived.is_empty();
        for (session, to, frame) in arrived {
            if let Some(room) = self.rooms.get(&session) {
                room.deliver(to, frame);
            }
        }
        Ok(moved)
    }

    fn gather_on(&mut self) -> Result<bool, MpiError> {
        let mut moved = false;
        if self.rooms.values().all(Room::is_quiet) {
            return Ok(moved);
        }
        let silent = self.peers.silent();
        for room in self.rooms.values_mut() {
            moved |= room.open_on(self.rank, &silent)?;
            moved |= room.gather_on(self.rank, &silent)?;
        }
        Ok(moved)
    }

    fn listen_on(&mut self) -> Result<bool, MpiError> {
        let mut moved = false;
        for (rank, word) in self.peers.listen_on()? {
            // Beats alone are no reason to stay awake.
            moved |= !matches!(word, Word::Beats(_));
            self.hear(rank, word);
        }
        Ok(moved)
    }

    fn hear(&mut self, rank: usize, word: Word) {
        match word {
            Word::Beats(sessions) => {
                for room in self.rooms.values() {
                    room.heard(rank);
                }
                for (session, beats) in sessions {
                    if let Some(hub) = self.rooms.get(&session).and_then(|r| r.hub.as_ref()) {
                        beats.into_iter().for_each(|beat| hub.told(beat));
                    }
                }
            }
            Word::Failed(session, told) => {
                let error = Arc::new(RunError::from(told));
                self.failed
                    .get_or_insert_with(|| (Instant::now(), error.to_string()));
                if let Some(room) = self.rooms.get_mut(&session) {
                    room.fail(&error);
                }
            }
            Word::Gone(session) => self.going.push((Instant::now(), session, rank)),
            Word::Bye => {
                let sessions = self.rooms.keys();
                self.going
                    .extend(sessions.map(|session| (Instant::now(), *session, rank)));
            }
        }
    }

    /// Says that this process is there, now and then.
    fn beat(&mut self) -> Result<(), MpiError> {
        let deadlines = self.rooms.values().filter_map(|room| room.deadline);
        let shortest = deadlines.min().unwrap_or(SILENT);
        if self.leaving || self.beaten.elapsed() < (shortest / 20).clamp(BEATS[0], BEATS[1]) {
            return Ok(());
        }
        self.beaten = Instant::now();
        let beats = |(session, room): (&u32, &Room)| (*session, room.beats());
        let beats = self.rooms.iter().map(beats).collect();
        self.peers.beat(&Word::Beats(beats))
    }
}
