//! Promise: over MPI the same numbers; what does not fit together is one line; no rank holds more
//! than its own.
//!
//! Needs an MPI library: `cargo build --features mpi --example digits`, then `cargo test --features
//! mpi --test mpi`. `BRIGADE_MPIEXEC` names another launcher than `mpirun` (`mpiexec.mpich` for a
//! program built for MPICH).
#![allow(missing_docs, clippy::unwrap_used)]

mod jobs;
mod program;

use brigade::ScheduleKind;
use jobs::{TIED, errors, is_open_mpi, mpirun, mpirun_with, run};
use program::{brigade, folder_with_text, lines, sha, summary};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// What does not depend on who trains.
fn figures(output: &Output) -> (String, Vec<(Value, Value)>, Value) {
    let steps: Vec<Value> = lines(output);
    let losses = steps.iter().filter(|line| line["step"].is_number());
    let losses = losses.map(|line| (line["loss"].clone(), line["grad_norm"].clone()));
    let losses = losses.collect();
    (sha(output), losses, summary(output)["val_loss"].clone())
}

#[test]
fn ranks_train_what_threads_train() {
    let folder = folder_with_text();
    let one = figures(&brigade(
        folder.path(),
        &format!("{TIED} --nodes 1 --out one"),
    ));
    let weights = |run: &str| fs::read(folder.path().join(run).join("weights.safetensors"));
    for schedule in ScheduleKind::ALL {
        for ranks in [2, 3, 4] {
            let out = format!("{schedule}-{ranks}");
            let arguments = format!("{TIED} --nodes 4 --schedule {schedule} --out {out}");
            let output = run(folder.path(), ranks, &arguments);
            assert_eq!(figures(&output), one, "{schedule} on {ranks} ranks");
            assert_eq!(weights(&out).unwrap(), weights("one").unwrap());
        }
    }
}

#[test]
fn a_llama_too() {
    let folder = folder_with_text();
    let llama = format!("{TIED} --family llama --kv-heads 1");
    let one = format!("{llama} --nodes 1 --out one");
    let one = figures(&brigade(folder.path(), &one));
    for schedule in ["1f1b", "zb-v"] {
        let arguments = format!("{llama} --nodes 4 --schedule {schedule} --out {schedule}");
        let output = run(folder.path(), 4, &arguments);
        assert_eq!(figures(&output), one, "{schedule}");
    }
}

/// Skips within stages and between them, and statistics of batches that each step ends with.
#[test]
fn a_residual_network_too() {
    let folder = tempfile::tempdir().unwrap();
    let weights = |mut job: Command| {
        let text = program::text(&job.output().unwrap());
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        // One of the processes speaks: of the only epoch, then of the weights.
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[1].starts_with("weights "), "{text}");
        lines
    };
    let mut alone = Command::new(jobs::example("digits"));
    alone.arg("1").current_dir(folder.path());
    let one = weights(alone);
    for ranks in [2, 4] {
        let job = jobs::mpirun_example("digits", folder.path(), ranks, "1");
        assert_eq!(weights(job), one, "{ranks} ranks");
    }
}

/// Tensors travel in half of their bytes, and give what one node gives that rounds as well.
#[test]
fn ranks_round_what_one_node_rounds() {
    let folder = folder_with_text();
    let rounded = format!("{TIED} --precision bf16 --wire bf16");
    let one = figures(&brigade(
        folder.path(),
        &format!("{rounded} --nodes 1 --out one"),
    ));
    for schedule in ["1f1b", "zb-v"] {
        for ranks in [2, 4] {
            let arguments = format!("{rounded} --nodes 4 --schedule {schedule} --out run");
            let output = run(folder.path(), ranks, &arguments);
            assert_eq!(figures(&output), one, "{schedule} on {ranks} ranks");
        }
    }
}

/// Steps without numbers are the same on ranks: skipped, or an error that all of them know.
#[test]
fn ranks_skip_what_threads_skip() {
    let folder = folder_with_text();
    let breaks = format!("{TIED} --nodes 4 --lr 1e30 --warmup 0 --clip 0 --out run");
    let skip = format!("{breaks} --on-nonfinite skip");
    let threads = brigade(folder.path(), &skip);
    let skipped = |output: &Output| {
        let texts = lines(output)
            .into_iter()
            .map(|line| line["skipped"].clone());
        texts.collect::<Vec<_>>()
    };
    assert_eq!(summary(&threads)["skipped_steps"], 5);
    let ranks = run(folder.path(), 3, &skip);
    assert_eq!(figures(&ranks), figures(&threads));
    assert_eq!(skipped(&ranks), skipped(&threads));
    let output = run(folder.path(), 3, &breaks);
    assert!(!output.status.success());
    let errors = errors(&output);
    assert!(!errors.is_empty(), "{output:?}");
    for error in &errors {
        assert!(
            error.contains("step 1, ") && error.contains("of layer "),
            "{error}"
        );
    }
}

