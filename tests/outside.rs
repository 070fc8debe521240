//! Promise: whatever comes from outside is read to an end or refused: files without one, and
//! messages that promise more than is there.
#![allow(missing_docs, clippy::unwrap_used)]

use brigade::interchange::TensorFolder;
use brigade::outside::{header, verdict, word};
use brigade::planner::{LayersFile, NodeSpec};
use brigade::profile::Profile;
use brigade::schedule::csv::{CsvSchedule, Dialect};
use brigade::{Error, SavedPlan, Weights};
use std::fs;
use std::path::Path;

/// A word that a fuzz target starts from.
fn failed() -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read(root.join("tests/fuzz/corpus/wire/failed")).unwrap()
}

/// Files without an end, and files that are longer than they may be.
#[test]
#[cfg(target_os = "linux")]
fn no_file_is_read_without_an_end() {
    let endless = Path::new("/dev/zero");
    let longer = |error: Error| assert!(error.to_string().contains("longer than"), "{error}");
    longer(SavedPlan::load(endless).unwrap_err().into());
    longer(LayersFile::read(endless).unwrap_err().into());
    longer(NodeSpec::read_file(endless).unwrap_err().into());
    longer(Profile::load(endless).unwrap_err());
    assert!(matches!(Weights::load(endless), Err(Error::Read { .. })));
    assert!(CsvSchedule::read(endless, Dialect::Current).is_err());
    assert!(matches!(
        TensorFolder::open(endless),
        Err(Error::Read { .. })
    ));
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large");
    fs::File::create(&large)
        .unwrap()
        .set_len((1 << 43) + 1)
        .unwrap();
    longer(Weights::load(&large).unwrap_err());
}

#[test]
fn words_and_headers_promise_nothing_that_is_not_there() {
    // Both nodes are as far as numbers go.
    let far = [&[0xfd][..], &[0xff; 8]].concat();
    let beat = |node| [&[node][..], &far.repeat(5)].concat();
    let beats = [&[0, 1, 0, 2][..], &beat(0), &beat(1)].concat();
    assert_eq!(word(&beats).unwrap(), beats);
    // Of a node, and of a trainer, that are not there.
    word(&[&[0, 1, 9, 1][..], &beat(200)].concat()).unwrap();
    // A list and a text of 2^62 of something.
    let many = [&[0xfd][..], &(1u64 << 62).to_le_bytes()].concat();
    assert!(word(&[&[0][..], &many].concat()).is_err());
    let failed = failed();
    let at = failed.windows(3).position(|three| three == b"2F0").unwrap() - 1;
    let text = [&failed[1..at], &many, &failed[at + 1..]].concat();
    assert!(word(&text).is_err());
    // More than any word has, though it could be held.
    let text = [&failed[1..at], &[0xfc, 0, 0, 0, 15], &failed[at + 1..]].concat();
    let error = word(&text).unwrap_err();
    assert!(error.contains("LimitExceeded"), "{error}");
    let mut other = verdict();
    header(&other).unwrap();
    other[4] ^= 1;
    assert!(header(&other).is_err());
}
