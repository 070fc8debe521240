//! Causal self-attention with rotary positions and heads that share keys and values in groups.

use super::cache;
use super::grouped_layer::GroupedQueryAttentionLayer;
use super::sizes::Sizes;
use crate::kernels::random::check_probability;
use crate::linear::Linear;
use crate::rotary::Rotary;
use crate::shapes::one_input;
use brigade_layer::{BuildCtx, Cost, Init, LayerError, LayerSpec, ParamSpec, Shape, TensorSpec};
use serde::{Deserialize, Serialize};

/// Causal self-attention as Llama has it: projections of x make queries, keys and values
/// (`q_proj`, `k_proj`, `v_proj`), queries and keys turn by their positions, every group of heads
/// attends to one head of keys and values, and `o_proj` projects what comes out.
///
/// # Shapes
/// x [B, T, D], q_proj.weight [H C, D], k_proj.weight and v_proj.weight [G C, D], o_proj.weight
/// [D, H C], y [B, T, D]; H `heads`, G `kv_heads`, C `head_width`.
///
/// # Source
/// Ainslie et al.: "GQA: training generalized multi-query transformer models from multi-head
/// checkpoints", 2023; for rotations [`Rotary`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GroupedQueryAttention {
    /// Length of the last axis.
    pub width: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values; the heads of queries are a multiple.
    pub kv_heads: usize,
    /// Columns of a head.
    pub head_width: usize,
    /// How positions turn.
    pub rotary: Rotary,
    /// Whether the projections have biases (they start at 0).
    pub bias: bool,
    /// Initial weight of `q_proj`, `k_proj` and `v_proj`.
    pub init: Init,
    /// Initial weight of `o_proj`.
    pub projection_init: Init,
    /// With which probability an attention probability is dropped while training.
    pub dropout: f32,
}

impl GroupedQueryAttention {
    /// With heads that share the width, without biases and dropout, and with weights that start
    /// normal with deviation 0.02.
    pub fn new(width: usize, heads: usize, kv_heads: usize) -> Self {
        let init = Init::Normal(0.02);
        Self {
            width,
            heads,
            kv_heads,
            head_width: width / heads.max(1),
            rotary: Rotary::default(),
            bias: false,
            init,
            projection_init: init,
            dropout: 0.0,
        }
    }

    /// With heads of so many columns.
    #[must_use]
    pub fn head_width(mut self, columns: usize) -> Self {
        self.head_width = columns;
        self
    }

    /// With positions that turn like this.
    #[must_use]
    pub fn rotary(mut self, rotary: Rotary) -> Self {
        self.rotary = rotary;
        self
    }

    /// With biases.
    #[must_use]
    pub fn with_bias(mut self) -> Self {
        self.bias = true;
        self
    }

    /// With these initial weights of the first three projections and of the last.
    #[must_use]
    pub fn init(mut self, first: Init, last: Init) -> Self {
        (self.init, self.projection_init) = (first, last);
        self
    }

    /// With dropout of attention probabilities.
    #[must_use]
    pub fn dropout(mut self, probability: f32) -> Self {
        self.dropout = probability;
        self
    }

    /// The projections by name: queries, keys, values, and what comes out.
    fn parts(&self) -> [(&'static str, Linear); 4] {
        let linear = |inputs, outputs, init| {
            let linear = Linear::new(inputs, outputs).init(init);
            match self.bias {
                true => linear.bias(Init::Zeros),
                false => linear.without_bias(),
            }
        };
        let numbers = |heads: usize| heads.saturating_mul(self.head_width);
        let (queries, keys) = (numbers(self.heads), numbers(self.kv_heads));
        let from_x = |outputs| linear(self.width, outputs, self.init);
        [
            ("q_proj", from_x(queries)),
            ("k_proj", from_x(keys)),
            ("v_proj", from_x(keys)),
            ("o_proj", linear(queries, self.width, self.projection_init)),
        ]
    }

    fn check(&self) -> Result<(), LayerError> {
        let refuse = |problem| Err(LayerError::spec("grouped-query attention", problem));
        let (heads, groups) = (self.heads, self.kv_heads);
        if self.width == 0 {
            return refuse("width must be at least 1".to_owned());
        }
        if heads == 0 || groups == 0 || !heads.is_multiple_of(groups) {
            return refuse(format!(
                "{heads} heads cannot be grouped around {groups} of keys and values; make them a \
                 multiple"
            ));
        }
        check_probability("grouped-query attention", self.dropout)?;
        self.rotary.frequencies(self.head_width).map(drop)
    }

    pub(super) fn sizes(&self, x: Shape) -> Result<Sizes, LayerError> {
        match *x.axes() {
            [batch, length, width] if width == self.width && length > 0 => Ok(Sizes {
                batch,
                length,
                keys: length,
                causal: true,
                heads: [self.heads, self.kv_heads],
                columns: self.head_width,
            }),
            _ => {
                let expected = format!("[rows, at least 1, {}]", self.width);
                Err(LayerError::shape("grouped-query attention", expected, x))
            }
        }
    }
}

impl LayerSpec for GroupedQueryAttention {
    type Layer = GroupedQueryAttentionLayer;

