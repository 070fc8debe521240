//! The laws that a row can break by itself: everything once, nothing before what it needs.
//!
//! A stage is on one row, and a message is named after the stage that sends or receives it. So each
//! row is held alone, and what both rows must have is paired.

use super::cell::{Action, Kind};
use super::read::{Entry, Row, Wrong};
use super::{CsvProblem, Dialect, Format};
use crate::schedule::{Direction, Work};

const INPUTS: Kind = Kind::Compute(Work::I);
const WEIGHTS: Kind = Kind::Compute(Work::W);
const FULL: Kind = Kind::Compute(Work::B);

/// What the file has: stages on rows, and micro-batches of each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stages<'a> {
    pub(super) node_of: &'a [usize],
    pub(super) micro_batches: u32,
}

impl Stages<'_> {
    /// The stage that a stage exchanges with: what comes to it, or what goes from it.
    fn peer(&self, stage: u32, direction: Direction, incoming: bool) -> Option<u32> {
        let after = (direction == Direction::Forward) != incoming;
        let peer = match after {
            true => stage + 1,
            false => stage.checked_sub(1)?,
        };
        ((peer as usize) < self.node_of.len()).then_some(peer)
    }

    /// Whether a message is sent at all: there is such a stage, and it is on another row.
    fn crosses(&self, stage: u32, direction: Direction, incoming: bool) -> bool {
        let peer = self.peer(stage, direction, incoming);
        peer.is_some_and(|peer| self.node_of[peer as usize] != self.node_of[stage as usize])
    }
}

/// What was done of a stage and a micro-batch, one bit each.
fn bit(kind: Kind) -> u16 {
    let way = |direction| u16::from(direction == Direction::Backward);
    match kind {
        Kind::Compute(Work::F) => 1 << 0,
        Kind::Compute(Work::I) => 1 << 1,
        Kind::Compute(Work::W) => 1 << 2,
        Kind::Compute(Work::B) => 1 << 3,
        Kind::Send(direction) => 1 << (4 + way(direction)),
        Kind::Receive(direction) => 1 << (6 + way(direction)),
        Kind::WaitSend(direction) => 1 << (8 + way(direction)),
        Kind::Unshard | Kind::Reshard | Kind::Reduce | Kind::WaitReduce => 0,
    }
}

/// What a whole stage went through.
#[derive(Clone, Copy, Debug, Default)]
struct StageState {
    /// Whether its parameters come and go at all in this file.
    sharded: bool,
    here: bool,
    weights: u32,
    reduced: bool,
    waited: bool,
}

struct Walk<'a> {
    stages: Stages<'a>,
    format: Format,
    dialect: Dialect,
    /// Whether sends, and reductions, have waits in this file.
    sends_wait: bool,
    sums_wait: bool,
    reduces: bool,
    done: Vec<u16>,
    states: Vec<StageState>,
    /// The stage whose reduction is under way on the row.
    reducing: Option<u32>,
}

/// Holds every row against the laws.
pub(super) fn verify(
    rows: &[Row],
    stages: Stages<'_>,
    format: Format,
    dialect: Dialect,
) -> Result<(), Wrong> {
    let cells = stages.node_of.len() * stages.micro_batches as usize;
    let mut walk = Walk {
        stages,
        format,
        dialect,
        sends_wait: false,
        sums_wait: false,
        reduces: false,
        done: vec![0; cells],
        states: vec![StageState::default(); stages.node_of.len()],
        reducing: None,
    };
    for Entry { action, .. } in rows.iter().flat_map(|row| &row.entries) {
        match action.kind {
            Kind::WaitSend(_) => walk.sends_wait = true,
            Kind::WaitReduce => walk.sums_wait = true,
            Kind::Reduce => walk.reduces = true,
            Kind::Unshard | Kind::Reshard => walk.states[action.stage as usize].sharded = true,
            Kind::Compute(_) | Kind::Send(_) | Kind::Receive(_) => {}
        }
    }
    for (row, number) in rows.iter().zip(1..) {
        walk.reducing = None;
        for Entry { column, action, .. } in &row.entries {
            let wrong = |problem| (number, *column as usize, problem);
            walk.step(*action).map_err(wrong)?;
        }
    }
    let ends = (0..).zip(stages.node_of);
    for (stage, node) in ends {
        let missing = walk.missing(stage);
        if let Some(missing) = missing {
            let problem = CsvProblem::Missing(missing);
            return Err((node + 1, rows[*node].end, problem));
        }
    }
    Ok(())
}

