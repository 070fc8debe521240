//! Promise: documents show what the program does. Pictures and outputs in them are made anew here
//! and compared; `BRIGADE_BLESS=1 cargo test --test documents` writes them.
#![cfg(feature = "cli")]
#![allow(missing_docs, clippy::unwrap_used)]

mod program;

use brigade::ScheduleKind;
use brigade::ids::{MicroBatchCount, NodeCount};
use brigade::report::schedule_svg;
use brigade::schedule::{Layout, Schedule, Task, Times, lower, simulate};
use program::{brigade, text};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The file has this content, or gets it when that is asked for.
fn holds(file: &Path, wanted: &str) {
    if std::env::var_os("BRIGADE_BLESS").is_some() {
        fs::write(file, wanted).unwrap();
    }
    let found = fs::read_to_string(file).unwrap_or_default();
    assert!(
        found == wanted,
        "{} is not what the program makes now; BRIGADE_BLESS=1 cargo test --test documents \
         writes it anew",
        file.display()
    );
}

/// Four nodes, eight micro-batches, F, I and W of equal length.
fn picture(kind: ScheduleKind) -> String {
    let micro_batches = MicroBatchCount::new(8);
    let task = Task::new(kind.place(NodeCount::new(4), None).unwrap(), micro_batches);
    let layout = Layout::chain(task.placement.clone());
    let lowered = lower(&kind.define(&task).unwrap(), &layout, micro_batches).unwrap();
    let stages = task.placement.stages().index();
    let share = 4.0 / stages as f64;
    let times = Times::equal(stages, share, share, share);
    let timeline = simulate(&lowered, &layout, micro_batches, &times).unwrap();
    schedule_svg(kind.name(), &timeline, &layout)
}

/// What the page says of each schedule, in this order.
const FACTS: [&str; 4] = ["Warm-up:", "Memory:", "Idle", "Take it"];

#[test]
fn every_schedule_has_its_picture_and_its_section() {
    let page = fs::read_to_string(root().join("docs/SCHEDULES.md")).unwrap();
    for kind in ScheduleKind::ALL {
        let name = kind.name();
        let file = format!("pictures/{name}.svg");
        holds(&root().join("docs").join(&file), &picture(kind));
        let section = format!("## `{name}`\n\n![{name}]({file})\n");
        assert_eq!(page.matches(&section).count(), 1, "{name}");
        let (_, text) = page.split_once(&section).unwrap();
        let (text, _) = text.split_once("\n## ").unwrap();
        let (who, facts) = text.split_once("\n- ").unwrap();
        assert!(
            who.contains("arXiv 2") || who.contains("arXiv 1"),
            "{name}: whose?"
        );
        let facts: Vec<_> = facts.split("\n- ").collect();
        assert_eq!(facts.len(), FACTS.len(), "{name}");
        for (fact, wanted) in facts.iter().zip(FACTS) {
            assert!(
                fact.starts_with(wanted),
                "{name}: {fact} where {wanted} should be"
            );
        }
        // Warm-up is a number, by formula.
        assert!(facts[0].contains(['M', 'P']), "{name}: {}", facts[0]);
    }
    let pictures = fs::read_dir(root().join("docs/pictures")).unwrap();
    assert_eq!(pictures.count(), ScheduleKind::ALL.len());
}

/// Every block that begins with `$ brigade schedule` shows what that prints.
#[test]
fn outputs_are_what_the_program_prints() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for page in ["docs/SCHEDULES.md", "docs/book/4-choosing-a-schedule.md"] {
        let page = root().join(page);
        let found = fs::read_to_string(&page).unwrap();
        let mut made = String::new();
        let mut rest = found.as_str();
        while let Some((before, block)) = rest.split_once("```text\n$ brigade schedule ") {
            let (command, block) = block.split_once('\n').unwrap();
            let (_, after) = block.split_once("```").unwrap();
            let output = text(&brigade(folder.path(), &format!("schedule {command}")));
            made += &format!("{before}```text\n$ brigade schedule {command}\n{output}```");
            rest = after;
            seen += 1;
        }
        holds(&page, &(made + rest));
    }
    assert!(seen >= 5, "{seen}");
}
