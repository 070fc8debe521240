//! Mini-batches of a dataset, epoch after epoch.

use super::Dataset;
use super::error::{DataError, list_of};
use super::shuffle::Shuffle;
use brigade_layer::{Data, LayerError, StepId, Tensors};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Mini-batches of a dataset: every sample once an epoch, in an order of its own.
///
/// A mini-batch that runs over the end of an epoch takes the rest from the next one, so that no
/// sample is lost and all mini-batches have the same number of rows. Which samples a step has
/// follows from its number, the seed and where it was started: nothing moves while training, and
/// all nodes agree.
///
/// # Example
/// ```
/// use brigade_layer::Tensor;
/// use brigade_nn::{Arrays, Batches};
/// let x = Tensor::from_vec([10, 2], vec![0.5f32; 20])?;
/// let y = Tensor::from_vec([10, 1], vec![1.0f32; 10])?;
/// let data = Batches::shuffled(Arrays::new(x, y)?, 4, 1)?;
/// assert_eq!(data.epoch(2), 0);
/// assert_eq!(data.epoch(3), 1);
///
/// // Saved after 5 steps, gone on with from there in mini-batches of another size.
/// let position = data.position(5);
/// assert_eq!(position.samples, 20);
/// # let x = Tensor::from_vec([10, 2], vec![0.5f32; 20])?;
/// # let y = Tensor::from_vec([10, 1], vec![1.0f32; 10])?;
/// let larger = Batches::shuffled(Arrays::new(x, y)?, 8, 1)?.starting_at(position);
/// assert_eq!(larger.position(6).samples, 28);
/// # Ok::<(), brigade_layer::LayerError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Batches<D> {
    dataset: D,
    rows: usize,
    shuffle: Option<Shuffle>,
    start: Position,
}

/// How far a training has come in its data, to be saved and gone on from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Steps taken.
    pub step: u64,
    /// Samples seen in them, over all epochs.
    pub samples: u64,
}

impl<D: Dataset> Batches<D> {
    /// Mini-batches of `rows` samples, in an order by seed that is another one in every epoch.
    ///
    /// # Errors
    /// Without samples, or with 0 rows.
    pub fn shuffled(dataset: D, rows: usize, seed: u64) -> Result<Self, LayerError> {
        let shuffle = Shuffle::new(seed, dataset.len() as u64);
        Self::new(dataset, rows, Some(shuffle))
    }

    /// Mini-batches of `rows` samples in the order of their numbers.
    ///
    /// # Errors
    /// As [`Self::shuffled`].
    pub fn sequential(dataset: D, rows: usize) -> Result<Self, LayerError> {
        Self::new(dataset, rows, None)
    }

    /// One mini-batch of all samples in the order of their numbers: to evaluate on, or to predict
    /// from.
    ///
    /// # Errors
    /// Without samples.
    pub fn whole(dataset: D) -> Result<Self, LayerError> {
        let rows = dataset.len();
        Self::new(dataset, rows, None)
    }

    fn new(dataset: D, rows: usize, shuffle: Option<Shuffle>) -> Result<Self, LayerError> {
        if dataset.is_empty() {
            return Err(LayerError::spec("batches", "the dataset has no samples"));
        }
        if rows == 0 {
            return Err(LayerError::spec("batches", "0 rows; use at least 1"));
        }
        Ok(Self {
            dataset,
            rows,
            shuffle,
            start: Position::default(),
        })
    }

    /// The same, where a training goes on from a position. Steps before it have no data.
    #[must_use]
    pub fn starting_at(mut self, position: Position) -> Self {
        self.start = position;
        self
    }

    /// Where a training is after so many steps in all.
    pub fn position(&self, steps: u64) -> Position {
        let since = steps.saturating_sub(self.start.step);
        let samples = since.saturating_mul(self.rows as u64);
        Position {
            step: steps,
            samples: self.start.samples.saturating_add(samples),
        }
    }

    /// In which epoch step `step` begins, from 0.
    pub fn epoch(&self, step: u64) -> u64 {
        self.position(step).samples / self.dataset.len() as u64
    }

    /// What it makes mini-batches of.
    pub fn dataset(&self) -> &D {
        &self.dataset
    }

    /// Which samples these rows of a step's mini-batch are.
    ///
    /// # Errors
    /// When the mini-batch has no such rows, or the step is before the position that was started
    /// from.
    pub fn samples(&self, step: StepId, rows: Range<usize>) -> Result<Vec<usize>, LayerError> {
        if rows.start > rows.end || rows.end > self.rows {
            let what = "rows".to_owned();
            let len = self.rows;
            return Err(DataError::Outside {
                what,
                range: rows,
                len,
            }
            .into());
        }
        if step.get() < self.start.step {
            return Err(LayerError::Value(format!(
                "step {step} is before step {}, which the data start from; evaluate on others",
                self.start.step
            )));
        }
        let (first, len) = (self.position(step.get()).samples, self.dataset.len() as u64);
        let mut samples = list_of(rows.len())?;
        samples.extend(rows.map(|row| {
            let seen = u128::from(first) + row as u128;
            let at = (seen % u128::from(len)) as u64;
            let epoch = (seen / u128::from(len)) as u64;
            match &self.shuffle {
                Some(shuffle) => shuffle.sample(epoch, at) as usize,
                None => at as usize,
            }
        }));
        Ok(samples)
    }
}

impl<D: Dataset> Data for Batches<D> {
    fn rows(&self, _: StepId) -> usize {
        self.rows
    }
    fn inputs(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        self.dataset.inputs(&self.samples(step, rows)?)
    }
    fn targets(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        self.dataset.targets(&self.samples(step, rows)?)
    }
}
