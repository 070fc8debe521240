//! Promise: whatever another library's folder holds, it is read or refused: what describes the
//! network (0), the index of its files (1), and a file of tensors (2).
#![no_main]

use brigade::nn::Decoder;
use brigade::outside::{index, tensors};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match bytes.split_first() {
        Some((b'0', rest)) => config(rest),
        Some((b'1', rest)) => match index(rest) {
            Ok(files) => {
                for (_, file) in files {
                    assert!(!file.contains(['/', '\\', '\0']) && !file.starts_with('.'));
                }
            }
            Err(error) => assert!(error.len() < 2000, "{error}"),
        },
        Some((b'2', rest)) => match tensors(rest) {
            Ok(tensors) => {
                let bytes: usize = tensors.iter().map(|(_, bytes)| bytes.len()).sum();
                assert!(8 + bytes <= rest.len());
                for (_, bytes) in tensors {
                    assert!(bytes.start >= 8 && bytes.end <= rest.len());
                }
            }
            Err(error) => assert!(error.len() < 10_000, "{error}"),
        },
        _ => {}
    }
});

/// What is read can be written, if it is there, and is then read again.
fn config(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    match Decoder::from_hugging_face(text) {
        Ok(decoder) => {
            let _ = decoder.parameters();
            if let Ok(written) = decoder.to_hugging_face("float32") {
                let again = Decoder::from_hugging_face(&written).expect("what was written is read");
                assert_eq!(again.context(), decoder.context());
            }
        }
        Err(error) => assert!(error.to_string().len() < 2000, "{error}"),
    }
}
