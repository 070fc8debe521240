//! Promise: PyTorch's schedule files are understood to the letter, ours are understood by PyTorch,
//! and a file that is wrong is refused with the cell.
//!
//! `goldens/torch_schedules.py` made the golden files, and has PyTorch judge what is exported here.
#![allow(missing_docs, clippy::unwrap_used)]

use brigade::ids::{EdgeId, MicroBatchCount, NodeCount, StageId};
use brigade::placement::Placement;
use brigade::schedule::csv::*;
use brigade::schedule::*;
use brigade::{Error, PlanError};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every golden file: its name, its text, and what it is.
fn goldens() -> Vec<(String, String, CsvSchedule)> {
    let folder = root().join("tests/goldens/torch_schedules");
    let read = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let parsed = CsvSchedule::read(&path, Dialect::Current).unwrap();
        (name, fs::read_to_string(path).unwrap(), parsed)
    };
    let entries = fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = entries.map(|entry| read(entry.unwrap().path())).collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(files.len() > 20, "{} files", files.len());
    files
}

/// As it runs in a chain of stages, proven.
fn lowered(file: &CsvSchedule, micro_batches: u32) -> (Lowered, Layout) {
    let micro_batches = MicroBatchCount::new(micro_batches);
    let placement = file.place(file.placement().nodes(), None).unwrap();
    let layout = Layout::chain(placement.clone());
    let definition = file.define(&Task::new(placement, micro_batches)).unwrap();
    let lowered = lower(&definition, &layout, micro_batches).unwrap();
    let slots = |lane| lowered.slots.of(lane);
    check(&lowered, &layout, micro_batches, None, &slots).unwrap();
    (lowered, layout)
}

#[test]
fn every_schedule_of_pytorch_is_imported_and_proven() {
    for (name, _, file) in goldens() {
        let format = match name.ends_with("compute_only") {
            true => Format::ComputeOnly,
            false => Format::ComputeComms,
        };
        assert_eq!(file.format(), format, "{name}");
        // With all its micro-batches, and with fewer.
        for micro_batches in 1..=file.micro_batches().get() {
            lowered(&file, micro_batches);
        }
    }
}

#[test]
fn stages_are_placed_as_in_pytorch() {
    for (name, _, file) in goldens() {
        let nodes = file.placement().nodes();
        let expected = match name.split('_').next().unwrap() {
            "gpipe" | "1f1b" => Placement::straight(nodes),
            "zbv" | "dualpipev" => Placement::v_shaped(nodes),
            _ => Placement::looped(nodes, 2),
        };
        assert_eq!(*file.placement(), expected, "{name}");
    }
}

#[test]
fn messages_do_not_change_the_order() {
    let files = goldens();
    let mut pairs = 0;
    for (name, _, file) in &files {
        let Some(stem) = name.strip_suffix(".compute_comms") else {
            continue;
        };
        let only = format!("{}.compute_only", stem.replace("_late_receives", ""));
        let (_, _, other) = files.iter().find(|(name, ..)| *name == only).unwrap();
        assert_eq!(file.definition(), other.definition(), "{name}");
        pairs += 1;
    }
    assert!(pairs > 8, "{pairs}");
}

#[test]
fn ready_schedules_are_those_of_pytorch() {
    for (name, kind) in [
        ("gpipe", ScheduleKind::GPipe),
        ("1f1b", ScheduleKind::OneFOneB),
    ] {
        for (golden, _, file) in goldens() {
            if golden.starts_with(name) {
                let task = Task::new(file.placement().clone(), file.micro_batches());
                assert_eq!(kind.define(&task).unwrap(), *file.definition(), "{golden}");
            }
        }
    }
}

/// Without idle slots and with our line ends.
fn canonical(text: &str) -> String {
    let row = |line: &str| {
        let cells: Vec<_> = line.split(',').filter(|cell| !cell.is_empty()).collect();
        cells.join(",") + "\n"
    };
    text.lines().map(row).collect()
}