/// The same over sockets instead of shared memory.
#[test]
fn ranks_train_the_same_over_tcp() {
    if !is_open_mpi() {
        return;
    }
    let folder = folder_with_text();
    let one = figures(&brigade(
        folder.path(),
        &format!("{TIED} --nodes 1 --out one"),
    ));
    let tcp = ["--mca", "pml", "ob1", "--mca", "btl", "tcp,self"];
    for schedule in ["1f1b", "zb-v"] {
        let arguments = format!("{TIED} --nodes 4 --schedule {schedule} --out run");
        let output = mpirun(folder.path(), 4, &tcp, &arguments).output().unwrap();
        assert_eq!(figures(&output), one, "{schedule}");
    }
}

/// Predicting needs the output of the last stage on every rank; only the first prints.
#[test]
fn text_plans_and_traces_come_from_ranks_too() {
    let folder = folder_with_text();
    let output = run(folder.path(), 2, &format!("{TIED} --nodes 4 --out run"));
    assert!(output.status.success());
    let generate = "generate run --tokens 12";
    let threads = brigade(folder.path(), generate);
    assert!(threads.status.success());
    let generated = |output: &Output| {
        let mut object = lines(output).remove(0);
        (object["tokens"].take(), object["text"].take())
    };
    let longer = "generate run --tokens 40 --top-p 0.9 --prompt line --json";
    let expected = generated(&brigade(folder.path(), longer));
    for ranks in [2, 3, 4] {
        let output = run(folder.path(), ranks, longer);
        assert_eq!(generated(&output), expected, "{ranks} ranks");
    }
    let stopped = "generate run --tokens 40 --stop e --json";
    let expected = generated(&brigade(folder.path(), stopped));
    assert_eq!(generated(&run(folder.path(), 4, stopped)), expected);
    let output = run(folder.path(), 2, generate);
    // The launcher's output is a terminal to the program, which gets no control characters.
    let harmless = |byte: &u8| {
        if *byte < 32 && *byte != b'\n' {
            b'?'
        } else {
            *byte
        }
    };
    let harmless = |bytes: &[u8]| bytes.iter().map(harmless).collect::<Vec<_>>();
    assert_eq!(harmless(&output.stdout), harmless(&threads.stdout));
    let plan = format!("plan text.txt {} --nodes 2 --json", program::SMALL);
    assert_eq!(lines(&run(folder.path(), 2, &plan)).len(), 1);
    let files = [
        "report.html",
        "trace.json",
        "losses.csv",
        "weights.safetensors",
        "plan.json",
    ];
    for file in files {
        assert!(folder.path().join("run").join(file).exists(), "{file}");
    }
    let plan = fs::read_to_string(folder.path().join("run/plan.json")).unwrap();
    let plan: Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["hosts"].as_array().unwrap().len(), 4);
    let trace = fs::read_to_string(folder.path().join("run/trace.json")).unwrap();
    for node in 0..4 {
        assert!(trace.contains(&format!("node {node}")), "{node}");
    }
}

