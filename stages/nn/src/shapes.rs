//! What descriptions of layers ask of their inputs' shapes.

use brigade_layer::{DType, LayerError, TensorSpec};

/// The only input, which must be of `f32`.
pub(crate) fn one_input(what: &str, inputs: &[TensorSpec]) -> Result<TensorSpec, LayerError> {
    let [x] = *inputs else {
        return Err(LayerError::Arity {
            expected: 1,
            found: inputs.len(),
        });
    };
    expect(what, x, DType::F32)
}

/// Both inputs.
pub(crate) fn two_inputs(inputs: &[TensorSpec]) -> Result<[TensorSpec; 2], LayerError> {
    let [x, y] = *inputs else {
        return Err(LayerError::Arity {
            expected: 2,
            found: inputs.len(),
        });
    };
    Ok([x, y])
}

/// The input, when its elements are of this type.
pub(crate) fn expect(what: &str, x: TensorSpec, dtype: DType) -> Result<TensorSpec, LayerError> {
    if x.dtype == dtype {
        return Ok(x);
    }
    let problem = format!("it takes a tensor of {dtype}, and is fed {x}");
    Err(LayerError::spec(what, problem))
}

/// Floating-point operations of [m, k] times [k, n].
pub(crate) fn product_flops(m: usize, n: usize, k: usize) -> u64 {
    [m, n, k]
        .iter()
        .fold(2u64, |flops, size| flops.saturating_mul(*size as u64))
}
