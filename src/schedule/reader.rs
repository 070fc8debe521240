//! The part of the check that reads the nodes' lists one by one, and holds the laws that need no
//! clock.

use super::lower::parts;
use super::stash::{Kept, StashLimit, row_peak};
use super::wiring::Wiring;
use super::{Action, CheckError, Compute, Layout, Lowered, Problem, Transfer, Work};
use crate::ids::{MicroBatchCount, MicroBatchId, NodeId, StageId};

const POSTED: u8 = 1;
const WAITED: u8 = 2;
const SENT: u8 = 4;

/// What has been read so far.
pub(super) struct Records<'a> {
    lowered: &'a Lowered,
    layout: &'a Layout,
    wiring: &'a Wiring,
    micro_batches: MicroBatchCount,
    slots: &'a [u32],
    stash_limit: Option<StashLimit>,
    trains: bool,
    /// F, I, W of every stage and micro-batch, as bits.
    done: Vec<u8>,
    /// What was done with every message, as bits.
    messages: Vec<u8>,
    open_posts: Vec<u32>,
    next_weight: Vec<u32>,
}

/// Of the node whose list is being read.
struct Own {
    node: NodeId,
    kept: Kept,
    /// Sums, exchange and step, as they came.
    ends: Vec<Action>,
}

impl<'a> Records<'a> {
    pub(super) fn new(
        lowered: &'a Lowered,
        layout: &'a Layout,
        wiring: &'a Wiring,
        micro_batches: MicroBatchCount,
        slots: &'a [u32],
        stash_limit: Option<StashLimit>,
    ) -> Self {
        let stages = layout.placement.stages().index();
        let mut all = lowered.nodes.iter().flat_map(|row| row.iter().rev());
        Self {
            lowered,
            layout,
            wiring,
            micro_batches,
            slots,
            stash_limit,
            trains: all.any(|action| *action == Action::Step),
            done: vec![0; stages * micro_batches.index()],
            messages: vec![0; wiring.messages()],
            open_posts: vec![0; wiring.lanes()],
            next_weight: vec![0; stages],
        }
    }

    /// Reads a node's list.
    pub(super) fn read(&mut self, node: NodeId) -> Result<(), Box<CheckError>> {
        let row = &self.lowered.nodes[node.index()];
        let freed = self.stash_limit.map_or(0.0, |limit| limit.freed_at_input);
        let stages = self.layout.placement.stages_on(node).len();
        let mut own = Own {
            node,
            kept: Kept::new(stages, freed),
            ends: Vec::new(),
        };
        for (index, action) in row.iter().enumerate() {
            let done = self.action(&mut own, action);
            done.map_err(|mut problem| {
                // Where it becomes too much is shown; how much it becomes is what helps.
                if let Problem::StashFull { kept, .. } = &mut problem {
                    *kept = row_peak(row, stages, freed);
                }
                self.error(node, index, problem)
            })?;
        }
        self.ended(&own)
            .map_err(|problem| self.error(node, row.len(), problem))
    }

    /// Every message that was sent or made ready for has been waited for, and was sent.
    pub(super) fn all_received(&self) -> Result<(), Box<CheckError>> {
        let in_vain = |seen: &u8| seen & WAITED != 0 && seen & SENT == 0;
        if let Some(message) = self.messages.iter().position(in_vain) {
            let (lane, micro_batch) = self.wiring.of_message(message);
            let (from, _) = self.wiring.ends(lane);
            let send = Action::Send(self.wiring.outgoing(lane as u32, micro_batch));
            let end = self.lowered.nodes[from.index()].len();
            return Err(self.error(from, end, Problem::Missing(send)));
        }
        let lost = |seen: &u8| *seen != 0 && seen & WAITED == 0;
        let Some(lost) = self.messages.iter().position(lost) else {
            return Ok(());
        };
        let (lane, micro_batch) = self.wiring.of_message(lost);
        let (from, to) = self.wiring.ends(lane);
        let (node, action) = match self.messages[lost] & SENT != 0 {
            true => (
                from,
                Action::Send(self.wiring.outgoing(lane as u32, micro_batch)),
            ),
            false => (
                to,
                Action::Post(self.wiring.incoming(lane as u32, micro_batch)),
            ),
        };
        let row = &self.lowered.nodes[node.index()];
        let index = row.iter().position(|other| *other == action);
        let index = index.unwrap_or(row.len());
        Err(self.error(node, index, Problem::NeverReceived))
    }

