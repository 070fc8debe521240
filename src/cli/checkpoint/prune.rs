//! `brigade checkpoint prune`.

use super::{Options, Place, step, whole};
use crate::Checkpoint;
use crate::cli::failure::Failure;
use crate::cli::output::{mib, print, printable};
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;

#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct PruneOptions {
    #[command(flatten)]
    options: Options,
    /// So many are kept, the newest; at least 1.
    #[arg(
        long, value_name = "N", required = true,
        allow_negative_numbers = true, value_parser = whole::<usize>
    )]
    keep: usize,
}

pub(super) fn prune(options: &PruneOptions, to: &mut dyn Write) -> Result<(), Failure> {
    let PruneOptions { options, keep } = options;
    if *keep == 0 {
        let problem = "--keep is 0; it must be 1 or more";
        return Err(Failure::Usage(problem.into()));
    }
    let place = Place::of(&options.dir)?;
    if let Some(one) = &place.one {
        let problem = "is one checkpoint; give the folder that it is in, or a run folder";
        return Err(Failure::Other(format!("{} {problem}", one.display())));
    }
    let mut bytes = BTreeMap::new();
    for path in place.all()? {
        bytes.insert(path.clone(), Checkpoint::bytes_in(path)?);
    }
    let removed = Checkpoint::prune(&place.folder, *keep)?;
    let mut freed = 0;
    for path in &removed {
        let bytes = bytes.get(path).copied().unwrap_or(0);
        freed += bytes;
        let shown = path.display().to_string();
        let line = match options.json {
            true => {
                let step = step(path, None);
                json!({ "checkpoint": shown, "step": step, "freed_bytes": bytes }).to_string()
            }
            false => format!("removed {shown}, {:.1} MiB", mib(bytes)),
        };
        print(to, &printable(&line))?;
    }
    let kept = Checkpoint::list(&place.folder)?.len();
    let removed = removed.len();
    let line = match options.json {
        true => json!({ "summary": { "removed": removed, "freed_bytes": freed, "kept": kept } })
            .to_string(),
        false => format!(
            "{removed} removed, {:.1} MiB freed; {kept} kept",
            mib(freed)
        ),
    };
    print(to, &line)
}
