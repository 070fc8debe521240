//! A plan as a file: what was decided, readable, with a fingerprint. Whoever reads it plans again
//! what it says, and must come to the same.

use super::Plan;
use crate::batch::MiniBatch;
use crate::config::{Config, Recompute};
use crate::error::PlanError;
use crate::files::{parse_json, read_json, up_to, write_whole};
use crate::ids::{NodeCount, NodeId};
use crate::partition::Cuts;
use crate::placement::Placement;
use crate::schedule::{Action, Compute, Definition, Schedule, Task};
use brigade_layer::{Network, Optimizer, Precision};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::Path;

/// A plan that was saved: everything that was decided, and nothing of the network itself.
///
/// # Example
/// ```
/// # use brigade::layer::TensorSpec;
/// # use brigade::nn::{AdamW, MeanSquaredError, Mlp};
/// use brigade::{Config, Plan, SavedPlan};
/// let network = Mlp::new([1, 64, 64, 1]).network(MeanSquaredError, TensorSpec::f32([1]))?;
/// let (config, optimizer) = (Config { nodes: 2, ..Config::default() }, AdamW::new(1e-3));
/// # let folder = std::env::temp_dir().join(format!("brigade-plan-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("plan.json");
/// let plan = Plan::new(&network, &config, &optimizer)?;
/// plan.save(&path)?;
///
/// let saved = SavedPlan::load(&path)?;
/// let config = saved.config(&Config::default());
/// assert_eq!(saved.plan(&network, &config, &optimizer)?, plan);
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
pub struct SavedPlan {
    fingerprint: String,
    schedule: String,
    partition: Ends,
    layout: Nodes,
    training: Lists,
    #[serde(default)]
    recomputed: Vec<Range<usize>>,
    wire: Precision,
    precision: Precision,
    network: String,
    #[serde(default)]
    predicted: Option<Predicted>,
    #[serde(skip)]
    path: String,
}

/// What a plan is expected to take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Predicted {
    /// A step, in seconds.
    pub step_time: f64,
    /// The share of it in which the mean node computes nothing.
    pub bubble: f64,
}

/// No plan has more.
const MOST_NODES: usize = 1 << 16;
const MOST_STAGES: usize = 1 << 23;

#[derive(Clone, Debug, Deserialize)]
struct Ends {
    #[serde(deserialize_with = "up_to::<_, _, MOST_STAGES>")]
    ends: Vec<usize>,
}

#[derive(Clone, Debug, Deserialize)]
struct Nodes {
    placement: NodeOf,
}

#[derive(Clone, Debug, Deserialize)]
struct NodeOf {
    #[serde(deserialize_with = "up_to::<_, _, MOST_STAGES>")]
    node_of: Vec<NodeId>,
}

#[derive(Clone, Debug, Deserialize)]
struct Lists {
    batch: Rows,
    lowered: Orders,
}

#[derive(Clone, Debug, Deserialize)]
struct Rows {
    rows: usize,
    micro_rows: usize,
}

#[derive(Clone, Debug, Deserialize)]
struct Orders {
    #[serde(deserialize_with = "up_to::<_, _, MOST_NODES>")]
    nodes: Vec<Vec<Action>>,
}

/// As it is written.
#[derive(Serialize)]
struct Saved<'a> {
    fingerprint: String,
    #[serde(flatten)]
    plan: &'a Plan,
}

impl Plan {
    /// Writes the plan as readable JSON, with its fingerprint: whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), crate::Error> {
        let saved = Saved {
            fingerprint: self.fingerprint(),
            plan: self,
        };
        let text = serde_json::to_string_pretty(&saved);
        let text = text.expect("a plan has no map with other keys than text");
        write_whole(path.as_ref(), (text + "\n").as_bytes())
    }
}