#[test]
fn what_was_imported_is_exported_again() {
    for (name, text, file) in goldens() {
        if file.format() == Format::ComputeOnly {
            let written = compute_only(file.definition(), Dialect::Current);
            assert_eq!(written, canonical(&text), "{name}");
        }
        for dialect in [Dialect::Current, Dialect::Year2025, Dialect::Year2024] {
            let only = compute_only(file.definition(), dialect);
            let again = CsvSchedule::parse(&name, &only, dialect).unwrap();
            assert_eq!(again.definition(), file.definition(), "{name}");
            assert_eq!(again.placement(), file.placement(), "{name}");
            let (lowered, layout) = lowered(&file, file.micro_batches().get());
            let comms = compute_comms(&lowered, &layout, dialect).unwrap();
            let again = CsvSchedule::parse(&name, &comms, dialect).unwrap();
            assert_eq!(again.placement(), file.placement(), "{name}");
            let computed = |action: &Action| match action {
                Action::Compute(compute) => Some(*compute),
                _ => None,
            };
            let ran = lowered.nodes.iter();
            let ran = ran.map(|list| list.iter().filter_map(computed).collect::<Vec<_>>());
            assert_eq!(
                *again.definition(),
                ran.collect::<Vec<_>>().into(),
                "{name}"
            );
        }
    }
}

/// Leaves files in `target/tmp/schedule_csv` for `torch_schedules.py check`.
#[test]
fn exports_are_left_for_pytorch_to_judge() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("schedule_csv");
    fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, lowered: &Lowered, layout: &Layout, definition: &Definition| {
        let only = compute_only(definition, Dialect::Current);
        let comms = compute_comms(lowered, layout, Dialect::Current).unwrap();
        fs::write(folder.join(format!("{name}.compute_only.csv")), only).unwrap();
        fs::write(folder.join(format!("{name}.compute_comms.csv")), comms).unwrap();
    };
    for (name, _, file) in goldens() {
        let (lowered, layout) = lowered(&file, file.micro_batches().get());
        let name = format!("imported_{}", name.replace('.', "_as_"));
        write(&name, &lowered, &layout, file.definition());
    }
    for kind in ScheduleKind::ALL {
        for (nodes, count) in [(1, 3), (2, 1), (3, 5), (4, 2), (4, 8), (8, 16)] {
            let micro_batches = MicroBatchCount::new(count);
            let placement = kind.place(NodeCount::new(nodes), None).unwrap();
            let task = Task::new(placement, micro_batches);
            let layout = Layout::chain(task.placement.clone());
            let definition = match kind.define(&task) {
                Ok(definition) => definition,
                Err(PlanError::Illegal { .. }) => continue,
                Err(error) => panic!("{error}"),
            };
            let lowered = lower(&definition, &layout, micro_batches).unwrap();
            let name = format!("{kind}_p{nodes}_m{count}");
            write(&name, &lowered, &layout, &definition);
        }
    }
}

/// The cell at the other end of a `2SEND_F0` or `2SEND_B0`.
fn mate(cell: &str) -> Option<String> {
    let (stage, message) = cell.split_once("SEND_")?;
    let stage: u32 = stage.parse().ok()?;
    let peer = match message.starts_with('F') {
        true => stage + 1,
        false => stage - 1,
    };
    Some(format!("{peer}RECV_{message}"))
}

