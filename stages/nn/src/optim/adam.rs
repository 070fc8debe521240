//! Adam, with weight decay in its gradient or beside it.

use super::{Group, LearningRate, NOT_NEGATIVE, UNIT, check, default_decay_roles, group};
use crate::kernels::parallel::{In, Out, spread, vectorised};
use brigade_layer::{LayerError, Optimizer, ParamRole, ParamSpec, StepId, Update};
use serde::{Deserialize, Serialize};

const STATES: &[&str] = &["first_moment", "second_moment"];

macro_rules! adam {
    ($(#[$doc:meta])* $name:ident, $rule:literal, $(#[$decay_doc:meta])* $decay:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            /// The learning rate: 0.001 by default.
            pub lr: LearningRate,
            /// How much of the moments is kept in every step: (0.9, 0.999) by default.
            pub betas: (f64, f64),
            /// Added to the root of the second moment: 1e-8 by default.
            pub eps: f64,
            $(#[$decay_doc])*
            pub weight_decay: f64,
            /// What decays: weights and embeddings by default.
            pub decay_roles: Vec<ParamRole>,
            /// What is trained otherwise: nothing by default.
            pub groups: Vec<Group>,
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    lr: 1e-3.into(),
                    betas: (0.9, 0.999),
                    eps: 1e-8,
                    weight_decay: $decay,
                    decay_roles: default_decay_roles(),
                    groups: Vec::new(),
                }
            }
        }

        impl $name {
            /// The default settings with this rate.
            pub fn new(lr: impl Into<LearningRate>) -> Self {
                Self { lr: lr.into(), ..Self::default() }
            }

            /// Without its weight decay, and that.
            fn factors(&self, update: &Update<'_>) -> (Factors, f64) {
                let (lr, decay) = (self.lr.at(update.step), self.weight_decay);
                let decays = (decay, &self.decay_roles[..]);
                let (lr, decay) = group::rates(&self.groups, update, lr, decays);
                (Factors::new(lr, self.betas, self.eps, update), decay)
            }
        }

        impl Optimizer for $name {
            fn state_names(&self) -> &[&'static str] {
                STATES
            }

            fn learning_rate(&self, step: StepId) -> f64 {
                self.lr.at(step)
            }

            fn update(&self, update: Update<'_>) {
                let (factors, decay) = self.factors(&update);
                Self::decaying(factors, decay).apply(update);
            }

            fn validate(&self) -> Result<(), LayerError> {
                self.lr.validate($rule)?;
                check($rule, "the first beta", self.betas.0, 0.0..1.0)?;
                check($rule, "the second beta", self.betas.1, 0.0..1.0)?;
                check($rule, "eps", self.eps, NOT_NEGATIVE)?;
                check($rule, "weight_decay", self.weight_decay, NOT_NEGATIVE)?;
                group::validate($rule, &self.groups)
            }

            fn suits(&self, params: &[(String, ParamSpec)]) -> Result<(), LayerError> {
                group::suit($rule, &self.groups, params)
            }
        }
    };
}

adam! {
    /// Adam: m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w = w - lr m' / (sqrt(v') + eps), with
    /// m' = m / (1 - b1^n) and v' = v / (1 - b2^n) in step n counted from 1, and g = gradient +
    /// weight_decay w.
    ///
    /// # Source
    /// Kingma, Ba: "Adam: a method for stochastic optimization", 2014, algorithm 1.
    Adam,
    "adam",
    /// How much of a value is added to its gradient: 0 by default.
    0.0
}

adam! {
    /// Adam with decoupled weight decay: w = (1 - lr weight_decay) w - lr m' / (sqrt(v') + eps),
    /// see [`Adam`].
    ///
    /// # Source
    /// Loshchilov, Hutter: "Decoupled weight decay regularization", 2017, algorithm 2, in PyTorch's
    /// form.
    AdamW,
    "adamw",
    /// How much of a value is lost per step, times the learning rate: 0.01 by default.
    0.01
}

impl Adam {
    fn decaying(factors: Factors, decay: f64) -> Factors {
        Factors {
            coupled: decay as f32,
            ..factors
        }
    }
}

impl AdamW {
    fn decaying(factors: Factors, decay: f64) -> Factors {
        let lost = f64::from(factors.lr) * decay;
        Factors {
            remaining: (1.0 - lost) as f32,
            ..factors
        }
    }
}

/// The scalars of one update, computed in double precision.
#[derive(Clone, Copy)]
struct Factors {
    lr: f32,
    gradient_scale: f32,
    /// Of the value, what is added to its gradient.
    coupled: f32,
    /// Of the value, what decay leaves.
    remaining: f32,
    /// (beta, 1 - beta) of the moments.
    first: (f32, f32),
    second: (f32, f32),
    /// lr / (1 - b1^n) and 1 / sqrt(1 - b2^n).
    step_size: f32,
    root_correction: f32,
    eps: f32,
}

impl Factors {
    fn new(lr: f64, (b1, b2): (f64, f64), eps: f64, update: &Update<'_>) -> Self {
        let n = update.step.get() as f64 + 1.0;
        let pair = |beta: f64| (beta as f32, (1.0 - beta) as f32);
        Self {
            lr: lr as f32,
            gradient_scale: update.gradient_scale,
            coupled: 0.0,
            remaining: 1.0,
            first: pair(b1),
            second: pair(b2),
            step_size: (lr / (1.0 - libm::pow(b1, n))) as f32,
            root_correction: (1.0 / libm::sqrt(1.0 - libm::pow(b2, n))) as f32,
            eps: eps as f32,
        }
    }

    fn apply(self, update: Update<'_>) {
        let elements = update.value.len();
        let [m, v] = update.state else {
            unreachable!("an optimizer is given as many states as it names")
        };
        let work = (
            Out(update.value, UNIT),
            Out(m.data(), UNIT),
            Out(v.data(), UNIT),
            In(update.gradient, UNIT),
        );
        spread(update.threads, elements, work, |(w, m, v, g)| {
            step(self, w.0, [m.0, v.0], g.0);
        });
    }
}

vectorised! {
    fn step(factors: Factors, w: &'a mut [f32], moments: [&'a mut [f32]; 2], g: &'a [f32]) {
        let [m, v] = moments;
        for (((w, m), v), g) in w.iter_mut().zip(m.iter_mut()).zip(v.iter_mut()).zip(g) {
            let g = g * factors.gradient_scale + factors.coupled * *w;
            *m = factors.first.0 * *m + factors.first.1 * g;
            *v = factors.second.0 * *v + factors.second.1 * (g * g);
            let root = v.sqrt() * factors.root_correction + factors.eps;
            *w = factors.remaining * *w - factors.step_size * (*m / root);
        }
    }
}
