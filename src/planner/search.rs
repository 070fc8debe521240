//! One combination of schedule, stages a node, micro-batch and recomputation: where to cut, what
//! comes out, and what to do when it does not fit.

use super::costs::{Keeps, LayerCosts, Staging, keeps};
use super::{Candidate, Planner};
use crate::config::{Config, Recompute};
use crate::error::PlanError;
use crate::ids::{LayerIndex, NodeId};
use crate::partition::{CutCost, Cuts, Partition, StageCosts, optimum};
use crate::placement::Placement;
use crate::plan::{Plan, directly_backward};
use crate::profile::SizeProfile;
use crate::schedule::{
    Layout, Links, Lowered, Measured, Schedule, ScheduleKind, Task, Times, lower, simulate_totals,
};
use std::ops::Range;

/// So often cuts are tried again, where what was counted was too little; less often where lists are
/// long: so many actions are played.
const ROUNDS: [usize; 2] = [4, 50];
const PLAYED: usize = 2_000_000;
/// Links between more nodes than these are not all told apart.
const MOST_PAIRED: usize = 64;

/// What is tried.
#[derive(Clone, Debug)]
pub(super) struct Combination {
    pub(super) schedule: ScheduleKind,
    pub(super) chunks: Option<usize>,
    pub(super) micro_batch_size: usize,
    pub(super) recompute: Recompute,
}

/// A combination, cut.
pub(super) struct Tried {
    pub(super) candidate: Candidate,
    pub(super) plan: Plan,
    pub(super) times: Times,
}

