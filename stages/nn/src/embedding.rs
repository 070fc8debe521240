//! The table of tokens.

use crate::kernels::parallel::{In, Out, spread};
use crate::shapes::expect;
use brigade_layer::{
    BuildCtx, Cost, Ctx, DType, Init, Layer, LayerError, LayerSpec, Param, ParamAccess, ParamRole,
    ParamSpec, Shape, SharedId, Tensor, TensorSpec, Tensors,
};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The vector of every id: y = weight\[id\].
///
/// # Shapes
/// ids i32 [..], weight [V, D], y [.., D]; V `vocab`, D `width`.
///
/// # Errors
/// An id outside the table is an error that names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Embedding {
    /// How many ids there are.
    pub vocab: usize,
    /// Length of a vector.
    pub width: usize,
    /// Initial vectors.
    pub init: Init,
    /// The shared parameter that the table is, if it is one.
    pub shared: Option<SharedId>,
}

impl Embedding {
    /// A table whose vectors start normal with deviation 1, as PyTorch's do.
    pub fn new(vocab: usize, width: usize) -> Self {
        Self {
            vocab,
            width,
            init: Init::Normal(1.0),
            shared: None,
        }
    }

    /// With these initial vectors.
    #[must_use]
    pub fn init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }

    /// With a table that other layers hold too.
    #[must_use]
    pub fn shared(mut self, shared: SharedId) -> Self {
        self.shared = Some(shared);
        self
    }

    fn output_shape(&self, ids: Shape) -> Result<Shape, LayerError> {
        let axes: Vec<usize> = ids.axes().iter().copied().chain([self.width]).collect();
        Shape::new(&axes)
    }

    fn check(&self, ids: &[i32], row_elements: usize) -> Result<(), LayerError> {
        let inside = |id: i32| usize::try_from(id).is_ok_and(|id| id < self.vocab);
        let Some(at) = ids.iter().position(|id| !inside(*id)) else {
            return Ok(());
        };
        Err(LayerError::Value(format!(
            "embedding: id {} in row {} of the micro-batch is outside the vocabulary of {} \
             (0 to {})",
            ids[at],
            at / row_elements.max(1),
            self.vocab,
            self.vocab - 1,
        )))
    }
}

impl LayerSpec for Embedding {
    type Layer = EmbeddingLayer;

    fn params(&self) -> Vec<ParamSpec> {
        let shape = [self.vocab, self.width];
        vec![ParamSpec::new("weight", shape, ParamRole::Embedding, self.init).shared(self.shared)]
    }

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        let [ids] = *inputs else {
            return Err(LayerError::Arity {
                expected: 1,
                found: inputs.len(),
            });
        };
        let ids = expect("embedding", ids, DType::I32)?;
        Ok(vec![TensorSpec::f32(self.output_shape(ids.shape)?)])
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let (elements, ids) = (inputs[0].shape.elements() * self.width, inputs[0].bytes());
        Cost {
            forward_flops: 0,
            input_flops: 0,
            weight_flops: elements as u64,
            stash_bytes: ids,
            kept_bytes: ids + elements as u64 * 4,
            forward_working_bytes: elements as u64 * 4,
            backward_working_bytes: 0,
            thread_bytes: 0,
            ..Cost::default()
        }
    }

    fn build(&self, cx: &BuildCtx<'_>) -> Result<EmbeddingLayer, LayerError> {
        if self.vocab == 0 || self.width == 0 {
            return Err(LayerError::spec(
                "embedding",
                "vocab and width must be at least 1",
            ));
        }
        let table = Param::build(&self.params()[0], cx)?;
        Ok(EmbeddingLayer {
            spec: self.clone(),
            table,
        })
    }
}

/// The layer that [`Embedding`] describes.
#[derive(Debug)]
pub struct EmbeddingLayer {
    spec: Embedding,
    table: Param,
}

impl Layer for EmbeddingLayer {
    type Stash = Tensor;
    type Kept = (Tensor, Tensor);

    fn forward(&mut self, ids: Tensors, cx: &mut Ctx<'_>) -> Result<(Tensors, Tensor), LayerError> {
        let [ids] = ids.take()?;
        self.spec.check(ids.i32()?, ids.shape().row_elements())?;
        let mut y = cx.f32(self.spec.output_shape(ids.shape())?)?;
        let (width, table) = (self.spec.width, self.table.value());
        let elements = y.shape().elements();
        let work = (Out(y.data(), width), In(ids.i32()?, 1));
        let look_up = |(y, ids): (Out<'_, f32>, In<'_, i32>)| {
            for (y, id) in y.0.chunks_exact_mut(width).zip(ids.0) {
                y.copy_from_slice(&table[*id as usize * width..][..width]);
            }
        };
        cx.timed("embedding", |cx| {
            spread(cx.threads, elements, work, look_up)
        });
        Ok((y.freeze().into(), ids))
    }

    fn backward_input(
        &mut self,
        dy: Tensors,
        ids: Tensor,
        _: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Kept), LayerError> {
        let [dy] = dy.take()?;
        Ok(([None].into(), (ids, dy)))
    }

    fn backward_weight(
        &mut self,
        (ids, dy): Self::Kept,
        cx: &mut Ctx<'_>,
    ) -> Result<(), LayerError> {
        let width = self.spec.width;
        let (ids, dy) = (ids.i32()?, dy.f32()?);
        let table = self.table.gradient_add(cx.pool())?;
        // Threads own rows of the table, not tokens: every row adds its tokens in their order.
        let work = (Out(table, width), 0..self.spec.vocab);
        let add_rows = |(table, owned): (Out<'_, f32>, Range<usize>)| {
            for (id, dy) in ids.iter().zip(dy.chunks_exact(width)) {
                let id = *id as usize;
                if owned.contains(&id) {
                    let into = &mut table.0[(id - owned.start) * width..][..width];
                    into.iter_mut().zip(dy).for_each(|(into, dy)| *into += dy);
                }
            }
        };
        cx.timed("embedding", |cx| {
            spread(cx.threads, dy.len(), work, add_rows)
        });
        Ok(())
    }

    fn params(&mut self, visit: &mut dyn FnMut(&mut dyn ParamAccess)) {
        visit(&mut self.table);
    }
}
