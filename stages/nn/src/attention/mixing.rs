//! What layers with attention have in common: queries, keys and values mixed, of a whole sequence
//! or of its next piece.

use super::cache::{KeyValueCache, Piece};
use super::sizes::Sizes;
use crate::kernels::attention::{Attention, Sequences, Sight};
use crate::kernels::random::Mask;
use brigade_layer::{Ctx, KernelWork, LayerError, Tensor};
use ndarray::ArrayViewMut4;

/// How a layer mixes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mixing<'a> {
    /// Of queries.
    pub(super) heads: usize,
    /// With which probability a probability is dropped while training.
    pub(super) dropout: f32,
    pub(super) sight: Sight<'a>,
}

impl<'a> Mixing<'a> {
    fn attention(self, cx: &Ctx<'_>) -> Attention<'a> {
        Attention {
            heads: self.heads,
            sight: self.sight,
            mask: Mask::new(cx.random(), self.dropout).filter(|_| cx.training()),
            first_sample: cx.first_row,
            precision: cx.precision,
            threads: cx.threads,
        }
    }

    /// What a whole sequence gives, and two numbers per query and head.
    pub(super) fn forward(
        self,
        sequences: Sequences<'_>,
        sizes: Sizes,
        cx: &mut Ctx<'_>,
    ) -> Result<[Tensor; 2], LayerError> {
        let (mut out, mut stats) = (cx.f32(sizes.rows()[0])?, cx.f32(sizes.stats())?);
        let mut scratch = cx.f32(sizes.scratch(1, cx.threads))?;
        let bytes = sizes.bytes([2, 2]);
        let work = KernelWork::new("attention", sizes.product_flops(2), bytes);
        cx.timed(work, |cx| {
            let (into, scratch) = (sizes.view_mut(&mut out), scratch.data());
            (self.attention(cx)).forward(into, stats.data(), sequences, scratch);
        });
        Ok([out.freeze(), stats.freeze()])
    }

    /// What the next piece of a sequence gives. Nothing comes back through it: for the stash, that
    /// stands for itself.
    pub(super) fn go_on(
        self,
        sequences: Sequences<'_>,
        sizes: Sizes,
        cx: &mut Ctx<'_>,
    ) -> Result<[Tensor; 2], LayerError> {
        let first = KeyValueCache::positions(cx);
        let piece = Piece::new(sequences, sizes);
        KeyValueCache::append(piece, cx)?;
        if first == 0 {
            return self.forward(sequences, sizes, cx);
        }
        let mut out = cx.f32(sizes.rows()[0])?;
        KeyValueCache::attend(&mut out, piece, cx)?;
        let out = out.freeze();
        Ok([out.clone(), out])
    }

    /// Gradients of queries, keys and values from that of what they gave.
    pub(super) fn backward(
        self,
        gradients: [ArrayViewMut4<'_, f32>; 3],
        dout: &Tensor,
        (stats, sequences): (&Tensor, Sequences<'_>),
        sizes: Sizes,
        cx: &mut Ctx<'_>,
    ) -> Result<(), LayerError> {
        let mut scratch = cx.f32(sizes.scratch(2, cx.threads))?;
        let (dout, saved) = (sizes.view(dout)?, (stats.f32()?, sequences));
        let bytes = sizes.bytes([3, 4]);
        let work = KernelWork::new("attention", sizes.product_flops(5), bytes);
        cx.timed(work, |cx| {
            (self.attention(cx)).backward(gradients, dout, saved, scratch.data());
        });
        Ok(())
    }
}
