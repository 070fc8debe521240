//! `brigade schedule check`.

use super::options::ScheduleOptions;
use super::setting::{Asked, Defined, Setting, advice};
use super::simulate::{head, numbers, save};
use crate::PlanError;
use crate::cli::failure::Failure;
use crate::cli::output::print;
use crate::schedule::{Action, CheckError, Problem, counted, node_stash_peaks};
use serde_json::json;
use std::io::Write;

pub(super) fn check(options: &ScheduleOptions, to: &mut dyn Write) -> Result<(), Failure> {
    prove(options, &options.asked()?, to)
}

pub(super) fn prove(
    options: &ScheduleOptions,
    asked: &Asked,
    to: &mut dyn Write,
) -> Result<(), Failure> {
    let defined = options.defined(asked)?;
    let lowered = match defined.proven(options.limit()?) {
        Ok(lowered) => lowered,
        Err(error) => return Err(refused(options, &defined, *error, to)?),
    };
    let setting = Setting::new(defined, lowered, options.freed_at_input);
    save(options, &setting)?;
    let (lowered, kept) = (&setting.lowered, &setting.kept);
    let actions: usize = lowered.nodes.iter().map(Vec::len).sum();
    let sends = lowered.nodes.iter().flatten();
    let sends = sends.filter(|action| matches!(action, Action::Send(_)));
    let sends = sends.count();
    let slots = lowered.slots.iter().map(|(_, slots)| slots);
    let slots = slots.max().unwrap_or(0);
    if options.json {
        let mut object = head(&setting);
        object["sound"] = json!(true);
        object["actions"] = json!(actions);
        object["messages"] = json!(sends);
        object["most_slots"] = json!(slots);
        object["peak_stash"] = json!(kept);
        return print(to, &object.to_string());
    }
    let defined = &setting.defined;
    print(
        to,
        &format!(
            "{}, {}, {}, {}: sound\n\
             {actions} actions: complete, in order, every send with its receive, never stuck\n\
             {}; at most {slots} of a lane under way at once\n\
             micro-batches kept for backward, by node: {}",
            defined.name,
            counted(defined.layout.nodes(), "node"),
            counted(defined.layout.placement.stages(), "stage"),
            counted(defined.micro_batches, "micro-batch"),
            counted(sends, "message"),
            numbers(kept),
        ),
    )
}

/// What is broken, with the lists around it; the failure that the program ends with.
fn refused(
    options: &ScheduleOptions,
    defined: &Defined,
    error: CheckError,
    to: &mut dyn Write,
) -> Result<Failure, Failure> {
    if options.json {
        let object = json!({
            "sound": false,
            "node": error.node.get(),
            "index": error.index,
            "action": error.action.map(|action| action.to_string()),
            "problem": error.problem.to_string(),
            "timeline": error.timeline.lines().collect::<Vec<_>>(),
        });
        print(to, &object.to_string())?;
    } else {
        print(to, error.timeline.trim_end())?;
    }
    if let Problem::StashFull { .. } = error.problem {
        // Another node may need more than the one that is named.
        let lowered = defined.lowered().map_err(PlanError::from)?;
        let kept = node_stash_peaks(&lowered, &defined.layout, options.freed_at_input);
        let most = kept.into_iter().fold(0.0, f64::max);
        return Ok(Failure::Other(format!("{error}; {}", advice(most))));
    }
    Ok(PlanError::from(Box::new(error)).into())
}
