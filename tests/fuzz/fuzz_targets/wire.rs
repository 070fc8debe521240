//! Promise: whatever comes from another process, it is read or refused; and what is read is the
//! same once it was said again.
//!
//! The first byte says what the others are: a message, a header or a courier's word.
#![no_main]

use brigade::outside::{header, message, verdict, word};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    match kind % 3 {
        0 => {
            if let Ok(said) = message(bytes) {
                assert_eq!(said, bytes);
            }
        }
        1 => {
            if header(bytes).is_ok() {
                let wanted = verdict();
                let read = wanted
                    .iter()
                    .rposition(|byte| *byte != 0)
                    .map_or(0, |at| at + 1);
                assert_eq!(bytes[..read], wanted[..read]);
            }
        }
        _ => {
            if let Ok(said) = word(bytes) {
                assert_eq!(word(&said).expect("what was said is heard"), said);
            }
        }
    }
});
