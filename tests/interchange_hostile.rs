//! Promise: damaged and malicious files of tensors are refused with what is wrong and where.
#![allow(missing_docs, clippy::unwrap_used)]

mod foreign;

use brigade::Error;
use brigade::interchange::TensorFolder;
use foreign::{TABLE, Tensors, file, folder, whole, written};
use serde_json::{Value, json};

#[test]
fn headers_that_lie_are_refused() {
    let tensor = |name: &str, shape: &str, from: u64, to: u64| {
        format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let (a, huge) = (tensor("a", "[2]", 0, 8), u64::MAX);
    for (header, data, says) in [
        (format!("{{{a}}}"), 4, "beyond the end"),
        (format!("{{{a}}}"), 12, "its header says"),
        (
            format!("{{{a},{}}}", tensor("b", "[2]", 4, 12)),
            12,
            "overlap",
        ),
        (
            format!("{{{a},{}}}", tensor("b", "[2]", 0, 8)),
            8,
            "overlap",
        ),
        (
            format!("{{{a},{}}}", tensor("b", "[1]", 12, 16)),
            16,
            "do not follow",
        ),
        (
            format!("{{{a},{}}}", tensor("a", "[2]", 8, 16)),
            16,
            "tensor a is there twice",
        ),
        (
            format!("{{{}}}", tensor("a", "[3]", 0, 8)),
            8,
            "takes 12 bytes",
        ),
        (
            format!("{{{}}}", tensor("a", "[2]", 8, 0)),
            8,
            "offsets are 8 and 0",
        ),
        (
            format!("{{{}}}", tensor("a", "[4294967296, 4294967296]", 0, 8)),
            8,
            "can be counted",
        ),
        (
            format!("{{{}}}", tensor("a", &format!("[{huge}]"), 0, huge)),
            8,
            "can be counted",
        ),
        (
            format!("{{{}}}", tensor("a", "[2]", huge - 8, huge)),
            8,
            "beyond the end",
        ),
        (
            format!(
                "{{{}}}",
                tensor("a", &format!("[{}1]", "1,".repeat(64)), 0, 4)
            ),
            4,
            "more than 64",
        ),
        (a.replace("F32", "F99"), 8, "header"),
        (
            format!("{{{}}}", a.replace("F32", "F99")),
            8,
            "tensor a: unknown variant `F99`",
        ),
        ("[]".into(), 0, "an object of tensors"),
        ("{".into(), 0, "header"),
    ] {
        let folder = folder(&[("model.safetensors", file(&header, &vec![0; data]))]);
        let error = TensorFolder::open(folder.path()).unwrap_err();
        assert!(matches!(error, Error::Tensor(_)), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(says) && text.contains("model.safetensors"),
            "{says}: {text}"
        );
    }
    for bytes in [
        vec![],
        vec![1; 7],
        vec![255; 64],
        file("{}", &[])[..9].to_vec(),
    ] {
        let folder = folder(&[("model.safetensors", bytes)]);
        assert!(TensorFolder::open(folder.path()).is_err());
    }
}

#[test]
fn indices_that_lie_are_refused() {
    let both = [whole(), whole()];
    let half = |part: usize| -> Tensors {
        let tensors = both[part].clone().into_iter().enumerate();
        tensors
            .filter(|(at, _)| at % 2 == part)
            .map(|(_, tensor)| tensor)
            .collect()
    };
    let (first, second) = (half(0), half(1));
    let map = || -> serde_json::Map<String, Value> {
        let of = |tensors: &Tensors, file: &str| -> Vec<(String, Value)> {
            tensors
                .keys()
                .map(|name| (name.clone(), json!(file)))
                .collect()
        };
        of(&first, "a.safetensors")
            .into_iter()
            .chain(of(&second, "b.safetensors"))
            .collect()
    };
    let opened = |index: String| {
        let folder = folder(&[
            ("a.safetensors", written(&first)),
            ("b.safetensors", written(&second)),
            ("model.safetensors.index.json", index.into_bytes()),
        ]);
        TensorFolder::open(folder.path()).map(|opened| opened.tensors().count())
    };
    let index = |map: serde_json::Map<String, Value>| json!({ "weight_map": map }).to_string();
    assert_eq!(opened(index(map())).unwrap(), whole().len());
    let mut missing = map();
    missing.remove(TABLE);
    let mut more = map();
    more.insert("z".into(), json!("a.safetensors"));
    let mut elsewhere = map();
    let other = if first.contains_key(TABLE) { "b" } else { "a" };
    elsewhere.insert(TABLE.into(), json!(format!("{other}.safetensors")));
    let named = |file: &str| {
        let mut map = map();
        map.insert("z".into(), json!(file));
        index(map)
    };
    let doubled = format!(
        r#"{{"weight_map": {{"x": "a.safetensors", "x": "b.safetensors", {}"#,
        &index(map())[15..]
    );
    for (index, says) in [
        (index(missing), "has not"),
        (index(more), "which has not"),
        (index(elsewhere), "has in"),
        (named("../a.safetensors"), "no name of a safetensors file"),
        (named("/etc/a.safetensors"), "no name of a safetensors file"),
        (named("sub/a.safetensors"), "no name of a safetensors file"),
        (named("c:a.safetensors"), "no name of a safetensors file"),
        (named("..\\a.safetensors"), "no name of a safetensors file"),
        (named("a.bin"), "no name of a safetensors file"),
        (named(""), "no name of a safetensors file"),
        (named("none.safetensors"), "none.safetensors"),
        (doubled, "tensor x is there twice"),
        ("{}".into(), "weight_map"),
        ("[".into(), "line 1"),
    ] {
        let text = opened(index).unwrap_err().to_string();
        assert!(text.contains(says) && text.len() < 600, "{says}: {text}");
    }
}

#[test]
fn what_is_in_a_folder_is_found_or_said() {
    let bytes = written(&whole());
    for name in ["model.safetensors", "anything.safetensors"] {
        let folder = folder(&[(name, bytes.clone())]);
        TensorFolder::open(folder.path()).unwrap();
        TensorFolder::open(folder.path().join(name)).unwrap();
    }
    for (files, says) in [
        (vec![], "neither model.safetensors nor"),
        (
            vec![("pytorch_model.bin", vec![0])],
            "pytorch_model.bin, which may run code",
        ),
        (
            vec![("a.safetensors", vec![]), ("b.safetensors", vec![])],
            "2 files",
        ),
    ] {
        let folder = folder(&files);
        let text = TensorFolder::open(folder.path()).unwrap_err().to_string();
        assert!(text.contains(says), "{text}");
    }
    assert!(TensorFolder::open("/nowhere").is_err());
}
