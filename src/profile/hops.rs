//! What handing a tensor over to another thread takes, through the links that the engine uses.

use super::file::rounded;
use crate::config::{Config, Transport};
use crate::error::{Cause, Error};
use crate::ids::{MicroBatchCount, NodeCount, NodeId, PassId, ReplicaId, SharedId};
use crate::placement::Placement;
use crate::process;
use crate::schedule::{Layout, Links};
use crate::trace::median;
use crate::wire::{Body, Link, MessageId, Subject, local_links};
use brigade_layer::{LayerError, Pool};
use std::time::{Duration, Instant};

/// Bytes of a small and a large tensor.
const SIZES: [usize; 2] = [4 << 10, 2 << 20];
/// How often each is handed over.
const TIMES: u64 = 15;
/// Between two of them the sender computes so long: who waits for it sleeps by then.
const APART: Duration = Duration::from_micros(200);
/// Nobody is as slow.
const DEADLINE: Duration = Duration::from_secs(30);

/// The links between nodes of one process. Over MPI they are not measured here, and take nothing:
/// what they take is known from traced steps ([`Profile::of_traces`](super::Profile::of_traces)).
pub(super) fn measured(config: &Config) -> Result<Links, Error> {
    let mut links = Links::default();
    if process::count() > 1 {
        return Ok(links);
    }
    let [small, large] = SIZES.map(|bytes| hop(config.transport, bytes));
    let (small, large) = (small.map_err(told)?, large.map_err(told)?);
    let (between, bytes) = (large - small, (SIZES[1] - SIZES[0]) as f64);
    links.all.per_byte = match config.transport {
        // What is moved stays where it is, however large.
        Transport::Local => 0.0,
        Transport::Encoded => (between / bytes).max(0.0),
    };
    let of_bytes = SIZES[0] as f64 * links.all.per_byte;
    links.all.latency = (small - of_bytes).max(0.0);
    links.all = rounded(links.all);
    Ok(links)
}

fn told(cause: Cause) -> Error {
    match cause {
        Cause::Layer(error) => error.into(),
        other => LayerError::Value(format!("measuring links: {other}")).into(),
    }
}

/// Seconds from when a sender begins until a receiver that waits has it.
fn hop(transport: Transport, bytes: usize) -> Result<f64, Cause> {
    let nodes = NodeCount::new(2);
    let layout = Layout::chain(Placement::straight(nodes));
    let pools: Vec<_> = nodes.iter().map(|node| (node, Pool::new(None))).collect();
    let settings = (transport, DEADLINE);
    let links = local_links(
        (&layout, Vec::new()),
        MicroBatchCount::new(1),
        settings,
        &pools,
    );
    let mut links = links.boxed().into_iter();
    let (Some(from), Some(to)) = (links.next(), links.next()) else {
        return Err(Cause::Bug("two nodes have two links".into()));
    };
    let pool = &pools[0].1;
    let (sent, received) = std::thread::scope(|scope| {
        let receiver = scope.spawn(move || receive(to));
        (send(from, pool, bytes), receiver.join())
    });
    let received = received.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let (sent, received) = (sent?, received?);
    let taken = sent.iter().zip(&received);
    let taken = taken.map(|(sent, received)| received.saturating_duration_since(*sent));
    Ok(median(taken.map(|taken| taken.as_secs_f64()).collect()))
}

fn message(pass: u64, subject: Subject) -> MessageId {
    MessageId {
        replica: ReplicaId::new(0),
        pass: PassId::new(pass),
        subject,
    }
}

/// A subject that takes no slot of a lane.
const TENSOR: Subject = Subject::SharedTotal(SharedId::new(0));

fn send(mut link: Box<dyn Link>, pool: &Pool, bytes: usize) -> Result<Vec<Instant>, Cause> {
    let other = NodeId::new(1);
    let mut sent = Vec::new();
    for pass in 0..TIMES {
        let tensor = pool.zeros([bytes / 4])?.freeze();
        let begun = Instant::now();
        while begun.elapsed() < APART {
            std::hint::spin_loop();
        }
        sent.push(Instant::now());
        link.send(other, message(pass, TENSOR), Body::Tensor(tensor))?;
        link.wait(other, message(pass, Subject::Verdict))?;
    }
    Ok(sent)
}

fn receive(mut link: Box<dyn Link>) -> Result<Vec<Instant>, Cause> {
    let other = NodeId::new(0);
    let mut received = Vec::new();
    for pass in 0..TIMES {
        let tensor = link.wait(other, message(pass, TENSOR))?.tensor()?;
        received.push(Instant::now());
        drop(tensor);
        let answer = Body::Scalars(Vec::new());
        link.send(other, message(pass, Subject::Verdict), answer)?;
    }
    Ok(received)
}
