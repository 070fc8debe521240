//! Sources of several lengths, and what they are to become.

use brigade::layer::{Data, LayerError, Random, StepId, Tensor, Tensors};
use std::ops::Range;

/// What pads a source, and what the decoder begins with.
pub(crate) const PADDING: i32 = 0;
pub(crate) const START: i32 = 1;
/// A target that does not count.
const IGNORED: i32 = -100;

/// Rows of random tokens, 2 and more, and the same in order.
#[derive(Clone, Debug)]
pub(crate) struct Sorting {
    pub(crate) rows: usize,
    /// The longest source, and the longest target.
    pub(crate) lengths: [usize; 2],
    pub(crate) vocab: u64,
}

impl Sorting {
    /// A row's tokens and how the sorted ones begin.
    fn row(&self, step: StepId, row: usize) -> [Vec<i32>; 2] {
        let random = Random::named(6, "sorting");
        let row = row as u64 + 1000 * step.get();
        let longest = self.lengths[0].min(self.lengths[1]) as u64;
        let length = 1 + random.below(row, 0, longest) as u32;
        let token = |at| 2 + random.below(row, 1 + at, self.vocab - 2) as i32;
        let tokens: Vec<i32> = (0..length).map(token).collect();
        let mut sorted = tokens.clone();
        sorted.sort_unstable();
        [tokens, sorted]
    }

    fn tensor(
        &self,
        rows: Range<usize>,
        length: usize,
        of: impl Fn(usize) -> (Vec<i32>, i32),
    ) -> Result<Tensor, LayerError> {
        let count = rows.len();
        let padded = rows.flat_map(|row| {
            let (mut ids, padding) = of(row);
            ids.resize(length, padding);
            ids
        });
        Tensor::from_vec([count, length], padded.collect())
    }
}

impl Data for Sorting {
    fn rows(&self, _: StepId) -> usize {
        self.rows
    }
    fn inputs(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        let [source, target] = self.lengths;
        let sources = self.tensor(rows.clone(), source, |row| {
            let [tokens, _] = self.row(step, row);
            (tokens, PADDING)
        })?;
        let ids = self.tensor(rows, target, |row| {
            let [_, mut sorted] = self.row(step, row);
            sorted.insert(0, START);
            sorted.pop();
            (sorted, START)
        })?;
        Ok([sources, ids].into())
    }
    fn targets(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        let target = self.lengths[1];
        let targets = self.tensor(rows, target, |row| {
            let [_, sorted] = self.row(step, row);
            (sorted, IGNORED)
        })?;
        Ok(targets.into())
    }
}
