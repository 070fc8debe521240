//! Arithmetic on plain slices: no layers, no parameters, no tensors.
//!
//! What holds here, so that the same training gives the same bits: the order of every sum follows
//! from shapes alone; pieces of work that threads share own what they write; there is no
//! transcendental function of the host's.

pub(crate) mod attention;
pub(crate) mod bits;
pub(crate) mod channel_norm;
pub(crate) mod channels;
pub(crate) mod convolution;
pub(crate) mod elementwise;
pub(crate) mod gated;
pub(crate) mod join;
pub(crate) mod loss;
pub(crate) mod math;
pub(crate) mod means;
pub(crate) mod moments;
pub(crate) mod norm;
pub(crate) mod parallel;
pub(crate) mod product;
pub(crate) mod random;
pub(crate) mod reduce;
pub(crate) mod resample;
pub(crate) mod rms_norm;
pub(crate) mod rotation;
pub(crate) mod softmax;
pub(crate) mod window;
