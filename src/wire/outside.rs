//! What comes from other processes, read from bytes: for the fuzz target `wire`, which sees nothing
//! else of this room.

use super::control::{Told, Word};
use super::hub::Hub;
use super::{Body, MessageId, Subject, codec};
use crate::error::RunError;
use crate::ids::{NodeCount, PassId, ReplicaId};
use crate::placement::Placement;
use crate::schedule::Layout;
use brigade_layer::Pool;

/// Reads a message between nodes, and writes it again.
///
/// # Errors
/// What is wrong with it.
pub fn message(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let read = codec::decode(bytes, &Pool::default());
    let (id, body) = read.map_err(|error| error.to_string())?;
    codec::encode(id, &body).map_err(|error| error.to_string())
}

/// The header of an empty verdict, which travels ahead of it.
pub fn verdict() -> Vec<u8> {
    codec::header(VERDICT, &Body::Scalars(Vec::new())).unwrap_or_default()
}

/// Holds a header against [`verdict`].
///
/// # Errors
/// What is wrong with it.
pub fn header(bytes: &[u8]) -> Result<(), String> {
    codec::expect_header(bytes, VERDICT, &Body::Scalars(Vec::new()))
}

const VERDICT: MessageId = MessageId {
    replica: ReplicaId::new(0),
    pass: PassId::new(0),
    subject: Subject::Verdict,
};

/// Reads what one process tells another, takes it to heart as a courier of two nodes does, and says
/// it again.
///
/// # Errors
/// What is wrong with it.
pub fn word(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let nodes = NodeCount::new(2);
    let layout = Layout::chain(Placement::straight(nodes));
    let hub = Hub::new(&layout, vec![0, 1]);
    let word = match Word::read(bytes)? {
        Word::Failed(session, told) => {
            let error = RunError::from(told);
            let _ = (error.to_string(), error.root().to_string());
            Word::Failed(session, Told::from(&error))
        }
        word => word,
    };
    if let Word::Beats(sessions) = &word {
        let beats = sessions.iter().flat_map(|(_, beats)| beats);
        beats.for_each(|beat| hub.told(*beat));
        let _ = (hub.total_progress(), hub.longest_allowed());
        let _: Vec<_> = nodes.iter().map(|node| hub.silence(node)).collect();
    }
    Ok(codec::pack(&word))
}
