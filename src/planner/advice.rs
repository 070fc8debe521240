//! What would have to change for a network to fit.

use super::{Candidate, Found, NodeSpec, Planner, Space};
use crate::config::Recompute;
use crate::schedule::ScheduleKind;

/// With so many more nodes it is tried, one more at a time; then with twice as many, and so on.
const MORE_NODES: usize = 4;
const DOUBLINGS: usize = 6;

impl Planner<'_> {
    /// The smallest change of every kind that would do.
    pub(super) fn advice(&self, found: &Found) -> Vec<String> {
        let all = || std::iter::once(&found.best.candidate).chain(&found.others);
        let mut advice = Vec::new();
        let recomputed = Space {
            recompute: vec![Recompute::Always],
            ..self.few()
        };
        if !self.space.recompute_where_needed && self.fits_in(&recomputed) {
            advice.push("recompute (--recompute auto)".to_owned());
        }
        if let Some(rows) = self.smaller() {
            advice.push(format!(
                "micro-batches of {rows} (--micro-batch-size {rows})"
            ));
        }
        if let Some(nodes) = self.more_nodes() {
            advice.push(format!("{nodes} nodes instead of {}", self.nodes.len()));
        }
        if let Some(least) = all().min_by_key(|candidate| candidate.lacking_bytes) {
            let Candidate { lacking_bytes, .. } = least;
            let (most, words) = (least.peak_bytes.iter().max().unwrap_or(&0), least.words());
            advice.push(format!(
                "{lacking_bytes} bytes more on the node that lacks most (at most {most} a node, with {words})"
            ));
        }
        advice
    }

    /// The schedules that keep least, and the one that was asked for.
    fn few(&self) -> Space {
        let few = [
            ScheduleKind::OneFOneB,
            ScheduleKind::ZbH1,
            ScheduleKind::VMin,
        ];
        let schedules = match self.space.schedules.len() {
            1 => self.space.schedules.clone(),
            _ => few.to_vec(),
        };
        Space {
            schedules,
            ..self.space.clone()
        }
    }

    fn fits_in(&self, space: &Space) -> bool {
        let planner = self.clone().space(space.clone());
        planner
            .search()
            .is_ok_and(|found| found.best.candidate.fits())
    }

    fn smaller(&self) -> Option<usize> {
        let least = self.space.micro_batch_sizes.iter().min().copied()?;
        let mut rows = least / 2;
        while rows > 0 {
            let space = Space {
                micro_batch_sizes: vec![rows],
                ..self.few()
            };
            if self.fits_in(&space) {
                return Some(rows);
            }
            rows /= 2;
        }
        None
    }

    /// More nodes like the last one.
    fn more_nodes(&self) -> Option<usize> {
        let now = self.nodes.len();
        let few = (1..=MORE_NODES).map(|more| now + more);
        let many = (1..=DOUBLINGS).map(|times| now << times);
        let most = self.network.layers().len();
        let mut counts: Vec<usize> = few.chain(many).filter(|count| *count <= most).collect();
        counts.sort_unstable();
        let mut planner = self.clone().space(self.few());
        counts.into_iter().find(|count| {
            let last = planner.nodes[planner.nodes.len() - 1].clone();
            let mut nodes = self.nodes.clone();
            while nodes.len() < *count {
                let name = format!("node {}", nodes.len());
                nodes.push(NodeSpec {
                    name,
                    ..last.clone()
                });
            }
            planner = planner.clone().nodes(nodes);
            planner
                .search()
                .is_ok_and(|found| found.best.candidate.fits())
        })
    }
}
