//! What may be chosen.

use crate::config::{Config, Recompute};
use crate::schedule::ScheduleKind;

/// What a plan may be chosen from: every combination is tried that is legal and has a chance.
#[derive(Clone, Debug, PartialEq)]
pub struct Space {
    /// In which order the nodes work.
    pub schedules: Vec<ScheduleKind>,
    /// Stages a node, for schedules that take any number; the others use what they need.
    pub chunks: Vec<usize>,
    /// Rows of a micro-batch: part of the numbers that come out.
    pub micro_batch_sizes: Vec<usize>,
    /// What is computed again in the backward pass.
    pub recompute: Vec<Recompute>,
    /// Whether stages of nodes that would not fit may be recomputed, and those only.
    pub recompute_where_needed: bool,
}

impl Space {
    /// Only what the configuration says.
    pub fn only(config: &Config) -> Self {
        Self {
            schedules: vec![config.schedule],
            chunks: vec![config.chunks.unwrap_or(2)],
            micro_batch_sizes: vec![config.micro_batch_size],
            recompute: vec![config.recompute.clone()],
            recompute_where_needed: false,
        }
    }

    /// The same with every schedule, and 1, 2 and 4 stages a node unless the configuration says
    /// how many.
    #[must_use]
    pub fn any_schedule(mut self, config: &Config) -> Self {
        self.schedules = ScheduleKind::ALL.to_vec();
        self.chunks = config.chunks.map_or(vec![2, 4], |chunks| vec![chunks]);
        self
    }

    /// The same with micro-batches of 1, 2, 4 rows and so on, up to what gives every node one.
    #[must_use]
    pub fn any_micro_batch(mut self, config: &Config) -> Self {
        let powers = (0..usize::BITS).map(|power| 1usize << power);
        let most = (config.batch_size / config.nodes.max(1)).max(1);
        self.micro_batch_sizes = powers.take_while(|rows| *rows <= most).collect();
        self
    }

    /// The same with recomputation wherever it helps or is needed.
    #[must_use]
    pub fn any_recompute(mut self) -> Self {
        self.recompute = vec![Recompute::Never, Recompute::ExceptLast];
        self.recompute_where_needed = true;
        self
    }
}
