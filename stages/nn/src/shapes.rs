//! What descriptions of layers ask of their inputs' shapes.

use brigade_layer::{DType, KernelWork, LayerError, MAX_TENSORS, TensorSpec};

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

/// All of two to four inputs, which must be of `f32`: the first of them.
pub(crate) fn several_inputs(what: &str, inputs: &[TensorSpec]) -> Result<TensorSpec, LayerError> {
    if !(2..=MAX_TENSORS).contains(&inputs.len()) {
        let number = inputs.len();
        let problem = format!("it takes 2 to {MAX_TENSORS} inputs, and is fed {number}");
        return Err(LayerError::spec(what, problem));
    }
    for input in inputs {
        expect(what, *input, DType::F32)?;
    }
    Ok(inputs[0])
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

/// What [m, k] times [k, n] is.
pub(crate) fn product_work(kernel: &'static str, [m, n, k]: [usize; 3]) -> KernelWork {
    let elements = m * n + m * k + n * k;
    KernelWork::new(kernel, product_flops(m, n, k), 4 * elements as u64)
}

/// A kernel that does `flops` operations with each of `elements` elements, and reads or writes each
/// `passes` times.
pub(crate) fn element_work(
    kernel: &'static str,
    elements: usize,
    flops: u64,
    passes: u64,
) -> KernelWork {
    let elements = elements as u64;
    KernelWork::new(kernel, flops * elements, 4 * passes * elements)
}
