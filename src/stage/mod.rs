//! What runs on a node: THE executor, the stages it computes, and what they keep for their backward passes.

mod feeds;
mod mailbox;
mod program;
mod runner;
mod stash;
mod worker;

pub use worker::NodeReport;
pub(crate) use worker::ParamReport;
pub(crate) use worker::{Command, Outcome, Reply, Request, Worker, WorkerSetup};
