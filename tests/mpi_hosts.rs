//! Promise: on several machines that share nothing but a network, the same numbers; and whoever is
//! lost at any moment ends the job within seconds.
//!
//! Machines are network namespaces, which need root: `cargo test --features mpi --test mpi_hosts --
//! --ignored`. `BRIGADE_TIMES` says how often somebody is lost (4 unless given).
#![allow(missing_docs, clippy::unwrap_used)]

mod jobs;
mod program;

use brigade::nn::{AdamW, Gpt};
use brigade::schedule::{Link, Times};
use brigade::{Config, Plan, ScheduleKind};
use jobs::start_program;
use program::{brigade, folder_with_text, lines, sha};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

const TIED: &str = "train text.txt --tied --layers 4 --width 32 --heads 2 --context 16 --batch-size 13 \
                    --micro-batch-size 2 --dropout 0.1 --nodes 3 --json";
const OPEN_MPI: &str = "--bind-to none --mca plm rsh --mca plm_rsh_no_tree_spawn 1 --mca pml ob1 \
                        --mca btl tcp,self --mca btl_tcp_if_include 10.77.0.0/24 \
                        --mca oob_tcp_if_include 10.77.0.0/24";

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn script() -> PathBuf {
    in_repository("tests/hosts/hosts")
}

