//! The multi-layer perceptron.

use crate::{Activation, Linear};
use brigade_layer::{LayerError, LayerSpec, Network, TensorSpec};
use serde::{Deserialize, Serialize};

/// Linear layers with an activation between each two.
///
/// ```text
/// x ─ fc0 ─ act0 ─ fc1 ─ act1 ─ .. ─ fcN ─ loss
/// ```
///
/// # Shapes
/// One row of x is \[widths\[0\]\], one row of the output \[widths\[last\]\].
///
/// # Example
/// ```
/// use brigade_layer::TensorSpec;
/// use brigade_nn::{CrossEntropy, Mlp};
/// let classes = TensorSpec::i32([]);
/// let network = Mlp::new([64, 32, 10]).network(CrossEntropy::new(), classes)?;
/// assert_eq!(network.layers().len(), 4);
/// # Ok::<(), brigade_layer::LayerError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mlp {
    /// Widths of the input, of what lies between, and of the output.
    pub widths: Vec<usize>,
    /// What lies between two linear layers: GELU by tanh by default.
    #[serde(default)]
    pub activation: Activation,
}

impl Mlp {
    /// Linear layers between these widths, with GELU.
    pub fn new(widths: impl Into<Vec<usize>>) -> Self {
        Self {
            widths: widths.into(),
            activation: Activation::default(),
        }
    }

    /// With this activation.
    #[must_use]
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// How many parameters it has.
    pub fn parameters(&self) -> u64 {
        self.widths
            .windows(2)
            .map(|pair| (pair[0] as u64 + 1) * pair[1] as u64)
            .sum()
    }

    /// The network, ending in `loss` against one target per row of this shape and type.
    ///
    /// # Errors
    /// With fewer than two widths, a width of 0, or a target that the loss does not take.
    pub fn network(&self, loss: impl LayerSpec, target: TensorSpec) -> Result<Network, LayerError> {
        if self.widths.len() < 2 || self.widths.contains(&0) {
            let problem = format!(
                "widths are {:?}; give at least two, none of them 0",
                self.widths
            );
            return Err(LayerError::spec("mlp", problem));
        }
        let mut builder = Network::builder()
            .input(TensorSpec::f32([self.widths[0]]))
            .target(target);
        for (number, pair) in self.widths.windows(2).enumerate() {
            if number > 0 {
                builder = builder.layer(&format!("act{}", number - 1), self.activation);
            }
            builder = builder.layer(&format!("fc{number}"), Linear::new(pair[0], pair[1]));
        }
        builder.loss("loss", loss).build()
    }
}
