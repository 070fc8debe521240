//! What all nodes tell each other at the end of a step beside the numbers.

/// How far a checkpoint is that is written next to training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Saving {
    #[default]
    None,
    Busy,
    Done,
    Failed,
}
