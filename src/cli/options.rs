//! The options of `brigade train`, and what they mean to the library.

use super::failure::Failure;
use crate::{Config, Cuts, ScheduleKind};
use brigade_layer::Optimizer;
use brigade_nn::{Adam, AdamW, Gpt, LearningRate, Sgd};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

/// Train a small GPT on the bytes of a text, through a pipeline of nodes.
///
/// DATA is a file or a folder; of a folder, git-ignored, hidden and non-text files are skipped. The
/// last tenth of the data is kept for validation. Weights, plan and losses go to a run folder.
#[derive(Clone, Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "Examples:\n  brigade train .\n  brigade train book.txt --nodes 2 --layers 6 --width 192 --steps 3000\n  \
    brigade train book.txt --nodes 4 --schedule gpipe --micro-batch-size 1 --json"
)]
pub(super) struct TrainOptions {
    /// File or folder to train on.
    #[arg(value_name = "DATA", default_value = ".")]
    pub(super) data: PathBuf,

    /// Blocks of the GPT; each is two layers, attention and MLP.
    #[arg(long, default_value_t = 4, value_name = "N", help_heading = "Network")]
    pub(super) layers: usize,
    /// Width of the stream between blocks.
    #[arg(
        long,
        default_value_t = 128,
        value_name = "N",
        help_heading = "Network"
    )]
    pub(super) width: usize,
    /// Attention heads; they share the width.
    #[arg(long, default_value_t = 4, value_name = "N", help_heading = "Network")]
    pub(super) heads: usize,
    /// Tokens of a sequence.
    #[arg(long, default_value_t = 64, value_name = "N", help_heading = "Network")]
    pub(super) context: usize,
    /// Let the head share the token table's weights.
    #[arg(long, help_heading = "Network")]
    pub(super) tied: bool,
    /// Give linear layers and norms biases.
    #[arg(long, help_heading = "Network")]
    pub(super) biases: bool,
    /// Probability with which activations are dropped while training.
    #[arg(
        long,
        default_value_t = 0.0,
        value_name = "P",
        help_heading = "Network"
    )]
    pub(super) dropout: f32,

    /// Pipeline nodes.
    #[arg(long, default_value_t = 4, value_name = "P", help_heading = "Pipeline")]
    pub(super) nodes: usize,
    /// Stages per node (only 1 for gpipe and 1f1b).
    #[arg(long, default_value_t = 1, value_name = "V", help_heading = "Pipeline")]
    pub(super) chunks: usize,
    /// Where to cut: balanced, uniform, or the first layers of all stages but the first, as 3,6,9.
    #[arg(
        long,
        default_value = "balanced",
        value_name = "CUTS",
        help_heading = "Pipeline"
    )]
    pub(super) cuts: CutsArg,
    /// In which order the nodes work: gpipe or 1f1b.
    #[arg(long, default_value_t = ScheduleKind::default(), value_name = "NAME", help_heading = "Pipeline")]
    pub(super) schedule: ScheduleKind,
    /// Threads of every node.
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Pipeline")]
    pub(super) threads_per_node: usize,

    /// Sequences of a step.
    #[arg(
        long,
        default_value_t = 16,
        value_name = "N",
        help_heading = "Training"
    )]
    pub(super) batch_size: usize,
    /// Sequences of a micro-batch; the last one takes what remains.
    #[arg(long, default_value_t = 2, value_name = "N", help_heading = "Training")]
    pub(super) micro_batch_size: usize,
    /// Steps.
    #[arg(
        long,
        default_value_t = 3000,
        value_name = "N",
        help_heading = "Training"
    )]
    pub(super) steps: u64,
    /// The rule that changes the weights.
    #[arg(long, value_enum, default_value_t = OptimizerArg::Adamw, value_name = "NAME", help_heading = "Training")]
    pub(super) optimizer: OptimizerArg,
    /// The greatest learning rate.
    #[arg(
        long,
        default_value_t = 1e-3,
        value_name = "R",
        help_heading = "Training",
        allow_negative_numbers = true
    )]
    pub(super) lr: f64,
    /// The learning rate at the end of the cosine; a tenth of --lr unless given.
    #[arg(
        long,
        value_name = "R",
        help_heading = "Training",
        allow_negative_numbers = true
    )]
    pub(super) min_lr: Option<f64>,
    /// How much of the moments Adam keeps.
    #[arg(
        long,
        default_value = "0.9,0.99",
        value_name = "B1,B2",
        help_heading = "Training"
    )]
    pub(super) betas: BetasArg,
    /// Steps in which the learning rate rises; a twentieth of --steps, at most 100, unless given.
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub(super) warmup: Option<u64>,
    /// Weight decay of matrices (none on norms and biases).
    #[arg(
        long,
        default_value_t = 0.1,
        value_name = "R",
        help_heading = "Training",
        allow_negative_numbers = true
    )]
    pub(super) weight_decay: f64,
    /// The largest global norm of the gradients; 0 for no limit.
    #[arg(
        long,
        default_value_t = 1.0,
        value_name = "NORM",
        help_heading = "Training",
        allow_negative_numbers = true
    )]
    pub(super) clip: f32,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Training")]
    pub(super) seed: u64,

    /// Run folder; the first free of runs/1, runs/2, ... unless given.
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    pub(super) out: Option<PathBuf>,
    /// Print one JSON object a line and nothing else: one for each step, and a summary.
    #[arg(long, help_heading = "Output")]
    pub(super) json: bool,
    /// Train on random tokens out of N instead of DATA, for measuring; no run folder unless --out
    /// is given.
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub(super) synthetic_vocab: Option<usize>,
}

