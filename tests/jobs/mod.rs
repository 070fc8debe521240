//! Runs the program on several ranks, as a user would.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A network with a tied head, cut into up to eight stages, dropout, batches that leave a rest.
pub const TIED: &str = "train text.txt --tied --layers 4 --width 16 --heads 2 --context 8 --batch-size 15 \
                    --micro-batch-size 2 --dropout 0.1 --steps 6 --json --trace-steps 2 --seed 7";

pub fn launcher() -> String {
    std::env::var("BRIGADE_MPIEXEC").unwrap_or_else(|_| "mpirun".into())
}

pub fn is_open_mpi() -> bool {
    launcher() == "mpirun"
}

/// A job that is ended from outside if it hangs.
pub fn mpirun(folder: &Path, ranks: usize, more: &[&str], arguments: &str) -> Command {
    mpirun_with(&launcher(), folder, ranks, more, arguments)
}

pub fn mpirun_with(
    launcher: &str,
    folder: &Path,
    ranks: usize,
    more: &[&str],
    arguments: &str,
) -> Command {
    let mut command = limited(launcher);
    command.args(more);
    start_program(&mut command, folder, ranks, arguments);
    command
}

/// An example on so many ranks. It was built beside the test: `cargo build --features mpi --example
/// NAME`.
pub fn mpirun_example(name: &str, folder: &Path, ranks: usize, arguments: &str) -> Command {
    let mut command = limited(&launcher());
    start(&mut command, &example(name), folder, ranks, arguments);
    command
}

/// Where an example is that was built with the program.
pub fn example(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_brigade"));
    let example = program.with_file_name("examples").join(name);
    let build = format!("cargo build --features mpi --example {name}");
    assert!(example.exists(), "no {}: {build}", example.display());
    example
}

/// A launcher that is ended from outside if it hangs.
fn limited(launcher: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-k", "5", "90", launcher]);
    if launcher.starts_with("mpirun") {
        command.args(["--oversubscribe", "--bind-to", "none"]);
    }
    command
}

/// What a launcher is told at the end: how often to start the program, and where.
pub fn start_program(launcher: &mut Command, folder: &Path, ranks: usize, arguments: &str) {
    let program = Path::new(env!("CARGO_BIN_EXE_brigade"));
    start(launcher, program, folder, ranks, arguments);
}

fn start(launcher: &mut Command, program: &Path, folder: &Path, ranks: usize, arguments: &str) {
    launcher
        .args(["-n", &ranks.to_string()])
        .arg(program)
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
}

pub fn run(folder: &Path, ranks: usize, arguments: &str) -> Output {
    mpirun(folder, ranks, &[], arguments).output().unwrap()
}

/// Without what a launcher adds.
pub fn errors(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines = text.lines().filter(|line| line.starts_with("error: "));
    lines.map(str::to_owned).collect()
}

/// The process with this rank in the job that runs in this folder.
pub fn pid(folder: &Path, rank: usize) -> u32 {
    find_pid(folder, rank).expect("a process with that rank")
}

/// The same, if there is one.
pub fn find_pid(folder: &Path, rank: usize) -> Option<u32> {
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
    entries.filter_map(|entry| of(entry.ok()?)).next()
}

pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(sent.unwrap().success());
}

/// Starts a long training on three ranks and, when it has got going, does something to a rank.
/// Gives what came out, and how long after it was done.
pub fn disturbed(
    folder: &Path,
    more: &str,
    disturb: impl FnOnce(u32),
    rank: usize,
) -> (Output, f64) {
    let arguments = format!("{TIED} --nodes 3 --steps 1000000 --out run {more}");
    let job = mpirun(folder, 3, &[], &arguments);
    let losses = folder.join("run/losses.csv");
    let lines = || fs::read_to_string(&losses).map_or(0, |text| text.lines().count());
    disturbed_job(
        folder,
        (job, Stdio::null()),
        || lines() >= 5,
        (disturb, rank),
    )
}

/// The same of a run that goes on writing, on three ranks.
pub fn disturbed_writing(folder: &Path, disturb: impl FnOnce(u32), rank: usize) -> (Output, f64) {
    let job = mpirun(folder, 3, &[], "generate run --tokens 1000000000");
    let text = folder.join("text");
    let to = Stdio::from(fs::File::create(&text).unwrap());
    let bytes = || fs::metadata(&text).map_or(0, |file| file.len());
    disturbed_job(folder, (job, to), || bytes() >= 100, (disturb, rank))
}

fn disturbed_job(
    folder: &Path,
    (mut job, to): (Command, Stdio),
    got_going: impl Fn() -> bool,
    (disturb, rank): (impl FnOnce(u32), usize),
) -> (Output, f64) {
    let job = job.stdout(to).spawn().unwrap();
    let started = Instant::now();
    while !got_going() {
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
pub fn assert_gone(folder: &Path) {
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
