//! How trainers, processes and jobs end: all together when all is well, by MPI's abort when not.

use super::courier::{Courier, GRACE, SILENT};
use super::flags::Phase;
use super::raw::MpiError;
use crate::wire::control::Word;
use std::io::Write;
use std::time::Duration;

/// A word that a process has gone may overtake its last messages by less than this.
const OVERTAKING: Duration = Duration::from_millis(500);

impl Courier<'_> {
    /// Believes that others have gone once nothing of theirs can be on its way.
    pub(super) fn part(&mut self) -> Result<(), MpiError> {
        while let Some((since, session, rank)) = self.going.first().copied() {
            if since.elapsed() < OVERTAKING {
                break;
            }
            self.going.remove(0);
            if let Some(room) = self.rooms.get_mut(&session) {
                room.gone(rank);
            } else if let Some((_, gone)) = self.closed.get_mut(&session)
                && !gone.contains(&rank)
            {
                gone.push(rank);
            }
        }
        // After a failure something may still be under way.
        let all = self.peers.len() - 1;
        while self.failed.is_none()
            && self.mail.has_left()
            && let Some(entry) = self.closed.first_entry()
            && entry.get().1.len() >= all
        {
            entry.remove().0.free()?;
        }
        Ok(())
    }

    /// Whether all have said that they end, and everything has left.
    pub(super) fn may_leave(&mut self) -> Result<bool, MpiError> {
        if !self.leaving && self.mail.has_left() {
            self.leaving = true;
            self.peers.say(&Word::Bye)?;
        }
        if self.leaving && self.peers.all_said()? && self.peers.all_left() {
            return Ok(true);
        }
        let silent = self.peers.silent().into_iter();
        let lost = { silent }.position(|silent| silent.is_some_and(|silent| silent > SILENT));
        if let Some(rank) = lost {
            self.abort(&format!("rank {rank} is not heard of any more"));
        }
        Ok(false)
    }

    /// Ends the job when not everybody leaves by himself.
    pub(super) fn end_if_failed(&mut self) {
        if let Some((since, why)) = &self.failed
            && since.elapsed() > GRACE
        {
            let why = why.clone();
            self.abort(&why);
        }
    }

    pub(super) fn abort(&mut self, why: &str) {
        // At once, so that lines of several ranks do not run into each other. Whoever is to read it
        // may have gone.
        let line = format!("error: rank {} ends the job: {why}\n", self.rank);
        let _ = std::io::stderr().write_all(line.as_bytes());
        self.flags.enter(Phase::Aborting);
        self.mpi.abort();
        std::process::abort();
    }
}
