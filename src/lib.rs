//! Pipeline-parallel training for networks too big for one node: the same numbers bit for bit,
//! never stuck.
//!
//! ```text
//!                 ┌────────┐ activations ┌────────┐             ┌────────┐
//! mini-batch ───► │ node 0 │ ══════════► │ node 1 │ ══ ... ═══► │ node 3 │ ───► loss
//! cut into        │ stage 0│ ◄══════════ │ stage 1│ ◄═ ... ════ │ stage 3│
//! micro-batches   └────────┘  gradients  └────────┘             └────────┘
//!                     └──── shared parameters only, once per step ───┘
//! ```
//!
//! A [`Network`](layer::Network) describes layers; a [`Plan`] says which node has which of them and
//! in which order it works; a [`Trainer`] starts the nodes and asks them for steps. Everything is
//! decided and checked before a thread starts; while training, every node walks its own list.
//!
//! # Example
//! ```
//! use brigade::layer::{Batch, Tensor, TensorSpec};
//! use brigade::nn::{AdamW, MeanSquaredError, Mlp};
//! use brigade::{Config, Trainer};
//!
//! let inputs = Tensor::from_vec([8, 2], (0..16).map(|n| (n as f32).sin()).collect())?;
//! let targets = Tensor::from_vec([8, 1], (0..8).map(|n| (n as f32).cos()).collect())?;
//! let data = Batch::new(inputs, targets)?;
//! let network = Mlp::new([2, 16, 16, 1]).network(MeanSquaredError, TensorSpec::f32([1]))?;
//!
//! let train = |nodes| -> Result<_, brigade::Error> {
//!     let config = Config { nodes, batch_size: 8, micro_batch_size: 2, ..Config::default() };
//!     let mut trainer = Trainer::start(&network, &config, AdamW::new(1e-2))?;
//!     for _ in 0..10 {
//!         trainer.step(&data)?;
//!     }
//!     trainer.weights_sha256()
//! };
//! assert_eq!(train(1)?, train(3)?);
//! # Ok::<(), brigade::Error>(())
//! ```
//!
//! # Where things are
//!
//! | module | what lives there |
//! |---|---|
//! | [`layer`] | the contract: tensors, layers, networks, parameters; write your own layer against it |
//! | [`config`] | what one asks for |
//! | [`partition`], [`placement`], [`schedule`] | which layers make a stage, on which node, in which order |
//! | [`plan`] | all of it together, with what it takes |
//! | [`Trainer`] | runs it |
//! | [`process`] | this process among those of an MPI job |
//! | [`trace`] | what really happened in a step, and when |
//! | [`mod@bench`] | a network of one's own, measured |
//! | [`profile`] | what layers and links take on a machine, kept in a file |
//! | [`planner`] | what fits and is fastest, said before training |
//! | [`checkpoint`] | what is saved |
//! | [`interchange`] | weights in and out, as other libraries have them |
//! | [`ids`], [`batch`] | numbers that are types, and mini-batches cut into micro-batches |
#![cfg_attr(
    feature = "nn",
    doc = "| [`nn`] | ready layers, losses, optimizers, networks |"
)]
#![cfg_attr(feature = "report", doc = "| [`report`] | one HTML page about a run |")]
#![cfg_attr(feature = "cli", doc = "| [`cli`] | the program |")]
//!
//! Errors come in two families: [`PlanError`] is decidable before a thread starts and says what to
//! change; [`RunError`] says on which node, in which step and at which action what happened.

#![cfg_attr(not(feature = "mpi"), forbid(unsafe_code))]
#![deny(unsafe_code)]

pub mod batch;
pub mod bench;
pub mod checkpoint;
#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
mod error;
mod files;
pub mod ids;
pub mod interchange;
mod launch;
pub mod partition;
pub mod placement;
pub mod plan;
pub mod planner;
pub mod process;
pub mod profile;
#[cfg(feature = "report")]
pub mod report;
pub mod schedule;
mod stage;
mod sync;
pub mod trace;
mod train;
mod wire;

pub use brigade_layer as layer;
#[cfg(feature = "nn")]
pub use brigade_nn as nn;
/// The arrays that tensors are seen as, in the version that [`layer`] uses.
pub use ndarray;

pub use checkpoint::{Checkpoint, SaveTo, Weights};
pub use config::{Config, OnNonFinite, Pinning, Recompute, Transport};
pub use error::{
    Cause, Doing, Error, NonFinite, PlanError, RunError, Standing, Standings, TensorError,
};
pub use partition::Cuts;
pub use plan::{Plan, Predicted, SavedPlan, Skip};
pub use schedule::ScheduleKind;
pub use stage::NodeReport;
pub use train::{
    Evaluation, Generated, Generation, Resumed, Sequence, StepReport, Trainer, WhenFull,
};
#[doc(hidden)]
pub use wire::Fault;

/// Readers of what comes from outside, for the fuzz targets of `tests/fuzz`; no part of the
/// interface.
#[doc(hidden)]
pub mod outside {
    #[cfg(feature = "cli")]
    pub use crate::cli::configuration;
    pub use crate::interchange::outside::{index, tensors};
    pub use crate::wire::outside::{header, message, verdict, word};
}

/// The examples of the README and the book are compiled and run as tests.
#[cfg(all(doctest, feature = "nn"))]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/book/1-getting-started.md")]
    struct GettingStarted;
    #[doc = include_str!("../docs/book/2-how-it-works.md")]
    struct HowItWorks;
    #[doc = include_str!("../docs/book/3-writing-a-layer.md")]
    struct WritingYourOwn;
    #[doc = include_str!("../docs/book/4-choosing-a-schedule.md")]
    struct ChoosingASchedule;
    #[doc = include_str!("../docs/book/5-what-is-promised.md")]
    struct WhatIsPromised;
    #[doc = include_str!("../docs/book/6-several-machines.md")]
    struct SeveralMachines;
    #[doc = include_str!("../docs/book/7-weights.md")]
    struct TheWeights;
    #[doc = include_str!("../docs/book/8-data.md")]
    struct TheData;
    #[doc = include_str!("../docs/book/9-fine-tuning.md")]
    struct FineTuning;
    #[doc = include_str!("../docs/book/10-generation.md")]
    struct Generation;
    #[doc = include_str!("../docs/book/11-networks-that-are-no-chains.md")]
    struct NoChains;
    #[doc = include_str!("../docs/planner.md")]
    struct ThePlanner;
    #[doc = include_str!("../docs/RELIABILITY.md")]
    struct Reliability;
}
