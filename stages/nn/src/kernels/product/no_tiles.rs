//! Where there are no tiles.

use super::Product;
use brigade_layer::Precision;
use ndarray::ArrayView2;

pub(in crate::kernels) fn available() -> bool {
    false
}

pub(super) fn product(_: Product<'_>, _: Precision, _: &mut [f32]) {
    unreachable!("there are no tiles here")
}

pub(super) fn pack_columns(_: &mut [f32], _: usize, _: ArrayView2<'_, f32>) {
    unreachable!("there are no tiles here")
}