    fn error(&self, node: NodeId, index: usize, problem: Problem) -> Box<CheckError> {
        CheckError::new(&self.lowered.nodes, node, index, problem)
    }

    fn action(&mut self, own: &mut Own, action: &Action) -> Result<(), Problem> {
        if let Some(stage) = action.stage() {
            let known = stage < StageId::new(self.layout.placement.stages().get());
            let inside = action
                .micro_batch()
                .is_none_or(|m| m.index() < self.micro_batches.index());
            if !known || !inside {
                return Err(Problem::OutOfRange);
            }
            let owner = self.layout.placement.node_of(stage);
            if owner != own.node {
                return Err(Problem::WrongNode(owner));
            }
            if let Some(last) = own.ends.last() {
                return Err(Problem::TooEarly(*last));
            }
        }
        match *action {
            Action::Compute(compute) => self.compute(own, compute),
            Action::Post(transfer) => self.post(transfer),
            Action::Wait(transfer) => {
                let (lane, message) = self.incoming(transfer)?;
                let seen = &mut self.messages[message];
                if *seen & POSTED == 0 {
                    return Err(Problem::TooEarly(Action::Post(transfer)));
                }
                self.open_posts[lane] = self.open_posts[lane].saturating_sub(1);
                once(seen, WAITED)
            }
            Action::Send(transfer) => self.send(transfer),
            Action::SumShared(_) | Action::Exchange | Action::Step => {
                if own.ends.is_empty() {
                    self.all_computed(own.node)?;
                }
                if own.ends.contains(action) {
                    return Err(Problem::Twice);
                }
                own.ends.push(*action);
                Ok(())
            }
        }
    }

    /// Lane and message, if it is exactly what the wiring says.
    fn incoming(&self, transfer: Transfer) -> Result<(usize, usize), Problem> {
        self.known(transfer, Wiring::incoming)
    }

    fn known(
        &self,
        transfer: Transfer,
        meant: impl Fn(&Wiring, u32, MicroBatchId) -> Transfer,
    ) -> Result<(usize, usize), Problem> {
        let lane = self.wiring.number(transfer.lane);
        let lane =
            lane.filter(|lane| meant(self.wiring, *lane as u32, transfer.micro_batch) == transfer);
        let message =
            lane.and_then(|lane| Some((lane, self.wiring.message(lane, transfer.micro_batch)?)));
        message.ok_or(Problem::UnknownMessage)
    }

    fn post(&mut self, transfer: Transfer) -> Result<(), Problem> {
        let (lane, message) = self.incoming(transfer)?;
        once(&mut self.messages[message], POSTED)?;
        let slots = self.slots[lane];
        self.open_posts[lane] += 1;
        match slots > 0 && self.open_posts[lane] > slots {
            true => Err(Problem::NoFreeSlot(slots)),
            false => Ok(()),
        }
    }

    fn send(&mut self, transfer: Transfer) -> Result<(), Problem> {
        let (lane, message) = self.known(transfer, Wiring::outgoing)?;
        let makers =
            [Work::F, Work::I].map(|work| Compute::new(transfer.stage, work, transfer.micro_batch));
        let sends = |compute: &&Compute| self.wiring.sends(**compute).contains(&(lane as u32));
        let maker = makers.iter().find(sends);
        let maker = maker.ok_or(Problem::UnknownMessage)?;
        if !self.did(*maker) {
            return Err(Problem::TooEarly((*maker).into()));
        }
        once(&mut self.messages[message], SENT)
    }

    fn place(&self, compute: Compute) -> usize {
        compute.stage.index() * self.micro_batches.index() + compute.micro_batch.index()
    }

