//! What tokens are: bytes, or those of a tokenizer.json.

mod decoding;
#[cfg(feature = "tokenizers")]
mod library;
#[cfg(not(feature = "tokenizers"))]
#[path = "no_library.rs"]
mod library;

use super::failure::Failure;
use super::run_folder::TOKENIZER;
use crate::files::read_up_to;
use crate::plan::hex;
use decoding::Decoding;
use library::Library;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::path::Path;

/// More than any tokenizer.json has.
const MOST_BYTES: u64 = 128 << 20;
/// Bytes are the tokens.
pub(super) const BYTES: usize = 256;
/// Text is encoded in pieces of about so many bytes.
const PIECE: usize = 1 << 16;

/// What tokens are.
pub(super) enum Vocabulary {
    Bytes,
    Tokenizer(Box<Tokenizer>),
}

/// A tokenizer.json, read.
pub(super) struct Tokenizer {
    library: Library,
    /// The file.
    json: Vec<u8>,
    path: String,
}

impl Vocabulary {
    /// Reads a tokenizer.json.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let json =
            read_up_to(path, MOST_BYTES).map_err(|error| Failure::file("read", path, &error))?;
        let path = path.display().to_string();
        let library = Library::read(&json);
        let library = library.map_err(|problem| Failure::Other(format!("{path}: {problem}")))?;
        Ok(Self::Tokenizer(Box::new(Tokenizer {
            library,
            json,
            path,
        })))
    }

    /// That of a folder with a tokenizer.json, if it has one.
    pub(super) fn of_folder(folder: &Path) -> Result<Option<Self>, Failure> {
        let path = folder.join(TOKENIZER);
        path.exists().then(|| Self::open(&path)).transpose()
    }

    /// Tokens are below this.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Bytes => BYTES,
            Self::Tokenizer(tokenizer) => tokenizer.library.size(),
        }
    }

    /// The tokenizer.json, if it has one.
    pub(super) fn json(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes => None,
            Self::Tokenizer(tokenizer) => Some(&tokenizer.json),
        }
    }

    /// SHA-256 of the tokenizer.json.
    pub(super) fn sha256(&self) -> Option<String> {
        self.json().map(|json| hex(&Sha256::digest(json)))
    }

    /// The tokens of a short text. None are added that begin or end one.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<i32>, Failure> {
        match self {
            Self::Bytes => Ok(text.bytes().map(i32::from).collect()),
            Self::Tokenizer(tokenizer) => {
                let ids = tokenizer.library.encode(text);
                ids.map_err(|problem| tokenizer.failure(&problem))
            }
        }
    }

    /// The tokens of a long text, in their order, piece by piece, on all cores.
    pub(super) fn encode_all(
        &self,
        mut text: &str,
        mut take: impl FnMut(&[i32]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if let Self::Bytes = self {
            let mut pieces = text.as_bytes().chunks(PIECE);
            return pieces.try_for_each(|piece| {
                take(
                    &piece
                        .iter()
                        .map(|byte| i32::from(*byte))
                        .collect::<Vec<_>>(),
                )
            });
        }
        let pool = rayon::ThreadPoolBuilder::new().build();
        let pool = pool.map_err(|error| Failure::Other(format!("no threads: {error}")))?;
        while !text.is_empty() {
            let mut pieces = Vec::new();
            while !text.is_empty() && pieces.len() < 2 * pool.current_num_threads() {
                let (piece, rest) = text.split_at(first_piece(text, PIECE));
                pieces.push(piece);
                text = rest;
            }
            let encode = || {
                { pieces.par_iter() }
                    .map(|piece| self.encode(piece))
                    .collect()
            };
            let encoded: Vec<_> = pool.install(encode);
            for tokens in encoded {
                take(&tokens?)?;
            }
        }
        Ok(())
    }

    /// Makes text of tokens as they come.
    pub(super) fn decoding(&self) -> Decoding<'_> {
        Decoding::new(self)
    }

    fn decode(&self, tokens: &[i32]) -> Result<String, Failure> {
        match self {
            Self::Bytes => {
                let bytes: Vec<u8> = tokens.iter().map(|token| *token as u8).collect();
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            Self::Tokenizer(tokenizer) => {
                let text = tokenizer.library.decode(tokens);
                text.map_err(|problem| tokenizer.failure(&problem))
            }
        }
    }
}