impl Walk<'_> {
    fn at(&self, stage: u32, micro_batch: u32) -> Option<usize> {
        let all = self.stages.micro_batches;
        (micro_batch < all).then(|| stage as usize * all as usize + micro_batch as usize)
    }

    fn has(&self, stage: u32, kind: Kind, micro_batch: u32) -> bool {
        let done = self.at(stage, micro_batch).map_or(0, |at| self.done[at]);
        done & bit(kind) != 0
    }

    fn text(&self, stage: u32, kind: Kind, micro_batch: u32) -> String {
        Action::new(stage, kind, micro_batch).text(self.dialect)
    }

    fn needs(&self, stage: u32, kind: Kind, micro_batch: u32) -> Result<(), CsvProblem> {
        match self.has(stage, kind, micro_batch) {
            true => Ok(()),
            false => Err(CsvProblem::Needs(self.text(stage, kind, micro_batch))),
        }
    }

    fn step(&mut self, action: Action) -> Result<(), CsvProblem> {
        let Action {
            stage,
            kind,
            micro_batch: m,
        } = action;
        if self.has(stage, kind, m) {
            return Err(CsvProblem::Twice);
        }
        let (forward, backward) = (Direction::Forward, Direction::Backward);
        match kind {
            Kind::Compute(work) => {
                self.is_here(stage)?;
                match work {
                    Work::F => self.received(stage, forward, m)?,
                    Work::I | Work::B => {
                        let others = [INPUTS, WEIGHTS, FULL];
                        if others.into_iter().any(|kind| self.has(stage, kind, m)) {
                            return Err(CsvProblem::Twice);
                        }
                        self.needs(stage, Kind::Compute(Work::F), m)?;
                        self.received(stage, backward, m)?;
                    }
                    Work::W if self.has(stage, FULL, m) => return Err(CsvProblem::AfterFull),
                    Work::W => self.needs(stage, INPUTS, m)?,
                }
            }
            Kind::Send(direction) => {
                self.crosses(stage, direction, false)?;
                match direction {
                    Direction::Forward => self.needs(stage, Kind::Compute(Work::F), m)?,
                    Direction::Backward => self.needs_gradient(stage, m)?,
                }
            }
            Kind::Receive(direction) => {
                self.crosses(stage, direction, true)?;
                if self.at(stage, m).is_none() {
                    let compute = self.text(stage, Kind::Compute(Work::F), m);
                    return Err(CsvProblem::NoSuchMicroBatch(compute));
                }
            }
            Kind::WaitSend(direction) => self.needs(stage, Kind::Send(direction), m)?,
            Kind::Unshard | Kind::Reshard | Kind::Reduce | Kind::WaitReduce => {
                self.of_stage(stage, kind)?;
            }
        }
        if let Some(at) = self.at(stage, m) {
            self.done[at] |= bit(kind);
        }
        self.states[stage as usize].weights += u32::from(kind.adds_gradients());
        Ok(())
    }

    /// Parameters, if the file lets them come and go.
    fn is_here(&self, stage: u32) -> Result<(), CsvProblem> {
        let state = self.states[stage as usize];
        match state.here || !state.sharded {
            true => Ok(()),
            false => Err(CsvProblem::Needs(self.text(stage, Kind::Unshard, 0))),
        }
    }

    /// What a stage works on: of the stage before or after, or received from it.
    fn received(&self, stage: u32, way: Direction, m: u32) -> Result<(), CsvProblem> {
        let Some(peer) = self.stages.peer(stage, way, true) else {
            return Ok(());
        };
        if self.stages.crosses(stage, way, true) {
            return match self.format {
                Format::ComputeComms => self.needs(stage, Kind::Receive(way), m),
                Format::ComputeOnly => Ok(()),
            };
        }
        match way {
            Direction::Forward => self.needs(peer, Kind::Compute(Work::F), m),
            Direction::Backward => self.needs_gradient(peer, m),
        }
    }

    fn needs_gradient(&self, stage: u32, m: u32) -> Result<(), CsvProblem> {
        match self.has(stage, FULL, m) {
            true => Ok(()),
            false => self.needs(stage, INPUTS, m),
        }
    }

    fn crosses(&self, stage: u32, way: Direction, incoming: bool) -> Result<(), CsvProblem> {
        let peer = self.stages.peer(stage, way, incoming);
        let peer = peer.ok_or(CsvProblem::NoPeer)?;
        match self.stages.crosses(stage, way, incoming) {
            true => Ok(()),
            false => Err(CsvProblem::SameRow(stage.min(peer), stage.max(peer))),
        }
    }

    fn of_stage(&mut self, stage: u32, kind: Kind) -> Result<(), CsvProblem> {
        let needs = |kind| Err(CsvProblem::Needs(self.text(stage, kind, 0)));
        let state = self.states[stage as usize];
        match kind {
            Kind::Unshard if state.here => return Err(CsvProblem::Twice),
            Kind::Reshard if !state.here => return needs(Kind::Unshard),
            Kind::Reduce if state.reduced => return Err(CsvProblem::Twice),
            Kind::Reduce if state.weights < self.stages.micro_batches => {
                let left = self.backward_missing(stage);
                return Err(CsvProblem::Needs(left.unwrap_or_default()));
            }
            Kind::WaitReduce if state.waited => return Err(CsvProblem::Twice),
            Kind::WaitReduce if !state.reduced => return needs(Kind::Reduce),
            _ => {}
        }
        // One at a time, as PyTorch wants it.
        match (kind, self.reducing) {
            (Kind::Reduce, Some(other)) if self.sums_wait => {
                let wait = self.text(other, Kind::WaitReduce, 0);
                return Err(CsvProblem::Needs(wait));
            }
            (Kind::Reduce, _) => self.reducing = Some(stage),
            (Kind::WaitReduce, _) => self.reducing = None,
            _ => {}
        }
        let state = &mut self.states[stage as usize];
        match kind {
            Kind::Unshard => state.here = true,
            Kind::Reshard => state.here = false,
            Kind::Reduce => state.reduced = true,
            _ => state.waited = true,
        }
        Ok(())
    }

    /// The first backward that a stage did not do, or only half.
    fn backward_missing(&self, stage: u32) -> Option<String> {
        let missing = |m| {
            let has = |kind| self.has(stage, kind, m);
            match (has(FULL) || has(WEIGHTS), has(INPUTS)) {
                (true, _) => None,
                (false, true) => Some(WEIGHTS),
                (false, false) => Some(FULL),
            }
        };
        (0..self.stages.micro_batches)
            .find_map(|m| missing(m).map(|kind| self.text(stage, kind, m)))
    }

    /// What a stage did not do although its row is over.
    fn missing(&self, stage: u32) -> Option<String> {
        if let Some(backward) = self.backward_missing(stage) {
            return Some(backward);
        }
        if self.format == Format::ComputeOnly {
            return None;
        }
        for direction in [Direction::Forward, Direction::Backward] {
            if !self.stages.crosses(stage, direction, false) {
                continue;
            }
            for m in 0..self.stages.micro_batches {
                let sent = [Kind::Send(direction), Kind::WaitSend(direction)];
                let expected = if self.sends_wait {
                    &sent[..]
                } else {
                    &sent[..1]
                };
                let missing = expected.iter().find(|kind| !self.has(stage, **kind, m));
                if let Some(kind) = missing {
                    return Some(self.text(stage, *kind, m));
                }
            }
        }
        let state = self.states[stage as usize];
        match state {
            _ if self.reduces && !state.reduced => Some(self.text(stage, Kind::Reduce, 0)),
            _ if self.sums_wait && !state.waited => Some(self.text(stage, Kind::WaitReduce, 0)),
            _ => None,
        }
    }
}
