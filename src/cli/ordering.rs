//! In which order the nodes of a run work: a schedule by name, from a file, or built from measured
//! times.

use super::failure::Failure;
use super::options::{RunOptions, ScheduleArg};
use crate::bench::Profile;
use crate::process::Processes;
use crate::schedule::csv::{CsvSchedule, Dialect};
use crate::schedule::{Measured, Schedule, ScheduleKind};
use crate::{Config, Plan};
use brigade_layer::{Data, Network, Optimizer};
use std::time::Duration;

/// Each kind of layer is measured for about so long.
const EACH: Duration = Duration::from_millis(30);
/// Layers whose first call would take more than this many operations are not measured: it would
/// take longer than anyone waits for a plan.
pub(super) const MOST_FLOPS: u64 = 100_000_000_000;

/// What the layers take, unless measuring would take too long.
pub(super) fn profile(
    network: &Network,
    data: &dyn Data,
    config: &Config,
    optimizer: &dyn Optimizer,
) -> Result<Option<Profile>, Failure> {
    let rows = config.mini_batch().largest();
    let shapes = network.infer(rows)?;
    if shapes.iter().any(|layer| layer.cost.flops() > MOST_FLOPS) {
        return Ok(None);
    }
    let profile = Profile::measure(network, data, config, optimizer, EACH)?;
    Ok(Some(profile))
}

/// The schedule that is asked for. One that is built from costs is told measured ones, where the
/// layers can be measured quickly; `measured` are those that are known already.
pub(super) fn schedule(
    options: &RunOptions,
    network: &Network,
    data: &dyn Data,
    optimizer: &dyn Optimizer,
    measured: Option<&Profile>,
) -> Result<Box<dyn Schedule>, Failure> {
    let kind = match &options.pipeline.schedule {
        ScheduleArg::File(path) => {
            return Ok(Box::new(CsvSchedule::read(path, Dialect::Current)?));
        }
        ScheduleArg::Kind(kind) => *kind,
    };
    let config = options.checked_config()?;
    if !kind.uses_costs() {
        return Ok(Box::new(kind));
    }
    let own;
    let measured = match measured {
        Some(measured) => Some(measured),
        None => {
            own = profile(network, data, &config, optimizer)?;
            own.as_ref()
        }
    };
    let Some(measured) = measured else {
        return Ok(Box::new(kind));
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
