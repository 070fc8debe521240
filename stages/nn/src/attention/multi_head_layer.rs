//! How attention to all positions is computed.

use super::mixing::Mixing;
use super::multi_head::MultiHeadAttention;
use super::sizes::Sizes;
use crate::kernels::attention::{Sequences, Sight};
use crate::linear::LinearLayer;
use brigade_layer::{Ctx, Keep, Layer, LayerError, Mode, ParamAccess, Tensor, Tensors};
use ndarray::Axis;

/// The layer that [`MultiHeadAttention`] describes.
#[derive(Debug)]
pub struct MultiHeadAttentionLayer {
    spec: MultiHeadAttention,
    /// With a memory, of queries.
    q_attn: Option<LinearLayer>,
    /// Of queries, keys and values, or with a memory of the last two.
    c_attn: LinearLayer,
    c_proj: LinearLayer,
}

/// What goes in.
pub struct Inputs {
    x: Tensor,
    memory: Option<Tensor>,
    /// Of what is attended to, where it may be padded.
    ids: Option<Tensor>,
}

impl Keep for Inputs {
    fn tensors(&self, visit: &mut dyn FnMut(&Tensor)) {
        visit(&self.x);
        self.memory.tensors(visit);
        self.ids.tensors(visit);
    }
}

impl Inputs {
    /// What is attended to.
    fn to(&self) -> &Tensor {
        self.memory.as_ref().unwrap_or(&self.x)
    }

    /// Of every row, how many positions there are before those that are padded.
    fn seen(&self, padding: Option<i32>) -> Result<Option<Vec<usize>>, LayerError> {
        let (Some(ids), Some(padding)) = (&self.ids, padding) else {
            return Ok(None);
        };
        let rows = ids.i32()?.chunks_exact(ids.shape().last().max(1));
        let last = |row: &[i32]| row.iter().rposition(|id| *id != padding);
        Ok(Some(
            rows.map(|row| last(row).map_or(1, |last| last + 1))
                .collect(),
        ))
    }
}

/// Queries, where they are by themselves, and keys and values, with queries before them otherwise;
/// or gradients of these.
type Projected = (Option<Tensor>, Tensor);

impl MultiHeadAttentionLayer {
    pub(super) fn new(
        spec: &MultiHeadAttention,
        q_attn: Option<LinearLayer>,
        c_attn: LinearLayer,
        c_proj: LinearLayer,
    ) -> Self {
        Self {
            spec: spec.clone(),
            q_attn,
            c_attn,
            c_proj,
        }
    }

    fn take(&self, mut inputs: Tensors) -> Result<(Inputs, Sizes), LayerError> {
        let (expected, found) = (self.spec.arity(), inputs.len());
        if expected != found {
            return Err(LayerError::Arity { expected, found });
        }
        let mut take = |index| inputs.remove(index).ok_or(LayerError::Missing { index });
        let x = take(0)?;
        let memory = self.spec.memory.map(|_| take(1)).transpose()?;
        let ids = self.spec.padding.map(|_| take(expected - 1)).transpose()?;
        let inputs = Inputs { x, memory, ids };
        let sizes = self.sizes(&inputs)?;
        if let Some(ids) = &inputs.ids {
            MultiHeadAttention::check_ids(sizes, ids.shape())?;
        }
        Ok((inputs, sizes))
    }

    fn sizes(&self, inputs: &Inputs) -> Result<Sizes, LayerError> {
        self.spec.sizes(inputs.x.shape(), inputs.to().shape())
    }

