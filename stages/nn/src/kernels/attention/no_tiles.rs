//! Where there are no tiles.

use super::{Attention, Backward, Forward, Head};

pub(super) fn available(_: usize) -> bool {
    false
}

pub(super) fn forward(_: &Attention, _: &mut Forward<'_>, _: Head<'_>, _: &mut [f32]) {
    unreachable!("there are no tiles here")
}

pub(super) fn backward(_: &Attention, _: &mut Backward<'_>, _: Head<'_>, _: &mut [f32]) {
    unreachable!("there are no tiles here")
}
