//! What a manifest may say that it should not.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

use brigade::checkpoint::weights_sha256;
use serde_json::{Value, json};

/// Tensor number `at` of node 0's file.
pub fn tensor(manifest: &mut Value, at: usize) -> &mut Value {
    &mut manifest["files"][0]["tensors"][at]
}

/// Adds a tensor without a number to node 0's file.
pub fn add(manifest: &mut Value, key: &str, state: Option<&str>) {
    let mut more = json!({"key": key, "layer": 0, "shape": [0]});
    more["sha256"] = serde_json::from_str(EMPTY).unwrap();
    if let Some(state) = state {
        more["state"] = json!(state);
    }
    let tensors = &mut manifest["files"][0]["tensors"];
    tensors.as_array_mut().unwrap().push(more);
}

/// SHA-256 of nothing, as JSON.
const EMPTY: &str = "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"";

/// The digest of the weights follows from the tensors again.
pub fn sign_weights(manifest: &mut Value) {
    let tensors = { manifest["files"].as_array().unwrap().iter() }
        .flat_map(|file| file["tensors"].as_array().unwrap());
    let mut values: Vec<_> = tensors.filter(|tensor| tensor["state"].is_null()).collect();
    values.sort_by_key(|tensor| tensor["layer"].as_u64().unwrap());
    let digests: Vec<[u8; 32]> = { values.iter() }
        .map(|tensor| {
            let sum = tensor["sha256"].as_str().unwrap();
            std::array::from_fn(|at| u8::from_str_radix(&sum[2 * at..][..2], 16).unwrap())
        })
        .collect();
    manifest["weights_sha256"] = json!(weights_sha256(digests));
}

/// What the error says, and what is put where: a long text for `LONG`.
pub const VALUES: &[(&str, &str, &str)] = &[
    ("invalid type: null", "", "null"),
    ("invalid type: sequence", "", "[[], {}]"),
    ("missing field `format`", "", "{}"),
    ("integer `-1`", "/step", "-1"),
    ("floating point `1.0`", "/step", "1.0"),
    (
        "of step 18446744073709551615",
        "/step",
        "18446744073709551615",
    ),
    ("of step 9007199254740993", "/step", "9007199254740993"),
    ("of step 2, in the folder of step 1", "/step", "2"),
    ("is no SHA-256", "/network", "\"\""),
    ("joined otherwise", "/network", EMPTY),
    ("is no SHA-256", "/weights_sha256", "LONG"),
    ("not those of its weights", "/weights_sha256", EMPTY),
    ("not those of its weights", "/files", "[]"),
    ("and there are 0", "/layers", "[]"),
    ("its layer a is else", "/layers/0/is", "\"else\""),
    ("is no plain name", "/files/0/name", "\"\""),
    ("is no plain name", "/files/0/name", "\"..\""),
    ("is no plain name", "/files/0/name", "\".lock\""),
    ("is no plain name", "/files/0/name", "\"/etc/passwd\""),
    (
        "is no plain name",
        "/files/0/name",
        "\"../step-1/node-0.safetensors\"",
    ),
    ("is no plain name", "/files/0/name", "\"C:\\\\node-0\""),
    (
        "is no plain name",
        "/files/0/name",
        "\"node-0\\u0000.safetensors\"",
    ),
    ("is no plain name", "/files/0/name", "\"manifest.json\""),
    ("is no plain name", "/files/0/name", "LONG"),
    ("No such file", "/files/0/name", "\"node-7.safetensors\""),
    ("is no SHA-256", "/files/0/header_sha256", "LONG"),
    (
        "its header is not what was written",
        "/files/0/header_sha256",
        EMPTY,
    ),
    ("do not fill them", "/files/0/start", "0"),
    ("do not fill them", "/files/0/start", "18446744073709551615"),
    ("do not fill them", "/files/0/bytes", "0"),
    ("do not fill them", "/files/0/bytes", "18446744073709551615"),
    ("do not fill them", "/files/0/tensors", "[]"),
    (
        "do not fill them",
        "/files/0/tensors/0/shape",
        "[4294967295, 4294967295, 4294967295]",
    ),
    (
        "do not fill them",
        "/files/0/tensors/0/shape",
        "[18446744073709551615, 2, 0]",
    ),
    ("do not fill them", "/files/0/tensors/0/shape", "[6, 7]"),
    ("integer `-6`", "/files/0/tensors/0/shape", "[-6, -6]"),
    (
        "7 axes",
        "/files/0/tensors/0/shape",
        "[6, 1, 1, 1, 1, 1, 6]",
    ),
    ("of no values", "/files/0/tensors/1/shape", "[36]"),
    ("of no values", "/files/0/tensors/1/layer", "1"),
    ("of no values", "/files/0/tensors/0/key", "\"ghost\""),
    ("longer than any", "/files/0/tensors/0/key", "LONG"),
    ("longer than any", "/files/0/tensors/1/state", "LONG"),
    (
        "its optimizer keeps",
        "/files/0/tensors/1/state",
        "\"other\"",
    ),
    (
        "is of layer 99, and there are 6",
        "/files/0/tensors/0/layer",
        "99",
    ),
    (
        "integer `4294967296`",
        "/files/0/tensors/0/layer",
        "4294967296",
    ),
    (
        "first_moment is not what its",
        "/files/0/tensors/1/sha256",
        EMPTY,
    ),
];

