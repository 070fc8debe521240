//! How attention in groups is computed.

use super::cache::KeyValueCache;
use super::grouped::GroupedQueryAttention;
use super::mixing::Mixing;
use super::sizes::Sizes;
use crate::kernels::attention::Sight;
use crate::kernels::rotation::{Direction, Turns, rotate, table};
use crate::linear::LinearLayer;
use crate::shapes::element_work;
use brigade_layer::{Ctx, Layer, LayerError, Mode, ParamAccess, Tensor, Tensors};

/// The layer that [`GroupedQueryAttention`] describes.
#[derive(Debug)]
pub struct GroupedQueryAttentionLayer {
    spec: GroupedQueryAttention,
    /// Of queries, keys, values, and of what comes out.
    projections: [LinearLayer; 4],
    /// Radians of one position, for each pair of a head's columns.
    frequencies: Vec<f32>,
    /// What turned numbers are multiplied with.
    length: f32,
}

impl GroupedQueryAttentionLayer {
    pub(super) fn new(
        spec: &GroupedQueryAttention,
        projections: [LinearLayer; 4],
        (frequencies, length): (Vec<f32>, f32),
    ) -> Self {
        Self {
            spec: spec.clone(),
            projections,
            frequencies,
            length,
        }
    }

    fn mixing(&self) -> Mixing<'static> {
        Mixing {
            heads: self.spec.heads,
            dropout: self.spec.dropout,
            sight: Sight::Causal,
        }
    }

    /// Turns queries and keys by their positions, or gradients of them back.
    fn turn(
        &self,
        parts: [Tensor; 2],
        sizes: Sizes,
        (direction, first): (Direction, usize),
        cx: &mut Ctx<'_>,
    ) -> Result<[Tensor; 2], LayerError> {
        let mut angles = cx.f32([sizes.length, sizes.columns])?;
        let [q, k] = parts.map(|part| cx.writable::<f32>(part));
        let (mut q, mut k) = (q?, k?);
        let turns = Turns {
            frequencies: &self.frequencies,
            length: self.length,
            first,
        };
        let elements = q.shape().elements() + k.shape().elements();
        cx.timed(element_work("rotary", elements, 3, 2), |cx| {
            table(angles.data(), turns, cx.threads);
            for (part, heads) in [&mut q, &mut k].into_iter().zip(sizes.heads) {
                let heads = (heads, sizes.columns);
                rotate(part.data(), angles.read(), heads, direction, cx.threads);
            }
        });
        Ok([q.freeze(), k.freeze()])
    }

    /// Gradients of queries, keys and values from that of what attention gave.
    fn attend_back(
        &self,
        dout: &Tensor,
        parts: [&Tensor; 3],
        (stats, sizes): (&Tensor, Sizes),
        cx: &mut Ctx<'_>,
    ) -> Result<[Tensor; 3], LayerError> {
        let [dq, dk, dv] = parts.map(|part| cx.f32(part.shape()));
        let (mut dq, mut dk, mut dv) = (dq?, dk?, dv?);
        let gradients = [&mut dq, &mut dk, &mut dv].map(|gradient| sizes.view_mut(gradient));
        let saved = (stats, sizes.views(parts)?);
        (self.mixing()).backward(gradients, dout, saved, sizes, cx)?;
        Ok([dq.freeze(), dk.freeze(), dv.freeze()])
    }
}

impl Layer for GroupedQueryAttentionLayer {
    /// x and what attention gave; queries, keys and values; two numbers per query and head.
    type Stash = ((Tensor, Tensor), (Tensor, Tensor, Tensor), Tensor);
    /// x and what attention gave; gradients of queries, keys and values; that of y.
    type Kept = ((Tensor, Tensor), (Tensor, Tensor, Tensor), Tensor);

    fn forward(
        &mut self,
        x: Tensors,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Stash), LayerError> {
        let [x] = x.take()?;
        let sizes = self.spec.sizes(x.shape())?;
        let generating = cx.mode == Mode::Generate;
        let first = match generating {
            true => KeyValueCache::positions(cx),
            false => 0,
        };
        let [q, k, v, _] = &mut self.projections;
        let [q, k, v] = [q, k, v].map(|linear| linear.output(&x, None, cx));
        let [q, k] = self.turn([q?, k?], sizes, (Direction::Forward, first), cx)?;
        let v = v?;
        let (mixing, sequences) = (self.mixing(), sizes.views([&q, &k, &v])?);
        let [out, stats] = match generating {
            true => mixing.go_on(sequences, sizes, cx)?,
            false => mixing.forward(sequences, sizes, cx)?,
        };
        let [.., o] = &mut self.projections;
        let y = o.output(&out, None, cx)?;
        Ok((y.into(), ((x, out), (q, k, v), stats)))
    }

    fn backward_input(
        &mut self,
        dy: Tensors,
        ((x, out), (q, k, v), stats): Self::Stash,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Kept), LayerError> {
        let [dy] = dy.take()?;
        let sizes = self.spec.sizes(x.shape())?;
        let [.., o] = &mut self.projections;
        let dout = o.input_gradient(&dy, None, cx)?;
        let [dq, dk, dv] = self.attend_back(&dout, [&q, &k, &v], (&stats, sizes), cx)?;
        drop((dout, q, k, v, stats));
        let [dq, dk] = self.turn([dq, dk], sizes, (Direction::Back, 0), cx)?;
        let dx = match cx.wants_gradient(0) {
            true => {
                let [q, k, v, _] = &mut self.projections;
                let dx = q.input_gradient(&dq, None, cx)?;
                let dx = k.add_input_gradient(dx, &dk, cx)?;
                Some(v.add_input_gradient(dx, &dv, cx)?)
            }
            false => None,
        };
        Ok(([dx].into(), ((x, out), (dq, dk, dv), dy)))
    }

    fn backward_weight(
        &mut self,
        ((x, out), (dq, dk, dv), dy): Self::Kept,
        cx: &mut Ctx<'_>,
    ) -> Result<(), LayerError> {
        let [q, k, v, o] = &mut self.projections;
        o.weight_gradients(&out, &dy, cx)?;
        drop((out, dy));
        v.weight_gradients(&x, &dv, cx)?;
        k.weight_gradients(&x, &dk, cx)?;
        q.weight_gradients(&x, &dq, cx)
    }

    fn params(&mut self, visit: &mut dyn FnMut(&mut dyn ParamAccess)) {
        let projections = self.projections.iter_mut();
        projections.for_each(|projection| projection.params(visit));
    }
}
