//! Where there are no tiles.

use super::{Product, Unit};
use brigade_layer::Precision;
use ndarray::ArrayView2;

pub(super) fn has(_: Unit) -> bool {
    false
}

pub(super) fn product(_: Product<'_>, _: (Unit, Precision), _: &mut [f32]) {
    unreachable!("there are no tiles here")
}

pub(super) fn pack_columns(_: &mut [f32], _: usize, _: ArrayView2<'_, f32>) {
    unreachable!("there are no tiles here")
}
