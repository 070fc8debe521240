//! In which order every node works. Pure functions over ids: no threads, no tensors, and
//! no files but those of [`csv`].
//!
//! ```text
//!  definition            lowering                          check              run, simulate, draw
//!  F, I, W, B   ──────►  + send, post, wait,    ──────►   complete, ordered, ──────►
//!  per node              shared sums, step                 never stuck
//! ```
//!
//! Notation, as PyTorch writes it: F forward, B full backward, I backward for inputs, W backward
//! for weights; `2F0` is stage 2, micro-batch 0. (The zero-bubble papers say B for our I, and
//! DualPipe's B is our B.)

mod action;
mod check;
mod critical;
pub mod csv;
mod definition;
mod known;
mod lanes;
mod lower;
mod measured;
mod model;
mod reader;
mod render;
mod simulate;
mod slots;
mod stash;
mod timeline;
mod times;
mod wiring;
mod words;

pub use action::{Action, Compute, Direction, Lane, Transfer, Work};
pub use check::{CheckError, Problem, check};
pub use critical::critical_path;
pub use definition::{Costs, Definition, Schedule, Task};
pub use known::{ScheduleKind, forward_only};
pub use lanes::{Layout, Route, SharedSum};
pub use lower::{Lowered, as_defined, lower};
pub use measured::Measured;
pub use render::{Stretch, render, render_row, render_with, stretches};
pub use simulate::{simulate, simulate_totals};
pub use slots::Slots;
pub(crate) use slots::first_moments;
pub use stash::{StashLimit, node_stash_peaks, stash_peaks};
pub use timeline::{Span, Timeline, Totals};
pub use times::{Link, Links, Times};
pub(crate) use words::counted;