    fn mixing<'a>(&self, seen: Option<&'a Vec<usize>>) -> Mixing<'a> {
        Mixing {
            heads: self.spec.heads,
            dropout: self.spec.dropout,
            sight: seen.map_or(Sight::All, |seen| Sight::First(seen)),
        }
    }

    /// Gradients of what was projected from that of what attention gave.
    fn attend_back(
        &self,
        dout: &Tensor,
        (stats, projected): (&Tensor, &Projected),
        (seen, sizes): (Option<&Vec<usize>>, Sizes),
        cx: &mut Ctx<'_>,
    ) -> Result<Projected, LayerError> {
        let (q, kv) = projected;
        let mut dq = q.as_ref().map(|q| cx.f32(q.shape())).transpose()?;
        let mut dkv = cx.f32(kv.shape())?;
        let rest = sizes.view_mut(&mut dkv);
        let (dq_view, rest) = match &mut dq {
            Some(dq) => (sizes.view_mut(dq), rest),
            None => rest.split_at(Axis(2), sizes.heads[0]),
        };
        let (dk, dv) = rest.split_at(Axis(2), sizes.heads[1]);
        let saved = (stats, sequences(projected, sizes)?);
        (self.mixing(seen)).backward([dq_view, dk, dv], dout, saved, sizes, cx)?;
        Ok((dq.map(|dq| dq.freeze()), dkv.freeze()))
    }

    /// Gradients of x and the memory, as far as they are wanted.
    fn gradients(
        &mut self,
        (dq, dkv): &Projected,
        padded: bool,
        cx: &mut Ctx<'_>,
    ) -> Result<Tensors, LayerError> {
        let of_c_attn = usize::from(dq.is_some());
        let mut gradients = Tensors::none();
        if let (Some(q_attn), Some(dq)) = (&mut self.q_attn, dq) {
            gradients.push(match cx.wants_gradient(0) {
                true => Some(q_attn.input_gradient(dq, None, cx)?),
                false => None,
            })?;
        }
        gradients.push(match cx.wants_gradient(of_c_attn) {
            true => Some(self.c_attn.input_gradient(dkv, None, cx)?),
            false => None,
        })?;
        if padded {
            gradients.push(None)?;
        }
        Ok(gradients)
    }
}

fn sequences<'a>((q, kv): &'a Projected, sizes: Sizes) -> Result<Sequences<'a>, LayerError> {
    let rest = sizes.view(kv)?;
    let (q, rest) = match q {
        Some(q) => (sizes.view(q)?, rest),
        None => rest.split_at(Axis(2), sizes.heads[0]),
    };
    let (k, v) = rest.split_at(Axis(2), sizes.heads[1]);
    Ok([q, k, v])
}

impl Layer for MultiHeadAttentionLayer {
    /// What went in, what was projected, two numbers per query and head, and what attention gave.
    type Stash = (Inputs, Projected, Tensor, Tensor);
    /// x and the memory, gradients of what was projected, what attention gave, and the gradient of
    /// y.
    type Kept = ((Tensor, Option<Tensor>), Projected, Tensor, Tensor);

    fn forward(
        &mut self,
        inputs: Tensors,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Stash), LayerError> {
        if cx.mode == Mode::Generate {
            let problem = "attention to all positions cannot go on piece by piece: earlier ones \
                           would have seen what comes later";
            return Err(LayerError::Value(problem.into()));
        }
        let (inputs, sizes) = self.take(inputs)?;
        let q_attn = self.q_attn.as_mut();
        let q = q_attn.map(|q_attn| q_attn.output(&inputs.x, None, cx));
        let projected = (q.transpose()?, self.c_attn.output(inputs.to(), None, cx)?);
        let seen = inputs.seen(self.spec.padding)?;
        let mixed = sequences(&projected, sizes)?;
        let [out, stats] = (self.mixing(seen.as_ref())).forward(mixed, sizes, cx)?;
        let y = self.c_proj.output(&out, None, cx)?;
        Ok((y.into(), (inputs, projected, stats, out)))
    }

    fn backward_input(
        &mut self,
        dy: Tensors,
        (inputs, projected, stats, out): Self::Stash,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Kept), LayerError> {
        let [dy] = dy.take()?;
        let (sizes, seen) = (self.sizes(&inputs)?, inputs.seen(self.spec.padding)?);
        let dout = self.c_proj.input_gradient(&dy, None, cx)?;
        let means = (seen.as_ref(), sizes);
        let gradients = self.attend_back(&dout, (&stats, &projected), means, cx)?;
        drop((dout, projected, stats));
        let given = self.gradients(&gradients, inputs.ids.is_some(), cx)?;
        let Inputs { x, memory, .. } = inputs;
        Ok((given, ((x, memory), gradients, out, dy)))
    }

    fn backward_weight(
        &mut self,
        ((x, memory), (dq, dkv), out, dy): Self::Kept,
        cx: &mut Ctx<'_>,
    ) -> Result<(), LayerError> {
        self.c_proj.weight_gradients(&out, &dy, cx)?;
        drop((out, dy));
        let to = memory.as_ref().unwrap_or(&x);
        self.c_attn.weight_gradients(to, &dkv, cx)?;
        match (&mut self.q_attn, dq) {
            (Some(q_attn), Some(dq)) => q_attn.weight_gradients(&x, &dq, cx),
            _ => Ok(()),
        }
    }

    fn params(&mut self, visit: &mut dyn FnMut(&mut dyn ParamAccess)) {
        let others = [&mut self.c_attn, &mut self.c_proj];
        let all = self.q_attn.iter_mut().chain(others);
        all.for_each(|linear| linear.params(visit));
    }
}
