//! A factor of many products, rounded and packed once for all of them.

use super::{Unit, tiles};
use crate::kernels::parallel::{Out, spread};
use crate::shapes::element_work;
use brigade_layer::{Ctx, LayerError, Precision, TensorMut};
use ndarray::{ArrayView2, s};

/// Columns that are packed together, and steps that they are filled up to.
const COLUMNS: usize = 32;
const STEPS: usize = 32;

/// Factor b of products in bf16, as the tiles want it.
#[derive(Debug)]
pub(crate) struct Prepared {
    numbers: TensorMut,
    /// [K, N]
    sizes: [usize; 2],
}

/// Columns of it from a first one on, and steps from a first one on.
#[derive(Clone, Copy)]
pub(super) struct Packed<'a> {
    pub(super) numbers: &'a [f32],
    /// All of a column.
    pub(super) steps: usize,
    pub(super) first_step: usize,
}

impl Prepared {
    /// Elements that a factor [K, N] takes: two numbers in each, and room to begin at a cache line.
    /// The same for every processor, so that plans are.
    pub(crate) fn elements([k, n]: [usize; 2]) -> usize {
        n.next_multiple_of(COLUMNS) * k.next_multiple_of(STEPS) / 2 + 16
    }

    /// Prepares b [K, N] if products are computed in a way that wants it.
    ///
    /// # Errors
    /// When the node's memory does not allow it.
    pub(crate) fn new(
        b: ArrayView2<'_, f32>,
        cx: &mut Ctx<'_>,
    ) -> Result<Option<Self>, LayerError> {
        if cx.precision != Precision::Bf16 || Unit::of(cx.precision).is_none() {
            return Ok(None);
        }
        let sizes = [b.nrows(), b.ncols()];
        let mut numbers = cx.f32([Self::elements(sizes)])?;
        cx.timed(element_work("weight to bf16", b.len(), 1, 1), |cx| {
            let numbers = aligned(numbers.data());
            let numbers = &mut numbers[..Self::elements(sizes) - 16];
            let block = block(sizes[0]);
            let work = (Out(numbers, block), 0..sizes[1].div_ceil(COLUMNS));
            spread(cx.threads, b.len(), work, |(to, blocks)| {
                let columns = blocks.start * COLUMNS..(blocks.end * COLUMNS).min(sizes[1]);
                tiles::pack_columns(to.0, block, b.slice(s![.., columns]));
            });
        });
        Ok(Some(Self { numbers, sizes }))
    }

    pub(super) fn packed(&self, (k, n): (usize, usize)) -> Packed<'_> {
        assert_eq!(self.sizes, [k, n], "a prepared factor's shape");
        Packed {
            numbers: aligned_of(self.numbers.read()),
            steps: k,
            first_step: 0,
        }
    }
}

impl Packed<'_> {
    pub(super) fn after_columns(self, columns: usize) -> Self {
        let numbers = &self.numbers[columns.div_ceil(COLUMNS) * block(self.steps)..];
        Self { numbers, ..self }
    }

    pub(super) fn after_steps(self, steps: usize) -> Self {
        Self {
            first_step: self.first_step + steps,
            ..self
        }
    }
}

/// Elements of a block of columns.
pub(super) fn block(steps: usize) -> usize {
    COLUMNS * steps.next_multiple_of(STEPS) / 2
}

/// From the first cache line on.
fn aligned(numbers: &mut [f32]) -> &mut [f32] {
    let start = numbers.as_ptr().align_offset(64);
    &mut numbers[start..]
}

fn aligned_of(numbers: &[f32]) -> &[f32] {
    let start = numbers.as_ptr().align_offset(64);
    &numbers[start..]
}
