//! `brigade schedule check`.

use super::options::ScheduleOptions;
use super::simulate::{head, numbers};
use crate::PlanError;
use crate::cli::failure::Failure;
use crate::cli::output::print;
use crate::schedule::{Action, CheckError, check as prove, lower, node_stash_peaks};
use serde_json::json;
use std::io::Write;

pub(super) fn check(options: &ScheduleOptions, to: &mut dyn Write) -> Result<(), Failure> {
    let (layout, micro_batches, definition, _, name) = options.defined()?;
    let limit = options.limit()?;
    let lowered = lower(&definition, &layout, micro_batches);
    let proven = lowered.and_then(|lowered| {
        prove(&lowered, &layout, micro_batches, limit, &|lane| {
            lowered.slots.of(lane)
        })
        .map(|()| lowered)
    });
    let lowered = match proven {
        Ok(lowered) => lowered,
        Err(error) => return Err(refused(options, *error, to)?),
    };
    let kept = node_stash_peaks(&lowered, &layout, options.freed_at_input());
    let actions: usize = lowered.nodes.iter().map(Vec::len).sum();
    let sends = lowered.nodes.iter().flatten();
    let sends = sends
        .filter(|action| matches!(action, Action::Send(_)))
        .count();
    let slots = lowered
        .slots
        .iter()
        .map(|(_, slots)| slots)
        .max()
        .unwrap_or(0);
    if options.json {
        let setting = options.setting()?;
        let mut object = head(&setting);
        object["sound"] = json!(true);
        object["actions"] = json!(actions);
        object["messages"] = json!(sends);
        object["most_slots"] = json!(slots);
        object["peak_stash"] = json!(kept);
        return print(to, &object.to_string());
    }
    print(
        to,
        &format!(
            "{name}, {} nodes, {} stages, {micro_batches} micro-batches: sound\n\
             {actions} actions: complete, in order, every send with its receive, never stuck\n\
             {sends} messages; at most {slots} of a lane under way at once\n\
             micro-batches kept for backward, by node: {}",
            layout.nodes(),
            layout.placement.stages(),
            numbers(&kept),
        ),
    )
}

/// What is broken, with the lists around it; the failure that the program ends with.
fn refused(
    options: &ScheduleOptions,
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
    Ok(PlanError::from(Box::new(error)).into())
}
