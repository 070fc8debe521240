//! Sequences that grow: pieces go through the nodes, what layers keep along them stays there.
//!
//! ```text
//! prompt ──► pieces ──► node 0 ══► node 1 ══► ... ══► logits of the last position ──► token ─┐
//!              ▲        keeps      keeps                                                     │
//!              └─────────────────────── a piece of one ──────────────────────────────────────┘
//! ```

use super::Trainer;
use super::nodes::To;
use crate::error::Error;
use crate::ids::StepId;
use crate::plan::PassKind;
use crate::stage::{Along, Command};
use crate::wire::{from_bytes, to_bytes};
use brigade_layer::{Data, LayerError, Tensor, Tensors};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

/// How a text goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Tokens to generate, at most. Default 100.
    pub tokens: usize,
    /// Each of these ends the text, and belongs to it. Default none.
    pub stop_at: Vec<i32>,
    /// What happens when the sequence is as long as the context. Default to go on.
    pub when_full: WhenFull,
}

impl Default for Generation {
    fn default() -> Self {
        Self {
            tokens: 100,
            stop_at: Vec::new(),
            when_full: WhenFull::default(),
        }
    }
}

/// What happens when a sequence is as long as the network's context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// A new sequence starts with the last half of the context, which goes through the nodes once
    /// more: from there on the network has forgotten what was before.
    #[default]
    GoOn,
    /// The text ends.
    Stop,
}

/// What was generated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Generated {
    /// The new tokens.
    pub tokens: Vec<i32>,
    /// How often a new sequence started because the context was full.
    pub restarts: usize,
}

/// One sequence of tokens that goes through the network's nodes, piece by piece. What layers keep
/// along it (keys and values of attention) is taken with the first piece, for the whole context,
/// and given back when the sequence is dropped; the trainer can do nothing else meanwhile.
///
/// Every process calls the same methods with the same arguments.
pub struct Sequence<'t> {
    trainer: &'t mut Trainer,
    /// Positions of a piece, and how many go through the nodes at once.
    pieces: (usize, usize),
    context: usize,
    vocabulary: usize,
    length: usize,
}

impl Trainer {
    /// A sequence to go on with, empty.
    ///
    /// # Errors
    /// When the network cannot generate, or a node may not hold what that takes: nothing has
    /// changed then.
    pub fn sequence(&mut self) -> Result<Sequence<'_>, Error> {
        if let Some(error) = self.nodes.errors().first() {
            return Err(Box::new(error.root().clone()).into());
        }
        // Of a plan for inference that is what was counted.
        if self.plan.trains() {
            let optimizer = Some(self.optimizer.as_ref());
            (self.plan).generating(&self.network, &self.config, optimizer)?;
        }
        let shapes = self.network.infer_piece(1)?;
        let logits = self.network.prediction_of(&shapes)?;
        Ok(Sequence {
            pieces: self.plan.pieces_of(&self.network)?,
            context: self.network.context()?,
            vocabulary: logits.shape.last(),
            length: 0,
            trainer: self,
        })
    }

    /// Goes on with a text, token by token. `choose` draws each from its logits, by the number of
    /// the draw, in the process that has them: it may depend on its arguments only
    /// (`|logits, draw| sampling.choose(logits, draw)`). `each` gets every token as it comes, on
    /// all processes, and says whether to go on; the one that any process stops after is the last.
    ///
    /// Of a prompt longer than the context its end is seen.
    ///
    /// # Errors
    /// As [`Trainer::sequence`] and [`Sequence::next`]; when the prompt is empty.
    pub fn generate(
        &mut self,
        prompt: &[i32],
        generation: &Generation,
        mut choose: impl FnMut(&[f32], u64) -> Result<i32, LayerError>,
        mut each: impl FnMut(i32) -> ControlFlow<()>,
    ) -> Result<Generated, Error> {
        if prompt.is_empty() {
            return Err(nothing().into());
        }
        let mut sequence = self.sequence()?;
        let (context, mut generated) = (sequence.context, Generated::default());
        let mut text = prompt.to_vec();
        let mut new = prompt.len().saturating_sub(context);
        let mut enough = false;
        for draw in 0..generation.tokens as u64 {
            let mut restarted = 0;
            if sequence.length + (text.len() - new) > context {
                if generation.when_full == WhenFull::Stop {
                    break;
                }
                sequence.restart();
                restarted = 1;
                new = text.len() - (context / 2).max(1);
            }
            let next = sequence.step(&text[new..], enough, |logits| choose(logits, draw))?;
            // Whether others have stopped is known only now.
            let Some(token) = next else { break };
            generated.restarts += restarted;
            new = text.len();
            text.push(token);
            generated.tokens.push(token);
            enough = each(token).is_break() || generation.stop_at.contains(&token);
            if enough && sequence.trainer.nodes.alone() {
                break;
            }
        }
        Ok(generated)
    }
}