/// Three machines while this lives; one test at a time has them.
struct Hosts(#[allow(dead_code)] MutexGuard<'static, ()>);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

impl Hosts {
    fn up() -> Self {
        let guard = ONE_AT_A_TIME
            .lock()
            .unwrap_or_else(|error| error.into_inner());
        let up = Command::new(script()).args(["up", "3"]).status().unwrap();
        assert!(up.success(), "network namespaces need root");
        Self(guard)
    }

    fn job(&self, folder: &Path, ranks: usize, arguments: &str) -> Command {
        let hosts = [
            "10.77.0.1 slots=1",
            "10.77.0.2 slots=1",
            "10.77.0.3 slots=1",
            "",
        ];
        fs::write(folder.join("hosts"), hosts.join("\n")).unwrap();
        let mut job = Command::new(script());
        job.args([
            "run",
            "1",
            "timeout",
            "-k",
            "5",
            "120",
            "mpirun",
            "--hostfile",
            "hosts",
        ])
        .arg("--tune")
        .arg(in_repository("docs/launch/openmpi.conf"))
        .args(OPEN_MPI.split_whitespace())
        .args(["--mca", "plm_rsh_agent"])
        .arg(script());
        start_program(&mut job, folder, ranks, arguments);
        job
    }

    /// The ranks that run on a machine.
    fn ranks_on(&self, host: usize) -> Vec<String> {
        let namespace = format!("brg77-{host}");
        let mut list = Command::new("ip");
        let pids = list.args(["netns", "pids", &namespace]).output().unwrap();
        let name = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let pids = String::from_utf8_lossy(&pids.stdout).into_owned();
        let ranks = pids
            .split_whitespace()
            .filter(|pid| name(pid).trim() == "brigade");
        ranks.map(str::to_owned).collect()
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        let _ = Command::new(script()).args(["down", "3"]).status();
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Without the names of the ranks that say something.
fn without_speakers(text: &str) -> String {
    let without = |line: &str| {
        let line = line.trim_start_matches("error: ");
        match line
            .strip_prefix("rank ")
            .map(|rest| rest.trim_start_matches(char::is_numeric))
        {
            Some(rest) => rest.to_owned(),
            None => line.to_owned(),
        }
    };
    text.lines().map(without).collect::<Vec<_>>().join("\n")
}

#[test]
#[ignore = "network namespaces need root"]
fn three_machines_train_what_one_node_trains() {
    let folder = folder_with_text();
    let one = brigade(
        folder.path(),
        &format!("{TIED} --steps 5 --out one --nodes 1"),
    );
    let hosts = Hosts::up();
    for schedule in ["1f1b", "zb-v"] {
        let run = format!("{TIED} --steps 5 --out run --schedule {schedule}");
        let output = hosts.job(folder.path(), 3, &run).output().unwrap();
        assert_eq!(sha(&output), sha(&one), "{schedule}");
        let plan = fs::read_to_string(folder.path().join("run/plan.json")).unwrap();
        assert!(
            plan.contains("\"host1\"") && plan.contains("\"host3\""),
            "{plan}"
        );
        let report = fs::read_to_string(folder.path().join("run/report.html")).unwrap();
        assert!(report.contains("2, on host3"), "{report}");
    }
}

#[test]
#[ignore = "network namespaces need root"]
fn whoever_is_lost_ends_the_job_within_seconds() {
    let times = std::env::var("BRIGADE_TIMES").map_or(4, |times| times.parse().unwrap());
    let mut slowest: f64 = 0.0;
    for time in 0..times {
        let folder = folder_with_text();
        let hosts = Hosts::up();
        let run = format!("{TIED} --steps 1000000 --eval-every 7 --out run");
        let mut job = hosts.job(folder.path(), 3, &run);
        let job = job.stdout(Stdio::null()).spawn().unwrap();
        let losses = folder.path().join("run/losses.csv");
        let started = Instant::now();
        while fs::read_to_string(&losses).map_or(0, |text| text.lines().count()) < 3 {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "it does not get going"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        // Some moment that is never the same.
        let moment = (u64::from(started.elapsed().subsec_nanos()) * 7919) % 4000;
        std::thread::sleep(Duration::from_millis(moment));
        // Whose link is cut: host 2 or 3, since the launcher is on host 1. Who is killed: any rank.
        let cut = time % 2 == 0;
        let host = match cut {
            true => 2 + time / 2 % 2,
            false => 1 + time / 2 % 3,
        };
        let lost = Instant::now();
        if cut {
            let host = host.to_string();
            assert!(
                Command::new(script())
                    .args(["cut", &host])
                    .status()
                    .unwrap()
                    .success()
            );
        } else {
            let pids = hosts.ranks_on(host);
            assert!(
                Command::new("kill")
                    .arg("-KILL")
                    .args(pids)
                    .status()
                    .unwrap()
                    .success()
            );
        }
        let output = job.wait_with_output().unwrap();
        let seconds = lost.elapsed().as_secs_f64();
        println!("host {host}, link {cut}, after {moment} ms: {seconds:.1} s");
        slowest = slowest.max(seconds);
        assert!(!output.status.success());
        assert!(seconds < 10.0, "{seconds}");
        let (address, rank) = (format!("10.77.0.{host}"), format!("rank {}", host - 1));
        let said = without_speakers(&errors(&output));
        assert!(said.contains(&address) || said.contains(&rank), "{said}");
        std::thread::sleep(Duration::from_secs(2));
        for reached in (1..4).filter(|other| !cut || *other != host) {
            assert_eq!(
                hosts.ranks_on(reached),
                Vec::<String>::new(),
                "host {reached}"
            );
        }
    }
    println!("{times} times, at most {slowest:.1} s");
}

/// Over a link on which a message takes longer than a micro-batch of computing, no node is ever
/// inside a send, and a step takes what the simulator says.
#[test]
#[ignore = "network namespaces need root"]
fn a_slow_link_blocks_nobody_and_takes_what_is_predicted() {
    const MBIT: f64 = 125.0;
    let folder = folder_with_text();
    let hosts = Hosts::up();
    for host in ["1", "2"] {
        let throttle = Command::new(script())
            .args(["throttle", host, &format!("{MBIT}mbit")])
            .status();
        assert!(throttle.unwrap().success());
    }
    let gpt = Gpt {
        vocab: 256,
        width: 128,
        blocks: 4,
        heads: 4,
        context: 128,
        ..Gpt::default()
    };
    let (network, optimizer) = (gpt.network().unwrap(), AdamW::new(1e-3));
    // How much longer a step takes than simulated.
    let off = |schedule: ScheduleKind| {
        let run = format!(
            "train --synthetic-vocab 256 --layers 4 --width 128 --heads 4 --context 128 \
             --batch-size 32 --micro-batch-size 4 --nodes 2 --steps 8 --trace-steps 2 --json \
             --out run --schedule {schedule}"
        );
        let output = hosts.job(folder.path(), 2, &run).output().unwrap();
        assert!(output.status.success(), "{}", errors(&output));
        let trace = Trace::read(&folder.path().join("run/trace.json"));
        let sends = trace.durations("send", None);
        let longest = sends.iter().copied().fold(0.0, f64::max);
        assert!(sends.len() >= 2 * 16, "{}", sends.len());
        // A message is on its way for more than 17,000 us.
        assert!(longest < 10_000.0, "a send took {longest} us");

        // Whatever else the machine does only makes a step longer.
        let steps = lines(&output);
        let steps = steps.iter().filter_map(|line| line["step_ms"].as_f64());
        let measured = steps.fold(f64::MAX, f64::min) / 1e3;
        let config = Config {
            nodes: 2,
            schedule,
            batch_size: 32,
            micro_batch_size: 4,
            ..Config::default()
        };
        let plan = Plan::new(&network, &config, &optimizer).unwrap();
        // What its computing took, which no link has a part in.
        let mut times = Times::equal(2, 0.0, 0.0, 0.0);
        for stage in 0..2 {
            let of = |what| trace.median(what, Some(stage)) / 1e6;
            times.forward[stage as usize] = of("forward");
            // Input and weights at once, in both schedules.
            times.input[stage as usize] = of("backward");
        }
        times.step = vec![trace.median("optimizer", None) / 1e6; 2];
        // Of a frame of 1514 bytes 1448 are ours.
        let per_byte = 8.0 / (MBIT * 1e6) * 1514.0 / 1448.0;
        let latency = 0.001;
        times.links.all = Link { latency, per_byte };
        let tensor = (4 * 128 * 128 * size_of::<f32>()) as f64;
        times.links.message_bytes = vec![tensor; network.edges().len()];
        let predicted = plan.simulate(&times).unwrap().makespan;
        println!("{schedule}: predicted {predicted:.3} s, measured {measured:.3} s");
        println!("longest send {longest:.0} us");
        measured / predicted - 1.0
    };
    for schedule in [ScheduleKind::OneFOneB, ScheduleKind::GPipe] {
        // Others on this machine may disturb once, not every time.
        let mut tries = (0..4).map(|_| off(schedule));
        assert!(tries.any(|off| off.abs() < 0.15), "{schedule}");
    }
}

/// What traced steps took, as they were measured.
struct Trace(Vec<Value>);

impl Trace {
    fn read(file: &Path) -> Self {
        let trace: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        let events = trace.get("traceEvents").unwrap_or(&trace);
        Self(events.as_array().unwrap().clone())
    }

    /// Microseconds of every event of this category, of one stage or of all.
    fn durations(&self, category: &str, stage: Option<u64>) -> Vec<f64> {
        let measured = self.0.iter().filter(|event| event["pid"] == 0);
        let of = measured.filter(|event| {
            let of_stage = stage.is_none_or(|stage| event["args"]["stage"] == stage);
            event["cat"] == category && of_stage
        });
        of.filter_map(|event| event["dur"].as_f64()).collect()
    }

    fn median(&self, category: &str, stage: Option<u64>) -> f64 {
        let mut durations = self.durations(category, stage);
        durations.sort_by(f64::total_cmp);
        durations[durations.len() / 2]
    }
}
