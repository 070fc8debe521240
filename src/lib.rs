//! Pipeline-parallel training.
#![forbid(unsafe_code)]

pub mod batch;
pub mod checkpoint;
#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
mod error;
pub mod ids;
pub mod partition;
pub mod placement;
pub mod plan;
pub mod schedule;
mod stage;
mod sync;
mod train;
mod wire;

pub use brigade_layer as layer;
#[cfg(feature = "nn")]
pub use brigade_nn as nn;

pub use checkpoint::Weights;
pub use config::{Config, Pinning, Transport};
pub use error::{Cause, Error, PlanError, RunError};
pub use partition::Cuts;
pub use plan::Plan;
pub use schedule::ScheduleKind;
pub use stage::NodeReport;
pub use train::{Evaluation, StepReport, Trainer};
#[doc(hidden)]
pub use wire::Fault;
