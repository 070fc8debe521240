//! Where there are no tiles.

use super::{Attention, Backward, Forward, Head};
use crate::kernels::product::tiles::Unit;
use brigade_layer::Precision;

pub(super) fn unit(_: Precision, _: usize) -> Option<Unit> {
    None
}

pub(super) fn forward(unit: Unit, _: &Attention, _: &mut Forward<'_>, _: Head<'_>, _: &mut [f32]) {
    match unit {}
}

pub(super) fn backward(
    unit: Unit,
    _: &Attention,
    _: &mut Backward<'_>,
    _: Head<'_>,
    _: &mut [f32],
) {
    match unit {}
}
