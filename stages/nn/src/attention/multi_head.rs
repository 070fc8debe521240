//! Attention to all positions: of a sequence itself, or of another one.

use super::multi_head_layer::MultiHeadAttentionLayer;
use super::sizes::{Sizes, check_heads};
use crate::kernels::random::check_probability;
use crate::linear::Linear;
use crate::shapes::expect;
use brigade_layer::{
    BuildCtx, Cost, DType, Init, LayerError, LayerSpec, ParamSpec, Shape, TensorSpec,
};
use serde::{Deserialize, Serialize};

const NAME: &str = "multi-head attention";

/// Attention of every position to all positions, in heads, with its projections: of x itself
/// (bidirectional self-attention, as in an encoder), or of a memory (cross-attention, as of a
/// decoder to what the encoder put out).
///
/// y = c_proj(softmax(q k^T / sqrt(C)) v) for heads of C = W / H columns. Of x itself `c_attn`
/// makes queries, keys and values; with a memory `q_attn` makes the queries of x, and `c_attn` keys
/// and values of the memory. The names are those of GPT-2's attention.
///
/// # Padding
/// With an id for padding, the ids of whatever is attended to are a further input: of each row,
/// nobody sees the positions after the last id that is another one. So a sequence gives the same
/// numbers alone and padded, and what is padded costs nothing. Of a row of nothing but padding, the
/// first position is seen.
///
/// # Shapes
/// x [N, T, W], y [N, T, W]; W `width`, H `heads`; c_proj.weight [W, W], c_proj.bias \[W\].
/// - Self-attention: c_attn.weight [3 W, W], c_attn.bias [3 W]. Inputs x; with padding x and its
///   ids, i32 [N, T].
/// - Cross-attention: memory [N, S, M], q_attn.weight [W, W], q_attn.bias \[W\], c_attn.weight
///   [2 W, M], c_attn.bias [2 W]; M the memory's width. Inputs x and the memory; with padding also
///   the memory's ids, i32 [N, S].
///
/// # Errors
/// When shapes do not fit, the heads cannot share the width, or the dropout is no probability. When
/// generating: what comes later would be seen.
///
/// # Example
/// ```
/// use brigade_layer::{LayerSpec, TensorSpec};
/// use brigade_nn::MultiHeadAttention;
/// let cross = MultiHeadAttention::new(64, 4).memory(96).padding(0);
/// let (x, memory) = (TensorSpec::f32([2, 7, 64]), TensorSpec::f32([2, 9, 96]));
/// assert_eq!(cross.outputs(&[x, memory, TensorSpec::i32([2, 9])])?, [x]);
/// # Ok::<(), brigade_layer::LayerError>(())
/// ```
///
/// # Source
/// Vaswani et al.: "Attention is all you need", 2017, section 3.2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MultiHeadAttention {
    /// Length of x's last axis.
    pub width: usize,
    /// How many heads share the width.
    pub heads: usize,
    /// Length of the memory's last axis, or `None` for attention to x itself.
    pub memory: Option<usize>,
    /// The id that pads whatever is attended to, or `None` where all of it counts.
    pub padding: Option<i32>,
    /// Whether the projections have biases (they start at 0).
    pub bias: bool,
    /// Initial weight of `q_attn` and `c_attn`.
    pub init: Init,
    /// Initial weight of `c_proj`.
    pub projection_init: Init,
    /// With which probability an attention probability is dropped while training.
    pub dropout: f32,
}

impl MultiHeadAttention {
    /// Self-attention with biases, weights that start normal with deviation 0.02, and no dropout.
    pub fn new(width: usize, heads: usize) -> Self {
        let init = Init::Normal(0.02);
        Self {
            width,
            heads,
            memory: None,
            padding: None,
            bias: true,
            init,
            projection_init: init,
            dropout: 0.0,
        }
    }