#[test]
fn an_export_never_hangs_even_if_sends_wait_for_their_receives() {
    for (name, _, file) in goldens() {
        let (lowered, layout) = lowered(&file, file.micro_batches().get());
        let text = compute_comms(&lowered, &layout, Dialect::Year2025).unwrap();
        let mut rows: Vec<Vec<&str>> = text.lines().map(|row| row.split(',').collect()).collect();
        rows.iter_mut().for_each(|row| row.reverse());
        while rows.iter().any(|row| !row.is_empty()) {
            let left: usize = rows.iter().map(Vec::len).sum();
            for node in 0..rows.len() {
                let Some(cell) = rows[node].last() else {
                    continue;
                };
                if let Some(mate) = mate(cell) {
                    let peer = rows
                        .iter()
                        .position(|row| row.last() == Some(&mate.as_str()));
                    let Some(peer) = peer else { continue };
                    rows[peer].pop();
                    rows[node].pop();
                } else if !cell.contains("RECV_") {
                    rows[node].pop();
                }
            }
            assert!(left > rows.iter().map(Vec::len).sum(), "{name} hangs");
        }
    }
}

#[test]
fn a_small_export_to_the_letter() {
    let text = "0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n";
    let file = CsvSchedule::parse("small", text, Dialect::Current).unwrap();
    let (lowered, layout) = lowered(&file, 2);
    let export = |dialect| compute_comms(&lowered, &layout, dialect).unwrap();
    let current = "\
0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0WAIT_SEND_F0,0RECV_B1,0B1,0WAIT_SEND_F1,0REDUCE_GRAD,\
0WAIT_REDUCE_GRAD
1RECV_F0,1F0,1RECV_F1,1B0,1SEND_B0,1F1,1B1,1SEND_B1,1REDUCE_GRAD,1WAIT_REDUCE_GRAD,1WAIT_SEND_B0,\
1WAIT_SEND_B1
";
    assert_eq!(export(Dialect::Current), current);
    let oldest = "\
0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0BW0,0RECV_B1,0BW1
1RECV_F0,1F0,1RECV_F1,1BW0,1SEND_B0,1F1,1BW1,1SEND_B1
";
    assert_eq!(export(Dialect::Year2024), oldest);
}

#[test]
fn what_pytorch_cannot_do_is_not_exported() {
    let file = CsvSchedule::parse("v", "0F0,1F0,1B0,0B0", Dialect::Current).unwrap();
    let (plan, mut layout) = lowered(&file, 1);
    let says = |plan: &Lowered, layout: &Layout| {
        let error = compute_comms(plan, layout, Dialect::Current).unwrap_err();
        error.to_string()
    };
    let nothing = Lowered {
        nodes: vec![Vec::new()],
        ..plan.clone()
    };
    assert!(says(&nothing, &layout).contains("without backward"));
    let elsewhere = Layout::chain(Placement::straight(NodeCount::new(3)));
    assert!(says(&plan, &elsewhere).contains("a plan of 1 lists for 3 nodes"));
    let edge = layout.routes[0];
    layout.routes.remove(0);
    assert!(says(&plan, &layout).contains("stage 0 without a message to stage 1"));
    layout.routes.insert(0, edge);
    layout.routes[0].to = StageId::new(2);
    assert!(says(&plan, &layout).contains("from stage 0 to stage 2"));
}

#[test]
fn several_edges_between_two_stages_are_one_message() {
    let file = CsvSchedule::parse("two", "0F0,0B0\n1F0,1B0", Dialect::Current).unwrap();
    let (plan, mut layout) = lowered(&file, 1);
    let one = compute_comms(&plan, &layout, Dialect::Current).unwrap();
    for mut route in layout.routes.clone() {
        route.lane.edge = EdgeId::new(7);
        layout.routes.push(route);
    }
    let plan = lower(file.definition(), &layout, file.micro_batches()).unwrap();
    let two = compute_comms(&plan, &layout, Dialect::Current).unwrap();
    assert_eq!(one, two);
}

