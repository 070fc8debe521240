//! Numbers that are none.

use crate::ids::{LayerIndex, StageId};
use std::fmt;

/// A loss or a gradient that is infinite or not a number, and whose it is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NonFinite {
    /// What the loss is. None where it is finite, and the layer's gradient is what is wrong.
    pub loss: Option<f64>,
    /// The loss, or the first layer with such a gradient.
    pub layer: LayerIndex,
    /// The layer's key.
    pub key: String,
    /// The layer's stage.
    pub stage: StageId,
}

impl fmt::Display for NonFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            loss,
            layer,
            key,
            stage,
        } = self;
        let whose = format_args!("of layer {layer} ({key}) of stage {stage}");
        match loss {
            Some(loss) => write!(f, "the loss {whose} is {loss}"),
            None => write!(f, "the gradient {whose} is not finite"),
        }
    }
}
