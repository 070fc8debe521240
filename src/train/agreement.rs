//! All processes are to do the same: compared before the first step, refused with what differs.

use crate::config::Config;
use crate::error::{Error, PlanError};
use crate::plan::{Plan, hex};
use crate::process::Processes;
use brigade_layer::Optimizer;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::sync::OnceLock;

/// What is compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Setting {
    version: String,
    program: String,
    config: BTreeMap<String, String>,
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
        config: settings(config),
        optimizer: format!("{optimizer:?}"),
        plan: match &plan {
            Ok(plan) => Ok(plan.fingerprint()),
            Err(error) => Err(error.to_string()),
        },
    };
    let all = processes.share("setting", mine.clone(), config.deadline());
    let all = all.map_err(|cause| PlanError::Processes {
        problem: cause.to_string(),
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
    plan.hosts = processes.hosts_of(plan.layout.nodes())?;
    Ok(plan)
}

/// Every setting as text, by name.
fn settings(config: &Config) -> BTreeMap<String, String> {
    let object = serde_json::to_value(config).unwrap_or_default();
    let entries = object.as_object().into_iter().flatten();
    entries
        .map(|(key, value)| (key.clone(), value.to_string()))
        .collect()
}

fn difference(first: &Setting, other: &Setting) -> Option<String> {
    if first.version != other.version {
        let (first, other) = (&first.version, &other.version);
        return Some(format!(
            "has another version of brigade ({other} instead of {first})"
        ));
    }
    for (key, value) in &other.config {
        let firsts = first.config.get(key);
        if firsts != Some(value) {
            let firsts = firsts.map_or("nothing".into(), ToString::to_string);
            return Some(format!(
                "has another configuration ({key} is {value} instead of {firsts})"
            ));
        }
    }
    if first.optimizer != other.optimizer {
        let (first, other) = (&first.optimizer, &other.optimizer);
        return Some(format!(
            "has another optimizer ({other} instead of {first})"
        ));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_differs_is_named() {
        let first = Setting {
            version: "1.0 on here".into(),
            program: "p".into(),
            config: settings(&Config::default()),
            optimizer: "Sgd".into(),
            plan: Ok("fingerprint".into()),
        };
        assert_eq!(difference(&first, &first), None);
        let differs = |change: &dyn Fn(&mut Setting), wanted: &str| {
            let mut other = first.clone();
            change(&mut other);
            let said = difference(&first, &other).expect("it differs");
            assert!(said.contains(wanted), "{said}");
        };
        differs(&|s| s.version = "2.0".into(), "2.0 instead of 1.0 on here");
        differs(&|s| s.program = "q".into(), "another build");
        differs(&|s| s.optimizer = "AdamW".into(), "AdamW instead of Sgd");
        differs(&|s| s.plan = Ok("other".into()), "another network or plan");
        let seed = Config {
            seed: 9,
            ..Config::default()
        };
        differs(&|s| s.config = settings(&seed), "seed is 9 instead of 1");
    }
}
