//! Style that a machine can hold: rooms import one way, files stay small, lines stay short.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms from the bottom up. A room imports only from rooms before it.
const ORDER: &[&str] = &[
    "ids",
    "batch",
    "error",
    "files",
    "launch",
    "placement",
    "partition",
    "schedule",
    "config",
    "plan",
    "wire",
    "process",
    "sync",
    "trace",
    "stage",
    "checkpoint",
    "interchange",
    "train",
    "bench",
    "profile",
    "planner",
    "report",
    "cli",
];
/// An error says in which words of the schedule something went wrong, and the bottom rooms return
/// it.
const ALLOWED: &[(&str, &str)] = &[("error", "schedule")];
const MOST_LINES: usize = 400;
/// Text in quotes and tables cannot be wrapped.
const MOST_COLUMNS: usize = 100;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return files;
    };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn room_of(file: &Path) -> Option<String> {
    let inside = file.strip_prefix(root().join("src")).ok()?;
    let first = inside.components().next()?.as_os_str().to_str()?;
    let room = first.trim_end_matches(".rs");
    (!["lib", "main"].contains(&room)).then(|| room.to_owned())
}

fn place(room: &str) -> Option<usize> {
    ORDER.iter().position(|known| *known == room)
}

#[test]
fn rooms_import_one_way() {
    let mut seen = 0;
    for file in rust_files(&root().join("src")) {
        let Some(room) = room_of(&file) else { continue };
        let own = place(&room).unwrap_or_else(|| panic!("{room} has no place in the order"));
        let text = fs::read_to_string(&file).unwrap();
        for after in text.split("crate::").skip(1) {
            let imported: String = after
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                .collect();
            let Some(other) = place(&imported) else {
                continue;
            };
            seen += 1;
            let fine = other <= own || ALLOWED.contains(&(room.as_str(), imported.as_str()));
            assert!(
                fine,
                "{} imports from {imported}, which comes later",
                file.display()
            );
        }
    }
    assert!(seen > 50, "the imports were found: {seen}");
}

#[test]
fn the_engine_knows_no_way_to_compute_a_stage() {
    for file in rust_files(&root().join("src")) {
        let room = room_of(&file);
        let text = fs::read_to_string(&file).unwrap();
        let front = room.is_none() || room.as_deref() == Some("cli");
        assert!(
            front || !text.contains("brigade_nn"),
            "{} names brigade_nn",
            file.display()
        );
    }
    for file in rust_files(&root().join("stages")) {
        let text = fs::read_to_string(&file).unwrap();
        assert!(
            !text.contains("use brigade::"),
            "{} names the engine",
            file.display()
        );
    }
}

#[test]
fn only_one_file_names_bincode() {
    let naming = |file: &PathBuf| fs::read_to_string(file).unwrap().contains("bincode::");
    let files: Vec<_> = rust_files(&root().join("src"))
        .into_iter()
        .filter(naming)
        .collect();
    assert_eq!(files, [root().join("src/wire/codec.rs")]);
}

#[test]
fn files_are_small_and_lines_are_short() {
    let mut wrong = Vec::new();
    for folder in ["src", "stages", "benches", "tests", "docs"] {
        for file in rust_files(&root().join(folder)) {
            let text = fs::read_to_string(&file).unwrap();
            let lines = text.lines().count();
            if lines > MOST_LINES {
                wrong.push(format!(
                    "{} has {lines} lines: two things share a room",
                    file.display()
                ));
            }
            for (number, line) in text.lines().enumerate() {
                let columns = line.chars().count();
                let wraps = !line.contains('"') && !line.trim_start().starts_with("//! |");
                if columns > MOST_COLUMNS && wraps {
                    wrong.push(format!(
                        "{}:{} has {columns} columns",
                        file.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_top_level_is_what_the_readme_says() {
    let allowed = [
        "src", "stages", "benches", "tests", "docs", "target", "runs",
    ];
    for entry in fs::read_dir(root()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let folder = path.is_dir() && !name.starts_with('.');
        assert!(
            !folder || allowed.contains(&name.as_str()),
            "{name} is no top-level folder"
        );
    }
}
