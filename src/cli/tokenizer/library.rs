//! A tokenizer.json through the crate `tokenizers`: the only file that names it.
//!
//! The file comes from outside, and the crate may panic at what it does not expect: that becomes
//! an error too.

use crate::error::panic_text;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokenizers::{ModelWrapper, Result, Tokenizer};

pub(super) struct Library {
    tokenizer: Tokenizer,
    size: usize,
}

impl Library {
    pub(super) fn read(json: &[u8]) -> std::result::Result<Self, String> {
        let read = || {
            let mut tokenizer = Tokenizer::from_bytes(json)?;
            // Text is taken whole, is not filled up, and always has the same tokens.
            tokenizer.with_truncation(None)?.with_padding(None);
            if let ModelWrapper::BPE(bpe) = tokenizer.get_model()
                && bpe.dropout.is_some()
            {
                let mut bpe = bpe.clone();
                bpe.dropout = None;
                tokenizer.with_model(bpe);
            }
            let ids = tokenizer.get_vocab(true).into_values();
            Ok((tokenizer, ids.max().map_or(0, |id| id as usize + 1)))
        };
        let (tokenizer, size) =
            guarded(read).map_err(|problem| format!("it is no tokenizer.json: {problem}"))?;
        match size {
            0 => Err("it is a tokenizer without tokens".into()),
            _ if size > i32::MAX as usize => Err(format!(
                "it has a token {}, which an i32 does not hold",
                size - 1
            )),
            _ => Ok(Self { tokenizer, size }),
        }
    }

    /// One more than the largest token.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn encode(&self, text: &str) -> std::result::Result<Vec<i32>, String> {
        let encode = || {
            let encoding = self.tokenizer.encode_fast(text, false)?;
            Ok(encoding.get_ids().iter().map(|id| *id as i32).collect())
        };
        guarded(encode).map_err(|problem| format!("text cannot be encoded: {problem}"))
    }

    pub(super) fn decode(&self, tokens: &[i32]) -> std::result::Result<String, String> {
        let tokens: Vec<u32> = tokens.iter().map(|token| *token as u32).collect();
        guarded(|| self.tokenizer.decode(&tokens, true))
            .map_err(|problem| format!("tokens cannot be decoded: {problem}"))
    }
}

fn guarded<T>(work: impl FnOnce() -> Result<T>) -> std::result::Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(panic) => Err(format!("it panics: {}", panic_text(panic.as_ref()))),
    }
}
