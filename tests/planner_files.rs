//! Promise: files that describe layers and nodes are refused with the line of what is wrong.
#![allow(missing_docs, clippy::unwrap_used)]

use brigade::PlanError;
use brigade::planner::{LayersFile, NodeSpec};
use std::fs;

fn layers(text: impl AsRef<[u8]>) -> Result<LayersFile, PlanError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, text).unwrap();
    LayersFile::read(&file)
}

fn nodes(text: &str) -> Result<Vec<NodeSpec>, PlanError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, text).unwrap();
    NodeSpec::read_file(&file)
}

/// A layer with a field said otherwise, on three lines: name, times, bytes.
fn layer(name: &str, field: &str, value: &str) -> String {
    let mut text = format!(
        "{{\"name\": \"{name}\",\n\"forward\": 1, \"backward_input\": 2, \"backward_weight\": 3,\n\
         \"parameter_bytes\": 40, \"stash_bytes\": 50, \"output_bytes\": 60}}"
    );
    if let Some((before, after)) = text.split_once(&format!("\"{field}\": ")) {
        let rest = after.find([',', '}']).unwrap();
        text = format!("{before}\"{field}\": {value}{}", &after[rest..]);
    } else if !field.is_empty() {
        text = format!("{},\n\"{field}\": {value}}}", &text[..text.len() - 1]);
    }
    text
}

/// The layer to look at begins in line 4; after it there may be another.
fn list(second: &str) -> String {
    format!("[{},\n{second}]", layer("a", "", ""))
}

/// Refused at this line, in these words, which do not say the place again.
fn refused<T: std::fmt::Debug>(found: Result<T, PlanError>, wanted: usize, words: &str, of: &str) {
    let Err(error) = found else {
        panic!("{of} was read as {found:?}");
    };
    let shown = error.to_string();
    let PlanError::File {
        path,
        line,
        column,
        problem,
    } = error
    else {
        panic!("{of}: {shown}");
    };
    assert_eq!(line, wanted, "{of}: {shown}");
    assert!(problem.contains(words), "{of}: {shown}");
    assert!(!problem.contains(" at line "), "{shown}");
    assert_eq!(
        shown,
        format!("{path}, line {line}, column {column}: {problem}")
    );
    assert!(shown.len() < 500, "{of}: {shown}");
}

#[test]
fn a_bad_layer_is_refused_with_its_line() {
    for (field, value, line, words) in [
        ("forward", "-1", 5, "a time of -1; it must be between 0 and"),
        ("forward", "-0.001", 5, "between 0"),
        ("backward_input", "NaN", 5, "expected value"),
        (
            "backward_input",
            "\"NaN\"",
            5,
            "string \"NaN\", expected a time",
        ),
        ("backward_weight", "Infinity", 5, "expected value"),
        ("backward_weight", "1e999", 5, "out of range"),
        ("backward_weight", "1e300", 5, "a time of 1000"),
        ("backward_weight", "null", 5, "null, expected a time"),
        ("backward_weight", "\"1 ms\"", 5, "expected a time"),
        ("backward_weight", "[1]", 5, "sequence, expected a time"),
        (
            "backward_weight",
            "true",
            5,
            "boolean `true`, expected a time",
        ),
        (
            "backward_weight",
            "1,\n\n\"forward\": 2",
            7,
            "duplicate field `forward`",
        ),
        ("parameter_bytes", "-1", 6, "-1 bytes are below 0"),
        ("parameter_bytes", "0.5", 6, "no whole number"),
        (
            "parameter_bytes",
            "1000000000000000000000000000000",
            6,
            "more than 9007199254740992",
        ),
        ("parameter_bytes", "18446744073709551615", 6, "more than"),
        ("parameter_bytes", "\"9000 TiB\"", 6, "more than"),
        (
            "stash_bytes",
            "\"2 gigs\"",
            6,
            "KiB, MiB, GiB, TiB, kB, MB, GB or TB",
        ),
        ("stash_bytes", "\"\"", 6, "give bytes"),
        ("stash_bytes", "\"-1GiB\"", 6, "give bytes"),
        ("output_bytes", "null", 6, "null, expected bytes"),
        // The reader has gone on to another line when it leaves the object.
        ("output_bytes", "-5\n\n\n", 6, "below 0"),
        ("output_bytes", "{}", 6, "map, expected bytes"),
        ("kept_bytes", "-1", 7, "below 0"),
        ("working_bytes", "\"lots\"", 7, "\"lots\": give bytes"),
        ("update", "-1", 7, "a time of -1"),
        (
            "speed",
            "1",
            7,
            "unknown field `speed`, expected one of `name`, `forward`",
        ),
        ("Forward", "1", 7, "unknown field `Forward`"),
        ("name", "\"a\"", 4, "there is a \"a\" already"),
        ("name", "\"\"", 4, "empty name"),
        ("name", "7", 4, "integer `7`, expected a name"),
        ("name", "null", 4, "expected a name"),
        ("name", "\"open", 4, "control character"),
    ] {
        let text = list(&layer("b", field, value));
        refused(layers(&text), line, words, &text);
        let text = format!("{{\"unit\": \"ms\", \"layers\": {text}}}");
        refused(layers(&text), line, words, &text);
    }
}

