//! Stochastic gradient descent.

use super::{Group, LearningRate, NOT_NEGATIVE, UNIT, check, default_decay_roles, group};
use crate::kernels::parallel::{In, Out, spread, vectorised};
use brigade_layer::{LayerError, Optimizer, ParamRole, ParamSpec, StepId, Update};
use serde::{Deserialize, Serialize};

/// Gradient descent: g = gradient + weight_decay w; u = momentum u + g; w = w - lr u. Without
/// momentum u is g; with Nesterov's momentum, w = w - lr (g + momentum u).
///
/// # Source
/// Sutskever, Martens, Dahl, Hinton: "On the importance of initialization and momentum in deep
/// learning", ICML 2013, in PyTorch's form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sgd {
    /// The learning rate: 0.01 by default.
    pub lr: LearningRate,
    /// How much of the last update is kept: 0 by default.
    pub momentum: f64,
    /// Whether to look ahead by the momentum: not by default.
    pub nesterov: bool,
    /// How much of a value is added to its gradient: 0 by default.
    pub weight_decay: f64,
    /// What decays: weights and embeddings by default.
    pub decay_roles: Vec<ParamRole>,
    /// What is trained otherwise: nothing by default.
    pub groups: Vec<Group>,
}

impl Default for Sgd {
    fn default() -> Self {
        Self {
            lr: 0.01.into(),
            momentum: 0.0,
            nesterov: false,
            weight_decay: 0.0,
            decay_roles: default_decay_roles(),
            groups: Vec::new(),
        }
    }
}

impl Sgd {
    /// Plain descent with this rate.
    pub fn new(lr: impl Into<LearningRate>) -> Self {
        Self {
            lr: lr.into(),
            ..Self::default()
        }
    }
}

impl Optimizer for Sgd {
    fn state_names(&self) -> &[&'static str] {
        if self.momentum == 0.0 {
            &[]
        } else {
            &["momentum"]
        }
    }

    fn learning_rate(&self, step: StepId) -> f64 {
        self.lr.at(step)
    }

    fn update(&self, update: Update<'_>) {
        let (lr, decay) = (self.lr.at(update.step), self.weight_decay);
        let decays = (decay, &self.decay_roles[..]);
        let (lr, decay) = group::rates(&self.groups, &update, lr, decays);
        let factors = Factors {
            lr: lr as f32,
            gradient_scale: update.gradient_scale,
            decay: decay as f32,
            momentum: self.momentum as f32,
            ahead: if self.nesterov { 1.0 } else { 0.0 },
            behind: if self.nesterov {
                self.momentum as f32
            } else {
                1.0
            },
        };
        let (elements, threads) = (update.value.len(), update.threads);
        let (value, gradient) = (Out(update.value, UNIT), In(update.gradient, UNIT));
        match update.state.first_mut() {
            None => spread(threads, elements, (value, gradient), |(w, g)| {
                plain_step(factors, w.0, g.0);
            }),
            Some(state) => {
                let work = (value, Out(state.data(), UNIT), gradient);
                spread(threads, elements, work, |(w, u, g)| {
                    momentum_step(factors, w.0, u.0, g.0);
                });
            }
        }
    }

    fn validate(&self) -> Result<(), LayerError> {
        self.lr.validate("sgd")?;
        check("sgd", "momentum", self.momentum, NOT_NEGATIVE)?;
        check("sgd", "weight_decay", self.weight_decay, NOT_NEGATIVE)?;
        group::validate("sgd", &self.groups)?;
        if self.nesterov && self.momentum == 0.0 {
            let problem = "Nesterov's momentum needs a momentum above 0";
            return Err(LayerError::spec("sgd", problem));
        }
        Ok(())
    }

    fn suits(&self, params: &[(String, ParamSpec)]) -> Result<(), LayerError> {
        group::suit("sgd", &self.groups, params)
    }
}

/// The scalars of one update: w = w - lr (ahead g + behind u).
#[derive(Clone, Copy)]
struct Factors {
    lr: f32,
    gradient_scale: f32,
    decay: f32,
    momentum: f32,
    ahead: f32,
    behind: f32,
}

vectorised! {
    fn plain_step(factors: Factors, w: &'a mut [f32], g: &'a [f32]) {
        for (w, g) in w.iter_mut().zip(g) {
            *w -= factors.lr * (g * factors.gradient_scale + factors.decay * *w);
        }
    }

    fn momentum_step(factors: Factors, w: &'a mut [f32], u: &'a mut [f32], g: &'a [f32]) {
        for ((w, u), g) in w.iter_mut().zip(u.iter_mut()).zip(g) {
            let g = g * factors.gradient_scale + factors.decay * *w;
            *u = factors.momentum * *u + g;
            *w -= factors.lr * (factors.ahead * g + factors.behind * *u);
        }
    }
}
