//! `brigade checkpoint verify`.

use super::{Options, Place, none_damaged, step};
use crate::Checkpoint;
use crate::cli::failure::Failure;
use crate::cli::output::{print, printable, time};
use serde_json::json;
use std::io::Write;
use std::time::Instant;

pub(super) fn verify(options: &Options, to: &mut dyn Write) -> Result<(), Failure> {
    let all = Place::of(&options.dir)?.all()?;
    let mut problems = Vec::new();
    for path in &all {
        let started = Instant::now();
        let opened = Checkpoint::open(path);
        let verified = opened.as_ref().map_err(Clone::clone);
        let verified = verified.and_then(Checkpoint::verify);
        if verified.is_err() && !path.exists() {
            // Its run has removed it meanwhile.
            continue;
        }
        let seconds = started.elapsed().as_secs_f64();
        let found = opened.as_ref().ok();
        let bytes = found.map_or(0, Checkpoint::bytes);
        let gb_per_s = 1e-9 * bytes as f64 / seconds.max(1e-9);
        let problem = verified.as_ref().err().map(ToString::to_string);
        let shown = path.display().to_string();
        let line = match (options.json, &problem) {
            (true, _) => {
                let step = step(path, found);
                let mut object = json!({
                    "checkpoint": shown, "step": step, "whole": problem.is_none(),
                    "problem": problem,
                });
                if problem.is_none() {
                    object["bytes"] = json!(bytes);
                    object["seconds"] = json!(seconds);
                    object["gb_per_s"] = json!(gb_per_s);
                }
                object.to_string()
            }
            (false, None) => {
                let took = time(seconds);
                format!("{shown}: whole, {bytes} bytes in {took}, {gb_per_s:.2} GB/s")
            }
            (false, Some(problem)) => format!("{shown}: damaged: {problem}"),
        };
        print(to, &printable(&line))?;
        problems.extend(verified.err());
    }
    none_damaged(&problems, all.len())
}