impl SavedPlan {
    /// Reads a plan that [`Plan::save`] wrote.
    ///
    /// # Errors
    /// When the file cannot be read or is no plan: in which line.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, PlanError> {
        let path = path.as_ref();
        let saved: Self = read_json(path)?;
        saved.checked(path.display().to_string())
    }

    /// As [`load`](Self::load), from the text of a file of this name.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse(name: impl Into<String>, text: &str) -> Result<Self, PlanError> {
        let name = name.into();
        let saved: Self = parse_json(&name, text.as_bytes())?;
        saved.checked(name)
    }

    /// What it decides is what a configuration may say.
    fn checked(mut self, path: String) -> Result<Self, PlanError> {
        self.path = path;
        self.config(&Config::default())
            .validate()
            .or_else(|error| self.wrong(error))?;
        let sensible = |predicted: Predicted| {
            let time = predicted.step_time;
            time.is_finite() && time >= 0.0 && (0.0..=1.0).contains(&predicted.bubble)
        };
        match self.predicted.is_none_or(sensible) {
            true => Ok(self),
            false => self.wrong("what it predicts is no time and share"),
        }
    }

    /// Something is wrong with all of it.
    fn wrong<T>(&self, problem: impl ToString) -> Result<T, PlanError> {
        Err(PlanError::File {
            path: self.path.clone(),
            line: 0,
            column: 0,
            problem: problem.to_string(),
        })
    }

    /// This configuration, with everything that the plan decides.
    pub fn config(&self, base: &Config) -> Config {
        let node_of = &self.layout.placement.node_of;
        let nodes = node_of.iter().map(|node| node.index() + 1).max();
        let Self {
            partition,
            training,
            ..
        } = self;
        let ends = &partition.ends[..partition.ends.len().saturating_sub(1)];
        Config {
            nodes: nodes.unwrap_or(1),
            chunks: None,
            cuts: Cuts::Before(ends.to_vec()),
            batch_size: training.batch.rows,
            micro_batch_size: training.batch.micro_rows,
            precision: self.precision,
            wire: self.wire,
            recompute: match self.recomputed.is_empty() {
                true => Recompute::Never,
                false => Recompute::Layers(self.recomputed.clone()),
            },
            ..base.clone()
        }
    }

    /// What it was expected to take, where that was known.
    pub fn predicted(&self) -> Option<Predicted> {
        self.predicted
    }

    /// The plan, made again for this network and configuration ([`config`](Self::config) gives one)
    /// and proven as any other.
    ///
    /// # Errors
    /// When network, configuration or optimizer are not what it was made for, the file was changed,
    /// or its order is not sound.
    pub fn plan(
        &self,
        network: &Network,
        config: &Config,
        optimizer: &dyn Optimizer,
    ) -> Result<Plan, PlanError> {
        let mut plan = Plan::with_schedule(network, config, optimizer, self)?;
        plan.predicted = self.predicted;
        if plan.network != self.network {
            return self.wrong("this plan is of another network: plan again with these options");
        }
        if plan.fingerprint() != self.fingerprint {
            return self.wrong(
                "this plan comes out differently now: it was changed, or made for another \
                 optimizer or by another version; plan again",
            );
        }
        Ok(plan)
    }
}

/// The order that was saved.
impl Schedule for SavedPlan {
    fn name(&self) -> &str {
        &self.schedule
    }

    fn place(&self, nodes: NodeCount, _: Option<usize>) -> Result<Placement, PlanError> {
        let placement = Placement::of(self.layout.placement.node_of.clone());
        let placement = placement.filter(|placement| placement.nodes() == nodes);
        placement.ok_or_else(|| PlanError::Illegal {
            schedule: self.path.clone(),
            reason: format!("{nodes} nodes"),
            nearest: "as many as it was made for, with a stage on each".into(),
        })
    }

    fn define(&self, task: &Task) -> Result<Definition, PlanError> {
        let Rows { rows, micro_rows } = self.training.batch;
        let own = MiniBatch::new(rows, micro_rows).micro_batches();
        if task.micro_batches != own {
            return Err(PlanError::Illegal {
                schedule: self.path.clone(),
                reason: format!("{} micro-batches", task.micro_batches),
                nearest: format!("{own}"),
            });
        }
        let computes = |row: &Vec<Action>| -> Vec<Compute> {
            let computes = row.iter().filter_map(|action| match action {
                Action::Compute(compute) => Some(*compute),
                _ => None,
            });
            computes.collect()
        };
        let rows: Vec<_> = self.training.lowered.nodes.iter().map(computes).collect();
        Ok(rows.into())
    }
}
