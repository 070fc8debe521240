//! Where there are no tiles.

use super::Product;
use brigade_layer::Precision;
use ndarray::ArrayView2;

/// What multiplies tiles: nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernels) enum Unit {}

impl Unit {
    pub(in crate::kernels) fn of(_: Precision) -> Option<Self> {
        None
    }
}

pub(super) fn product(_: Product<'_>, _: (Unit, Precision), _: &mut [f32]) {
    unreachable!("there are no tiles here")
}

pub(super) fn pack_columns(_: &mut [f32], _: usize, _: ArrayView2<'_, f32>) {
    unreachable!("there are no tiles here")
}
