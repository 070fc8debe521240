//! Which network.

use super::{number, whole};
use crate::cli::failure::Failure;
use brigade_nn::{Decoder, Gpt, Llama};
use clap::builder::ArgPredicate;
use clap::{ArgAction, Args, ValueEnum, ValueHint};
use std::path::PathBuf;

mod origin;

#[derive(Clone, Debug, PartialEq, Args)]
#[command(next_help_heading = "Network")]
pub(in crate::cli) struct NetworkOptions {
    /// Start from the weights of this model: a run folder, or one of Hugging Face (config.json
    /// and safetensors). Its network is trained, with windows of its context or of --context.
    #[arg(
        long, value_name = "FOLDER", value_hint = ValueHint::DirPath,
        conflicts_with_all = [
            "family", "layers", "width", "heads", "kv_heads", "inner", "tied", "biases"
        ]
    )]
    pub(in crate::cli) from: Option<PathBuf>,
    /// The network's family.
    #[arg(long, value_enum, default_value_t = FamilyArg::Gpt, value_name = "NAME")]
    family: FamilyArg,
    /// Blocks; each is two layers, attention and MLP.
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
    /// Of a Llama, heads of keys and values, each for a group of heads; as many as --heads unless
    /// given.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<usize>)]
    kv_heads: Option<usize>,
    /// Width within the MLP; unless given 4 times the width, of a Llama 8 thirds of it.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<usize>)]
    inner: Option<usize>,
    /// Tokens of a sequence; with --from as many as that is for, unless given.
    #[arg(
        long, default_value = "64", value_name = "N",
        default_value_if("from", ArgPredicate::IsPresent, OWN_CONTEXT),
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
    /// The network that was found where it is to be taken from.
    #[arg(skip)]
    found: Option<Decoder>,
}

/// The options that --from leaves no choice of.
pub(in crate::cli) const NETWORK: [&str; 8] = [
    "family", "layers", "width", "heads", "kv-heads", "inner", "tied", "biases",
];
/// The context that --from has.
const OWN_CONTEXT: &str = "0";

/// Families by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FamilyArg {
    // GPT-2: learned positions, LayerNorm, GELU.
    Gpt,
    // Llama: rotary positions, RMSNorm, gated SiLU, grouped heads.
    Llama,
}

impl NetworkOptions {
    /// The network that the options describe.
    pub(in crate::cli) fn decoder(&self, vocab: usize) -> Result<Decoder, Failure> {
        if self.from.is_some() || self.found.is_some() {
            return self.decoder_found(vocab);
        }
        match self.family {
            FamilyArg::Gpt => self.gpt(vocab).map(Decoder::Gpt),
            FamilyArg::Llama => self.llama(vocab).map(Decoder::Llama),
        }
    }

    fn gpt(&self, vocab: usize) -> Result<Gpt, Failure> {
        if self.kv_heads.is_some() {
            let problem = "--kv-heads is for --family llama: GPT-2 does not group its heads";
            return Err(Failure::Usage(problem.into()));
        }
        Ok(Gpt {
            vocab,
            context: self.context,
            width: self.width,
            heads: self.heads,
            inner: self.inner,
            blocks: self.layers,
            tied: self.tied,
            biases: self.biases,
            dropout: self.dropout,
            ..Gpt::default()
        })
    }

    fn llama(&self, vocab: usize) -> Result<Llama, Failure> {
        let llama = Llama::of_width(self.width, self.heads)?;
        Ok(Llama {
            vocab,
            context: self.context,
            inner: self.inner.unwrap_or(llama.inner),
            kv_heads: self.kv_heads.unwrap_or(llama.kv_heads),
            blocks: self.layers,
            tied: self.tied,
            attention_biases: self.biases,
            mlp_biases: self.biases,
            dropout: self.dropout,
            ..llama
        })
    }
}