/// The rules by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OptimizerArg {
    /// AdamW: weight decay beside the gradient.
    Adamw,
    /// Adam: weight decay in the gradient.
    Adam,
    /// Gradient descent with momentum 0.9.
    Sgd,
}

#[derive(Clone, Debug)]
pub(super) struct CutsArg(Cuts);

impl FromStr for CutsArg {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "balanced" => Ok(Self(Cuts::Balanced)),
            "uniform" => Ok(Self(Cuts::Uniform)),
            list => {
                let cuts: Result<_, _> = list.split(',').map(|cut| cut.trim().parse()).collect();
                let problem = "give balanced, uniform, or layer numbers such as 3,6,9";
                Ok(Self(Cuts::Before(cuts.map_err(|_| problem)?)))
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct BetasArg(f64, f64);

impl FromStr for BetasArg {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            text.trim()
                .parse::<f64>()
                .ok()
                .filter(|beta| (0.0..1.0).contains(beta))
        };
        let betas = text
            .split_once(',')
            .and_then(|(one, two)| Some(Self(number(one)?, number(two)?)));
        betas.ok_or_else(|| "give two numbers from 0 to below 1, such as 0.9,0.99".into())
    }
}

impl TrainOptions {
    /// The network that the options describe.
    pub(super) fn gpt(&self, vocab: usize) -> Gpt {
        Gpt {
            vocab,
            context: self.context,
            width: self.width,
            heads: self.heads,
            blocks: self.layers,
            tied: self.tied,
            biases: self.biases,
            dropout: self.dropout,
        }
    }

    /// How it is trained.
    pub(super) fn config(&self) -> Result<Config, Failure> {
        if self.steps == 0 {
            return Err(Failure::Usage("--steps is 0; it must be at least 1".into()));
        }
        let config = Config {
            nodes: self.nodes,
            chunks: self.chunks,
            cuts: self.cuts.0.clone(),
            schedule: self.schedule,
            batch_size: self.batch_size,
            micro_batch_size: self.micro_batch_size,
            threads_per_node: self.threads_per_node,
            seed: self.seed,
            clip: Some(self.clip).filter(|clip| *clip != 0.0),
            ..Config::default()
        };
        config.validate()?;
        Ok(config)
    }

    fn learning_rate(&self) -> LearningRate {
        let warmup_steps = self.warmup.unwrap_or((self.steps / 20).min(100));
        let min = self.min_lr.unwrap_or(self.lr / 10.0);
        LearningRate::Cosine {
            peak: self.lr,
            min,
            warmup_steps,
            steps: self.steps,
        }
    }

    /// The optimizer, checked.
    pub(super) fn optimizer(&self) -> Result<Arc<dyn Optimizer>, Failure> {
        let (lr, weight_decay) = (self.learning_rate(), self.weight_decay);
        let betas = (self.betas.0, self.betas.1);
        let optimizer: Arc<dyn Optimizer> = match self.optimizer {
            OptimizerArg::Adamw => Arc::new(AdamW {
                betas,
                weight_decay,
                ..AdamW::new(lr)
            }),
            OptimizerArg::Adam => Arc::new(Adam {
                betas,
                weight_decay,
                ..Adam::new(lr)
            }),
            OptimizerArg::Sgd => Arc::new(Sgd {
                momentum: 0.9,
                weight_decay,
                ..Sgd::new(lr)
            }),
        };
        optimizer.validate()?;
        Ok(optimizer)
    }
}
