//! Keys and values of a sequence that is generated piece by piece.

use super::sizes::Sizes;
use crate::kernels::attention::Sequences;
use crate::kernels::attention::cached::{Cache, append, attend};
use brigade_layer::{Ctx, Keep, LayerError, Tensor, TensorMut, TensorSpec};

/// Keys and values of the positions so far, with room for all there may be: the state along a
/// sequence of a layer with attention.
#[derive(Default)]
pub(super) struct KeyValueCache {
    /// Keys and values, each [B, G, room, C].
    held: Option<[Tensor; 2]>,
    positions: usize,
}

impl Keep for KeyValueCache {
    fn tensors(&self, visit: &mut dyn FnMut(&Tensor)) {
        self.held.iter().flatten().for_each(visit);
    }
}

/// New queries [B, T, H, C], keys and values [B, T, G, C].
#[derive(Clone, Copy)]
pub(super) struct Piece<'a> {
    parts: Sequences<'a>,
    sizes: Sizes,
}

/// Bytes that the cache of so long sequences takes.
pub(super) fn bytes(sizes: Sizes) -> u64 {
    2 * TensorSpec::f32(sizes.rows()[1]).bytes()
}

impl KeyValueCache {
    /// How many positions there are.
    pub(super) fn positions(cx: &mut Ctx<'_>) -> usize {
        cx.sequence_state::<Self>().positions
    }

    /// Puts the piece's keys and values behind those that there are.
    ///
    /// # Errors
    /// When memory does not allow it, or the sequence gets longer than it may.
    pub(super) fn append(piece: Piece<'_>, cx: &mut Ctx<'_>) -> Result<(), LayerError> {
        let room = cx.sequence_length;
        let cache = cx.sequence_state::<Self>();
        let (before, held) = (cache.positions, cache.held.take());
        let after = before + piece.sizes.length;
        if after > room {
            let problem = format!("a sequence of {after} tokens; the longest is {room}");
            return Err(LayerError::Value(problem));
        }
        let cached = piece.cached(before, room);
        let shape = [piece.sizes.batch, cached.heads[1], room, cached.columns];
        let held = match held {
            Some([keys, values]) => [cx.writable::<f32>(keys)?, cx.writable::<f32>(values)?],
            None => [cx.f32(shape)?, cx.f32(shape)?],
        };
        let [_, keys, values] = piece.parts;
        let mut new = [keys, values].into_iter();
        let held = held.map(|mut held| {
            if let Some(new) = new.next() {
                append(held.data(), new, cached);
            }
            held.freeze()
        });
        *cx.sequence_state::<Self>() = Self {
            held: Some(held),
            positions: after,
        };
        Ok(())
    }

    /// What the queries of the piece that was put in last find among all keys.
    ///
    /// # Errors
    /// When memory does not allow it.
    pub(super) fn attend(
        y: &mut TensorMut,
        piece: Piece<'_>,
        cx: &mut Ctx<'_>,
    ) -> Result<(), LayerError> {
        let room = cx.sequence_length;
        let mut scores = cx.f32([piece.sizes.heads[0], room])?;
        let cache = cx.sequence_state::<Self>();
        let cached = piece.cached(cache.positions - piece.sizes.length, room);
        let Some([keys, values]) = cache.held.clone() else {
            return Err(LayerError::Value("a sequence without keys".into()));
        };
        let both = [keys.f32()?, values.f32()?];
        cx.timed("attention", |cx| {
            let means = (scores.data(), cx.threads);
            attend(y.data(), piece.parts[0], both, means, cached);
        });
        Ok(())
    }
}

impl<'a> Piece<'a> {
    pub(super) fn new(parts: Sequences<'a>, sizes: Sizes) -> Self {
        Self { parts, sizes }
    }

    fn cached(&self, before: usize, room: usize) -> Cache {
        Cache {
            heads: self.sizes.heads,
            columns: self.sizes.columns,
            room,
            before,
            new: self.sizes.length,
        }
    }
}
