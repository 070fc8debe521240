//! What runs on a node: THE executor, the stages it computes, and what they keep for their backward
//! passes.

mod allowance;
mod answers;
mod call;
mod called;
mod command;
mod crossing;
mod feeds;
mod holders;
mod mailbox;
mod pass;
mod position;
mod program;
mod promised;
mod recompute;
mod runner;
mod saving;
mod setup;
mod stash;
mod step_end;
mod worker;

pub use command::NodeReport;
pub(crate) use command::{Along, Command, OnPiece, Reply, Request, Values};
pub(crate) use saving::{Outbox, State, Wanted};
pub(crate) use setup::WorkerSetup;
pub(crate) use worker::Worker;
