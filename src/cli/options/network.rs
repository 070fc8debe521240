//! Which network.

use super::{number, whole};
use brigade_nn::Gpt;
use clap::{ArgAction, Args};

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Network")]
pub(in crate::cli) struct NetworkOptions {
    /// Blocks of the GPT; each is two layers, attention and MLP.
    #[arg(
        long, default_value = "4", value_name = "N",
        allow_negative_numbers = true, value_parser = whole::<usize>
    )]
    pub(in crate::cli) layers: usize,
    /// Width of the stream between blocks.
    #[arg(
        long, default_value = "128", value_name = "N",
        allow_negative_numbers = true, value_parser = whole::<usize>
    )]
    pub(in crate::cli) width: usize,
    /// Attention heads; they share the width.
    #[arg(
        long, default_value = "4", value_name = "N",
        allow_negative_numbers = true, value_parser = whole::<usize>
    )]
    pub(in crate::cli) heads: usize,
    /// Tokens of a sequence.
    #[arg(
        long, default_value = "64", value_name = "N",
        allow_negative_numbers = true, value_parser = whole::<usize>
    )]
    pub(in crate::cli) context: usize,
    /// Let the head share the token table's weights.
    #[arg(
        long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", hide_possible_values = true,
        hide_default_value = true
    )]
    pub(in crate::cli) tied: bool,
    /// Give linear layers and norms biases.
    #[arg(
        long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", hide_possible_values = true,
        hide_default_value = true
    )]
    pub(in crate::cli) biases: bool,
    /// Probability with which activations are dropped while training.
    #[arg(
        long, default_value = "0", value_name = "P", allow_negative_numbers = true,
        value_parser = number::<f32>
    )]
    pub(in crate::cli) dropout: f32,
}

impl NetworkOptions {
    /// The network that the options describe.
    pub(in crate::cli) fn gpt(&self, vocab: usize) -> Gpt {
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
}
