//! `brigade schedule compare`.

use super::options::ScheduleOptions;
use super::setting::{Asked, Setting};
use super::simulate::{figures, head, numbers};
use crate::cli::failure::Failure;
use crate::cli::options::ScheduleArg;
use crate::cli::output::print;
use crate::schedule::{ScheduleKind, Totals, counted};
use serde_json::{Value, json};
use std::io::Write;

/// A schedule and what it comes to.
struct Entry {
    setting: Setting,
    totals: Totals,
}

/// All that there is to compare.
#[derive(Default)]
struct Compared {
    entries: Vec<Entry>,
    refused: Vec<(String, String)>,
}

pub(super) fn compare(options: &ScheduleOptions, to: &mut dyn Write) -> Result<(), Failure> {
    // What is wrong with the setting itself is wrong for all.
    options.limit()?;
    let asked = options.asked()?;
    let mut compared = Compared::default();
    for kind in ScheduleKind::ALL {
        let entry = entry(options, &asked.with(kind));
        compared.add(kind.name(), entry, options)?;
    }
    if let ScheduleArg::File(path) = &options.schedule {
        // Whoever names a file wants to know what is wrong with it.
        let entry = entry(options, &asked)?;
        compared.add(&path.display().to_string(), Ok(entry), options)?;
    }
    let Compared { entries, refused } = &mut compared;
    if entries.is_empty() {
        return Err(none(options, refused));
    }
    entries.sort_by(|one, other| {
        let makespan = one.totals.makespan.total_cmp(&other.totals.makespan);
        let kept = [one, other].map(|entry| entry.setting.most_kept());
        makespan.then(kept[0].total_cmp(&kept[1]))
    });
    if options.json {
        let all = entries.iter().map(|entry| {
            let mut object = head(&entry.setting);
            let more = figures(&entry.totals, &entry.setting.kept);
            if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
                object.extend(more);
            }
            object
        });
        let not = (refused.iter()).map(|(name, why)| json!({ "schedule": name, "refused": why }));
        let all: Vec<_> = all.chain(not).collect();
        return print(to, &Value::from(all).to_string());
    }
    print(to, &table(&asked, entries, refused))
}

fn entry(options: &ScheduleOptions, asked: &Asked) -> Result<Entry, Failure> {
    let setting = options.unlimited(options.defined(asked)?)?;
    let totals = setting.totals()?;
    Ok(Entry { setting, totals })
}

impl Compared {
    /// What is impossible or keeps too much is said in its place.
    fn add(
        &mut self,
        name: &str,
        entry: Result<Entry, Failure>,
        options: &ScheduleOptions,
    ) -> Result<(), Failure> {
        let refused = match (entry, options.limit()?) {
            (Err(failure), _) => failure.to_string(),
            (Ok(entry), Some(limit)) if limit.exceeded_by(entry.setting.most_kept()) => format!(
                "keeps {} and may keep {}",
                numbers(&[entry.setting.most_kept()]),
                numbers(&[limit.most])
            ),
            (Ok(entry), _) => {
                self.entries.push(entry);
                return Ok(());
            }
        };
        self.refused.push((name.to_owned(), refused));
        Ok(())
    }
}

/// Why nothing is left.
fn none(options: &ScheduleOptions, refused: &[(String, String)]) -> Failure {
    match options.memory_limit {
        Some(most) if most < 1.0 => Failure::Usage(format!(
            "--memory-limit is {most}; every schedule keeps a whole micro-batch on each node: \
             give 1 or more"
        )),
        _ => Failure::Other(match refused {
            [(name, why), ..] => format!("no schedule can do this: {name}: {why}"),
            [] => "no schedule to compare".to_owned(),
        }),
    }
}

fn table(asked: &Asked, entries: &[Entry], refused: &[(String, String)]) -> String {
    let mut text = format!(
        "{}, {}; bubble by makespan and by span; the most kept by a node\n\
         schedule          chunks  makespan  bubble  by span    kept\n",
        counted(asked.nodes, "node"),
        counted(asked.micro_batches, "micro-batch")
    );
    for Entry { setting, totals } in entries {
        text += &format!(
            "{:<16}  {:>6}  {:>8.3}  {:>5.1}%  {:>6.1}%  {:>6.2}\n",
            setting.defined.name,
            setting.chunks(),
            totals.makespan,
            100.0 * totals.bubble_makespan(),
            100.0 * totals.bubble_span(),
            setting.most_kept(),
        );
    }
    for (name, why) in refused {
        text += &format!("{name:<16}  {why}\n");
    }
    text.trim_end().to_owned()
}