    /// Cross-attention, to a memory of this width.
    #[must_use]
    pub fn memory(mut self, width: usize) -> Self {
        self.memory = Some(width);
        self
    }

    /// Without what this id pads.
    #[must_use]
    pub fn padding(mut self, id: i32) -> Self {
        self.padding = Some(id);
        self
    }

    /// Without biases.
    #[must_use]
    pub fn without_bias(mut self) -> Self {
        self.bias = false;
        self
    }

    /// With these initial weights of the projections before and of `c_proj`.
    #[must_use]
    pub fn init(mut self, first: Init, c_proj: Init) -> Self {
        (self.init, self.projection_init) = (first, c_proj);
        self
    }

    /// With dropout of attention probabilities.
    #[must_use]
    pub fn dropout(mut self, probability: f32) -> Self {
        self.dropout = probability;
        self
    }

    fn linear(&self, inputs: usize, outputs: usize, init: Init) -> Linear {
        let linear = Linear::new(inputs, outputs).init(init);
        match self.bias {
            true => linear.bias(Init::Zeros),
            false => linear.without_bias(),
        }
    }

    /// `q_attn`, where there is a memory.
    fn q_attn(&self) -> Option<Linear> {
        let linear = self.linear(self.width, self.width, self.init);
        self.memory.map(|_| linear)
    }

    fn c_attn(&self) -> Linear {
        let times = |n: usize| self.width.saturating_mul(n);
        match self.memory {
            Some(memory) => self.linear(memory, times(2), self.init),
            None => self.linear(self.width, times(3), self.init),
        }
    }

    fn c_proj(&self) -> Linear {
        self.linear(self.width, self.width, self.projection_init)
    }

    fn parts(&self) -> impl Iterator<Item = (&'static str, Linear)> {
        let others = [("c_attn", self.c_attn()), ("c_proj", self.c_proj())];
        let q_attn = self.q_attn().map(|linear| ("q_attn", linear));
        q_attn.into_iter().chain(others)
    }

    fn check(&self) -> Result<(), LayerError> {
        check_heads(NAME, self.width, self.heads)?;
        if self.memory == Some(0) {
            return Err(LayerError::spec(
                NAME,
                "the memory's width must be at least 1",
            ));
        }
        check_probability(NAME, self.dropout)
    }

    /// How many inputs there are.
    pub(super) fn arity(&self) -> usize {
        1 + usize::from(self.memory.is_some()) + usize::from(self.padding.is_some())
    }

    /// Of x and what it attends to: x once more, or the memory.
    pub(super) fn sizes(&self, x: Shape, to: Shape) -> Result<Sizes, LayerError> {
        let refuse = |what: &str, expected: String, found| {
            let what = format!("{what} of {NAME}");
            Err(LayerError::shape(what, expected, found))
        };
        let (batch, length) = match *x.axes() {
            [batch, length, width] if width == self.width && length > 0 => (batch, length),
            _ => return refuse("x", format!("[rows, at least 1, {}]", self.width), x),
        };
        let wide = self.memory.unwrap_or(self.width);
        let keys = match *to.axes() {
            [rows, keys, width] if rows == batch && width == wide && keys > 0 => keys,
            _ => return refuse("memory", format!("[{batch}, at least 1, {wide}]"), to),
        };
        // Queries, keys and values together.
        for length in [length, keys] {
            Shape::new(&[batch, length, self.width.saturating_mul(3)])?;
        }
        Ok(Sizes {
            batch,
            length,
            keys,
            causal: false,
            heads: [self.heads; 2],
            columns: self.width / self.heads.max(1),
        })
    }

    /// Whether there are ids for all that is attended to.
    pub(super) fn check_ids(sizes: Sizes, ids: Shape) -> Result<(), LayerError> {
        if ids.axes() == [sizes.batch, sizes.keys] {
            return Ok(());
        }
        let (what, expected) = (format!("ids of {NAME}"), [sizes.batch, sizes.keys]);
        Err(LayerError::shape(what, format!("{expected:?}"), ids))
    }
}

