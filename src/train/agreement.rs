//! All processes are to do the same: compared before the first step, refused with what differs.

use crate::config::Config;
use crate::error::{Error, PlanError, RunError};
use crate::ids::{NodeId, PassId, StepId};
use crate::plan::{Plan, hex};
use crate::process::Processes;
use brigade_layer::Optimizer;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::sync::OnceLock;

/// What is compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Setting {
    version: String,
    program: String,
    config: String,
    optimizer: String,
    plan: Result<String, String>,
}

/// The plan, with the machines of its nodes, when all processes have the same.
pub(super) fn agree(
    processes: Processes,
    plan: Result<Plan, PlanError>,
    config: &Config,
    optimizer: &dyn Optimizer,
) -> Result<Plan, Error> {
    if processes.world().is_none() {
        return Ok(plan?);
    }
    let mine = Setting {
        version: format!(
            "{} on {}",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::ARCH
        ),
        program: program().to_owned(),
        config: serde_json::to_string(config).unwrap_or_default(),
        optimizer: format!("{optimizer:?}"),
        plan: match &plan {
            Ok(plan) => Ok(plan.fingerprint()),
            Err(error) => Err(error.to_string()),
        },
    };
    let all = processes.share(mine.clone(), config.deadline());
    let all = all.map_err(|cause| {
        Box::new(RunError {
            node: NodeId::new(0),
            step: StepId::new(0),
            pass: PassId::new(0),
            action: None,
            row: String::new(),
            cause,
        })
    })?;
    // A process's own problem says more than that others do not have it.
    let mut plan = plan?;
    for (rank, other) in all.iter().enumerate() {
        if let Some(problem) = difference(&all[0], other) {
            let problem = format!("rank {rank} {problem} than rank 0");
            return Err(PlanError::Processes { problem }.into());
        }
        if let Err(problem) = &other.plan {
            let problem = format!("rank {rank}: {problem}");
            return Err(PlanError::Processes { problem }.into());
        }
    }
    plan.hosts = processes.hosts(&processes.ranks_of(plan.layout.nodes())?);
    Ok(plan)
}

fn difference(first: &Setting, other: &Setting) -> Option<String> {
    let texts = [
        (
            "has another version of brigade",
            &first.version,
            &other.version,
        ),
        ("has another configuration", &first.config, &other.config),
        ("has another optimizer", &first.optimizer, &other.optimizer),
    ];
    for (what, first, other) in texts {
        if first != other {
            return Some(format!("{what} ({other} instead of {first})"));
        }
    }
    if first.program != other.program {
        return Some("runs another build of the program".into());
    }
    match (&first.plan, &other.plan) {
        (Ok(first), Ok(other)) if first != other => Some("has another network or plan".into()),
        _ => None,
    }
}

/// SHA-256 of the program's own file, or nothing where it cannot be read.
fn program() -> &'static str {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let digest = || {
            let mut file = File::open(std::env::current_exe()?)?;
            let (mut hash, mut some) = (Sha256::new(), vec![0; 1 << 16]);
            loop {
                let read = file.read(&mut some)?;
                if read == 0 {
                    return Ok::<_, std::io::Error>(hex(&hash.finalize()));
                }
                hash.update(&some[..read]);
            }
        };
        digest().unwrap_or_default()
    })
}