#[test]
fn a_field_that_is_missing_is_named_where_the_layer_ends() {
    for field in [
        "forward",
        "backward_input",
        "backward_weight",
        "parameter_bytes",
        "stash_bytes",
        "output_bytes",
    ] {
        let whole = layer("b", "update", "1");
        let (before, after) = whole.split_once(&format!("\"{field}\": ")).unwrap();
        let rest = after.find(',').unwrap() + 1;
        let text = list(&format!("{before}{}", &after[rest..]));
        refused(
            layers(&text),
            7,
            &format!("layer \"b\" has no `{field}`"),
            &text,
        );
    }
    let text = list("{\n\"forward\": 1\n}");
    refused(layers(&text), 6, "this layer has no `name`", &text);
}

#[test]
fn what_is_no_list_of_layers_is_refused_with_its_line() {
    let [a, b] = ["a", "b"].map(|name| layer(name, "", ""));
    let deep = "[".repeat(100_000);
    for (text, line, words) in [
        ("", 1, "EOF"),
        ("\n\n", 2, "EOF"),
        ("layers: 3", 1, "expected value"),
        (
            "null",
            1,
            "null, expected a list of layers, or an object with \"layers\"",
        ),
        ("7", 1, "integer `7`, expected a list"),
        ("\"layers.json\"", 1, "expected a list"),
        ("[\n\n]", 3, "0 layers; give at least 2 layers"),
        (&format!("[{a}\n]"), 4, "1 layer; give at least 2"),
        ("{\n}", 2, "missing field `layers`"),
        ("{\"unit\": \"s\"\n}", 2, "missing field `layers`"),
        ("{\"layers\":\nnull}", 2, "null, expected a list of layers"),
        (
            &format!("{{\"layers\": [{a},{b}],\n\"unit\": \"min\"}}"),
            6,
            "s, ms, us or ns",
        ),
        (
            &format!("{{\"layers\": [{a},{b}],\n\"unit\":\n7}}"),
            7,
            "a unit of 7",
        ),
        (
            &format!("{{\"layers\": [{a},{b}],\n\"units\": \"s\"}}"),
            6,
            "unknown field `units`",
        ),
        ("{\"layers\": [],\n\"layers\": []}", 1, "0 layers"),
        ("[\n1, 2]", 2, "integer `1`, expected a layer"),
        ("[\nnull]", 2, "null, expected a layer"),
        ("[\n[]]", 2, "sequence, expected a layer"),
        (&format!("[{a},\n"), 3, "EOF"),
        (&format!("[{a},\n{b}"), 6, "EOF while parsing a list"),
        (&format!("[{a},\n{b}],"), 6, "trailing characters"),
        (&format!("[{a}\n{b}]"), 4, "expected `,` or `]`"),
        (&format!("[{a},{b},\n]"), 6, "trailing comma"),
        (&deep, 1, "expected a layer"),
    ] {
        refused(layers(text), line, words, &text[..text.len().min(600)]);
    }
    // Cut off anywhere, or damaged, it is refused or read, without a panic.
    let whole = fs::read("docs/examples/layers.json").unwrap();
    for end in 0..whole.trim_ascii_end().len() {
        let found = layers(&whole[..end]);
        assert!(
            matches!(
                found,
                Err(PlanError::File {
                    line: 1..,
                    column: 1..,
                    ..
                })
            ),
            "{end}"
        );
        let mut damaged = whole.clone();
        damaged[end] ^= 0x91;
        let _ = layers(&damaged);
    }
}

