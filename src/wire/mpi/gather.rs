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

enum Coming {
    Length(Moving<Vec<u8>>),
    Bytes(Moving<Vec<u8>>),
    Here(Vec<u8>),
}

/// A gather in progress.
pub(super) struct Gathering {
    comm: Comm,
    leaving: Vec<Moving<Arc<Vec<u8>>>>,
    coming: Vec<Coming>,
    patience: Patience,
    since: Instant,
    answer: Sender<Result<Vec<Vec<u8>>, Cause>>,
}

impl Gathering {
    pub(super) fn start(
        comm: Comm,
        (rank, size): (usize, usize),
        bytes: Vec<u8>,
        only: Option<usize>,
        patience: Patience,
        answer: Sender<Result<Vec<Vec<u8>>, Cause>>,
    ) -> Result<Self, MpiError> {
        let length = Arc::new((bytes.len() as u64).to_le_bytes().to_vec());
        let bytes = Arc::new(bytes);
        let (mut leaving, mut coming) = (Vec::new(), Vec::new());
        for peer in 0..size {
            let takes = |rank| only.is_none_or(|only| only == rank);
            if peer == rank {
                let own = if takes(rank) {
                    bytes.to_vec()
                } else {
                    Vec::new()
                };
                coming.push(Coming::Here(own));
                continue;
            }
            if takes(peer) {
                leaving.push(comm.send(peer, TAG, length.clone())?);
                leaving.push(comm.send(peer, TAG, bytes.clone())?);
            }
            coming.push(match takes(rank) {
                true => Coming::Length(comm.receive(peer, TAG, vec![0; 8])?),
                false => Coming::Here(Vec::new()),
            });
        }
        let since = Instant::now();
        Ok(Self {
            comm,
            leaving,
            coming,
            patience,
            since,
            answer,
        })
    }

    /// Whether it is done; and whether something moved.
    pub(super) fn go_on(&mut self) -> Result<(bool, bool), MpiError> {
        let (mut done, mut moved) = (true, false);
        for leaving in &mut self.leaving {
            done &= leaving.done()?;
        }
        for (rank, place) in self.coming.iter_mut().enumerate() {
            let finished = match place {
                Coming::Here(_) => continue,
                Coming::Length(moving) | Coming::Bytes(moving) => moving.done()?,
            };
            if !finished {
                done = false;
                continue;
            }
            moved = true;
            *place = match std::mem::replace(place, Coming::Here(Vec::new())) {
                Coming::Length(moving) => {
                    let length = moving.take().unwrap_or_default();
                    let length = <[u8; 8]>::try_from(length).map_or(0, u64::from_le_bytes);
                    done = false;
                    Coming::Bytes(self.comm.receive(rank, TAG, vec![0; length as usize])?)
                }
                Coming::Bytes(moving) => Coming::Here(moving.take().unwrap_or_default()),
                here @ Coming::Here(_) => here,
            };
        }
        Ok((done, moved))
    }

    /// From whom nothing has come.
    pub(super) fn missing(&self) -> impl Iterator<Item = usize> {
        let coming = self.coming.iter().enumerate();
        coming.filter_map(|(rank, place)| (!matches!(place, Coming::Here(_))).then_some(rank))
    }

    /// For how long it has waited, and how long it may.
    pub(super) fn waited(&self) -> (Duration, Patience) {
        (self.since.elapsed(), self.patience)
    }

    pub(super) fn answer(self) {
        let here = |place| match place {
            Coming::Here(bytes) => bytes,
            Coming::Length(_) | Coming::Bytes(_) => Vec::new(),
        };
        let all = self.coming.into_iter().map(here).collect();
        let _ = self.answer.send(Ok(all));
    }

    pub(super) fn fail(self, cause: Cause) {
        let _ = self.answer.send(Err(cause));
    }
}
