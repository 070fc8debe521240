//! A mini-batch cut into micro-batches.

use crate::ids::{MicroBatchCount, MicroBatchId};
use serde::Serialize;
use std::ops::Range;

/// How the rows of one step are cut into micro-batches: each has `micro_rows` rows, the last one
/// what remains.
///
/// The mean loss of the mini-batch is the sum over all its terms divided by their number, so that a
/// smaller last micro-batch weighs what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct MiniBatch {
    rows: usize,
    micro_rows: usize,
}

impl MiniBatch {
    /// `rows` rows in micro-batches of `micro_rows`. Both are at least 1.
    pub fn new(rows: usize, micro_rows: usize) -> Self {
        Self {
            rows: rows.max(1),
            micro_rows: micro_rows.max(1),
        }
    }

    /// Another number of rows, in micro-batches of the same size.
    #[must_use]
    pub fn with_rows(self, rows: usize) -> Self {
        Self::new(rows, self.micro_rows)
    }

    /// Rows altogether.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many micro-batches.
    pub fn micro_batches(&self) -> MicroBatchCount {
        MicroBatchCount::new(self.rows.div_ceil(self.micro_rows) as u32)
    }

    /// The rows of one micro-batch.
    pub fn rows_of(&self, micro_batch: MicroBatchId) -> Range<usize> {
        let start = (micro_batch.index() * self.micro_rows).min(self.rows);
        start..(start + self.micro_rows).min(self.rows)
    }

    /// Rows of the largest micro-batch.
    pub fn largest(&self) -> usize {
        self.micro_rows.min(self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_micro_batch_takes_what_remains() {
        let batch = MiniBatch::new(13, 3);
        let rows: Vec<_> = batch
            .micro_batches()
            .iter()
            .map(|m| batch.rows_of(m))
            .collect();
        assert_eq!(rows, [0..3, 3..6, 6..9, 9..12, 12..13]);
        assert_eq!(MiniBatch::new(2, 8).micro_batches().get(), 1);
        assert_eq!(MiniBatch::new(2, 8).largest(), 2);
    }
}
