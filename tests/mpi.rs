//! Promise: over MPI the same numbers, and never stuck: whatever goes wrong on one rank ends the
//! job with a reason.
//!
//! Needs an MPI library: `cargo test --features mpi --test mpi`. `BRIGADE_MPIEXEC` names another
//! launcher than `mpirun` (`mpiexec.mpich` for a program built for MPICH).
#![allow(missing_docs, clippy::unwrap_used)]

mod program;

use program::{brigade, folder_with_text, lines, sha, summary};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A network with a tied head, cut into up to eight stages, dropout, batches that leave a rest.
const TIED: &str = "train text.txt --layers 4 --width 16 --heads 2 --context 8 --batch-size 13 \
                    --micro-batch-size 2 --dropout 0.1 --steps 6 --json --trace-steps 2 --seed 7";

fn launcher() -> String {
    std::env::var("BRIGADE_MPIEXEC").unwrap_or_else(|_| "mpirun".into())
}

fn is_open_mpi() -> bool {
    launcher() == "mpirun"
}

/// A job that is ended from outside if it hangs.
fn mpirun(folder: &Path, ranks: usize, more: &[&str], arguments: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-k", "5", "90", &launcher()]);
    if is_open_mpi() {
        command.args(["--oversubscribe", "--bind-to", "none"]);
    }
    command
        .args(more)
        .args(["-n", &ranks.to_string(), env!("CARGO_BIN_EXE_brigade")])
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(folder: &Path, ranks: usize, arguments: &str) -> Output {
    mpirun(folder, ranks, &[], arguments).output().unwrap()
}

/// Without what a launcher adds.
fn errors(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines = text.lines().filter(|line| line.starts_with("error: "));
    lines.map(str::to_owned).collect()
}

/// What does not depend on who trains.
fn figures(output: &Output) -> (String, Vec<(Value, Value)>, Value) {
    let steps: Vec<Value> = lines(output);
    let losses = steps.iter().filter(|line| line["step"].is_number());
    let losses = losses.map(|line| (line["loss"].clone(), line["grad_norm"].clone()));
    let losses = losses.collect();
    (sha(output), losses, summary(output)["val_loss"].clone())
}

/// The process with this rank in the job that runs in this folder.
fn pid(folder: &Path, rank: usize) -> u32 {
    let folder = folder.canonicalize().unwrap();
    let wanted = [
        format!("OMPI_COMM_WORLD_RANK={rank}"),
        format!("PMI_RANK={rank}"),
    ];
    let of = |entry: fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        let environment = fs::read(entry.path().join("environ")).ok()?;
        let mut variables = environment.split(|byte| *byte == 0);
        let found = variables.any(|has| wanted.iter().any(|wanted| has == wanted.as_bytes()));
        let here = fs::read_link(entry.path().join("cwd")).ok()? == folder;
        (found && here && name.trim() == "brigade").then_some(pid)
    };
    let entries = fs::read_dir("/proc").unwrap();
    entries
        .filter_map(|entry| of(entry.ok()?))
        .next()
        .expect("a process with that rank")
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(sent.unwrap().success());
}

