//! The ready schedules: one file each, by name in [`ScheduleKind`].

mod dualpipe_v;
mod forward_only;
mod gpipe;
mod interleaved_1f1b;
mod interleaved_zb;
mod kind;
mod looped_bfs;
mod one_f_one_b;
mod row;
mod stable;
mod v_half;
mod v_min;
mod zb_auto;
mod zb_h1;
mod zb_v;

pub use forward_only::forward_only;
pub use kind::ScheduleKind;

use super::{Compute, Definition, Task, Work};
