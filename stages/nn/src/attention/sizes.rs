//! Sizes of what attention works on.

use crate::kernels::attention::{Sequences, scratch};
use crate::kernels::softmax::STATS;
use brigade_layer::{LayerError, Shape, Tensor, TensorMut, TensorSpec};
use ndarray::{ArrayView4, ArrayViewMut4};

/// Rows of sequences, in heads of queries and heads of keys and values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) batch: usize,
    /// Queries of a row.
    pub(super) length: usize,
    /// Keys of a row.
    pub(super) keys: usize,
    /// Whether a query sees the keys up to its position, and not all.
    pub(super) causal: bool,
    /// Of queries, and of keys and values.
    pub(super) heads: [usize; 2],
    pub(super) columns: usize,
}

/// Whether so many heads can share the width.
pub(super) fn check_heads(what: &str, width: usize, heads: usize) -> Result<(), LayerError> {
    if heads > 0 && width > 0 && width.is_multiple_of(heads) {
        return Ok(());
    }
    let problem = format!(
        "a width of {width} cannot be shared by {heads} heads; make the width a multiple of the \
         heads"
    );
    Err(LayerError::spec(what, problem))
}

impl Sizes {
    /// Shapes of queries (and of what comes out), and of keys and of values.
    pub(super) fn rows(&self) -> [[usize; 3]; 2] {
        let of = |length, heads| [self.batch, length, heads * self.columns];
        let [queries, keys] = self.heads;
        [of(self.length, queries), of(self.keys, keys)]
    }

    pub(super) fn stats(&self) -> [usize; 4] {
        [self.batch, self.heads[0], self.length, STATS]
    }

    /// Bytes of so many tensors like queries, and like keys.
    pub(super) fn bytes(&self, [queries, keys]: [u64; 2]) -> u64 {
        let [one, other] = self.rows().map(|rows| TensorSpec::f32(rows).bytes());
        queries * one + keys * other
    }

    /// Queries with the keys that they see, of all heads, where nothing is padded.
    fn pairs(&self) -> u64 {
        let [batch, heads] = [self.batch, self.heads[0]].map(|n| n as u64);
        let [queries, keys] = [self.length, self.keys].map(|n| n as u64);
        let each = match self.causal {
            true => queries.saturating_mul(queries + 1) / 2,
            false => queries.saturating_mul(keys),
        };
        (batch * heads).saturating_mul(each)
    }

    /// Floating-point operations of so many products over all pairs.
    pub(super) fn product_flops(&self, products: u64) -> u64 {
        let each = 2 * products * self.columns as u64;
        each.saturating_mul(self.pairs())
    }

    /// Floating-point operations of F and I.
    pub(super) fn flops(&self, drops: bool) -> [u64; 2] {
        let dropping = if drops { 20 } else { 0 };
        let others = |flops: u64| flops.saturating_mul(self.pairs());
        [
            self.product_flops(2).saturating_add(others(20 + dropping)),
            (self.product_flops(5)).saturating_add(others(25 + 2 * dropping)),
        ]
    }

    /// Of all threads, for so many matrices of scores.
    pub(super) fn scratch(&self, matrices: usize, threads: usize) -> [usize; 2] {
        let lengths = [self.length, self.keys];
        [threads.max(1), scratch(lengths, self.columns, matrices)]
    }

    pub(super) fn scratch_bytes(&self, matrices: usize) -> u64 {
        TensorSpec::f32(self.scratch(matrices, 1)).bytes()
    }

    fn by_heads(&self, of: Shape) -> (usize, usize, usize, usize) {
        let row = of.elements() / self.batch.max(1);
        let length = row / of.last().max(1);
        (self.batch, length, of.last() / self.columns, self.columns)
    }

    /// A tensor by its heads.
    pub(super) fn view<'a>(&self, of: &'a Tensor) -> Result<ArrayView4<'a, f32>, LayerError> {
        let shape = self.by_heads(of.shape());
        Ok(ArrayView4::from_shape(shape, of.f32()?).expect("a shape taken from the tensor's"))
    }

    /// A tensor by its heads, to be written.
    pub(super) fn view_mut<'a>(&self, of: &'a mut TensorMut) -> ArrayViewMut4<'a, f32> {
        let shape = self.by_heads(of.shape());
        ArrayViewMut4::from_shape(shape, of.data()).expect("a shape taken from the tensor's")
    }

    /// Queries, keys and values by their heads.
    pub(super) fn views<'a>(&self, of: [&'a Tensor; 3]) -> Result<Sequences<'a>, LayerError> {
        let [q, k, v] = of.map(|of| self.view(of));
        Ok([q?, k?, v?])
    }
}
