//! Text of tokens as they come.

use super::Vocabulary;
use crate::cli::failure::Failure;

/// What a token is as text may depend on so many before it.
const BEFORE: usize = 8;
/// What stands where bytes are no text, or no whole character yet.
pub(super) const NO_TEXT: char = char::REPLACEMENT_CHARACTER;
/// So many tokens, and so many [`NO_TEXT`], may wait for the rest of a character.
const WAITING: usize = 3;
/// After so many tokens without an end of a character it is no text.
const LOST: usize = 4 * BEFORE;

/// Text of tokens, given out when its characters are whole.
pub(in crate::cli) struct Decoding<'a> {
    vocabulary: &'a Vocabulary,
    /// The last tokens.
    tokens: Vec<i32>,
    /// What was given out of their text.
    given: String,
    /// How many of them were given out whole.
    settled: usize,
    /// How many of them are kept only for those behind: there a character ends.
    before: usize,
}

impl<'a> Decoding<'a> {
    pub(super) fn new(vocabulary: &'a Vocabulary) -> Self {
        Self {
            vocabulary,
            tokens: Vec::new(),
            given: String::new(),
            settled: 0,
            before: 0,
        }
    }

    /// What this token adds: nothing where a character goes on in the next one.
    pub(in crate::cli) fn push(&mut self, token: i32) -> Result<String, Failure> {
        self.tokens.push(token);
        let mut text = self.text()?;
        let waits = self.tokens.len() - self.settled <= WAITING;
        if !text.starts_with(&self.given) {
            // Of bytes in a row a decoder may make all or nothing, so that one more takes back what
            // was text.
            if waits && text.ends_with(NO_TEXT) {
                return Ok(String::new());
            }
            text = self.begin_anew()?;
        }
        let whole = without_end(&text);
        let new = self.give(whole);
        if whole.len() == text.len() {
            self.settle()?;
        } else if self.tokens.len() - self.settled >= LOST {
            self.forget(&text)?;
        }
        Ok(new)
    }

    /// What still waits for the rest of a character that does not come.
    pub(in crate::cli) fn finish(mut self) -> Result<String, Failure> {
        let mut text = self.text()?;
        if !text.starts_with(&self.given) {
            text = self.begin_anew()?;
        }
        Ok(self.give(&text))
    }

    fn text(&self) -> Result<String, Failure> {
        self.vocabulary.decode(&self.tokens)
    }

    fn give(&mut self, text: &str) -> String {
        let new = text.get(self.given.len()..).unwrap_or_default().to_owned();
        self.given += &new;
        new
    }

    /// Whatever was given out whole has nothing to do with what follows.
    fn begin_anew(&mut self) -> Result<String, Failure> {
        self.tokens.drain(..self.settled);
        (self.settled, self.before) = (0, 0);
        self.given.clear();
        self.text()
    }

    /// All was given out; of old tokens no more stay than those behind depend on.
    fn settle(&mut self) -> Result<(), Failure> {
        self.settled = self.tokens.len();
        if self.settled - self.before >= BEFORE {
            self.tokens.drain(..self.before);
            self.settled = self.tokens.len();
            self.before = self.settled;
            self.given = self.text()?;
        }
        Ok(())
    }

    /// Keeps the last tokens only, as many as still end as `text` does behind what was given out.
    fn forget(&mut self, text: &str) -> Result<(), Failure> {
        let waiting = text.get(self.given.len()..).unwrap_or_default();
        let all = std::mem::take(&mut self.tokens);
        (self.settled, self.before) = (0, 0);
        for count in WAITING..LOST / 2 {
            self.tokens = all[all.len() - count..].to_vec();
            let text = self.text()?;
            if let Some(given) = text.strip_suffix(waiting) {
                self.given = given.to_owned();
                return Ok(());
            }
        }
        self.tokens = all[all.len() - WAITING..].to_vec();
        self.given.clear();
        Ok(())
    }
}