    /// Whether any part of it was done.
    fn did(&self, compute: Compute) -> bool {
        self.done[self.place(compute)] & parts(compute.work) != 0
    }

    fn compute(&mut self, own: &mut Own, compute: Compute) -> Result<(), Problem> {
        let Compute {
            stage,
            work,
            micro_batch,
        } = compute;
        if self.did(compute) {
            return Err(Problem::Twice);
        }
        let before = match work {
            Work::F => None,
            Work::I | Work::B => Some(Work::F),
            Work::W => Some(Work::I),
        };
        let before = before.map(|work| Compute::new(stage, work, micro_batch));
        if let Some(before) = before.filter(|before| !self.did(*before)) {
            return Err(Problem::TooEarly(before.into()));
        }
        self.has_inputs(compute)?;
        if matches!(work, Work::W | Work::B) {
            let next = &mut self.next_weight[stage.index()];
            if *next != micro_batch.get() {
                let first = Compute::new(stage, Work::W, MicroBatchId::new(*next));
                return Err(Problem::WeightsOutOfOrder(first));
            }
            *next += 1;
        }
        if self.trains {
            let kept = own.kept.after(work);
            if let Some(limit) = self.stash_limit.filter(|limit| limit.exceeded_by(kept)) {
                let most = limit.most;
                return Err(Problem::StashFull { kept, most });
            }
        }
        let place = self.place(compute);
        self.done[place] |= parts(work);
        Ok(())
    }

    /// Everything that comes from other stages: waited for when it crosses, computed before when it
    /// does not.
    fn has_inputs(&self, compute: Compute) -> Result<(), Problem> {
        for &lane in self.wiring.waits(compute) {
            let message = self.wiring.message(lane as usize, compute.micro_batch);
            if message.is_none_or(|message| self.messages[message] & WAITED == 0) {
                let wait = self.wiring.incoming(lane, compute.micro_batch);
                return Err(Problem::TooEarly(Action::Wait(wait)));
            }
        }
        let from_work = match compute.work {
            Work::F => Work::F,
            Work::I | Work::B => Work::I,
            Work::W => return Ok(()),
        };
        for &stage in self.wiring.local(compute) {
            let from = Compute::new(stage, from_work, compute.micro_batch);
            if !self.did(from) {
                return Err(Problem::TooEarly(from.into()));
            }
        }
        Ok(())
    }

    fn all_computed(&self, node: NodeId) -> Result<(), Problem> {
        let works: &[Work] = if self.trains {
            &[Work::F, Work::I, Work::W]
        } else {
            &[Work::F]
        };
        for stage in self.layout.placement.stages_on(node) {
            for micro_batch in self.micro_batches.iter() {
                for work in works {
                    let compute = Compute::new(stage, *work, micro_batch);
                    if !self.did(compute) {
                        return Err(Problem::Missing(compute.into()));
                    }
                }
            }
        }
        Ok(())
    }

    /// The list ends with exactly the sums in order, the exchange, and when training the step.
    fn ended(&self, own: &Own) -> Result<(), Problem> {
        let member = |sum: &&_| self.trains && self.layout.members(sum).contains(&own.node);
        let sums = self.layout.shared.iter().filter(member);
        let sums = sums.map(|sum| Action::SumShared(sum.shared));
        let wanted: Vec<_> = sums
            .chain([Action::Exchange])
            .chain(self.trains.then_some(Action::Step))
            .collect();
        for at in 0..wanted.len().max(own.ends.len()) {
            match (wanted.get(at), own.ends.get(at)) {
                (Some(wanted), Some(found)) if wanted == found => {}
                (Some(wanted), _) => return Err(Problem::Missing(*wanted)),
                (None, _) => return Err(Problem::UnknownShared),
            }
        }
        self.all_computed(own.node)
    }
}

fn once(seen: &mut u8, what: u8) -> Result<(), Problem> {
    if *seen & what != 0 {
        return Err(Problem::Twice);
    }
    *seen |= what;
    Ok(())
}
