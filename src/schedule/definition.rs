//! What a schedule is: placement and order, and nothing else.

use super::{Compute, Times};
use crate::error::PlanError;
use crate::ids::{MicroBatchCount, NodeCount, NodeId};
use crate::placement::Placement;
use std::fmt;

/// A schedule as defined, before lowering: what every node computes, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definition {
    /// One list per node.
    pub nodes: Vec<Vec<Compute>>,
    /// Where pairs begin that the schedule means to overlap, for every node, ascending: an F with
    /// the backward after it. A node that is not there has none. The executor does one after the
    /// other.
    pub pairs: Vec<Vec<u32>>,
}

impl From<Vec<Vec<Compute>>> for Definition {
    fn from(nodes: Vec<Vec<Compute>>) -> Self {
        let pairs = Vec::new();
        Self { nodes, pairs }
    }
}

impl Definition {
    /// The places in a node's list at which pairs begin.
    pub fn pairs_of(&self, node: NodeId) -> &[u32] {
        self.pairs.get(node.index()).map_or(&[], Vec::as_slice)
    }

    /// The same order with fewer micro-batches: the others are left out.
    pub fn first(&self, micro_batches: MicroBatchCount) -> Self {
        let stays = |compute: &Compute| compute.micro_batch.index() < micro_batches.index();
        let rows = self.nodes.iter().map(|row| {
            let row = row.iter().copied().filter(stays);
            row.collect::<Vec<_>>()
        });
        let nodes: Vec<_> = rows.collect();
        let pairs = (self.nodes.iter().enumerate()).map(|(node, row)| {
            let (mut pairs, mut left) = (Vec::new(), 0);
            let marked = self.pairs_of(NodeId::new(node as u32));
            for (at, compute) in row.iter().enumerate() {
                let next = row.get(at + 1).is_some_and(stays);
                if stays(compute) && next && marked.binary_search(&(at as u32)).is_ok() {
                    pairs.push(left);
                }
                left += u32::from(stays(compute));
            }
            pairs
        });
        let pairs = match self.pairs.is_empty() {
            true => Vec::new(),
            false => pairs.collect(),
        };
        Self { nodes, pairs }
    }
}

/// What stages take and nodes may keep, for a schedule that takes it into account.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Costs {
    /// Of F, I and W of every stage, and of the links.
    pub times: Times,
    /// What every stage keeps of a micro-batch: from its F to its I, and from its I to its W. In
    /// the unit of the limits. Empty: a node's whole share keeps 1 in all.
    pub kept: Vec<[f64; 2]>,
    /// The most that every node may keep. Empty: what the schedule deems sensible.
    pub limits: Vec<f64>,
}

/// What a schedule is asked to order.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Task {
    /// Stages on nodes, as the schedule placed them.
    pub placement: Placement,
    /// Micro-batches of a step.
    pub micro_batches: MicroBatchCount,
    /// What things take, as far as it is known.
    pub costs: Option<Costs>,
}

impl Task {
    /// So many micro-batches through these stages, at costs nobody knows.
    pub fn new(placement: Placement, micro_batches: MicroBatchCount) -> Self {
        Self {
            placement,
            micro_batches,
            costs: None,
        }
    }

    /// With known costs.
    #[must_use]
    pub fn with_costs(mut self, costs: Costs) -> Self {
        self.costs = Some(costs);
        self
    }

    /// How many nodes.
    pub fn nodes(&self) -> NodeCount {
        self.placement.nodes()
    }
}

/// A schedule: where stages are placed, and in which order each node works.
/// [`ScheduleKind`](super::ScheduleKind) has the ready ones; write your own for any other. It only
/// orders: what is sent, waited for and summed follows from it, and every plan is proven before it
/// runs, so a schedule can be wrong but it cannot hang or falsify a number.
///
/// # Laws
/// [`define`](Self::define) depends on nothing but its task: every node of a run calls it, and all
/// must get the same.
///
/// # Example
/// One micro-batch after the other, each all the way down and back:
/// ```
/// use brigade::ids::MicroBatchCount;
/// use brigade::schedule::{Compute, Definition, Schedule, Task, Work, lower, check, Layout};
/// use brigade::{PlanError, placement::Placement, ids::NodeCount};
///
/// #[derive(Debug)]
/// struct OneByOne;
///
/// impl Schedule for OneByOne {
///     fn name(&self) -> &str {
///         "one-by-one"
///     }
///     fn define(&self, task: &Task) -> Result<Definition, PlanError> {
///         let row = |node| {
///             let stage = task.placement.stages_on(node).next().expect("one stage a node");
///             let both = |m| [Work::F, Work::B].map(|work| Compute::new(stage, work, m));
///             task.micro_batches.iter().flat_map(both).collect()
///         };
///         Ok(task.nodes().iter().map(row).collect::<Vec<Vec<_>>>().into())
///     }
/// }
///
/// let placement = OneByOne.place(NodeCount::new(3), None)?;
/// let task = Task::new(placement, MicroBatchCount::new(4));
/// let layout = Layout::chain(task.placement.clone());
/// let lowered = lower(&OneByOne.define(&task)?, &layout, task.micro_batches)?;
/// check(&lowered, &layout, task.micro_batches, None, &|lane| lowered.slots.of(lane))?;
/// # Ok::<(), PlanError>(())
/// ```
pub trait Schedule: fmt::Debug + Send + Sync {
    /// Its name, for people.
    fn name(&self) -> &str;

    /// Where the stages go: so many for each node, or as many as the schedule needs. One unless it
    /// says otherwise.
    ///
    /// # Errors
    /// When it cannot use so many.
    fn place(&self, nodes: NodeCount, chunks: Option<usize>) -> Result<Placement, PlanError> {
        match chunks {
            None | Some(1) => Ok(Placement::straight(nodes)),
            Some(chunks) => Err(PlanError::Illegal {
                schedule: self.name().to_owned(),
                reason: format!("{chunks} chunks: it places one stage on each node"),
                nearest: "1 chunk".into(),
            }),
        }
    }

    /// In which order every node works.
    ///
    /// # Errors
    /// When it cannot order so many micro-batches; says what it could.
    fn define(&self, task: &Task) -> Result<Definition, PlanError>;
}