/// What the error says, and what is changed.
pub type Forgery = (&'static str, fn(&mut Value));

pub const FORGERIES: &[Forgery] = &[
    ("of form 2, written by version 9.9.9", |m| {
        m["format"] = json!(2);
        m["version"] = json!("9.9.9");
        m["novelty"] = json!("whatever");
    }),
    ("unknown field `novelty`", |m| m["novelty"] = json!(1)),
    ("a.bias is missing", |m| {
        m["files"] = json!([]);
        sign_weights(m);
    }),
    ("the file node-1.safetensors twice", |m| {
        m["files"][0] = m["files"][1].clone()
    }),
    ("do not fill them", |m| {
        m["files"][0]["start"] = json!(4);
        m["files"][0]["bytes"] = json!(4);
        m["files"][0]["tensors"] = json!([]);
    }),
    // Its tensors fill it, from far behind the end of what is there.
    ("bytes where 9223372036854775807 were written", |m| {
        lengthen(m, 0, i64::MAX as u64)
    }),
    ("more bytes than can be counted", |m| {
        lengthen(m, 0, u64::MAX);
        lengthen(m, 1, u64::MAX);
    }),
    ("is no SHA-256", |m| {
        let sum = &mut tensor(m, 0)["sha256"];
        *sum = json!(sum.as_str().unwrap().to_uppercase());
    }),
    ("more twice", |m| {
        add(m, "more", None);
        add(m, "more", None);
        sign_weights(m);
    }),
    ("more:moment twice", |m| {
        add(m, "more", None);
        add(m, "more", Some("moment"));
        add(m, "more", Some("moment"));
        sign_weights(m);
    }),
    ("the network has no parameter more", |m| {
        add(m, "more", None);
        sign_weights(m);
    }),
    ("a.weight has shape [36]", |m| {
        (0..3).for_each(|at| tensor(m, at)["shape"] = json!([36]))
    }),
    ("it has b.weight where this one has a.weight", |m| {
        // The layers of a and b change their places.
        for tensor in m["files"][0]["tensors"].as_array_mut().unwrap() {
            let layer = tensor["layer"].as_u64().unwrap();
            tensor["layer"] = json!(if layer < 2 { 1 - layer } else { layer });
        }
        sign_weights(m);
    }),
    ("a.weight is not what its checksum says", |m| {
        tensor(m, 0)["sha256"] = serde_json::from_str(EMPTY).unwrap();
        sign_weights(m);
    }),
    // Two states change their places: their numbers are not those of their checksums.
    ("is not what its checksum says", |m| {
        for field in ["state", "sha256"] {
            let first = tensor(m, 1)[field].take();
            tensor(m, 1)[field] = tensor(m, 2)[field].take();
            tensor(m, 2)[field] = first;
        }
    }),
];

/// So many bytes are in file number `at`; its tensors are the last ones.
fn lengthen(manifest: &mut Value, at: usize, bytes: u64) {
    let file = &mut manifest["files"][at];
    let tensors = file["bytes"].as_u64().unwrap() - file["start"].as_u64().unwrap();
    file["bytes"] = json!(bytes);
    file["start"] = json!(bytes - tensors);
}
