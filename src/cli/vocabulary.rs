//! Text as the numbers that a network takes, and back.

/// What tokens stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Vocabulary {
    /// Every token is a byte.
    Bytes,
}

impl Vocabulary {
    /// The tokens of a text.
    pub(super) fn tokens_of(&self, text: &str) -> Vec<i32> {
        match self {
            Self::Bytes => text.bytes().map(i32::from).collect(),
        }
    }

    /// The text of tokens that follow each other: what begins with one may end with the next.
    pub(super) fn text_of(&self, tokens: &[i32]) -> Vec<u8> {
        match self {
            Self::Bytes => tokens.iter().map(|token| *token as u8).collect(),
        }
    }
}
