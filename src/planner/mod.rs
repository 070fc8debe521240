//! What fits and what is fastest, said before training: where to cut a network, in which order to
//! run it, with which micro-batches, and what to recompute.
//!
//! ```text
//!  Network  ─┐                for every schedule, stages a node, micro-batch, recomputation:
//!  Profile   ├──►  Planner ──► best cuts ──► order ──► memory ──► simulated step ──► the best few
//!  nodes    ─┘                 (partition)   (plan)
//! ```
//!
//! Also what a plan is made for without building any of it: layers and nodes as files describe
//! them, and layouts of stages as text. Whatever is wrong in a file is said with its line: see
//! [`PlanError::File`](crate::PlanError).
//!
//! # Example
//! ```
//! use brigade::planner::{LayersFile, Planner, Space};
//! use brigade::{Config, nn::AdamW};
//!
//! let layers = LayersFile::read("docs/examples/layers.json")?;
//! let config = Config { nodes: 2, batch_size: 8, micro_batch_size: 1, ..Config::default() };
//! let (network, profile) = (layers.network()?, layers.profile(&config)?);
//! let optimizer = AdamW::new(1e-3);
//! let planner = Planner::new(&network, &config, &optimizer, &profile)?;
//! let planned = planner.space(Space::only(&config).any_schedule(&config)).plan()?;
//! let best = &planned.candidates[0];
//! println!("{}: {:.1} ms a step", best.words(), 1e3 * best.step_time);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::config::{Config, Recompute};
use crate::error::PlanError;
use crate::partition::CutCost;
use crate::plan::Plan;
use crate::profile::{Profile, SizeProfile};
use crate::schedule::Times;
use brigade_layer::{Network, Optimizer};
use crossing::Crossings;
use search::{Combination, Tried};

mod advice;
mod before;
mod candidate;
mod costs;
mod crossing;
mod described;
mod json;
mod layers_file;
pub mod layout_string;
mod nodes_file;
mod refine;
mod search;
mod space;
pub mod units;

pub use candidate::Candidate;
pub use layers_file::{DescribedLayer, LayersFile};
pub use nodes_file::NodeSpec;
pub use space::Space;

/// Looks for the fastest way to train that fits.
#[derive(Clone, Debug)]
pub struct Planner<'a> {
    network: &'a Network,
    config: Config,
    optimizer: &'a dyn Optimizer,
    profile: &'a Profile,
    nodes: Vec<NodeSpec>,
    cut_cost: CutCost,
    space: Space,
    crossings: Crossings,
}

/// What was found.
#[derive(Debug)]
#[non_exhaustive]
pub struct Planned {
    /// The plan of the best candidate. It fits if any does.
    pub plan: Plan,
    /// What its stages, nodes and links take, in seconds.
    pub times: Times,
    /// The settings that make it.
    pub config: Config,
    /// All that were predicted: those that fit first, the fastest first; then those that lack
    /// least.
    pub candidates: Vec<Candidate>,
    /// How many were left out because they cannot be faster than the best.
    pub pruned: usize,
    /// Where nothing fits, the changes that would do, the smallest first.
    pub advice: Vec<String>,
}

impl Planned {
    /// Whether the best candidate fits.
    pub fn feasible(&self) -> bool {
        self.candidates.first().is_some_and(Candidate::fits)
    }
}

impl<'a> Planner<'a> {
    /// A planner for this network on equal nodes, as many as the configuration says, that chooses
    /// nothing but the cuts.
    ///
    /// # Errors
    /// When a setting is wrong, or the profile is of another network, precision or number of
    /// threads.
    pub fn new(
        network: &'a Network,
        config: &Config,
        optimizer: &'a dyn Optimizer,
        profile: &'a Profile,
    ) -> Result<Self, PlanError> {
        config.validate()?;
        optimizer.validate()?;
        optimizer.suits(&network.params())?;
        profile.check(network, config)?;
        let port = |mut node: NodeSpec| {
            node.latency = profile.links.all.latency;
            let per_byte = profile.links.all.per_byte;
            node.bandwidth = (per_byte > 0.0).then(|| 1.0 / per_byte);
            node
        };
        Ok(Self {
            network,
            optimizer,
            profile,
            nodes: NodeSpec::equal(config.nodes)
                .into_iter()
                .map(port)
                .collect(),
            cut_cost: CutCost::default(),
            space: Space::only(config),
            crossings: Crossings::default(),
            config: config.clone(),
        })
    }

    /// On these nodes, in this order: what they may hold, how fast they and their links are.
    #[must_use]
    pub fn nodes(mut self, nodes: Vec<NodeSpec>) -> Self {
        self.config.nodes = nodes.len();
        let own = |node: &NodeSpec| {
            let all = self.config.node_memory_bytes.unwrap_or(u64::MAX);
            node.memory_bytes.unwrap_or(u64::MAX).min(all)
        };
        self.config.node_limits = match nodes.iter().all(|node| node.memory_bytes.is_none()) {
            true => Vec::new(),
            false => nodes.iter().map(own).collect(),
        };
        self.nodes = nodes;
        self
    }

    /// What a transfer over a cut is added to.
    #[must_use]
    pub fn cut_cost(mut self, cut_cost: CutCost) -> Self {
        self.cut_cost = cut_cost;
        self
    }

    /// What may be chosen.
    #[must_use]
    pub fn space(mut self, space: Space) -> Self {
        self.space = space;
        self
    }

