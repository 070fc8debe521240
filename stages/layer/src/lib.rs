//! The contract between Brigade's pipeline engine and whatever computes a stage.
//!
//! | module | what lives there |
//! |---|---|
//! | [`Shape`], [`DType`], [`TensorSpec`] | shapes and element types |
//! | [`Tensor`], [`TensorMut`], [`Tensors`] | tensors whose buffers go home |
//! | [`Pool`] | a node's buffers, its memory limit and its account |
//! | [`Layer`], [`Keep`], [`Slot`] | forward, backward for inputs, backward for weights, and the state between them |
//! | [`LayerSpec`], [`Cost`], [`BuildCtx`] | descriptions that price themselves and build layers |
//! | [`Network`], [`KeyPattern`] | descriptions joined by edges, some of them frozen |
//! | [`Ctx`] | what a layer is told with every call |
//! | [`KernelTimes`] | how long a layer's kernels take, while somebody asks |
//! | [`Param`], [`ParamAccess`], [`Optimizer`] | parameters, and the rule that changes them |
//! | [`ForeignNames`], [`MappedFile`] | parameters as other libraries name them, and files mapped into memory |
//! | [`Metric`], [`Data`] | what is measured, and where data come from |
//! | [`conformance`] | checks that an implementor calls in a test |
//!
//! Nothing here knows what a pipeline is, and there is no arithmetic beyond what the contract
//! needs.
//!
//! # Example: a layer of one's own
//! ```
//! use brigade_layer::*;
//!
//! /// y = a x, with one parameter a.
//! #[derive(Debug)]
//! struct Scale;
//! struct ScaleLayer { a: Param }
//!
//! impl LayerSpec for Scale {
//!     type Layer = ScaleLayer;
//!     fn params(&self) -> Vec<ParamSpec> {
//!         vec![ParamSpec::new("a", [1], ParamRole::Weight, Init::Ones)]
//!     }
//!     fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
//!         Ok(inputs.to_vec())
//!     }
//!     fn cost(&self, inputs: &[TensorSpec]) -> Cost {
//!         let (n, bytes) = (inputs[0].shape.elements() as u64, inputs[0].bytes());
//!         let (stash_bytes, kept_bytes) = (bytes, 2 * bytes);
//!         Cost {
//!             forward_flops: n,
//!             input_flops: n,
//!             weight_flops: 2 * n,
//!             stash_bytes,
//!             kept_bytes,
//!             forward_working_bytes: bytes,
//!             backward_working_bytes: bytes,
//!             ..Cost::default()
//!         }
//!     }
//!     fn build(&self, cx: &BuildCtx<'_>) -> Result<ScaleLayer, LayerError> {
//!         Ok(ScaleLayer { a: Param::build(&self.params()[0], cx)? })
//!     }
//! }
//!
//! impl Layer for ScaleLayer {
//!     type Stash = Tensor;
//!     type Kept = (Tensor, Tensor);
//!     fn forward(
//!         &mut self,
//!         inputs: Tensors,
//!         cx: &mut Ctx<'_>,
//!     ) -> Result<(Tensors, Tensor), LayerError> {
//!         let [x] = inputs.take()?;
//!         let mut y = cx.f32(x.shape())?;
//!         y.view_mut().assign(&(&x.view()? * self.a.value()[0]));
//!         Ok((y.freeze().into(), x))
//!     }
//!     fn backward_input(
//!         &mut self,
//!         gradients: Tensors,
//!         x: Tensor,
//!         cx: &mut Ctx<'_>,
//!     ) -> Result<(Tensors, Self::Kept), LayerError> {
//!         let [dy] = gradients.take()?;
//!         let mut dx = cx.f32(dy.shape())?;
//!         dx.view_mut().assign(&(&dy.view()? * self.a.value()[0]));
//!         Ok((dx.freeze().into(), (x, dy)))
//!     }
//!     fn backward_weight(
//!         &mut self,
//!         (x, dy): Self::Kept,
//!         cx: &mut Ctx<'_>,
//!     ) -> Result<(), LayerError> {
//!         self.a.gradient_add(cx.pool())?[0] += (&x.view()? * &dy.view()?).sum();
//!         Ok(())
//!     }
//!     fn params(&mut self, visit: &mut dyn FnMut(&mut dyn ParamAccess)) {
//!         visit(&mut self.a);
//!     }
//! }
//!
//! let x = Tensor::from_vec([2, 3], vec![0.5f32, -1.0, 2.0, 0.1, 0.7, -0.3])?;
//! conformance::check(&Scale, &x.into())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(unsafe_code)]

mod buffer;
mod builder;
pub mod conformance;
mod ctx;
mod data;
mod error;
mod foreign;
mod frozen;
mod host;
mod ids;
mod layer;
mod mapped;
mod metric;
mod network;
mod optimizer;
mod param;
mod pattern;
mod pieces;
mod pool;
mod rng;
mod shape;
mod slab;
mod spec;
mod tensor;
mod tensors;
mod timing;

pub use builder::{From, NetworkBuilder};
pub use ctx::{Ctx, LayerState, Mode, Precision, StateSlots};
pub use data::{Batch, Data};
pub use error::LayerError;
pub use foreign::{ForeignNames, ForeignParam};
pub use host::{GradientSlot, Param};
pub use ids::{EdgeId, LayerIndex, MicroBatchId, SharedId, StepId};
pub use layer::{AnyLayer, Keep, Layer, Slot};
pub use mapped::MappedFile;
pub use metric::{Measure, Metric};
pub use network::{Edge, Feed, LayerNode, LayerShapes, Network, Source};
pub use optimizer::{Optimizer, Update};
pub use param::{Init, ParamAccess, ParamBytes, ParamInfo, ParamRole, ParamSpec, Part, UpdateWith};
pub use pattern::KeyPattern;
pub use pool::{Pool, PoolReport};
pub use rng::{Random, philox, unit_f32};
pub use shape::{DType, MAX_AXES, Shape, TensorSpec};
pub use spec::{AnySpec, BuildCtx, Cost, LayerSpec};
pub use tensor::{Element, Tensor, TensorMut};
pub use tensors::{MAX_TENSORS, Tensors};
pub use timing::{KernelTime, KernelTimes, KernelWork};