impl Planner<'_> {
    /// Cuts, orders, predicts.
    ///
    /// # Errors
    /// When the combination is not legal.
    pub(super) fn tried(&self, of: &Combination) -> Result<Tried, PlanError> {
        let config = self.config_of(of);
        config.validate()?;
        let size = self.size(of.micro_batch_size)?;
        let placement = of.schedule.place(config.node_count(), of.chunks)?;
        let layers = self.network.layers().len();
        if placement.stages().index() > layers {
            let stages = placement.stages();
            return Err(PlanError::TooManyStages { stages, layers });
        }
        let costs = self.layer_costs(&size, &of.recompute);
        let lists = self.lists(of, &placement)?;
        let again = again(&of.recompute, lists.as_ref(), placement.stages().index());
        let (limits, keeps) = self.limits(lists.as_ref(), &placement, &size);
        let mut staging = Staging {
            layers: &costs,
            placement: &placement,
            nodes: &self.nodes,
            cut_cost: self.cut_cost,
            keeps: &keeps,
            again: &again,
            limits,
            too_much: Vec::new(),
        };
        let micro_batches = config.mini_batch().micro_batches().index();
        let actions = 6 * placement.stages().index() * micro_batches;
        let rounds = (PLAYED / actions.max(1)).clamp(ROUNDS[0], ROUNDS[1]);
        let mut best: Option<Tried> = None;
        for _ in 0..rounds {
            let Some(found) = self.partition(&staging)? else {
                break;
            };
            let tried = self.predicted(of, &size, &staging, found)?;
            let fits = tried.candidate.fits();
            self.learn(&mut staging, &tried.plan);
            let key = |of: &Candidate| (of.lacking_bytes, of.step_time);
            if (best.as_ref()).is_none_or(|best| key(&tried.candidate) < key(&best.candidate)) {
                best = Some(tried);
            }
            if fits || !matches!(self.config.cuts, Cuts::Balanced) {
                break;
            }
        }
        if let Some(best) = best {
            return Ok(best);
        }
        // Nothing is small enough: what the best cuts without limits would need is said.
        (staging.limits, staging.too_much) = (Vec::new(), Vec::new());
        let stages = placement.stages();
        let found = self.partition(&staging)?;
        let found = found.ok_or(PlanError::TooManyStages { stages, layers })?;
        self.predicted(of, &size, &staging, found)
    }

    /// The configuration that trains a combination, but for its cuts.
    pub(super) fn config_of(&self, of: &Combination) -> Config {
        Config {
            schedule: of.schedule,
            chunks: of.chunks,
            micro_batch_size: of.micro_batch_size,
            recompute: of.recompute.clone(),
            ..self.config.clone()
        }
    }

    pub(super) fn layer_costs(&self, size: &SizeProfile, recompute: &Recompute) -> LayerCosts {
        let states = self.optimizer.state_names().len();
        let again = |layer: usize| match recompute {
            Recompute::Layers(ranges) => ranges.iter().any(|range| range.contains(&layer)),
            _ => false,
        };
        let crossing = self.crossings.at(self.network, size, self.config.wire);
        LayerCosts::new(self.network, size, states, crossing, &again)
    }

    /// The lists of a combination, whatever the cuts; none where they depend on costs.
    pub(super) fn lists(
        &self,
        of: &Combination,
        placement: &Placement,
    ) -> Result<Option<Lowered>, PlanError> {
        let limited = placement
            .nodes()
            .iter()
            .any(|node| self.config.limit_of(node).is_some());
        let wanted = limited || of.recompute == Recompute::ExceptLast;
        if of.schedule.uses_costs() || !wanted {
            return Ok(None);
        }
        let micro_batches = self.config_of(of).mini_batch().micro_batches();
        let layout = Layout::chain(placement.clone());
        let task = Task::new(placement.clone(), micro_batches);
        let lists = lower(&of.schedule.define(&task)?, &layout, micro_batches)?;
        Ok(Some(lists))
    }

    /// What nodes may hold, and what their stages keep: nothing is counted where nobody sets a
    /// limit.
    fn limits(
        &self,
        lists: Option<&Lowered>,
        placement: &Placement,
        size: &SizeProfile,
    ) -> (Vec<f64>, Keeps) {
        let nodes = || placement.nodes().iter();
        let limit = |node| self.config.limit_of(node);
        if nodes().all(|node| limit(node).is_none()) {
            return (Vec::new(), Vec::new());
        }
        let limits = nodes().map(|node| limit(node).map_or(f64::INFINITY, |most| most as f64));
        let limits = limits.collect();
        // What is built from costs keeps what it may: at least as much as 1F1B's last stage.
        let Some(lists) = lists else {
            return (limits, vec![[1.0, 0.0]; placement.stages().index()]);
        };
        let sum = |part: fn(&crate::profile::LayerProfile) -> u64| -> u64 {
            size.layers.iter().map(part).sum()
        };
        let (stash, kept) = (
            sum(|layer| layer.stash_bytes),
            sum(|layer| layer.kept_bytes),
        );
        let freed = 1.0 - kept as f64 / stash.max(1) as f64;
        (limits, keeps(lists, placement, freed))
    }

    fn partition(&self, staging: &Staging<'_>) -> Result<Option<(Partition, bool)>, PlanError> {
        if let Cuts::Balanced = self.config.cuts {
            let found = optimum(staging);
            return Ok(found.ok().map(|found| (found.partition, found.proven)));
        }
        let costs = vec![1; self.network.layers().len()];
        let stages = staging.placement.stages();
        let partition = Partition::new(&costs, stages, &self.config.cuts)?;
        Ok(Some((partition, true)))
    }

    /// Ordered and simulated.
    pub(super) fn predicted(
        &self,
        of: &Combination,
        size: &SizeProfile,
        staging: &Staging<'_>,
        (partition, proven): (Partition, bool),
    ) -> Result<Tried, PlanError> {
        let cuts = Cuts::Before(partition.cuts());
        let config = Config {
            cuts,
            ..self.config_of(of)
        };
        let links = self.links(staging.placement, size);
        // Which layers are recomputed is known when there is an order; the order may depend on it.
        let mut times = self.times(size, &partition, staging, &|_| false);
        times.links = links;
        let told = Measured {
            schedule: of.schedule,
            times: times.clone(),
        };
        let plan = Plan::proposed(self.network, &config, self.optimizer, &told)?;
        let links = std::mem::take(&mut times.links);
        let mut times = self.times(size, &partition, staging, &|layer| {
            plan.recomputes(LayerIndex::new(layer as u32))
        });
        times.links = links;
        let micro_batches = plan.training.batch.micro_batches();
        let lists = &plan.training.lowered;
        let totals = simulate_totals(lists, &plan.layout, micro_batches, &times)?;
        let bottleneck = bottleneck(staging, &partition);
        let known = (&config, of.schedule);
        let candidate = Candidate::of(known, &plan, &totals, (bottleneck, proven));
        Ok(Tried {
            candidate,
            plan,
            times,
        })
    }

    /// What stages and nodes take, in seconds.
    pub(super) fn times(
        &self,
        size: &SizeProfile,
        partition: &Partition,
        staging: &Staging<'_>,
        again: &dyn Fn(usize) -> bool,
    ) -> Times {
        let placement = staging.placement;
        let mut times = Times::equal(placement.stages().index(), 0.0, 0.0, 0.0);
        times.step = vec![0.0; placement.nodes().index()];
        for stage in placement.stages().iter() {
            let (at, node) = (stage.index(), placement.node_of(stage).index());
            let speed = self.nodes[node].speed;
            for layer in partition.layers_of(stage) {
                let [forward, input, weight, update] = size.seconds(layer);
                let second = if again(layer) { forward } else { 0.0 };
                times.forward[at] += forward / speed;
                times.input[at] += (input + second) / speed;
                times.weight[at] += weight / speed;
                times.step[node] += update / speed;
            }
        }
        if self.cut_cost == CutCost::Both {
            let transfers = staging.transfers(self.network, partition);
            for (forward, takes) in times.forward.iter_mut().zip(transfers) {
                *forward += takes;
            }
        }
        times
    }

    /// The links between nodes; nothing where transfers are part of what stages take.
    pub(super) fn links(&self, placement: &Placement, size: &SizeProfile) -> Links {
        let mut links = Links::default();
        if self.cut_cost == CutCost::Both {
            return links;
        }
        let share = match self.config.wire {
            brigade_layer::Precision::Bf16 => 0.5,
            _ => 1.0,
        };
        let bytes = size.message_bytes.iter();
        links.message_bytes = bytes.map(|bytes| share * *bytes as f64).collect();
        let alike = |pair: &[super::NodeSpec]| {
            (pair[0].bandwidth, pair[0].latency) == (pair[1].bandwidth, pair[1].latency)
        };
        links.all = self.nodes[0].link(&self.nodes[0]);
        if !self.nodes.windows(2).all(alike) {
            // Those between neighbours, once around; where values skip stages all others too, up to
            // so many nodes. What else there is goes as if the ports were the first node's.
            let nodes = placement.nodes().index();
            let far = match self
                .network
                .edges()
                .iter()
                .any(|edge| edge.to.index() > edge.from.index() + 1)
            {
                true if nodes <= MOST_PAIRED => nodes / 2,
                _ => 1,
            };
            for (node, far) in (0..nodes).flat_map(|node| (1..=far).map(move |far| (node, far))) {
                let next = (node + far) % nodes;
                let link = self.nodes[node].link(&self.nodes[next]);
                let [one, other] = [node, next].map(|node| NodeId::new(node as u32));
                links
                    .unequal
                    .extend([(one, other, link), (other, one, link)]);
            }
        }
        links
    }

    /// What does not fit after all is not tried again: these layers, or more, on this stage; of
    /// several stages on a node so much more than was counted.
    fn learn(&self, staging: &mut Staging<'_>, plan: &Plan) {
        for (node, memory) in plan.layout.nodes().iter().zip(&plan.memory) {
            let limit = self.config.limit_of(node).unwrap_or(u64::MAX);
            let over = memory.peak_bytes().saturating_sub(limit);
            let mut stages = plan.layout.placement.stages_on(node);
            match (over, stages.len()) {
                (0, _) => {}
                (_, 1) => staging
                    .too_much
                    .extend((stages.next()).map(|stage| (stage, plan.partition.layers_of(stage)))),
                _ => staging.limits[node.index()] -= over as f64,
            }
        }
    }
}

/// Which stages are recomputed whole.
pub(super) fn again(recompute: &Recompute, lists: Option<&Lowered>, stages: usize) -> Vec<bool> {
    match recompute {
        Recompute::Never | Recompute::Layers(_) => vec![false; stages],
        Recompute::Always => vec![true; stages],
        Recompute::Stages(which) => which.clone(),
        Recompute::ExceptLast => {
            let direct = directly_backward(lists, stages).into_iter();
            direct.map(|direct| !direct).collect()
        }
    }
}

/// What the busiest node or link takes.
pub(super) fn bottleneck(costs: &Staging<'_>, partition: &Partition) -> f64 {
    let placement = costs.placement;
    let mut loads = vec![0.0; placement.nodes().index()];
    let mut most = 0.0f64;
    for stage in placement.stages().iter() {
        let layers: Range<usize> = partition.layers_of(stage);
        if stage.index() + 1 < placement.stages().index() {
            most = most.max(costs.link(stage, layers.end));
        }
        loads[placement.node_of(stage).index()] += costs.load(stage, layers);
    }
    loads.into_iter().fold(most, f64::max)
}