impl LayerSpec for MultiHeadAttention {
    type Layer = MultiHeadAttentionLayer;

    fn params(&self) -> Vec<ParamSpec> {
        let of = |(name, linear): (&str, Linear)| {
            let params = linear.params().into_iter();
            params.map(|param| param.within(name)).collect::<Vec<_>>()
        };
        self.parts().flat_map(of).collect()
    }

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        self.check()?;
        let (expected, found) = (self.arity(), inputs.len());
        if expected != found {
            return Err(LayerError::Arity { expected, found });
        }
        let x = expect(NAME, inputs[0], DType::F32)?;
        let to = match self.memory {
            Some(_) => expect(NAME, inputs[1], DType::F32)?,
            None => x,
        };
        let sizes = self.sizes(x.shape, to.shape)?;
        if self.padding.is_some() {
            let ids = expect(NAME, inputs[expected - 1], DType::I32)?;
            Self::check_ids(sizes, ids.shape)?;
        }
        Ok(vec![x])
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let x = inputs[0];
        let memory = self.memory.and(inputs.get(1)).copied();
        let to = memory.unwrap_or(x);
        let Ok(sizes) = self.sizes(x.shape, to.shape) else {
            return Cost::default();
        };
        let given: u64 = inputs.iter().map(TensorSpec::bytes).sum();
        let (one, memory) = (x.bytes(), memory.map_or(0, |memory| memory.bytes()));
        // Queries, keys and values, and as much for their gradients.
        let projected = sizes.bytes([1, 2]);
        let stats = TensorSpec::f32(sizes.stats()).bytes();
        let [first, second] = [1, 2].map(|matrices| sizes.scratch_bytes(matrices));
        let (q_attn, c_attn, c_proj) = (self.q_attn(), self.c_attn(), self.c_proj());
        let [queries, keys] = [sizes.length, sizes.keys].map(|length| sizes.batch * length);
        let q = q_attn
            .as_ref()
            .map_or([0; 3], |linear| linear.scratch_bytes(queries));
        let (c, o) = (c_attn.scratch_bytes(keys), c_proj.scratch_bytes(queries));
        let parts = c_attn.cost(&[to]) + c_proj.cost(&[x]);
        let parts = q_attn.map_or(parts, |linear| parts + linear.cost(&[x]));
        let [forward, backward] = sizes.flops(self.dropout > 0.0);
        let own = Cost {
            forward_flops: forward,
            input_flops: backward,
            ..Cost::default()
        };
        Cost {
            stash_bytes: given + projected + stats + one,
            // x, the memory, the ids.
            stashed_inputs: (1 << inputs.len()) - 1,
            kept_bytes: one + memory + projected + 2 * one,
            forward_working_bytes: (projected + q[0].max(c[0]))
                .max(projected + one + stats + first)
                .max(projected + one + stats + one + o[0]),
            // By the time x and the memory get theirs, as much as gradients take has been freed.
            backward_working_bytes: (one + o[1])
                .max(one + projected + second)
                .max(one + memory + q[1].max(c[1]))
                .max(q[2].max(c[2]).max(o[2])),
            thread_bytes: parts.thread_bytes.max(second),
            ..own + parts
        }
    }

    fn build(&self, cx: &BuildCtx<'_>) -> Result<MultiHeadAttentionLayer, LayerError> {
        self.check()?;
        let build = |name, linear: Linear| linear.build(&cx.within(name));
        let q_attn = self.q_attn().map(|linear| build("q_attn", linear));
        let c_attn = build("c_attn", self.c_attn())?;
        let c_proj = build("c_proj", self.c_proj())?;
        Ok(MultiHeadAttentionLayer::new(
            self,
            q_attn.transpose()?,
            c_attn,
            c_proj,
        ))
    }
}