#[test]
fn a_file_is_for_its_own_nodes_and_stages() {
    let text = "0F0,3F0,3B0,0B0\n1F0,2F0,2B0,1B0\n";
    let file = CsvSchedule::parse("mine", text, Dialect::Current).unwrap();
    let nodes = NodeCount::new;
    for chunks in [None, Some(2)] {
        assert_eq!(file.place(nodes(2), chunks).unwrap(), *file.placement());
    }
    let illegal = |result: Result<Placement, PlanError>| match result.unwrap_err() {
        PlanError::Illegal { schedule, .. } => assert_eq!(schedule, "mine"),
        other => panic!("{other}"),
    };
    illegal(file.place(nodes(3), None));
    illegal(file.place(nodes(2), Some(1)));
    for (placement, count) in [
        (Placement::looped(nodes(2), 2), 1),
        (file.placement().clone(), 0),
        (file.placement().clone(), 2),
    ] {
        let task = Task::new(placement.clone(), MicroBatchCount::new(count));
        illegal(file.define(&task).map(|_| placement));
    }
}

#[test]
fn a_file_that_is_no_text_or_not_there_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.csv");
    let read = || CsvSchedule::read(&path, Dialect::Current);
    assert!(matches!(read(), Err(Error::Read { .. })));
    fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(matches!(read(), Err(Error::Read { .. })));
    fs::write(&path, "0F0,0B0").unwrap();
    assert_eq!(read().unwrap().name(), "mine");
    // Larger than allowed, and no byte of it on the disk.
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let error = read().unwrap_err().to_string();
    assert!(error.contains("larger than"), "{error}");
}

/// What an error says: row, column, cell, and a part of the message.
type Place<'a> = (usize, usize, &'a str, &'a str);

#[track_caller]
fn refused(text: &str, dialect: Dialect, (row, column, cell, says): Place) {
    let error = CsvSchedule::parse("bad", text, dialect).expect_err(text);
    let found = (error.row, error.column, error.cell.as_str());
    assert_eq!(found, (row, column, cell), "{text:?}: {error}");
    assert!(error.to_string().contains(says), "{text:?}: {error}");
}

#[test]
fn bad_files_are_refused_with_the_cell() {
    let mut seen = 0;
    for line in include_str!("goldens/bad_schedules.txt").lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let [file, place, says] = line.split(" | ").collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let mut place = place.splitn(3, ' ');
        let mut number = || place.next().unwrap().parse().unwrap();
        let (row, column) = (number(), number());
        let cell = place.next().unwrap_or_default();
        let text = file.split(" / ").collect::<Vec<_>>().join("\n");
        refused(&text, Dialect::Current, (row, column, cell, says));
        seen += 1;
    }
    assert!(seen > 70, "{seen}");
}

#[test]
fn bad_files_that_no_table_can_show() {
    let current = Dialect::Current;
    refused("", current, (1, 1, "", "the file is empty"));
    let says = "a carriage return inside a line";
    refused("0F0,0B0\r1F0", current, (1, 2, "0B0\r1F0", says));
    let digit = "\u{661}F0";
    refused(digit, current, (1, 1, digit, "no such action"));
    let many = "0F0\n".repeat(65_537);
    refused(&many, current, (65_537, 1, "0F0", "more than 65536 rows"));
    // The letters of 2024: B is only the half of a backward.
    let old = Dialect::Year2024;
    refused("0F0,0B0", old, (1, 3, "", "the row ends without 0W0"));
    refused("0F0,0I0,0W0", old, (1, 2, "0I0", "the other dialect"));
    let long = "0".repeat(99) + "F";
    let error = CsvSchedule::parse("bad", &long, current).unwrap_err();
    assert_eq!(error.cell.chars().count(), 61, "{error}");
}

#[test]
fn what_only_looks_odd_is_read() {
    let good = [
        "0F0,0B0",
        "0F0,0B0\r\n",
        " 0F0 ,\t0B0 , ",
        "\"0F0\",\"0B0\"",
        "0F0,0F1,0B0,0B1,",
        "(0F0; 0B0)OVERLAP_F_B",
    ];
    for text in good {
        CsvSchedule::parse("odd", text, Dialect::Current).unwrap();
    }
}
