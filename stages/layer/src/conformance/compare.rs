//! Difference quotients and comparisons by bits.

use super::{Pass, Violation};
use crate::{AnyLayer, DType, LayerError, ParamAccess, Part, Random, Tensor, rng::fill_uniform};

pub(super) fn is_f32(tensor: &Tensor) -> bool {
    tensor.dtype() == DType::F32
}

pub(super) fn random_like(tensor: &Tensor, name: &str) -> Result<Tensor, LayerError> {
    let mut numbers = vec![0.0; tensor.shape().elements()];
    fill_uniform(&Random::named(3, name), 1.0, &mut numbers);
    Tensor::from_vec(tensor.shape(), numbers)
}

pub(super) fn shifted(
    tensor: &Tensor,
    direction: &Tensor,
    step: f32,
) -> Result<Tensor, LayerError> {
    let moved = tensor
        .f32()?
        .iter()
        .zip(direction.f32()?)
        .map(|(v, d)| v + step * d)
        .collect();
    Tensor::from_vec(tensor.shape(), moved)
}

pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum()
}

/// Central differences at two step widths, with the size of what they were taken from.
pub(super) fn difference(
    mut at: impl FnMut(f32) -> Result<f64, LayerError>,
) -> Result<[f64; 3], LayerError> {
    let mut slope = |step: f32| -> Result<(f64, f64), LayerError> {
        let (up, down) = (at(step)?, at(-step)?);
        Ok((
            (up - down) / (2.0 * f64::from(step)),
            up.abs().max(down.abs()),
        ))
    };
    let ((wide, size), (narrow, _)) = (slope(1.0 / 64.0)?, slope(1.0 / 512.0)?);
    Ok([wide, narrow, size])
}

/// Either step width may be the better one: the wide one suffers from curvature, the narrow one
/// from rounding.
pub(super) fn agree(
    of: String,
    claimed: f64,
    [wide, narrow, size]: [f64; 3],
) -> Result<(), Violation> {
    let near =
        |measured: f64| (claimed - measured).abs() <= 5e-3 * (claimed.abs() + 0.1 * size + 1e-2);
    if near(wide) || near(narrow) {
        return Ok(());
    }
    Err(Violation::Gradient {
        of,
        claimed,
        measured: narrow,
    })
}

pub(super) fn with_param(
    layer: &mut dyn AnyLayer,
    number: usize,
    mut act: impl FnMut(&mut dyn ParamAccess) -> Result<(), LayerError>,
) -> Result<(), LayerError> {
    let (mut at, mut result) = (0, Ok(()));
    layer.visit_params(&mut |param| {
        if at == number {
            result = act(param);
        }
        at += 1;
    });
    result
}

pub(super) fn gradients_of(
    layer: &mut dyn AnyLayer,
) -> Result<Vec<(String, Vec<f32>)>, LayerError> {
    let (mut list, mut result) = (Vec::new(), Ok(()));
    layer.visit_params(&mut |param| {
        let mut gradient = vec![0.0; param.info().shape.elements()];
        if let Err(error) = param.read(Part::Gradient, &mut gradient) {
            result = Err(error);
        }
        list.push((param.info().key.clone(), gradient));
    });
    result.map(|()| list)
}

pub(super) fn bits_equal(one: &[f32], other: &[f32]) -> bool {
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .all(|(a, b)| a.to_bits() == b.to_bits())
}

pub(super) fn same_bits(once: &Pass, again: &Pass) -> Result<(), Violation> {
    let pairs = [
        ("outputs", &once.outputs, &again.outputs),
        (
            "input gradients",
            &once.input_gradients,
            &again.input_gradients,
        ),
    ];
    for (what, one, other) in pairs {
        for (a, b) in one.iter().zip(other.iter()) {
            let equal = match (a, b) {
                (Some(a), Some(b)) if is_f32(a) => bits_equal(a.f32()?, b.f32()?),
                (Some(a), Some(b)) => a.i32()? == b.i32()?,
                (None, None) => true,
                _ => false,
            };
            if !equal {
                return Err(Violation::NotDeterministic(what.into()));
            }
        }
    }
    for ((key, one), (_, other)) in once.param_gradients.iter().zip(&again.param_gradients) {
        if !bits_equal(one, other) {
            return Err(Violation::NotDeterministic(format!("gradient of {key}")));
        }
    }
    Ok(())
}
