//! Two families of errors: what is decidable before a thread starts, and what happens while
//! running.

use crate::ids::{LayerIndex, NodeId, StageCount};
use crate::schedule::CheckError;
use crate::schedule::csv::CsvError;
use brigade_layer::LayerError;
use std::time::Duration;

mod nonfinite;
mod run;
mod standing;
mod standings;
mod tensor;
mod words;

pub use nonfinite::NonFinite;
pub use run::RunError;
pub use standing::{Doing, Standing};
pub use standings::Standings;
pub use tensor::TensorError;
pub(crate) use words::panic_text;
use words::{listed, place};

/// What is wrong with a plan, before a thread starts. Says what to change.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A setting has a value that it cannot have.
    #[error("{setting} is {value}; it must be {allowed}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        allowed: String,
    },
    /// More stages than layers.
    #[error(
        "{stages} stages for {layers} layers; every stage needs a layer: use at most {layers} nodes times chunks"
    )]
    TooManyStages {
        /// Stages asked for.
        stages: StageCount,
        /// Layers of the network.
        layers: usize,
    },
    /// Explicit cuts that do not fit.
    #[error(
        "cuts {cuts:?} do not make {stages} stages of {layers} layers; give {} rising numbers between 1 and {}",
        .stages.index().saturating_sub(1), .layers.saturating_sub(1)
    )]
    BadCuts {
        /// The cuts.
        cuts: Vec<usize>,
        /// Layers of the network.
        layers: usize,
        /// Stages asked for.
        stages: StageCount,
    },
    /// A node would need more memory than it may hold.
    #[error(
        "node {node} needs {needed_bytes} bytes and may hold {limit_bytes}; use more nodes, a smaller micro-batch, recompute, or allow {} more (the nodes need {})",
        .needed_bytes.saturating_sub(*.limit_bytes), listed(.all_needed_bytes)
    )]
    DoesNotFit {
        /// The node.
        node: NodeId,
        /// Predicted peak.
        needed_bytes: u64,
        /// The limit.
        limit_bytes: u64,
        /// Predicted peaks of all nodes.
        all_needed_bytes: Vec<u64>,
    },
    /// A node would need more memory to generate than it may hold.
    #[error(
        "to generate, node {node} needs {needed_bytes} bytes, {sequence_bytes} of them for what is kept along a sequence, and may hold {limit_bytes}; use more nodes, a shorter context, a trainer for inference only, or allow {} more",
        .needed_bytes.saturating_sub(*.limit_bytes)
    )]
    NoRoomToGenerate {
        /// The node.
        node: NodeId,
        /// Predicted peak: parameters, caches, and what is worked with.
        needed_bytes: u64,
        /// What of it is kept along a sequence.
        sequence_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// More rows than the plan's batch.
    #[error(
        "the data have {rows} rows for a step, the plan is for 1 to {most}; raise batch_size or give smaller batches"
    )]
    TooManyRows {
        /// Rows of the data.
        rows: usize,
        /// The most.
        most: usize,
    },
    /// A schedule that cannot order what it is asked to.
    #[error("schedule {schedule} cannot use {reason}; nearest is {nearest}")]
    Illegal {
        /// Its name.
        schedule: String,
        /// What it cannot use, and why.
        reason: String,
        /// The nearest that it can.
        nearest: String,
    },
    /// A schedule that breaks a law.
    #[error(transparent)]
    Check(#[from] Box<CheckError>),
    /// A schedule that does not carry an edge of the network that is cut.
    #[error("{edge}: {problem}; {advice}")]
    Uncarried {
        /// The edge, by the keys of its layers, and the stages that they are in.
        edge: String,
        /// Which law it breaks, and where.
        problem: Box<CheckError>,
        /// What to do.
        advice: String,
    },
    /// A schedule file that is refused.
    #[error(transparent)]
    Csv(#[from] Box<CsvError>),
    /// The network does not fit together.
    #[error(transparent)]
    Network(#[from] LayerError),
    /// The processes of a job do not fit together.
    #[error("{problem}")]
    Processes {
        /// Why not, and what to change.
        problem: String,
    },
    /// A file that cannot be read, or does not say what it should.
    #[error("{path}{}: {problem}", place(*.line, *.column))]
    File {
        /// The file.
        path: String,
        /// Where in it, from 1; 0 where the problem is with all of it.
        line: usize,
        /// Where in the line, from 1; 0 as the line.
        column: usize,
        /// What is wrong there.
        problem: String,
    },
    /// A layout that does not make stages of the network.
    #[error("layout {layout:?}, character {at}: {problem}")]
    Layout {
        /// The layout; of a long one what is around the place.
        layout: String,
        /// Where in it, from 1.
        at: usize,
        /// What is wrong there.
        problem: String,
    },
    /// A plan or an action that cannot be read.
    #[error("cannot read {what}: {problem}")]
    Unreadable {
        /// What was read.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// What went wrong on a node while running.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// A layer, a tensor, or the data reported an error.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// Code of a layer, of the data or of the engine panicked.
    #[error("panicked: {0}")]
    Panic(String),
    /// The loss, of a micro-batch where an action is named, or a layer's gradient is infinite or
    /// not a number. Nothing was updated in this step.
    #[error(
        "{0}; lower the learning rate, clip gradients, look at the data, or skip such steps \
         (on_nonfinite)"
    )]
    NonFinite(NonFinite),
    /// No target counts.
    #[error(
        "no target of this mini-batch counts, so its mean loss does not exist; look at the targets or the ignored one"
    )]
    NoTerms,
    /// A layer gave no gradient for an input that needs one.
    #[error(
        "layer {layer} ({key}) gave no gradient for its input {input}, which needs one; \
         `backward_input` may leave out only what `Ctx::wants_gradient` does not want"
    )]
    NoGradient {
        /// The layer.
        layer: LayerIndex,
        /// Its key.
        key: String,
        /// The input.
        input: usize,
    },
    /// A node at the other end of a link is gone.
    #[error("lost the link to node {peer}")]
    LinkLost {
        /// That node.
        peer: NodeId,
    },
    /// Nobody made progress for as long as the deadline.
    #[error("nothing moved for {waited:.1?}: waits for {waits_for} from node {peer}; {peers}")]
    Stuck {
        /// How long.
        waited: Duration,
        /// What it waits for.
        waits_for: String,
        /// From whom.
        peer: NodeId,
        /// What that one waits for, and so on to the node that holds them up.
        peers: String,
    },
    /// A process of the job does not answer.
    #[error("rank {rank} {what}")]
    ProcessLost {
        /// Which.
        rank: usize,
        /// What is known of it.
        what: String,
    },
    /// Processes of a job do different things.
    #[error(
        "rank {rank} brings its {theirs} where this process brings its {ours}; all processes must \
         call the same methods with the same arguments"
    )]
    Diverged {
        /// The other process.
        rank: usize,
        /// What it brings.
        theirs: String,
        /// What this one brings.
        ours: String,
    },
    /// What went wrong in another process, in its words.
    #[error("{cause}")]
    Told {
        /// What it said.
        cause: String,
        /// Whether it was a consequence of something else there.
        consequence: bool,
    },
    /// A message could not be read.
    #[error("a message from node {peer} cannot be read: {problem}")]
    BadMessage {
        /// Who sent it.
        peer: NodeId,
        /// What is wrong with it.
        problem: String,
    },
    /// The machine refused something that the node needs.
    #[error("{what}: {problem}")]
    Machine {
        /// What was asked of it.
        what: &'static str,
        /// Why it refused.
        problem: String,
    },
    /// The engine broke its own rules: a bug.
    #[error("a bug in brigade: {0}; please report it")]
    Bug(String),
    /// Another node failed first.
    #[error("node {} failed: {}", .0.node, .0.cause)]
    Peer(Box<RunError>),
}

