//! The columns of MPI: this program again, started on two ranks.

use super::{KIB, column};
use ::mpi::traits::{Communicator, Destination, Source};
use brigade::{Transport, process};
use std::env;
use std::process::Command;
use std::time::Instant;

/// Tells a rank to measure a bare ping-pong.
const BARE: &str = "WIRE_BENCH_BARE";

/// Hops over MPI, and what MPI takes by itself.
pub(super) fn columns() -> [(&'static str, Vec<f64>); 2] {
    [("over MPI", run(false)), ("bare MPI", run(true))]
}

fn run(bare: bool) -> Vec<f64> {
    let launcher = env::var("BRIGADE_MPIEXEC").unwrap_or_else(|_| "mpirun".into());
    let program = env::current_exe().expect("this program");
    let mut job = Command::new(launcher);
    job.args(["-n", "2"]).arg(program);
    job.env("OMPI_ALLOW_RUN_AS_ROOT", "1");
    job.env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    if bare {
        job.env(BARE, "1");
    }
    let output = job.output().expect("a launcher of MPI");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8_lossy(&output.stdout);
    let hops: Vec<f64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!(hops.len(), KIB.len(), "{text}");
    hops
}

/// Whether this is one of two ranks, which have measured then.
pub(super) fn as_rank() -> bool {
    if process::count() == 1 {
        return false;
    }
    let (hops, first) = match env::var_os(BARE) {
        Some(_) => bare(),
        None => (column(Transport::Local), process::is_first()),
    };
    if first {
        hops.iter().for_each(|us| println!("{us}"));
    }
    true
}

/// One way of a ping-pong of blocking sends and receives, in microseconds.
fn bare() -> (Vec<f64>, bool) {
    let universe = ::mpi::initialize().expect("MPI starts");
    let world = universe.world();
    let (rank, other) = (world.rank(), world.process_at_rank(1 - world.rank()));
    let ping_pong = |kib: &usize| {
        let mut buffer = vec![1u8; kib * 1024];
        let times = if *kib > 1024 { 60 } else { 2000 };
        let mut took: Vec<f64> = (0..times)
            .map(|_| {
                let started = Instant::now();
                if rank == 0 {
                    other.send(&buffer[..]);
                    other.receive_into(&mut buffer[..]);
                } else {
                    other.receive_into(&mut buffer[..]);
                    other.send(&buffer[..]);
                }
                started.elapsed().as_secs_f64() * 1e6 / 2.0
            })
            .collect();
        took.sort_by(f64::total_cmp);
        took[times / 2]
    };
    (KIB.iter().map(ping_pong).collect(), rank == 0)
}