impl Tokenizer {
    fn failure(&self, problem: &str) -> Failure {
        Failure::Other(format!("{}: {problem}", self.path))
    }
}

/// Bytes of the first piece of a text: about `piece`, up to a line that begins with no blank after
/// one that does not end with one. There tokenizers of bytes cut anyway, so that the pieces have
/// the tokens of the whole. Where there is none for long, it is a blank between words, which
/// belongs to the word behind it; where there is none of these, any character.
fn first_piece(text: &str, piece: usize) -> usize {
    if text.len() <= 2 * piece {
        return text.len();
    }
    let whole = |most: usize| (0..=most).rev().find(|at| text.is_char_boundary(*at));
    let (from, to) = (whole(piece).unwrap_or(0), whole(2 * piece).unwrap_or(0));
    let solid = |c: Option<char>| c.is_some_and(|c| !c.is_whitespace());
    // Whether what is from here on, so many bytes, stands alone between two that are no blanks.
    let alone = |at: usize, bytes: usize| {
        solid(text[..at].chars().next_back()) && solid(text[at + bytes..].chars().next())
    };
    let mut ends = text[from..to].match_indices('\n').map(|(at, _)| from + at);
    let line = ends.find(|at| {
        let start = at - usize::from(text[..*at].ends_with('\r'));
        alone(start, at + 1 - start)
    });
    let mut blanks = text[from..to].match_indices(' ').map(|(at, _)| from + at);
    let blank = || blanks.find(|at| alone(*at, 1));
    line.map(|at| at + 1).or_else(blank).unwrap_or(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_between_lines_and_nothing_is_lost() {
        let lines: String = (0..400)
            .map(|n| format!("line {n}\n\n  more é\nx\n"))
            .collect();
        let (mut rest, mut pieces) = (lines.as_str(), Vec::new());
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(first_piece(rest, 100));
            pieces.push(piece);
            rest = more;
        }
        assert_eq!(pieces.concat(), lines);
        assert!(pieces.len() > 30);
        for piece in &pieces[1..] {
            assert!(piece.starts_with(['x', 'l']), "{piece}");
        }
        let solid = "é".repeat(500);
        assert_eq!(first_piece(&solid, 100), 200);
        assert_eq!(first_piece("ab", 100), 2);
        let windows = "line  \r\n\r\nline\r\n".repeat(20);
        assert!(windows[..first_piece(&windows, 100)].ends_with("line\r\n"));
        let words = "word  éé ".repeat(60);
        let (piece, rest) = words.split_at(first_piece(&words, 100));
        assert!(piece.ends_with("éé") && rest.starts_with(" word"));
    }

    #[cfg(feature = "tokenizers")]
    fn golden(name: &str) -> std::path::PathBuf {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/tokenizer");
        folder.join(name)
    }

    /// As the package of Python says, which the file tells to cut and to fill up.
    #[cfg(feature = "tokenizers")]
    #[test]
    fn tokens_are_those_of_hugging_face_and_become_the_text_again() {
        let vocabulary = Vocabulary::open(&golden("tokenizer.json")).unwrap();
        assert_eq!(vocabulary.size(), 400);
        let ids = std::fs::read_to_string(golden("ids.json")).unwrap();
        let cases: Vec<serde_json::Value> = serde_json::from_str(&ids).unwrap();
        assert!(cases.len() > 8);
        for case in cases {
            let text = case["text"].as_str().unwrap();
            let wanted: Vec<i32> = serde_json::from_value(case["ids"].clone()).unwrap();
            assert_eq!(vocabulary.encode(text).unwrap(), wanted, "{text:?}");
            let (mut decoding, mut again) = (vocabulary.decoding(), String::new());
            for token in wanted {
                let piece = decoding.push(token).unwrap();
                assert!(!piece.contains(decoding::NO_TEXT), "{piece:?} of {text:?}");
                again += &piece;
            }
            again += &decoding.finish().unwrap();
            assert_eq!(again, text.replace("<|endoftext|>", ""));
        }
    }

    /// Long texts in pieces, on however many threads, have the tokens of the whole.
    #[cfg(feature = "tokenizers")]
    #[test]
    fn pieces_have_the_tokens_of_the_whole() {
        let vocabulary = Vocabulary::open(&golden("tokenizer.json")).unwrap();
        let text = std::fs::read_to_string(golden("text.txt"))
            .unwrap()
            .repeat(200);
        assert!(text.len() > 2 * PIECE);
        let mut all = Vec::new();
        let take = |some: &[i32]| {
            all.extend_from_slice(some);
            Ok(())
        };
        vocabulary.encode_all(&text, take).unwrap();
        assert!(all == vocabulary.encode(&text).unwrap());
        let text = &text[..40_000];
        for text in [
            text.to_owned(),
            text.replace('\n', "\r\n"),
            text.replace('\n', " "),
        ] {
            let (mut rest, mut small) = (text.as_str(), Vec::new());
            while !rest.is_empty() {
                let (piece, more) = rest.split_at(first_piece(rest, 300));
                small.extend(vocabulary.encode(piece).unwrap());
                rest = more;
            }
            assert!(small == vocabulary.encode(&text).unwrap());
        }
    }

    /// A file that was damaged is read or refused: nothing else happens.
    #[cfg(feature = "tokenizers")]
    #[test]
    fn damaged_tokenizers_are_read_or_refused() {
        let whole = std::fs::read(golden("tokenizer.json")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.json");
        let random = brigade_layer::Random::named(3, "tokenizers");
        let (mut read, mut refused) = (0, 0);
        let mut hold = |json: &[u8]| {
            std::fs::write(&path, json).unwrap();
            match Vocabulary::open(&path) {
                Ok(vocabulary) => {
                    read += 1;
                    let ids = vocabulary.encode("A node that waits 日本 []");
                    let ids = ids.unwrap_or_default();
                    assert!(ids.iter().all(|id| (*id as usize) < vocabulary.size()));
                    let _ = vocabulary.decode(&[ids, vec![0, 1 << 30]].concat());
                }
                Err(failure) => {
                    refused += 1;
                    let said = failure.to_string();
                    assert!(said.contains("t.json") && !said.contains('\n'), "{said}");
                }
            }
        };
        for case in 0..150 {
            let below = |draw, most: usize| random.below(case, draw, most as u64) as usize;
            let (at, mut damaged) = (below(0, whole.len()), whole.clone());
            match below(1, 4) {
                0 => damaged.truncate(at),
                1 => damaged[at] ^= 1 << below(2, 8),
                2 => drop(damaged.remove(at)),
                _ => damaged.insert(at, b"019-,[{\"\xff\n"[below(3, 10)]),
            }
            hold(&damaged);
        }
        let text = String::from_utf8(whole).unwrap();
        let with = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        };
        for json in [
            String::new(),
            "{}".into(),
            "[".repeat(1 << 20),
            with("\"id\": 0", "\"id\": 4294967295"),
            with("\"dropout\": null", "\"dropout\": 7.0"),
            with("\"pre_tokenizer\": {", "\"pre_tokenizer\": {\"type\": 3, "),
        ] {
            hold(json.as_bytes());
        }
        assert!(read > 10 && refused > 50, "{read} and {refused}");
        // Dropout would give other tokens every time.
        std::fs::write(&path, with("\"dropout\": null", "\"dropout\": 0.5")).unwrap();
        let dropping = Vocabulary::open(&path).unwrap();
        let ids = Vocabulary::open(&golden("tokenizer.json")).unwrap();
        let text = "every node has its own list of actions";
        assert_eq!(dropping.encode(text).unwrap(), ids.encode(text).unwrap());
        // No more is read of what has no end.
        #[cfg(target_os = "linux")]
        assert!(Vocabulary::open(Path::new("/dev/zero")).is_err());
    }
}
