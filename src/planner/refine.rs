//! The best few once more: of cuts with the same bottleneck some wait less than others.

use super::costs::Staging;
use super::search::{Combination, Tried, again};
use super::{Found, Planner};
use crate::config::Config;
use crate::error::PlanError;
use crate::partition::{Cuts, Partition};
use crate::schedule::Schedule;

/// So many of the best are refined.
const REFINED: usize = 3;
/// Lists of more actions are not: it would take too long.
const MOST_ACTIONS: usize = 20_000;
/// So many cuts are moved at most, in all; fewer where lists are long: so many actions are played.
const MOVES: usize = 200;
const PLAYED: usize = 300_000;
/// What takes so much longer than the best will not become it.
const NEAR: f64 = 1.05;

impl Planner<'_> {
    pub(super) fn refine(&self, found: &mut Found) -> Result<(), PlanError> {
        let actions: usize = found
            .best
            .plan
            .training
            .lowered
            .nodes
            .iter()
            .map(Vec::len)
            .sum();
        let free = matches!(self.config.cuts, Cuts::Balanced);
        if !free || actions > MOST_ACTIONS || !found.best.candidate.fits() {
            return Ok(());
        }
        let most = NEAR * found.best.candidate.step_time;
        let near = |other: &&super::Candidate| other.fits() && other.step_time <= most;
        let others = found.others.iter().filter(near).take(REFINED - 1);
        let chosen: Vec<_> = [found.best.candidate.clone()]
            .into_iter()
            .chain(others.cloned())
            .collect();
        let mut moves = MOVES.min(PLAYED / actions.max(1));
        for candidate in chosen {
            let refined = self.refined(&candidate, &mut moves)?;
            let Some(refined) = refined else { continue };
            if candidate == found.best.candidate {
                found.best = refined;
                continue;
            }
            found.others.retain(|other| *other != candidate);
            found.add(refined);
        }
        found.others.sort_by(|a, b| a.order().total_cmp(&b.order()));
        Ok(())
    }

    /// Moves cuts as long as a step becomes shorter and the bottleneck no worse.
    fn refined(
        &self,
        from: &super::Candidate,
        moves: &mut usize,
    ) -> Result<Option<Tried>, PlanError> {
        let of = Combination {
            schedule: from.schedule,
            chunks: Some(from.chunks),
            micro_batch_size: from.micro_batch_size,
            recompute: from.recompute.clone(),
        };
        let mut best: Option<Tried> = None;
        let mut cuts = from.cuts.clone();
        let mut shortest = from.step_time;
        let mut moved = true;
        while moved {
            moved = false;
            for at in 0..cuts.len() {
                for forward in [true, false] {
                    if *moves == 0 {
                        return Ok(best);
                    }
                    let mut other = cuts.clone();
                    other[at] = if forward { cuts[at] + 1 } else { cuts[at] - 1 };
                    let proven = from.proven;
                    let Some(tried) = self.with_cuts(&of, &other, proven)? else {
                        continue;
                    };
                    *moves -= 1;
                    let found = &tried.candidate;
                    let no_worse = found.fits() && found.bottleneck <= from.bottleneck;
                    if no_worse && found.step_time < shortest * (1.0 - 1e-6) {
                        shortest = found.step_time;
                        (cuts, moved) = (other, true);
                        best = Some(tried);
                    }
                }
            }
        }
        Ok(best)
    }

    /// With these cuts, if they are any.
    fn with_cuts(
        &self,
        of: &Combination,
        cuts: &[usize],
        proven: bool,
    ) -> Result<Option<Tried>, PlanError> {
        let config: Config = self.config_of(of);
        let placement = of.schedule.place(config.node_count(), of.chunks)?;
        let layers = vec![1; self.network.layers().len()];
        let cuts = Cuts::Before(cuts.to_vec());
        let Ok(partition) = Partition::new(&layers, placement.stages(), &cuts) else {
            return Ok(None);
        };
        let size = self.size(of.micro_batch_size)?;
        let costs = self.layer_costs(&size, &of.recompute);
        let lists = self.lists(of, &placement)?;
        let again = again(&of.recompute, lists.as_ref(), placement.stages().index());
        let staging = Staging {
            layers: &costs,
            placement: &placement,
            nodes: &self.nodes,
            cut_cost: self.cut_cost,
            keeps: &Vec::new(),
            again: &again,
            limits: Vec::new(),
            too_much: Vec::new(),
        };
        let tried = self.predicted(of, &size, &staging, (partition, proven))?;
        Ok(Some(tried))
    }
}
