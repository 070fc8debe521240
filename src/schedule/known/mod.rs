//! The ready schedules: one file each, by name in [`ScheduleKind`].

mod forward_only;
mod gpipe;
mod kind;
mod one_f_one_b;
mod zb_auto;

pub use forward_only::forward_only;
pub use kind::ScheduleKind;

use super::{Compute, Definition, Task, Work};