    /// Looks through the space.
    ///
    /// # Errors
    /// When nothing in it is legal: why the last combination is not. A plan that does not fit is no
    /// error: see [`Planned::feasible`].
    pub fn plan(&self) -> Result<Planned, PlanError> {
        self.config.validate()?;
        let mut found = self.search()?;
        self.refine(&mut found)?;
        let advice = match found.best.candidate.fits() {
            true => Vec::new(),
            false => self.advice(&found),
        };
        let Found {
            best,
            mut others,
            pruned,
        } = found;
        let config = best.candidate.config(&self.config);
        others.insert(0, best.candidate);
        Ok(Planned {
            plan: best.plan,
            times: best.times,
            config,
            candidates: others,
            pruned,
            advice,
        })
    }

    fn size(&self, rows: usize) -> Result<SizeProfile, PlanError> {
        Ok(self.profile.at(self.network, rows)?)
    }

    fn combinations(&self) -> Vec<Combination> {
        let mut all = Vec::new();
        for &micro_batch_size in &self.space.micro_batch_sizes {
            for &schedule in &self.space.schedules {
                let any = schedule.takes_any_chunks();
                let chunks: Vec<Option<usize>> = match any {
                    true => self.space.chunks.iter().copied().map(Some).collect(),
                    false => vec![None],
                };
                for chunks in chunks {
                    for recompute in &self.space.recompute {
                        all.push(Combination {
                            schedule,
                            chunks,
                            micro_batch_size,
                            recompute: recompute.clone(),
                        });
                    }
                }
            }
        }
        all
    }

    fn search(&self) -> Result<Found, PlanError> {
        let (mut found, mut illegal, mut pruned) = (None::<Found>, None, 0);
        for of in self.combinations() {
            let best = found.as_ref().filter(|found| found.best.candidate.fits());
            if best.is_some_and(|best| self.bound(&of) > best.best.candidate.step_time) {
                pruned += 1;
                continue;
            }
            let tried = match self.tried_or_recomputed(&of) {
                Ok(tried) => tried,
                Err(error) => {
                    illegal = Some(error);
                    continue;
                }
            };
            match &mut found {
                None => found = Some(Found::new(tried)),
                Some(found) => found.add(tried),
            }
        }
        let Some(mut found) = found else {
            return Err(illegal.unwrap_or(PlanError::Setting {
                setting: "space",
                value: "empty".into(),
                allowed: "something to choose from".into(),
            }));
        };
        found.pruned = pruned;
        found.others.sort_by(|a, b| a.order().total_cmp(&b.order()));
        Ok(found)
    }

    /// A combination; if it does not fit and may be recomputed where needed, that.
    fn tried_or_recomputed(&self, of: &Combination) -> Result<Tried, PlanError> {
        let mut tried = self.tried(of)?;
        if !self.space.recompute_where_needed || of.recompute != Recompute::Never {
            return Ok(tried);
        }
        let placement = tried.plan.layout.placement.clone();
        let mut which = vec![false; placement.stages().index()];
        // One stage more of every node that lacks memory, until all fit or nothing is left.
        while !tried.candidate.fits() {
            let before = which.clone();
            for (node, memory) in placement.nodes().iter().zip(&tried.plan.memory) {
                let limit = self.config.limit_of(node).unwrap_or(u64::MAX);
                let mut stages = placement.stages_on(node);
                let next = stages.find(|stage| !which[stage.index()]);
                if let (true, Some(stage)) = (memory.peak_bytes() > limit, next) {
                    which[stage.index()] = true;
                }
            }
            if which == before {
                break;
            }
            let recompute = Recompute::Stages(which.clone());
            tried = self.tried(&Combination {
                recompute,
                ..of.clone()
            })?;
        }
        if tried.candidate.fits() {
            return Ok(tried);
        }
        // A node that just fits may take layers over once it recomputes too.
        let all = self.tried(&Combination {
            recompute: Recompute::Always,
            ..of.clone()
        })?;
        Ok(match all.candidate.is_better_than(&tried.candidate) {
            true => all,
            false => tried,
        })
    }

    /// No step of a combination is shorter: all its work, spread over all nodes, or the dearest
    /// layer on the fastest.
    fn bound(&self, of: &Combination) -> f64 {
        let Ok(size) = self.size(of.micro_batch_size) else {
            return 0.0;
        };
        let costs = self.layer_costs(&size, &of.recompute);
        let speeds = || self.nodes.iter().map(|node| node.speed);
        let again = of.recompute == Recompute::Always;
        let spread = costs.total(again) / speeds().sum::<f64>();
        let dearest = costs.largest() / speeds().fold(0.0, f64::max);
        let micro_batches = self.config_of(of).mini_batch().micro_batches();
        // The last micro-batch may be smaller.
        let whole = micro_batches.index().saturating_sub(1).max(1);
        whole as f64 * spread.max(dearest)
    }
}

/// What a search has found so far.
struct Found {
    best: Tried,
    others: Vec<Candidate>,
    pruned: usize,
}

impl Found {
    fn new(best: Tried) -> Self {
        Self {
            best,
            others: Vec::new(),
            pruned: 0,
        }
    }

    fn add(&mut self, tried: Tried) {
        if tried.candidate.is_better_than(&self.best.candidate) {
            let before = std::mem::replace(&mut self.best, tried);
            self.others.push(before.candidate);
        } else {
            self.others.push(tried.candidate);
        }
    }
}
