//! Where every node stands, as its own list says: what it does, and whom it waits for.

use super::Hub;
use super::hub::At;
use crate::error::{Doing, Standing, Standings};
use crate::ids::{NodeId, PassId};
use crate::plan::Walk;
use crate::schedule::{Action, Transfer, render_row};
use std::time::Duration;

impl Hub {
    /// Where all nodes stand, for this one; who is silent for nearly the deadline is said to be: a
    /// last sign of life may come after the last progress.
    pub(super) fn standings(&self, from: NodeId, deadline: Duration) -> Standings {
        let walk = self.walk();
        let at = |node| self.at(node);
        let look = Look {
            hub: self,
            walk: walk.as_ref().map(|(pass, walk)| (*pass, &**walk)),
            at: self.layout.nodes().iter().map(at).collect(),
        };
        let nodes = self.layout.nodes().iter();
        let silent = deadline - deadline / 10;
        let standings = nodes.map(|node| look.standing(node, silent));
        Standings::new(from, standings.collect())
    }
}

/// All nodes at one moment.
struct Look<'a> {
    hub: &'a Hub,
    walk: Option<(PassId, &'a Walk)>,
    at: Vec<(Option<PassId>, At)>,
}

impl Look<'_> {
    fn standing(&self, node: NodeId, silent: Duration) -> Standing {
        let (pass, at) = self.at[node.index()];
        let entry = match at {
            At::Entry(entry) => Some(entry),
            At::Rest | At::Begins => None,
        };
        let row = self.row(node).filter(|_| self.is_in_this_pass(node));
        let marked = row.zip(entry).filter(|(row, entry)| *entry < row.len());
        let action = marked.map(|(row, entry)| row[entry]);
        Standing {
            node,
            rank: self.hub.ranks.get(node.index()).copied(),
            pass,
            entry,
            action,
            row: marked.map_or(String::new(), |(row, entry)| render_row(row, entry)),
            doing: match (at, action) {
                (At::Rest, _) => Doing::BetweenPasses,
                (At::Begins, _) => Doing::Begins,
                (At::Entry(_), None) => Doing::InAnotherPass,
                (At::Entry(_), Some(action)) => self.doing(node, action),
            },
            since: self.hub.since(node),
            silent: (self.hub.silence(node)).filter(|silence| *silence >= silent),
            gone: !self.hub.alive(node),
        }
    }

    fn row(&self, node: NodeId) -> Option<&[Action]> {
        let (_, walk) = self.walk?;
        walk.lowered.nodes.get(node.index()).map(Vec::as_slice)
    }

    fn is_in_this_pass(&self, node: NodeId) -> bool {
        let (pass, _) = self.at[node.index()];
        pass.is_some() && pass == self.walk.map(|(pass, _)| pass)
    }

    /// What a node at this action does.
    fn doing(&self, node: NodeId, action: Action) -> Doing {
        let layout = &self.hub.layout;
        match action {
            Action::Wait(transfer) => {
                let from = layout.placement.node_of(transfer.peer);
                let sent = Action::Send(Transfer {
                    stage: transfer.peer,
                    peer: transfer.stage,
                    ..transfer
                });
                self.waits_for(from, sent)
            }
            Action::SumShared(shared) => {
                let sum = layout.sum_of(shared);
                let members = sum.map_or(Vec::new(), |sum| layout.members(sum));
                self.meets(node, action, &members)
            }
            Action::Exchange => {
                self.meets(node, action, &layout.nodes().iter().collect::<Vec<_>>())
            }
            Action::Compute(_) | Action::Send(_) | Action::Post(_) | Action::Step => Doing::Works,
        }
    }

    /// For what another node does with this action.
    fn waits_for(&self, node: NodeId, action: Action) -> Doing {
        match self.has_begun(node, action, 1) {
            true => Doing::Receives { from: node },
            false => Doing::WaitsFor { node, more: 0 },
        }
    }

    /// The first of these nodes waits for all others to bring something, and they for its answer.
    fn meets(&self, node: NodeId, action: Action, members: &[NodeId]) -> Doing {
        match members {
            [root, others @ ..] if *root == node => {
                let missing = others
                    .iter()
                    .filter(|other| !self.has_begun(**other, action, 0));
                let missing: Vec<_> = missing.collect();
                missing
                    .first()
                    .map_or(Doing::Works, |first| Doing::WaitsFor {
                        node: **first,
                        more: missing.len() - 1,
                    })
            }
            [root, ..] => self.waits_for(*root, action),
            [] => Doing::Works,
        }
    }

    /// Whether a node has begun so many entries after this action.
    fn has_begun(&self, node: NodeId, action: Action, after: usize) -> bool {
        let ((pass, at), walked) = (self.at[node.index()], self.walk.map(|(pass, _)| pass));
        if pass != walked {
            return pass > walked;
        }
        let at = match at {
            At::Rest => return true,
            At::Begins => return false,
            At::Entry(at) => at,
        };
        let mut row = self.row(node).unwrap_or_default().iter();
        let index = row.position(|other| *other == action);
        index.is_some_and(|index| at >= index + after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::MiniBatch;
    use crate::ids::{LayerIndex, NodeCount, SharedId, StageId};
    use crate::placement::Placement;
    use crate::plan::PassKind;
    use crate::schedule::{Layout, Schedule, ScheduleKind, SharedSum, Task, lower};
    use std::sync::Arc;
    use std::time::Instant;

    /// Three nodes in pass 4, of which the first and the last share a parameter.
    fn three() -> (Hub, Arc<Walk>) {
        let mut layout = Layout::chain(Placement::straight(NodeCount::new(3)));
        let holder = |number| (LayerIndex::new(number), StageId::new(number));
        layout.shared.push(SharedSum {
            shared: SharedId::new(0),
            holders: vec![holder(0), holder(2)],
        });
        let batch = MiniBatch::new(4, 2);
        let task = Task::new(layout.placement.clone(), batch.micro_batches());
        let definition = ScheduleKind::GPipe.define(&task).unwrap();
        let lowered = lower(&definition, &layout, batch.micro_batches()).unwrap();
        let walk = Arc::new(Walk {
            kind: PassKind::Train,
            batch,
            lowered,
            stash_limits: Vec::new(),
        });
        let hub = Hub::new(&layout, Vec::new());
        for node in layout.nodes().iter() {
            hub.begin(node, PassId::new(4), &walk);
        }
        (hub, walk)
    }

    /// What nodes do that have begun these actions last.
    fn doing(actions: [&str; 3]) -> [Doing; 3] {
        let (hub, walk) = three();
        for (node, action) in actions.iter().enumerate() {
            let node = NodeId::new(node as u32);
            let row = &walk.lowered.nodes[node.index()];
            match *action {
                "begins" => {}
                "rests" => hub.rest(node),
                action => {
                    let at = row.iter().position(|other| other.to_string() == action);
                    hub.progress(node, at.expect(action), Instant::now(), Duration::ZERO);
                }
            }
        }
        let standings = hub.standings(NodeId::new(0), Duration::ZERO);
        let all: Vec<_> = standings.nodes().iter().map(|node| node.doing).collect();
        all.try_into().unwrap()
    }

    fn waits_for(node: u32, more: usize) -> Doing {
        let node = NodeId::new(node);
        Doing::WaitsFor { node, more }
    }

    fn receives(from: u32) -> Doing {
        let from = NodeId::new(from);
        Doing::Receives { from }
    }

    #[test]
    fn a_message_is_waited_for_from_who_has_not_sent_it() {
        use Doing::{Begins, Works};
        let waits = doing(["0WAIT_B0<1@0", "1WAIT_B0<2@1", "2F1"]);
        assert_eq!(waits, [waits_for(1, 0), waits_for(2, 0), Works]);
        let at_sending = doing(["0WAIT_B0<1@0", "1SEND_B0>0@0", "2B1"]);
        assert_eq!(at_sending, [waits_for(1, 0), Works, Works]);
        let sent = doing(["0WAIT_B0<1@0", "1WAIT_B1<2@1", "begins"]);
        assert_eq!(sent, [receives(1), waits_for(2, 0), Begins]);
        assert_eq!(
            doing(["0F0", "1WAIT_F0<0@0", "rests"])[2],
            Doing::BetweenPasses
        );
        assert_eq!(doing(["0F0", "1WAIT_B0<2@1", "rests"])[1], receives(2));
    }

    #[test]
    fn sums_and_the_exchange_wait_for_their_first_node_and_that_for_all_others() {
        use Doing::Works;
        let sum = doing(["SUM#0", "1F0", "2B0"]);
        assert_eq!(sum, [waits_for(2, 0), Works, Works]);
        assert_eq!(doing(["0B0", "1F0", "SUM#0"])[2], waits_for(0, 0));
        // All are there: it adds.
        assert_eq!(
            doing(["SUM#0", "1F0", "SUM#0"]),
            [Works, Works, waits_for(0, 0)]
        );
        let exchange = doing(["EXCHANGE", "1B0", "SUM#0"]);
        assert_eq!(exchange, [waits_for(1, 1), Works, receives(0)]);
        assert_eq!(
            doing(["EXCHANGE", "EXCHANGE", "EXCHANGE"])[..2],
            [Works, waits_for(0, 0)]
        );
        assert_eq!(
            doing(["rests", "EXCHANGE", "STEP"])[1..],
            [receives(0), Works]
        );
    }

    #[test]
    fn where_a_node_is_in_another_pass_is_said_and_what_it_does_there_is_not() {
        let (hub, walk) = three();
        let node = NodeId::new;
        let at = walk.lowered.nodes[1].iter();
        let at = { at }.position(|action| action.to_string() == "1WAIT_B0<2@1");
        hub.progress(node(1), at.unwrap(), Instant::now(), Duration::ZERO);
        let rested = Instant::now();
        hub.rest(node(0));
        // As if it were told of by another process.
        hub.begin(node(2), PassId::new(5), &walk);
        hub.progress(node(2), 3, Instant::now(), Duration::ZERO);
        hub.begin(node(0), PassId::new(4), &walk);
        let standings = hub.standings(node(1), Duration::ZERO);
        let [_, waits, ahead] = standings.nodes() else {
            panic!()
        };
        assert_eq!(waits.doing, receives(2), "the other is a pass ahead");
        assert_eq!(waits.row.matches("[1WAIT_B0<2@1]").count(), 1);
        assert_eq!((ahead.doing, ahead.entry), (Doing::InAnotherPass, Some(3)));
        assert_eq!((ahead.action, ahead.row.as_str()), (None, ""));
        let text = "node 2 is at entry 3 of pass 5 for ";
        assert!(ahead.to_string().starts_with(text), "{ahead}");
        std::thread::sleep(Duration::from_millis(20));
        let later = hub.standings(node(1), Duration::ZERO);
        let since = later.nodes()[0].since;
        assert!(since >= Duration::from_millis(19) && since <= rested.elapsed());
    }
}