impl Cause {
    /// Whether it lies in the numbers alone, so that it comes again in the same step.
    #[cfg(feature = "cli")]
    pub(crate) fn is_of_numbers(&self) -> bool {
        matches!(self, Self::NonFinite(_) | Self::NoTerms)
    }

    /// Whether this is a consequence of what happened on another node.
    pub(crate) fn is_consequence(&self) -> bool {
        match self {
            Self::Peer(_) | Self::LinkLost { .. } | Self::Stuck { .. } => true,
            Self::ProcessLost { .. } => true,
            Self::Told { consequence, .. } => *consequence,
            _ => false,
        }
    }

    /// Whether waiting has ended in vain, so that it matters where everyone stands.
    pub(crate) fn is_waiting_in_vain(&self) -> bool {
        matches!(
            self,
            Self::Stuck { .. } | Self::LinkLost { .. } | Self::ProcessLost { .. }
        )
    }
}

/// Any error of the library.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Decidable before a thread starts.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// While running.
    #[error(transparent)]
    Run(#[from] Box<RunError>),
    /// A file could not be read.
    #[error("cannot read {path}: {problem}")]
    Read {
        /// The file.
        path: String,
        /// Why not.
        problem: String,
    },
    /// What another process was to do for all went wrong there.
    #[error("rank {rank}: {problem}")]
    Elsewhere {
        /// That process.
        rank: usize,
        /// What went wrong.
        problem: String,
    },
    /// A checkpoint is of something else.
    #[error("cannot resume from {path}: {problem}")]
    Resume {
        /// The checkpoint.
        path: String,
        /// What does not fit, and what to do.
        problem: String,
    },
    /// Tensors of a file or folder do not fit, or are damaged.
    #[error(transparent)]
    Tensor(#[from] Box<TensorError>),
    /// A file could not be written.
    #[error("cannot write {path}: {problem}")]
    Write {
        /// The file.
        path: String,
        /// Why not.
        problem: String,
    },
}

impl From<LayerError> for Error {
    fn from(error: LayerError) -> Self {
        Self::Plan(error.into())
    }
}
