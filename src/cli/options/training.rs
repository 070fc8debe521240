//! How the network is trained.

use super::values::{BetasArg, PrecisionArg};
use super::{MicroBatchArg, OrderArg, RunOptions, ScheduleArg, number, whole};
use crate::cli::failure::Failure;
use crate::{Config, OnNonFinite, ScheduleKind};
use brigade_layer::Optimizer;
use brigade_nn::{Adam, AdamW, Group, LearningRate, Sgd};
use clap::{Args, ValueEnum};
use std::sync::Arc;

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Training")]
pub(in crate::cli) struct TrainingOptions {
    /// Sequences of a step.
    #[arg(
        long, default_value = "16", value_name = "N",
        allow_negative_numbers = true, value_parser = whole::<usize>
    )]
    pub(in crate::cli) batch_size: usize,
    /// Sequences of a micro-batch, of which the last one takes what remains; or auto for what is
    /// fastest and fits (it is part of the numbers that come out).
    #[arg(
        long,
        default_value = "2",
        value_name = "N",
        allow_negative_numbers = true
    )]
    pub(in crate::cli) micro_batch_size: MicroBatchArg,
    /// In which numbers products are computed; weights, sums and the optimizer stay in f32.
    #[arg(long, value_enum, default_value_t = PrecisionArg::F32, value_name = "NAME")]
    pub(in crate::cli) precision: PrecisionArg,
    /// Steps.
    #[arg(
        long, default_value = "3000", value_name = "N",
        allow_negative_numbers = true, value_parser = whole::<u64>
    )]
    pub(in crate::cli) steps: u64,
    /// The rule that changes the weights (sgd has momentum 0.9).
    #[arg(long, value_enum, default_value_t = OptimizerArg::Adamw, value_name = "NAME")]
    optimizer: OptimizerArg,
    /// The greatest learning rate.
    #[arg(
        long, default_value = "1e-3", value_name = "R", allow_negative_numbers = true,
        value_parser = number::<f64>
    )]
    lr: f64,
    /// The learning rate at the end of the cosine; a tenth of --lr unless given.
    #[arg(long, value_name = "R", allow_negative_numbers = true, value_parser = number::<f64>)]
    min_lr: Option<f64>,
    /// How much of the moments Adam keeps.
    #[arg(long, default_value = "0.9,0.99", value_name = "B1,B2")]
    betas: BetasArg,
    /// Steps in which the learning rate rises; a twentieth of --steps, at most 100, unless given.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u64>)]
    warmup: Option<u64>,
    /// Weight decay of matrices (none on norms and biases).
    #[arg(
        long, default_value = "0.1", value_name = "R", allow_negative_numbers = true,
        value_parser = number::<f64>
    )]
    weight_decay: f64,
    /// The largest global norm of the gradients; 0 for no limit.
    #[arg(
        long, default_value = "1", value_name = "NORM", allow_negative_numbers = true,
        value_parser = number::<f32>
    )]
    clip: f32,
    /// When a loss or a gradient is infinite or not a number: end with an error, or go on without
    /// an update in that step.
    #[arg(long, value_enum, default_value_t = OnNonFiniteArg::Stop, value_name = "WHAT")]
    on_nonfinite: OnNonFiniteArg,
    /// Seed of everything random.
    #[arg(
        long, default_value = "1", value_name = "N",
        allow_negative_numbers = true, value_parser = whole::<u64>
    )]
    pub(in crate::cli) seed: u64,
}

/// The rules by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OptimizerArg {
    // Weight decay beside the gradient.
    Adamw,
    // Weight decay in the gradient.
    Adam,
    // Gradient descent with momentum 0.9.
    Sgd,
}

/// What happens to a step without numbers, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnNonFiniteArg {
    // It is an error.
    Stop,
    // It changes nothing.
    Skip,
}

impl From<OnNonFiniteArg> for OnNonFinite {
    fn from(on: OnNonFiniteArg) -> Self {
        match on {
            OnNonFiniteArg::Stop => Self::Stop,
            OnNonFiniteArg::Skip => Self::Skip,
        }
    }
}

impl RunOptions {
    /// Tokens of a step.
    pub(in crate::cli) fn tokens_per_step(&self) -> usize {
        self.training.batch_size * self.network.context
    }

    /// How the network is trained, checked.
    pub(in crate::cli) fn checked_config(&self) -> Result<Config, Failure> {
        let (pipeline, training) = (&self.pipeline, &self.training);
        if training.steps == 0 {
            return Err(Failure::Usage("--steps is 0; it must be at least 1".into()));
        }
        let config = Config {
            nodes: pipeline.nodes,
            chunks: pipeline.chunks,
            cuts: pipeline.cuts.0.clone(),
            schedule: match &pipeline.schedule {
                OrderArg::Given(ScheduleArg::Kind(kind)) => *kind,
                OrderArg::Given(ScheduleArg::File(_)) | OrderArg::Auto => ScheduleKind::default(),
            },
            batch_size: training.batch_size,
            micro_batch_size: training.micro_batch_size.0.unwrap_or(1),
            precision: training.precision.into(),
            wire: pipeline.wire.into(),
            recompute: pipeline.recompute.settled(),
            threads_per_node: pipeline.threads_per_node,
            seed: training.seed,
            clip: Some(training.clip).filter(|clip| *clip != 0.0),
            on_nonfinite: training.on_nonfinite.into(),
            node_memory_bytes: pipeline.node_memory,
            saving_bytes: self.saving_bytes(),
            deadline_s: pipeline.deadline,
            ..Config::default()
        };
        config.validate()?;
        Ok(config)
    }

    /// The optimizer, checked.
    pub(in crate::cli) fn optimizer(&self) -> Result<Arc<dyn Optimizer>, Failure> {
        self.training.optimizer_of(self.tuning.groups())
    }
}

impl TrainingOptions {
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

    fn optimizer_of(&self, groups: Vec<Group>) -> Result<Arc<dyn Optimizer>, Failure> {
        let (lr, weight_decay) = (self.learning_rate(), self.weight_decay);
        let betas = (self.betas.0, self.betas.1);
        let optimizer: Arc<dyn Optimizer> = match self.optimizer {
            OptimizerArg::Adamw => Arc::new(AdamW {
                betas,
                weight_decay,
                groups,
                ..AdamW::new(lr)
            }),
            OptimizerArg::Adam => Arc::new(Adam {
                betas,
                weight_decay,
                groups,
                ..Adam::new(lr)
            }),
            OptimizerArg::Sgd => Arc::new(Sgd {
                momentum: 0.9,
                weight_decay,
                groups,
                ..Sgd::new(lr)
            }),
        };
        optimizer.validate()?;
        Ok(optimizer)
    }
}
