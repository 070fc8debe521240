//! `brigade checkpoint list`.

use super::{Options, Place, named, none_damaged, step};
use crate::Checkpoint;
use crate::cli::failure::Failure;
use crate::cli::output::{mib, print, printable};
use crate::profile::date;
use crate::schedule::counted;
use serde_json::json;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) fn list(options: &Options, to: &mut dyn Write) -> Result<(), Failure> {
    let all = Place::of(&options.dir)?.all()?;
    let mut problems = Vec::new();
    for path in &all {
        let opened = Checkpoint::open(path);
        let looked = opened.as_ref().map_err(Clone::clone);
        let looked = looked.and_then(Checkpoint::look);
        let (bytes, saved) = (Checkpoint::bytes_in(path), Checkpoint::saved(path));
        if !path.exists() {
            // Its run has removed it meanwhile.
            continue;
        }
        let (bytes, saved) = (bytes?, saved?);
        let found = opened.as_ref().ok();
        let step = step(path, found);
        let files = found.map(|found| found.manifest().files.len());
        let problem = looked.as_ref().err().map(ToString::to_string);
        let line = match options.json {
            true => json!({
                "checkpoint": path.display().to_string(),
                "step": step,
                "bytes": bytes,
                "saved_s": seconds(saved),
                "files": files,
                "whole": problem.is_none(),
                "problem": problem,
            })
            .to_string(),
            false => format!(
                "step {:>8}  {:>10.1} MiB in {:<9}  {}  {}",
                named(step),
                mib(bytes),
                files.map_or("? files".into(), |files| counted(files, "file")),
                date(saved),
                problem.map_or("whole".into(), |problem| format!("damaged: {problem}"))
            ),
        };
        print(to, &printable(&line))?;
        problems.extend(looked.err());
    }
    none_damaged(&problems, all.len())
}

/// Since 1970.
pub(super) fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