impl Sequence<'_> {
    /// Positions so far.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing has gone through yet.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The most positions that it can have.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Forgets everything: the next token is the first one.
    pub fn restart(&mut self) {
        self.length = 0;
    }

    /// More tokens: the logits of what comes after the last of them, one for every token of the
    /// vocabulary.
    ///
    /// # Errors
    /// When there are none, more than the context has room for, or one that is not in the
    /// vocabulary: nothing has changed then. Otherwise as
    /// [`Trainer::step`].
    pub fn push(&mut self, tokens: &[i32]) -> Result<Vec<f32>, Error> {
        let logits = self.go(tokens)?;
        let bytes = match &logits {
            Some(logits) => to_bytes(logits.f32()?),
            None => Vec::new(),
        };
        let all = self.trainer.nodes.share_bytes("logits", bytes, To::All)?;
        let own = all.iter().find(|bytes| !bytes.is_empty());
        let none = || LayerError::Value("no node gave logits".into());
        Ok(from_bytes(own.ok_or_else(none)?).collect())
    }

    /// More tokens, and the one that `choose` draws from the logits of what comes next, in the
    /// process that has them. It is not yet part of the sequence.
    ///
    /// # Errors
    /// As [`Sequence::push`], and those of `choose`.
    pub fn next(
        &mut self,
        tokens: &[i32],
        choose: impl FnOnce(&[f32]) -> Result<i32, LayerError>,
    ) -> Result<i32, Error> {
        let next = self.step(tokens, false, choose)?;
        Ok(next.ok_or_else(|| LayerError::Value("no node gave logits".into()))?)
    }

    /// The same, unless any process has had enough.
    fn step(
        &mut self,
        tokens: &[i32],
        enough: bool,
        choose: impl FnOnce(&[f32]) -> Result<i32, LayerError>,
    ) -> Result<Option<i32>, Error> {
        let logits = self.go(tokens)?;
        let chosen = logits.map(|logits| self.known(choose(logits.f32()?)?));
        let told = chosen.map(|chosen| chosen.map_err(|error| error.to_string()));
        let all = self.trainer.nodes.share("token", (enough, told))?;
        if all.iter().any(|(enough, _)| *enough) {
            return Ok(None);
        }
        let token = all.into_iter().find_map(|(_, chosen)| chosen);
        let none = || Err("no node gave logits".to_owned());
        let token = token.unwrap_or_else(none).map_err(LayerError::Value)?;
        Ok(Some(token))
    }

    fn known(&self, token: i32) -> Result<i32, LayerError> {
        if usize::try_from(token).is_ok_and(|token| token < self.vocabulary) {
            return Ok(token);
        }
        let most = self.vocabulary;
        let problem = format!(
            "token {token} is not in the vocabulary of {most}, 0 to {}",
            most - 1
        );
        Err(LayerError::Value(problem))
    }

    /// Lets tokens go through the nodes; the logits are where the output is.
    fn go(&mut self, tokens: &[i32]) -> Result<Option<Tensor>, Error> {
        let room = self.context - self.length;
        if tokens.is_empty() {
            return Err(nothing().into());
        }
        if tokens.len() > room {
            let (more, length, context) = (tokens.len(), self.length, self.context);
            let problem = format!(
                "{more} more tokens after {length}, and the context is {context}; give fewer, or \
                 restart from the last ones"
            );
            return Err(LayerError::Value(problem).into());
        }
        for token in tokens {
            self.known(*token)?;
        }
        let (length, together) = self.pieces;
        let whole = tokens.len() / length * length;
        let passes = (tokens[..whole].chunks(length * together))
            .map(|tokens| (tokens, length))
            .chain((whole < tokens.len()).then(|| (&tokens[whole..], tokens.len() - whole)));
        let (mut left, mut logits) = (tokens.len(), None);
        for (tokens, length) in passes {
            left -= tokens.len();
            logits = self.pass(tokens, length, left == 0)?;
        }
        Ok(logits)
    }

    /// Some pieces of so many positions.
    fn pass(
        &mut self,
        tokens: &[i32],
        length: usize,
        answers: bool,
    ) -> Result<Option<Tensor>, Error> {
        let (kind, pieces) = (PassKind::Generate { length }, tokens.len() / length);
        let along = Along {
            length: self.context,
            starts: self.length == 0,
            answers,
        };
        let tokens = tokens.to_vec();
        self.length += tokens.len();
        let data = Arc::new(Pieces { tokens, length });
        let when = (StepId::new(0), None);
        let trainer = &mut *self.trainer;
        let answer = trainer.pass_along(kind, pieces, when, (data, Some(along)))?;
        if !answers {
            // Nobody runs ahead of the others.
            trainer.nodes.share("pieces", ())?;
        }
        Ok(answer.predictions.into_iter().next())
    }
}

impl Drop for Sequence<'_> {
    fn drop(&mut self) {
        // After a failure nobody is asked, and what was kept goes with the nodes.
        let _ = self.trainer.nodes.ask(&Command::Forget);
    }
}

fn nothing() -> LayerError {
    LayerError::Value("no tokens to go on from: give at least one".into())
}

/// The pieces of a pass: every row is one.
struct Pieces {
    tokens: Vec<i32>,
    length: usize,
}

impl Data for Pieces {
    fn rows(&self, _: StepId) -> usize {
        self.tokens.len() / self.length
    }
    fn inputs(&self, _: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        let tokens = &self.tokens[rows.start * self.length..rows.end * self.length];
        Ok(Tensor::from_vec([rows.len(), self.length], tokens.to_vec())?.into())
    }
    fn targets(&self, _: StepId, _: Range<usize>) -> Result<Tensors, LayerError> {
        Err(LayerError::Value(
            "there are no targets when generating".into(),
        ))
    }
}