/// Starts a long training on three ranks and, when it has got going, does something to a rank.
/// Gives what came out, and how long after it was done.
fn disturbed(folder: &Path, more: &str, disturb: impl FnOnce(u32), rank: usize) -> (Output, f64) {
    let arguments = format!("{TIED} --nodes 3 --steps 1000000 --out run {more}");
    let mut job = mpirun(folder, 3, &[], &arguments);
    let job = job.stdout(Stdio::null()).spawn().unwrap();
    let losses = folder.join("run/losses.csv");
    let started = Instant::now();
    let lines = || fs::read_to_string(&losses).map_or(0, |text| text.lines().count());
    while lines() < 5 {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "it does not get going"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    disturb(pid(folder, rank));
    let done = Instant::now();
    (
        job.wait_with_output().unwrap(),
        done.elapsed().as_secs_f64(),
    )
}

/// No process of the job is left in this folder a little later.
fn assert_gone(folder: &Path) {
    let folder = folder.canonicalize().unwrap();
    let left = || {
        let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let there = |entry: &fs::DirEntry| {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            let cwd = fs::read_link(entry.path().join("cwd"));
            name.trim() == "brigade" && cwd.is_ok_and(|cwd| cwd == folder)
        };
        { entries }.filter(there).count()
    };
    let started = Instant::now();
    while left() > 0 {
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{} are left",
            left()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn ranks_train_what_threads_train() {
    let folder = folder_with_text();
    let one = figures(&brigade(
        folder.path(),
        &format!("{TIED} --nodes 1 --out one"),
    ));
    let weights = |run: &str| fs::read(folder.path().join(run).join("weights.safetensors"));
    for (schedule, nodes) in [
        ("1f1b", 4),
        ("gpipe", 4),
        ("interleaved-1f1b", 4),
        ("zb-h1", 4),
        ("zb-v", 4),
        ("zb-auto", 4),
    ] {
        for ranks in [2, 3, 4] {
            if ranks > nodes {
                continue;
            }
            let out = format!("{schedule}-{ranks}");
            let arguments = format!("{TIED} --nodes {nodes} --schedule {schedule} --out {out}");
            let output = run(folder.path(), ranks, &arguments);
            assert_eq!(figures(&output), one, "{schedule} on {ranks} ranks");
            assert_eq!(weights(&out).unwrap(), weights("one").unwrap());
        }
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

/// One line from Brigade whatever the launcher adds; never a hang.
#[test]
fn what_does_not_fit_together_is_one_line() {
    let folder = folder_with_text();
    let program = env!("CARGO_BIN_EXE_brigade");
    let two = |first: &str, second: &str| {
        let mut command = mpirun(folder.path(), 1, &[], first);
        command
            .args([":", "-n", "1", program])
            .args(second.split_whitespace());
        command.output().unwrap()
    };
    let base = format!(
        "train text.txt {} --nodes 2 --steps 3 --out run",
        program::SMALL
    );
    let copy = folder.path().join("other-build");
    fs::copy(program, &copy).unwrap();
    let mut longer = fs::OpenOptions::new().append(true).open(&copy).unwrap();
    std::io::Write::write_all(&mut longer, b"another build").unwrap();
    drop(longer);
    let mut other = mpirun(folder.path(), 1, &[], &base);
    other
        .args([":", "-n", "1"])
        .arg(&copy)
        .args(base.split_whitespace());
    for (what, output, wanted) in [
        (
            "ranks",
            run(folder.path(), 3, &base),
            "3 processes for 2 nodes",
        ),
        (
            "seed",
            two(&base, &format!("{base} --seed 9")),
            "seed is 9 instead of 1",
        ),
        (
            "optimizer",
            two(&base, &format!("{base} --lr 0.5")),
            "another optimizer",
        ),
        (
            "network",
            two(&base, &base.replace("--heads 2", "--heads 4")),
            "another network",
        ),
        (
            "data",
            two(&base, &base.replace("text.txt", "no.txt")),
            "cannot read no.txt",
        ),
        (
            "all data",
            run(folder.path(), 2, &base.replace("text.txt", "no.txt")),
            "no.txt",
        ),
        (
            "build",
            other.output().unwrap(),
            "another build of the program",
        ),
        ("usage", run(folder.path(), 2, "train --lr x"), "--lr"),
        (
            "memory",
            run(folder.path(), 2, &format!("{base} --node-memory 1KiB")),
            "use more nodes",
        ),
    ] {
        assert!(!output.status.success(), "{what}");
        let errors = errors(&output);
        assert_eq!(errors.len(), 1, "{what}: {errors:?}");
        assert!(errors[0].contains(wanted), "{what}: {errors:?}");
    }
}

#[test]
fn a_rank_that_is_killed_ends_the_job() {
    for rank in [0, 2] {
        let folder = folder_with_text();
        let kill = |pid| signal(pid, "-KILL");
        let (output, seconds) = disturbed(folder.path(), "", kill, rank);
        assert!(!output.status.success());
        assert!(seconds < 10.0, "{seconds}");
        assert_gone(folder.path());
    }
}

#[test]
fn a_rank_that_is_stopped_is_reported() {
    for rank in [0, 1] {
        let folder = folder_with_text();
        let stop = |pid| signal(pid, "-STOP");
        let (output, seconds) = disturbed(folder.path(), "--deadline 2", stop, rank);
        assert!(!output.status.success());
        assert!(seconds < 15.0, "{seconds}");
        let errors = errors(&output);
        let named = format!("from node {rank}; ");
        let wanted = |error: &String| error.contains(&named) && error.contains("silent for");
        assert!(errors.iter().any(wanted), "{errors:?}");
        assert_gone(folder.path());
    }
}

/// A polite request reaches one rank, and all stop after the same step and save.
#[test]
fn all_ranks_stop_together() {
    let folder = folder_with_text();
    let ask = |pid| signal(pid, "-INT");
    let (output, _) = disturbed(folder.path(), "", ask, 1);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(folder.path().join("run/weights.safetensors").exists());
}

/// An action far longer than the deadline, in a process that lives.
#[test]
fn slow_is_not_stuck() {
    let folder = folder_with_text();
    let slow = "train --synthetic-vocab 512 --layers 2 --width 512 --heads 8 --context 256 \
                --batch-size 16 --micro-batch-size 16 --nodes 2 --steps 2 --json --deadline 0.2";
    let output = run(folder.path(), 2, slow);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let slowest = lines(&output)[0]["step_ms"].as_f64().unwrap();
    assert!(
        slowest > 400.0,
        "a step is to take longer than the deadline: {slowest} ms"
    );
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
