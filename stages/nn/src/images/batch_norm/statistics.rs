//! What micro-batches leave for the end of the step.

use crate::kernels::channels::by_channels;
use crate::kernels::moments::merge;
use brigade_layer::{Keep, LayerError, MicroBatchId, Tensor};
use std::collections::BTreeMap;

/// Pixels of each micro-batch, and mean and biased variance of its channels [2, C]. In the
/// micro-batches' order, whatever the order they come in.
#[derive(Debug, Default)]
pub(super) struct Gathered(BTreeMap<MicroBatchId, (usize, Tensor)>);

impl Keep for Gathered {
    fn tensors(&self, visit: &mut dyn FnMut(&Tensor)) {
        self.0.values().for_each(|(_, moments)| visit(moments));
    }
}

impl Gathered {
    pub(super) fn put(&mut self, of: MicroBatchId, pixels: usize, moments: Tensor) {
        self.0.insert(of, (pixels, moments));
    }

    /// running = (1 - momentum) running + momentum new, where new are mean and unbiased variance of
    /// all micro-batches together.
    pub(super) fn commit(
        &self,
        [mean, variance]: [&mut [f32]; 2],
        momentum: f32,
    ) -> Result<(), LayerError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let parts = { self.0.values() }.map(|(pixels, moments)| Ok((*pixels, moments.f32()?)));
        let parts = parts.collect::<Result<Vec<_>, LayerError>>()?;
        by_channels!(mean.len(), |channel| commit_some(
            (mean, variance),
            &parts,
            momentum,
            channel
        ));
        Ok(())
    }
}

fn commit_some<const L: usize>(
    (mean, variance): (&mut [f32], &mut [f32]),
    parts: &[(usize, &[f32])],
    momentum: f32,
    channel: usize,
) {
    let merged = merge::<L>(parts.iter().copied(), channel);
    let momentum = f64::from(momentum);
    let mix = |running: &mut f32, new: f64| {
        *running = (f64::from(*running) * (1.0 - momentum) + momentum * new) as f32;
    };
    for lane in 0..L {
        mix(&mut mean[channel + lane], merged.mean[lane]);
        let unbiased = merged.squares[lane] / (merged.count - 1.0);
        mix(&mut variance[channel + lane], unbiased);
    }
}
