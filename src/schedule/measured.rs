//! A schedule that is told measured times.

use super::{Definition, Schedule, Task, Times};
use crate::error::PlanError;
use crate::ids::NodeCount;
use crate::placement::Placement;

/// A schedule that is told these times, instead of operations as the layers count them. What is
/// kept, and what may be, it is told as before.
#[derive(Clone, Debug)]
pub struct Measured<S> {
    /// The schedule.
    pub schedule: S,
    /// What its stages and links take.
    pub times: Times,
}

impl<S: Schedule> Schedule for Measured<S> {
    fn name(&self) -> &str {
        self.schedule.name()
    }

    fn place(&self, nodes: NodeCount, chunks: Option<usize>) -> Result<Placement, PlanError> {
        self.schedule.place(nodes, chunks)
    }

    fn define(&self, task: &Task) -> Result<Definition, PlanError> {
        let mut task = task.clone();
        task.costs.get_or_insert_default().times = self.times.clone();
        self.schedule.define(&task)
    }
}
