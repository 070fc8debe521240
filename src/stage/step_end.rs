//! The end of a step: what a node brings to the exchange, and what it makes of the verdict.

use super::pass::Pass;
use super::runner::Stage;
use super::setup::WorkerSetup;
use crate::error::Cause;
use crate::ids::StageId;
use crate::sync::{Contribution, Flags};
use brigade_layer::UpdateWith;

type Stages = [(StageId, Stage)];

/// What a node brings to the exchange.
pub(super) fn contribution(
    stages: &mut Stages,
    flags: Flags,
    pass: &Pass,
) -> Result<Contribution, Cause> {
    let mut contribution = Contribution {
        flags,
        measures: pass.measures(),
        squares: Vec::new(),
    };
    if !pass.trains {
        return Ok(contribution);
    }
    for (_, stage) in stages {
        let first = contribution.squares.len();
        let layers: Vec<_> = stage.layers().collect();
        contribution.squares.resize(first + layers.len(), 0.0);
        stage.visit_trained(&mut |layer, param| {
            if param.info().primary {
                let at = layer.index() - layers[0].index();
                contribution.squares[first + at] += param.sum_of_squares()?;
            }
            Ok(())
        })?;
    }
    Ok(contribution)
}

/// Lets the optimizer change the parameters, with gradients scaled down to the allowed norm, and
/// layers take over what they gathered; after a verdict of numbers that are none, forgets both.
pub(super) fn update(stages: &mut Stages, setup: &WorkerSetup, pass: &Pass) -> Result<(), Cause> {
    let verdict = pass.verdict()?;
    // As PyTorch's clip_grad_norm_ does it: a little less than the limit, never a division by zero.
    let scale = setup.clip.map_or(1.0, |clip| {
        (f64::from(clip) / (verdict.gradient_norm + 1e-6)).min(1.0)
    });
    let with = UpdateWith::new(pass.step, &setup.pool)
        .scaled(scale as f32)
        .threads(setup.threads);
    for (_, stage) in stages {
        stage.visit_trained(&mut |_, param| match verdict.nonfinite {
            None => param.update(setup.optimizer.as_ref(), &with),
            Some(_) => {
                param.clear_gradient();
                Ok(())
            }
        })?;
        if verdict.nonfinite.is_none() {
            stage.commit((&setup.pool, setup.threads), pass.step)?;
        }
    }
    Ok(())
}
