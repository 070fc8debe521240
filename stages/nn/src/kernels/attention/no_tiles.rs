//! Where there are no tiles.

use super::{Attention, Backward, Forward};
use crate::kernels::product::Unit;
use brigade_layer::Precision;

pub(super) fn unit(_: Precision, _: usize) -> Option<Unit> {
    None
}

pub(super) fn forward(_: Unit, _: &Attention<'_>, _: &mut Forward<'_>, _: &mut [f32]) {
    unreachable!("there are no tiles here")
}

pub(super) fn backward(_: Unit, _: &Attention<'_>, _: &mut Backward<'_>, _: &mut [f32]) {
    unreachable!("there are no tiles here")
}
