//! In which order the nodes of a run work: a schedule by name, from a file, or built from measured
//! times.

use super::failure::Failure;
use super::options::{OrderArg, RunOptions, ScheduleArg};
use crate::process::Processes;
use crate::profile::{Effort, Profile};
use crate::schedule::csv::{CsvSchedule, Dialect};
use crate::schedule::{Measured, Schedule, ScheduleKind};
use crate::{Config, Plan};
use brigade_layer::{Data, Network, Optimizer};

/// The schedule that is asked for. One that is built from costs is told measured ones; `measured`
/// are those that are known already.
pub(super) fn schedule(
    options: &RunOptions,
    network: &Network,
    data: &dyn Data,
    optimizer: &dyn Optimizer,
    measured: Option<&Profile>,
) -> Result<Box<dyn Schedule>, Failure> {
    let kind = match &options.pipeline.schedule {
        OrderArg::Given(ScheduleArg::File(path)) => {
            return Ok(Box::new(CsvSchedule::read(path, Dialect::Current)?));
        }
        OrderArg::Given(ScheduleArg::Kind(kind)) => *kind,
        OrderArg::Auto => Default::default(),
    };
    let config = options.checked_config()?;
    if !kind.uses_costs() {
        return Ok(Box::new(kind));
    }
    let own;
    let measured = match measured {
        Some(measured) => measured,
        None => {
            own = Profile::measure(network, data, &config, optimizer, Effort::Quick)?;
            &own
        }
    };
    // Any plan says which layers make a stage.
    let straight = Config {
        schedule: ScheduleKind::OneFOneB,
        node_memory_bytes: None,
        ..config
    };
    let times = measured.times(&Plan::new(network, &straight, optimizer)?);
    // No two processes measure the same: what the first one did counts for all.
    let processes = Processes::meet(straight.deadline())?;
    let shared = processes
        .share("measured times", times, straight.deadline())
        .map_err(|cause| Failure::Other(cause.to_string()))?;
    let times = shared.into_iter().next().unwrap_or_default();
    Ok(Box::new(Measured {
        schedule: kind,
        times,
    }))
}
