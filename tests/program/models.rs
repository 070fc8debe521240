//! Models of Hugging Face, as the goldens have them.

use std::fs;
use std::path::{Path, PathBuf};

pub fn golden(case: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/goldens/hugging_face").join(case)
}

/// A folder of a model, with files of a tokenizer.
pub fn model(folder: &Path, name: &str) -> PathBuf {
    let to = folder.join(name);
    fs::create_dir(&to).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(golden("gpt2").join(file), to.join(file)).unwrap();
    }
    fs::write(to.join("tokenizer.json"), "{}").unwrap();
    fs::write(to.join("generation_config.json"), r#"{"eos_token_id": 5}"#).unwrap();
    to
}

pub fn bytes(folder: &Path, name: &str) -> Vec<u8> {
    fs::read(folder.join(name)).unwrap()
}

/// Random tokens that a golden model knows.
pub const DATA: &str = "--synthetic-vocab 23 --batch-size 4 --micro-batch-size 2 --steps 3 --json";
