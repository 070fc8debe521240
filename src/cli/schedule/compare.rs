//! `brigade schedule compare`.

use super::options::{ScheduleOptions, Setting};
use super::simulate::{figures, head, numbers};
use crate::cli::failure::Failure;
use crate::cli::options::ScheduleArg;
use crate::cli::output::print;
use crate::schedule::{ScheduleKind, Totals, node_stash_peaks};
use serde_json::{Value, json};
use std::io::Write;

/// A schedule and what it comes to.
struct Entry {
    setting: Setting,
    totals: Totals,
    kept: Vec<f64>,
}

impl Entry {
    fn most_kept(&self) -> f64 {
        self.kept.iter().copied().fold(0.0, f64::max)
    }
}

pub(super) fn compare(options: &ScheduleOptions, to: &mut dyn Write) -> Result<(), Failure> {
    // What is wrong with the setting itself is wrong for all.
    options.limit()?;
    let (mut entries, mut refused) = (Vec::new(), Vec::new());
    for (name, options) in candidates(options) {
        match entry(&options) {
            Ok(entry) => entries.push(entry),
            Err(failure) => refused.push((name, failure)),
        }
    }
    if entries.is_empty() {
        let first = refused.into_iter().next().map(|(_, failure)| failure);
        return Err(first.unwrap_or_else(|| Failure::Other("no schedule to compare".into())));
    }
    entries.sort_by(|one, other| {
        let makespan = one.totals.makespan.total_cmp(&other.totals.makespan);
        makespan.then(one.most_kept().total_cmp(&other.most_kept()))
    });
    if options.json {
        let all = entries.iter().map(|entry| {
            let mut object = head(&entry.setting);
            let more = figures(&entry.totals, &entry.kept);
            if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
                object.extend(more);
            }
            object
        });
        let not = (refused.iter())
            .map(|(name, failure)| json!({ "schedule": name, "refused": failure.to_string() }));
        let all: Vec<_> = all.chain(not).collect();
        return print(to, &Value::from(all).to_string());
    }
    print(to, &table(&entries, &refused))
}

/// All by name, each with the stages it needs, and a file if there is one.
fn candidates(options: &ScheduleOptions) -> Vec<(String, ScheduleOptions)> {
    let mut list: Vec<_> = ScheduleKind::ALL
        .into_iter()
        .map(|kind| {
            let mut with = options.with(ScheduleArg::Kind(kind));
            with.chunks = options.chunks.filter(|_| kind.takes_any_chunks());
            (kind.name().to_owned(), with)
        })
        .collect();
    if let ScheduleArg::File(path) = &options.schedule {
        list.push((path.display().to_string(), options.clone()));
    }
    list
}

fn entry(options: &ScheduleOptions) -> Result<Entry, Failure> {
    let setting = options.setting_within(None)?;
    let totals = setting.totals()?;
    let kept = node_stash_peaks(&setting.lowered, &setting.layout, options.freed_at_input());
    let entry = Entry {
        setting,
        totals,
        kept,
    };
    match options.limit()? {
        Some(limit) if entry.most_kept() > limit.most + 1e-9 => Err(Failure::Other(format!(
            "keeps {} and may keep {}",
            numbers(&[entry.most_kept()]),
            numbers(&[limit.most])
        ))),
        _ => Ok(entry),
    }
}

fn table(entries: &[Entry], refused: &[(String, Failure)]) -> String {
    let first = &entries[0].setting;
    let mut text = format!(
        "{} nodes, {} micro-batches; bubble by makespan and by span; the most kept by a node\n\
         schedule          chunks  makespan  bubble  by span    kept\n",
        first.layout.nodes(),
        first.micro_batches
    );
    for entry in entries {
        text += &format!(
            "{:<16}  {:>6}  {:>8.3}  {:>5.1}%  {:>6.1}%  {:>6.2}\n",
            entry.setting.name,
            entry.setting.chunks(),
            entry.totals.makespan,
            100.0 * entry.totals.bubble_makespan(),
            100.0 * entry.totals.bubble_span(),
            entry.most_kept(),
        );
    }
    for (name, failure) in refused {
        text += &format!("{name:<16}  {failure}\n");
    }
    text.trim_end().to_owned()
}
