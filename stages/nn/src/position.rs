//! The table of positions.

use crate::kernels::elementwise::add;
use crate::kernels::reduce::column_sums;
use crate::shapes::one_input;
use brigade_layer::{
    BuildCtx, Cost, Ctx, Init, Keep, Layer, LayerError, LayerSpec, Mode, Param, ParamAccess,
    ParamRole, ParamSpec, Shape, Tensor, TensorSpec, Tensors,
};
use serde::{Deserialize, Serialize};

/// Adds the vector of every position: y = x + weight[..T].
///
/// # Shapes
/// x [B, T, D], weight [C, D], y [B, T, D]; C `context`, T at most C, D `width`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PositionEmbedding {
    /// The longest sequence.
    pub context: usize,
    /// Length of a vector.
    pub width: usize,
    /// Initial vectors.
    pub init: Init,
}

impl PositionEmbedding {
    /// Positions whose vectors start normal with deviation 0.02, as GPT-2's do.
    pub fn new(context: usize, width: usize) -> Self {
        Self {
            context,
            width,
            init: Init::Normal(0.02),
        }
    }

    /// With these initial vectors.
    #[must_use]
    pub fn init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }

    /// Length of the sequences.
    fn length(&self, x: Shape) -> Result<usize, LayerError> {
        match *x.axes() {
            [_, length, width] if width == self.width && length <= self.context => Ok(length),
            _ => {
                let expected = format!("[rows, at most {}, {}]", self.context, self.width);
                Err(LayerError::shape("position embedding", expected, x))
            }
        }
    }
}

impl LayerSpec for PositionEmbedding {
    type Layer = PositionEmbeddingLayer;

    fn params(&self) -> Vec<ParamSpec> {
        let shape = [self.context, self.width];
        vec![ParamSpec::new(
            "weight",
            shape,
            ParamRole::Embedding,
            self.init,
        )]
    }

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        let x = one_input("position embedding", inputs)?;
        self.length(x.shape)?;
        Ok(vec![x])
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let shape = inputs[0].shape;
        let sequence = shape.row_elements() as u64;
        Cost {
            forward_flops: shape.elements() as u64,
            input_flops: shape.elements() as u64,
            weight_flops: sequence,
            stash_bytes: 0,
            kept_bytes: sequence * 4,
            forward_working_bytes: inputs[0].bytes(),
            backward_working_bytes: sequence * 4,
            sequence_bytes: size_of::<Next>() as u64,
            ..Cost::default()
        }
    }

    fn build(&self, cx: &BuildCtx<'_>) -> Result<PositionEmbeddingLayer, LayerError> {
        if self.context == 0 || self.width == 0 {
            let problem = "context and width must be at least 1";
            return Err(LayerError::spec("position embedding", problem));
        }
        let table = Param::build(&self.params()[0], cx)?;
        Ok(PositionEmbeddingLayer {
            spec: self.clone(),
            table,
        })
    }
}

/// The layer that [`PositionEmbedding`] describes.
#[derive(Debug)]
pub struct PositionEmbeddingLayer {
    spec: PositionEmbedding,
    table: Param,
}

/// The position that comes next: the state along a sequence that is generated.
#[derive(Default)]
struct Next(usize);

impl Keep for Next {
    fn tensors(&self, _: &mut dyn FnMut(&Tensor)) {}
    fn foreign_bytes(&self) -> u64 {
        size_of::<Self>() as u64
    }
}

impl PositionEmbeddingLayer {
    /// The first position of the next piece.
    fn next(&self, length: usize, cx: &mut Ctx<'_>) -> Result<usize, LayerError> {
        let Next(next) = cx.sequence_state::<Next>();
        let (first, after) = (*next, *next + length);
        if after > self.spec.context {
            let longest = self.spec.context;
            let problem = format!("a sequence of {after} tokens; the longest is {longest}");
            return Err(LayerError::Value(problem));
        }
        *next = after;
        Ok(first)
    }
}

impl Layer for PositionEmbeddingLayer {
    type Stash = ();
    /// This micro-batch's gradient of the positions: smaller than the gradients that it is summed
    /// from.
    type Kept = Tensor;

    fn forward(&mut self, x: Tensors, cx: &mut Ctx<'_>) -> Result<(Tensors, ()), LayerError> {
        let [x] = x.take()?;
        let length = self.spec.length(x.shape())?;
        let first = match cx.mode {
            Mode::Generate => self.next(length, cx)?,
            _ => 0,
        };
        let sequence = length * self.spec.width;
        let mut y = cx.writable::<f32>(x)?;
        let positions = &self.table.value()[first * self.spec.width..][..sequence];
        cx.timed("add", |cx| {
            for row in y.data().chunks_exact_mut(sequence.max(1)) {
                add(row, positions, cx.threads);
            }
        });
        Ok((y.freeze().into(), ()))
    }

    fn backward_input(
        &mut self,
        dy: Tensors,
        (): (),
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Tensor), LayerError> {
        let [dy] = dy.take()?;
        let length = self.spec.length(dy.shape())?;
        let mut share = cx.f32([length, self.spec.width])?;
        let (dy_data, columns) = (dy.f32()?, length * self.spec.width);
        cx.timed("column sums", |cx| {
            column_sums(share.data(), true, dy_data, columns, cx.threads);
        });
        let dx = cx.wants_gradient(0).then_some(dy);
        Ok(([dx].into(), share.freeze()))
    }

    fn backward_weight(&mut self, share: Tensor, cx: &mut Ctx<'_>) -> Result<(), LayerError> {
        let share = share.f32()?;
        add(
            &mut self.table.gradient_add(cx.pool())?[..share.len()],
            share,
            cx.threads,
        );
        Ok(())
    }

    fn params(&mut self, visit: &mut dyn FnMut(&mut dyn ParamAccess)) {
        visit(&mut self.table);
    }
}