/// A text without what may be the beginning of a character: one [`NO_TEXT`] for all of it, or one
/// for each byte.
fn without_end(text: &str) -> &str {
    let mut whole = text;
    for _ in 0..WAITING {
        whole = whole.strip_suffix(NO_TEXT).unwrap_or(whole);
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Piece by piece, and how many tokens were decoded at most for one.
    fn pieces(vocabulary: &Vocabulary, tokens: &[i32]) -> (Vec<String>, usize) {
        let (mut decoding, mut most) = (vocabulary.decoding(), 0);
        let mut pieces = Vec::new();
        for token in tokens {
            pieces.push(decoding.push(*token).unwrap());
            most = most.max(decoding.tokens.len());
        }
        pieces.push(decoding.finish().unwrap());
        (pieces, most)
    }

    #[test]
    fn text_of_bytes_is_given_out_when_characters_are_whole() {
        let vocabulary = Vocabulary::Bytes;
        let tokens = vocabulary.encode("aé€😀b").unwrap();
        let wanted = ["a", "", "é", "", "", "€", "", "", "", "😀", "b", ""];
        assert_eq!(pieces(&vocabulary, &tokens).0, wanted);
        // What is no text is not waited for, and nothing of it is lost.
        let random = brigade_layer::Random::named(1, "bytes");
        for case in 0..200 {
            let some = [b'a', 0xff, 0x80, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0xa6, 0x80];
            let byte = |at| some[random.below(case, at, some.len() as u64) as usize];
            let bytes: Vec<u8> = (0..100).map(byte).collect();
            let tokens: Vec<i32> = bytes.iter().map(|byte| i32::from(*byte)).collect();
            let (pieces, most) = pieces(&vocabulary, &tokens);
            assert_eq!(pieces.concat(), String::from_utf8_lossy(&bytes));
            assert!(most <= 2 * LOST);
        }
    }

    /// Tokens as those of Llama 2: bytes, and a few letters.
    #[cfg(feature = "tokenizers")]
    fn with_byte_fallback() -> Vocabulary {
        let mut vocab = serde_json::Map::new();
        let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
        let letters = ["a", "b", "▁", "▁c", "é", "<unk>"].map(String::from);
        for (id, token) in bytes.chain(letters).enumerate() {
            vocab.insert(token, id.into());
        }
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": null, "post_processor": null,
            "decoder": { "type": "Sequence", "decoders": [
                { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
                { "type": "ByteFallback" },
                { "type": "Fuse" },
                { "type": "Strip", "content": " ", "start": 1, "stop": 0 }
            ]},
            "model": { "type": "BPE", "dropout": null, "unk_token": "<unk>",
                "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
                "byte_fallback": true, "vocab": vocab, "merges": [] }
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.json");
        std::fs::write(&path, json.to_string()).unwrap();
        Vocabulary::open(&path).unwrap()
    }

    #[cfg(feature = "tokenizers")]
    #[test]
    fn characters_of_several_byte_tokens_are_given_out_whole() {
        let vocabulary = with_byte_fallback();
        let tokens = vocabulary.encode("a😀b").unwrap();
        assert_eq!(tokens, [256, 0xf0, 0x9f, 0x98, 0x80, 257]);
        let wanted = ["a", "", "", "", "😀", "b", ""];
        assert_eq!(pieces(&vocabulary, &tokens).0, wanted);
        // Valid text, however long a run of bytes is.
        let random = brigade_layer::Random::named(1, "fallback");
        for case in 0..200 {
            let some = ["a", "▁c", "▁", "é", "€", "ß", "日", "😀", "😀", "€"];
            let one = |at| some[random.below(case, at, some.len() as u64) as usize];
            let text: String = (0..100).map(one).chain(["€"].repeat(40)).collect();
            let tokens = vocabulary.encode(&text).unwrap();
            let (pieces, most) = pieces(&vocabulary, &tokens);
            assert_eq!(pieces.concat(), vocabulary.decode(&tokens).unwrap());
            assert!(!pieces.concat().contains(NO_TEXT) && most <= 2 * LOST);
        }
    }

    /// The text behind them is all there, and they do not make it slow.
    #[cfg(feature = "tokenizers")]
    #[test]
    fn bytes_that_are_no_text_hide_nothing() {
        let vocabulary = with_byte_fallback();
        for bytes in [
            &[0xff][..],
            &[0xf0, 0x9f],
            &[0xe2, 0x82, 0xe2],
            &[0xc3, 0xa9, 0xff],
            &[0xf0, 0x9f, 0x98, 0x80, 0xf0, 0x9f, 0x98],
            &[0x80; 5000],
            &[0xe2, 0x82, 0xac, 0xff].repeat(500),
        ] {
            let tokens = [&[256][..], bytes, &[257, 258, 0xf0, 0x9f, 0x98, 0x80, 257]].concat();
            let (pieces, most) = pieces(&vocabulary, &tokens);
            let text = pieces.concat();
            assert!(text.starts_with('a') && text.ends_with("b 😀b"), "{text}");
            assert!(text.matches(NO_TEXT).count() <= bytes.len(), "{text}");
            assert!(text.contains(NO_TEXT), "{text}");
            assert!(most <= 2 * LOST, "{most} of {}", tokens.len());
        }
    }
}
