//! In place of `mpi/` where Brigade is built without it: there is only this process.

use super::local::LocalLinks;
use super::{Joined, Machine, NoMeeting, Patience};
use crate::error::{Cause, RunError, Standings};
use crate::ids::NodeId;
use crate::launch::launch;
use crate::plan::Plan;
use brigade_layer::Network;
use std::sync::Arc;
use std::time::Duration;

/// All processes of a job: there is none.
#[derive(Debug)]
pub(crate) enum World {}

/// One trainer's part in all processes: there is none.
#[derive(Debug)]
pub(crate) enum Session {}

/// Refuses what a launcher started as one of several.
pub(crate) fn world(_: Duration) -> Result<Option<&'static World>, NoMeeting> {
    match launch() {
        None => Ok(None),
        Some(launch) => Err(NoMeeting {
            problem: format!(
                "a launcher started this program as one of {}, but it was built without MPI; build \
                 it with --features mpi",
                launch.size
            ),
            everywhere: true,
        }),
    }
}

impl World {
    pub(crate) fn machines(&self) -> &[Machine] {
        match *self {}
    }

    pub(crate) fn share(
        &self,
        _: &'static str,
        _: Vec<u8>,
        _: Patience,
    ) -> Result<Vec<Vec<u8>>, Cause> {
        match *self {}
    }

    pub(crate) fn open(
        &'static self,
        _: LocalLinks,
        _: (&Arc<Network>, &Arc<Plan>),
        _: Vec<usize>,
        _: Duration,
    ) -> Result<Joined, Cause> {
        match *self {}
    }
}

impl Session {
    pub(crate) fn standings(&self, _: NodeId) -> Standings {
        match *self {}
    }

    pub(crate) fn tell(&self, _: &RunError) {
        match *self {}
    }

    pub(crate) fn gather(
        &self,
        _: &'static str,
        _: Vec<u8>,
        _: Option<usize>,
    ) -> Result<Vec<Vec<u8>>, Cause> {
        match *self {}
    }
}