/// Ranks that take a text for other tokens do not begin to generate.
#[test]
fn ranks_generate_with_the_same_tokens() {
    let (here, there) = (folder_with_text(), folder_with_text());
    let train = format!("{TIED} --nodes 2 --out run");
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/tokenizer");
    let tokenizer = fs::read(goldens.join("tokenizer.json")).unwrap();
    for folder in [&here, &there] {
        assert!(brigade(folder.path(), &train).status.success());
    }
    let generate = "generate run --prompt line --tokens 4";
    for (tokenizer, wanted) in [
        (&tokenizer[..], "rank 1 has other tokens: tokenizer.json"),
        (b"{}", "rank 1 has other tokens: none (run/tokenizer.json"),
    ] {
        fs::write(there.path().join("run/tokenizer.json"), tokenizer).unwrap();
        let mut command = mpirun(here.path(), 1, &[], generate);
        command.args([":", "-n", "1", "-wdir"]).arg(there.path());
        command.arg(env!("CARGO_BIN_EXE_brigade"));
        let output = command.args(generate.split_whitespace()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(wanted), "{said}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}

/// One line from Brigade whatever the launcher adds; never a hang.
#[test]
fn what_does_not_fit_together_is_one_line() {
    let folder = folder_with_text();
    let (program, here) = (env!("CARGO_BIN_EXE_brigade"), folder.path());
    let base = format!(
        "train text.txt {} --nodes 2 --steps 3 --out run",
        program::SMALL
    );
    let two = |second: (&Path, &str, &Path)| {
        let (program, arguments, folder) = second;
        let mut command = mpirun(here, 1, &[], &base);
        command.args([":", "-n", "1", "-wdir"]).arg(folder);
        command.arg(program).args(arguments.split_whitespace());
        command.output().unwrap()
    };
    let other = |arguments: &str| two((Path::new(program), arguments, here));
    let build = here.join("other-build");
    fs::copy(program, &build).unwrap();
    let mut longer = fs::OpenOptions::new().append(true).open(&build).unwrap();
    std::io::Write::write_all(&mut longer, b"another build").unwrap();
    drop(longer);
    let elsewhere = folder_with_text();
    fs::write(elsewhere.path().join("text.txt"), "other text ".repeat(500)).unwrap();
    for (what, output, wanted) in [
        ("ranks", run(here, 3, &base), "3 processes for 2 nodes"),
        (
            "seed",
            other(&format!("{base} --seed 9")),
            "rank 1 was started with seed = 9 where rank 0 was with seed = 1",
        ),
        (
            "schedule",
            other(&format!("{base} --schedule zb-auto")),
            "schedule = \"zb-auto\" where rank 0 was with schedule = \"1f1b\"",
        ),
        (
            "traces",
            other(&format!("{base} --trace-steps 1")),
            "trace-steps = 1",
        ),
        (
            "command",
            other(&base.replace("train", "plan")),
            "brigade plan where rank 0 was with brigade train",
        ),
        (
            "data",
            two((Path::new(program), &base, elsewhere.path())),
            "rank 1 reads other data: text.txt (1 file, 5500 bytes)",
        ),
        (
            "no data",
            run(here, 2, &base.replace("text.txt", "no.txt")),
            "cannot read no.txt",
        ),
        (
            "no data there",
            two((Path::new(program), &base, &std::env::temp_dir())),
            "cannot read text.txt",
        ),
        (
            "build",
            two((&build, &base, here)),
            "another build of the program",
        ),
        ("usage", run(here, 2, "train --lr x"), "--lr"),
        ("usage there", other("train --lr x"), "--lr"),
        (
            "memory",
            run(here, 2, &format!("{base} --node-memory 1KiB")),
            "use more nodes",
        ),
        (
            "disk",
            run(here, 2, &base.replace("--out run", "--out /dev/null/run")),
            "cannot",
        ),
    ] {
        assert!(!output.status.success(), "{what}");
        let errors = errors(&output);
        assert_eq!(errors.len(), 1, "{what}: {errors:?}");
        assert!(errors[0].contains(wanted), "{what}: {errors:?}");
    }
}

/// Parameters, gradients and Adam's state of 417 MB, where the operating system allows a process no
/// more than 210 MB of data.
#[test]
fn a_network_too_big_for_one_node_trains_on_four() {
    const LIMIT: u64 = 200 << 20;
    let folder = folder_with_text();
    let big = "train --synthetic-vocab 256 --layers 8 --width 512 --heads 8 --context 32 \
               --batch-size 4 --micro-batch-size 1 --steps 3 --json";
    let limited = |command: Command| {
        let mut limited = Command::new("prlimit");
        limited.arg(format!("--data={LIMIT}")).arg("--");
        limited.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            limited.env(key, value.unwrap_or_default());
        }
        limited.current_dir(folder.path()).output().unwrap()
    };
    let unlimited = figures(&brigade(folder.path(), &format!("{big} --nodes 1")));
    let four = limited(mpirun(folder.path(), 4, &[], &format!("{big} --nodes 4")));
    assert_eq!(figures(&four), unlimited);
    let needs = &summary(&brigade(folder.path(), &format!("{big} --nodes 1")))["peak_bytes"][0];
    assert!(needs.as_u64().unwrap() > LIMIT, "{needs}");

    let alone = |more: &str| {
        let arguments = format!("{big} --nodes 1 {more}");
        limited(program::command(folder.path(), &arguments))
    };
    let refused = alone(&format!("--node-memory {LIMIT}"));
    program::assert_fails(&refused, "planned", 1, "use more nodes");
    let refused = alone("");
    program::assert_fails(
        &refused,
        "not planned",
        1,
        "the machine refused an allocation",
    );
}

/// Two MPI libraries on one machine: each process believes to be alone.
#[test]
fn a_launcher_of_another_library_is_one_line() {
    let other = if is_open_mpi() {
        "mpiexec.mpich"
    } else {
        "mpirun.openmpi"
    };
    let folder = folder_with_text();
    let mut command = mpirun_with(other, folder.path(), 2, &[], TIED);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // `timeout` says 127 where there is no such launcher.
    if output.status.code() == Some(127) || said.contains("failed to run command") {
        println!("there is no {other} here");
        return;
    }
    assert!(!output.status.success());
    let errors = errors(&output);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("another MPI library"), "{errors:?}");
}
