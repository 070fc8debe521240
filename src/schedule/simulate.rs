//! What a lowered schedule takes when F, I, W and the links take given times. The engine's own
//! model, with a clock.

use super::model::{self, Capacity};
use super::wiring::Wiring;
use super::{Action, CheckError, Layout, Link, Lowered, Span, Timeline, Times, Totals};
use crate::ids::{MicroBatchCount, NodeId, SharedId};
use std::collections::BTreeMap;

/// Plays a lowered schedule with these times.
///
/// # Errors
/// When the schedule gets stuck.
pub fn simulate(
    lowered: &Lowered,
    layout: &Layout,
    micro_batches: MicroBatchCount,
    times: &Times,
) -> Result<Timeline, Box<CheckError>> {
    let mut nodes: Vec<Vec<Span>> = lowered
        .nodes
        .iter()
        .map(|row| Vec::with_capacity(row.len()))
        .collect();
    let makespan = play(lowered, layout, micro_batches, times, |node, span| {
        nodes[node.index()].push(span);
    })?;
    Ok(Timeline { nodes, makespan })
}

/// As [`simulate`], without keeping when every action happens: what many or large schedules are
/// compared by.
///
/// # Errors
/// As [`simulate`].
pub fn simulate_totals(
    lowered: &Lowered,
    layout: &Layout,
    micro_batches: MicroBatchCount,
    times: &Times,
) -> Result<Totals, Box<CheckError>> {
    let mut totals = Totals::new(lowered.nodes.len());
    let makespan = play(lowered, layout, micro_batches, times, |node, span| {
        totals.add(node, &span);
    })?;
    totals.makespan = makespan;
    Ok(totals)
}

struct Clocks<'a> {
    layout: &'a Layout,
    wiring: &'a Wiring,
    times: &'a Times,
    now: Vec<f64>,
    /// When each message can be taken.
    arrives: Vec<f64>,
    links: Vec<Link>,
    /// When each link is free again.
    free: Vec<f64>,
    /// When a sum or exchange is over: when the last of its members has come.
    over: BTreeMap<Option<SharedId>, f64>,
}

fn play(
    lowered: &Lowered,
    layout: &Layout,
    micro_batches: MicroBatchCount,
    times: &Times,
    mut on: impl FnMut(NodeId, Span),
) -> Result<f64, Box<CheckError>> {
    let wiring = Wiring::new(layout, micro_batches);
    let slots: Vec<u32> = (0..wiring.lanes())
        .map(|lane| lowered.slots.of(wiring.lane(lane)))
        .collect();
    let mut clocks = Clocks {
        layout,
        wiring: &wiring,
        times,
        now: vec![0.0; lowered.nodes.len()],
        arrives: vec![0.0; wiring.messages()],
        links: links(times, &wiring),
        free: vec![0.0; wiring.links()],
        over: BTreeMap::new(),
    };
    let slots = Capacity::Slots(&slots);
    model::walk(&lowered.nodes, layout, &wiring, slots, |event| {
        let start = clocks.now[event.node.index()];
        let end = clocks.end(event, start);
        clocks.now[event.node.index()] = end;
        let action = event.action;
        on(event.node, Span { action, start, end });
    })?;
    Ok(clocks.now.iter().copied().fold(0.0, f64::max))
}

/// What every link takes, by its number.
fn links(times: &Times, wiring: &Wiring) -> Vec<Link> {
    let mut unequal = BTreeMap::new();
    for (from, to, link) in &times.links.unequal {
        unequal.entry((*from, *to)).or_insert(*link);
    }
    let mut links = vec![times.links.all; wiring.links()];
    for lane in 0..wiring.lanes() {
        if let Some(link) = unequal.get(&wiring.ends(lane)) {
            links[wiring.link(lane)] = *link;
        }
    }
    links
}

impl Clocks<'_> {
    fn end(&mut self, event: model::Event, now: f64) -> f64 {
        match (event.action, event.message) {
            (Action::Compute(compute), _) => now + self.times.of(compute.stage, compute.work),
            (Action::Send(transfer), Some((lane, message))) => {
                let number = self.wiring.link(lane);
                let link = self.links[number];
                let bytes = &self.times.links.message_bytes;
                let bytes = bytes.get(transfer.lane.edge.index()).copied();
                let free = &mut self.free[number];
                *free = free.max(now) + bytes.unwrap_or(0.0) * link.per_byte;
                self.arrives[message] = *free + link.latency;
                now
            }
            (Action::Wait(_), Some((_, message))) => self.arrives[message].max(now),
            (Action::SumShared(shared), _) => {
                let sum = self.layout.sum_of(shared);
                let members = sum.map_or(Vec::new(), |sum| self.layout.members(sum));
                self.all_come(Some(shared), members)
            }
            (Action::Exchange, _) => self.all_come(None, self.layout.nodes().iter()),
            (Action::Step, _) => {
                let step = self.times.step.get(event.node.index());
                now + step.copied().unwrap_or(0.0)
            }
            (Action::Post(_) | Action::Send(_) | Action::Wait(_), _) => now,
        }
    }

    /// The first to pass a sum or exchange is its root, and by then all members have come and wait.
    fn all_come(
        &mut self,
        what: Option<SharedId>,
        members: impl IntoIterator<Item = NodeId>,
    ) -> f64 {
        let now = &self.now;
        let last = || members.into_iter().map(|node| now[node.index()]);
        *self
            .over
            .entry(what)
            .or_insert_with(|| last().fold(0.0, f64::max))
    }
}