    fn params(&self) -> Vec<ParamSpec> {
        let of = |(name, linear): (&str, Linear)| {
            let params = linear.params().into_iter();
            params.map(|param| param.within(name)).collect::<Vec<_>>()
        };
        self.parts().into_iter().flat_map(of).collect()
    }

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        self.check()?;
        let x = one_input("grouped-query attention", inputs)?;
        self.sizes(x.shape)?;
        Ok(vec![x])
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let Ok(sizes) = self.sizes(inputs[0].shape) else {
            return Cost::default();
        };
        let x = inputs[0].bytes();
        let projected = sizes.rows().map(TensorSpec::f32);
        let [queries, keys] = projected.map(|projected| projected.bytes());
        let stats = TensorSpec::f32(sizes.stats()).bytes();
        let angles = TensorSpec::f32([sizes.length, sizes.columns]).bytes();
        let scratch = |matrices| TensorSpec::f32(sizes.scratch(matrices, 1)).bytes();
        let parts = self.parts().map(|(_, linear)| linear);
        let [q, k, v, o] = &parts;
        let rows = sizes.batch * sizes.length;
        let [q_scratch, k_scratch, o_scratch] = [q, k, o].map(|linear| linear.scratch_bytes(rows));
        let all = [q, k, v].map(|linear| linear.cost(inputs)).into_iter();
        let all = all.fold(o.cost(&projected[..1]), |sum, cost| sum + cost);
        let turned = projected.map(|projected| projected.shape.elements() as u64);
        let turning = 3 * (turned[0] + turned[1]);
        let [forward, backward] = sizes.flops(self.dropout > 0.0);
        let own = Cost {
            forward_flops: forward.saturating_add(turning),
            input_flops: backward.saturating_add(turning),
            ..Cost::default()
        };
        let stash = x + 2 * queries + 2 * keys + stats;
        let projecting = q_scratch[0].max(k_scratch[0]);
        let held = queries + 2 * keys;
        Cost {
            stash_bytes: stash,
            stashed_inputs: 1,
            kept_bytes: 2 * x + 2 * queries + 2 * keys,
            forward_working_bytes: (held + projecting + angles)
                .max(held + queries + stats + scratch(1))
                .max(held + queries + stats + x + o_scratch[0]),
            backward_working_bytes: (queries + o_scratch[1])
                .max(2 * queries + 2 * keys + scratch(2))
                .max(queries + 2 * keys + angles)
                .max(queries + 2 * keys + x + q_scratch[1].max(k_scratch[1]))
                .max(q_scratch[2].max(k_scratch[2]).max(o_scratch[2])),
            thread_bytes: all.thread_bytes.max(scratch(2)),
            sequence_bytes: cache::bytes(sizes),
            ..own + all
        }
    }

    fn build(&self, cx: &BuildCtx<'_>) -> Result<GroupedQueryAttentionLayer, LayerError> {
        self.check()?;
        let (frequencies, length) = self.rotary.frequencies(self.head_width)?;
        let parts = self.parts();
        let [q, k, v, o] = parts.map(|(name, linear)| linear.build(&cx.within(name)));
        let projections = [q?, k?, v?, o?];
        let turns = (frequencies, length);
        Ok(GroupedQueryAttentionLayer::new(self, projections, turns))
    }
}