#[test]
fn a_file_that_cannot_be_read_has_no_line() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("none.json"), folder.path().to_owned()] {
        let error = LayersFile::read(&path).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{}: cannot be read", path.display())),
            "{error}"
        );
        assert!(NodeSpec::read_file(&path).is_err());
    }
    // Holes take no room.
    let large = folder.path().join("large.json");
    fs::File::create(&large).unwrap().set_len(1 << 40).unwrap();
    let error = NodeSpec::read_file(&large).unwrap_err().to_string();
    assert!(error.contains("longer than 268435456 bytes"), "{error}");
}

#[test]
fn sums_of_bytes_are_bounded_too() {
    let all: Vec<_> = (0..200)
        .map(|n| layer(&format!("{n}"), "parameter_bytes", "\"8192TiB\""))
        .collect();
    let text = format!("[{}]", all.join(",\n"));
    // 128 times 2^53 is 2^60: with the other bytes of the 128th that is too much.
    refused(
        layers(&text),
        3 * 128,
        "the most is 1152921504606846976",
        "many bytes",
    );
}

#[test]
fn bad_nodes_are_refused_with_their_line() {
    for (field, line, words) in [
        ("\"memory\": -1", 3, "-1 bytes are below 0"),
        ("\"memory\": \"80 gigs\"", 3, "MB, GB or TB"),
        ("\"memory\": null", 3, "null, expected bytes"),
        ("\"speed\": 0", 3, "a speed of 0; it must be between"),
        ("\"speed\": -1", 3, "a speed of -1"),
        ("\"speed\": 1e-300", 3, "between 0.000001 and 1000000"),
        ("\"speed\": \"fast\"", 3, "expected a speed"),
        (
            "\"bandwidth\": 0",
            3,
            "a bandwidth of 0; it must be above 0",
        ),
        ("\"bandwidth\": \"10 Gbps\"", 3, "Gbit/s or Tbit/s"),
        ("\"latency\": -1e-6", 3, "a latency of -0.000001 seconds"),
        ("\"latency\": \"5 min\"", 3, "s, ms, us or ns"),
        (
            "\"latency\": 1,\n\"latency\": 1",
            4,
            "duplicate field `latency`",
        ),
        (
            "\"cores\": 4",
            3,
            "unknown field `cores`, expected one of `name`",
        ),
        (
            "\"memory\": 1}, {\"speed\": 1\n",
            4,
            "this node has no `name`",
        ),
        (
            "\"memory\": 1}, {\"name\":\n\"b\"\n",
            4,
            "there is a \"b\" already",
        ),
    ] {
        let text = format!("[{{\"name\": \"a\"}},\n{{\"name\": \"b\",\n{field}}}]");
        refused(nodes(&text), line, words, &text);
    }
    refused(
        nodes("[\n]"),
        2,
        "0 nodes; give at least 1 node",
        "no nodes",
    );
    refused(
        nodes("{\"nodes\": [{\"name\": \"\"}]}"),
        1,
        "empty name",
        "no name",
    );
    refused(
        nodes("{\"unit\": \"s\"}"),
        1,
        "unknown field `unit`",
        "no unit",
    );
    let many: Vec<_> = (0..65_537)
        .map(|n| format!("{{\n\"name\": \"{n}\"}}"))
        .collect();
    let text = format!("[{}]", many.join(",\n"));
    refused(
        nodes(&text),
        2 * 65_536 + 1,
        "more than 65536 nodes",
        "many nodes",
    );
    let text = format!("[{}]", many[1..].join(",\n"));
    assert_eq!(nodes(&text).unwrap().len(), 65_536);
}
