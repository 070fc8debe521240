//! Things that every process brings, for all or for one of them. By messages, not by MPI's
//! collectives, whose waiting has no end when somebody does not come.

use super::raw::{Comm, Moving, MpiError};
use crate::error::Cause;
use crate::wire::Patience;
use crossbeam_channel::Sender;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Below the tags of messages. Gathers of a trainer follow each other, and messages with one tag do
/// not overtake each other.
const TAG: i32 = 1;
/// What comes ahead: how many bytes, and what they are.
const LENGTH_BYTES: usize = 8;
const NAME_BYTES: usize = 24;
/// The most that one process may bring: more than any keeps to give away.
const MOST_BYTES: u64 = 1 << 36;

/// What is gathered, and by whom.
pub(super) struct Gather {
    /// What it is, for people: all processes must mean the same.
    pub(super) what: &'static str,
    pub(super) bytes: Vec<u8>,
    /// For this process only, if not for all.
    pub(super) only: Option<usize>,
    pub(super) patience: Patience,
    pub(super) answer: Sender<Result<Vec<Vec<u8>>, Cause>>,
}

enum Coming {
    Ahead(Moving<Vec<u8>>),
    Bytes(Moving<Vec<u8>>),
    Here(Vec<u8>),
}

/// A gather in progress.
pub(super) struct Gathering {
    comm: Comm,
    what: &'static str,
    /// To whom, and what.
    leaving: Vec<(usize, Moving<Arc<Vec<u8>>>)>,
    coming: Vec<Coming>,
    refused: Option<Cause>,
    patience: Patience,
    since: Instant,
    answer: Sender<Result<Vec<Vec<u8>>, Cause>>,
}

impl Gathering {
    pub(super) fn start(
        comm: Comm,
        (rank, size): (usize, usize),
        gather: Gather,
    ) -> Result<Self, MpiError> {
        let Gather {
            what,
            bytes,
            only,
            patience,
            answer,
        } = gather;
        let ahead = Arc::new(ahead(what, bytes.len()));
        let bytes = Arc::new(bytes);
        let (mut leaving, mut coming) = (Vec::new(), Vec::new());
        let takes = |rank| only.is_none_or(|only| only == rank);
        for peer in (0..size).filter(|peer| *peer != rank && takes(*peer)) {
            leaving.push((peer, comm.send(peer, TAG, ahead.clone())?));
            leaving.push((peer, comm.send(peer, TAG, bytes.clone())?));
        }
        for peer in 0..size {
            coming.push(match (takes(rank), peer == rank) {
                (false, _) => Coming::Here(Vec::new()),
                (true, true) => Coming::Here(bytes.to_vec()),
                (true, false) => Coming::Ahead(comm.receive(peer, TAG, vec![0; ahead.len()])?),
            });
        }
        Ok(Self {
            comm,
            what,
            leaving,
            coming,
            refused: None,
            patience,
            since: Instant::now(),
            answer,
        })
    }

    /// Whether it is done; and whether something moved.
    pub(super) fn go_on(&mut self) -> Result<(bool, bool), MpiError> {
        let (mut done, mut moved) = (true, false);
        let mut still = Vec::new();
        for (peer, mut leaving) in self.leaving.drain(..) {
            if !leaving.done()? {
                still.push((peer, leaving));
            }
        }
        self.leaving = still;
        done &= self.leaving.is_empty();
        for rank in 0..self.coming.len() {
            let finished = match &mut self.coming[rank] {
                Coming::Here(_) => continue,
                Coming::Ahead(moving) | Coming::Bytes(moving) => moving.done()?,
            };
            if !finished {
                done = false;
                continue;
            }
            moved = true;
            let place = std::mem::replace(&mut self.coming[rank], Coming::Here(Vec::new()));
            self.coming[rank] = match place {
                Coming::Ahead(moving) => {
                    done = false;
                    let ahead = moving.take().unwrap_or_default();
                    match self.expect(rank, &ahead) {
                        Ok(buffer) => Coming::Bytes(self.comm.receive(rank, TAG, buffer)?),
                        Err(cause) => {
                            self.refused.get_or_insert(cause);
                            Coming::Here(Vec::new())
                        }
                    }
                }
                Coming::Bytes(moving) => Coming::Here(moving.take().unwrap_or_default()),
                here @ Coming::Here(_) => here,
            };
        }
        Ok((done, moved))
    }

    /// Room for what a process announces, if it is what was asked for.
    fn expect(&self, rank: usize, ahead: &[u8]) -> Result<Vec<u8>, Cause> {
        let (length, name) = ahead.split_at(LENGTH_BYTES);
        let length = <[u8; LENGTH_BYTES]>::try_from(length).map_or(0, u64::from_le_bytes);
        let theirs = String::from_utf8_lossy(name)
            .trim_end_matches('\0')
            .to_owned();
        if theirs != self.what {
            let ours = self.what.to_owned();
            return Err(Cause::Diverged { rank, theirs, ours });
        }
        let too_much = |why: String| Cause::Machine {
            what: "receiving from another process",
            problem: format!("{length} bytes: {why}"),
        };
        if length > MOST_BYTES {
            return Err(too_much(format!("more than {MOST_BYTES}")));
        }
        let (mut buffer, length) = (Vec::new(), length as usize);
        (buffer.try_reserve_exact(length)).map_err(|error| too_much(error.to_string()))?;
        buffer.resize(length, 0);
        Ok(buffer)
    }

    /// From whom something is still to come, or who has still to take something.
    pub(super) fn missing(&self) -> Vec<usize> {
        let coming = self.coming.iter().enumerate();
        let coming =
            coming.filter_map(|(rank, place)| (!matches!(place, Coming::Here(_))).then_some(rank));
        coming
            .chain(self.leaving.iter().map(|(peer, _)| *peer))
            .collect()
    }

    /// For how long it has waited, and how long it may.
    pub(super) fn waited(&self) -> (Duration, Patience) {
        (self.since.elapsed(), self.patience)
    }

    /// It begins to wait only now.
    pub(super) fn forgive(&mut self) {
        self.since = Instant::now();
    }

    /// Why it cannot go on whoever comes.
    pub(super) fn refused(&self) -> Option<&Cause> {
        self.refused.as_ref()
    }

    pub(super) fn answer(self) {
        let here = |place| match place {
            Coming::Here(bytes) => bytes,
            Coming::Ahead(_) | Coming::Bytes(_) => Vec::new(),
        };
        let all = self.coming.into_iter().map(here).collect();
        let _ = self.answer.send(Ok(all));
    }

    pub(super) fn fail(self, cause: Cause) {
        let _ = self.answer.send(Err(cause));
    }
}

fn ahead(what: &str, length: usize) -> Vec<u8> {
    let mut ahead = (length as u64).to_le_bytes().to_vec();
    ahead.extend(what.bytes().take(NAME_BYTES));
    ahead.resize(LENGTH_BYTES + NAME_BYTES, 0);
    ahead
}
