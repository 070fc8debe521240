//! Promise: what layers take is measured, survives a file, is scaled to other micro-batches, and is
//! only used for what it was measured of.
#![allow(missing_docs, clippy::unwrap_used)]

use brigade::ids::NodeId;
use brigade::layer::{Network, Precision};
use brigade::nn::{AdamW, Gpt, TokenWindows};
use brigade::profile::{Effort, Profile};
use brigade::{Config, Error, Plan, PlanError, Transport};
use std::fs;
use std::time::Duration;

fn gpt() -> (Network, TokenWindows) {
    let gpt = Gpt {
        context: 8,
        width: 16,
        blocks: 3,
        ..Gpt::default()
    };
    let tokens: Vec<i32> = (0..500).map(|n| n * 7 % 256).collect();
    let data = TokenWindows::random(tokens, 8, 8, 1).unwrap();
    (gpt.network().unwrap(), data)
}

fn config(nodes: usize) -> Config {
    Config {
        nodes,
        batch_size: 8,
        micro_batch_size: 4,
        ..Config::default()
    }
}

fn of_sizes(sizes: &[usize], config: &Config) -> Profile {
    let (network, data) = gpt();
    let optimizer = AdamW::new(1e-3);
    Profile::measure_sizes(&network, &data, config, &optimizer, sizes, Effort::Quick).unwrap()
}

#[test]
fn a_profile_covers_every_layer_and_simulates_a_plan() {
    let (network, data) = gpt();
    let optimizer = AdamW::new(1e-3);
    for threads in [1, 2] {
        let config = Config {
            threads_per_node: threads,
            ..config(3)
        };
        let effort = Effort::Quick;
        let profile = Profile::measure(&network, &data, &config, &optimizer, effort).unwrap();
        let [size] = &profile.sizes[..] else {
            panic!("one size was asked for");
        };
        let layers = &size.layers;
        assert_eq!((size.rows, layers.len()), (4, 10));
        assert_eq!(layers[1].time, layers[5].time, "of one kind");
        for layer in layers {
            assert!(layer.measured && layer.time.total() > Duration::ZERO);
        }
        // What is really held is what the descriptions say.
        let shapes = network.infer(4).unwrap();
        for (layer, shapes) in layers.iter().zip(&shapes) {
            let cost = shapes.cost;
            let key = &layer.key;
            assert_eq!(layer.output_bytes, shapes.output_bytes(), "{key}");
            assert!(layer.stash_bytes <= cost.stash_bytes, "{key}");
            assert!(layer.kept_bytes <= cost.kept_bytes, "{key}");
        }
        assert_eq!(layers[0].parameter_bytes, 4 * (256 + 8) * 16);
        let plan = Plan::new(&network, &config, &optimizer).unwrap();
        let timeline = profile.simulate(&plan).unwrap();
        assert_eq!(timeline.nodes.len(), 3);
        // Two micro-batches through every layer, however they overlap.
        let work = layers.iter().map(|layer| layer.time.total().as_secs_f64());
        let work = 2.0 * work.sum::<f64>();
        assert!(timeline.makespan >= work / 3.0 && (0.0..1.0).contains(&timeline.bubble()));
    }
}

#[test]
fn a_profile_survives_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profile.json");
    for transport in [Transport::Local, Transport::Encoded] {
        let config = Config {
            transport,
            ..config(2)
        };
        let mut profile = of_sizes(&[4, 1, 1], &config);
        let rows: Vec<_> = profile.sizes.iter().map(|size| size.rows).collect();
        assert_eq!(rows, [1, 4]);
        assert_eq!(
            profile.links.all.per_byte > 0.0,
            transport == Transport::Encoded
        );
        let link = profile.links.all;
        let unequal = (NodeId::new(0), NodeId::new(1), link);
        profile.links.unequal.push(unequal);
        profile.save(&path).unwrap();
        assert_eq!(Profile::load(&path).unwrap(), profile);
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().filter(|line| line.contains("\"forward_us\":"));
        assert_eq!(lines.count(), 20, "a layer a line");
    }
    let missing = Profile::load(folder.path().join("none.json")).unwrap_err();
    assert!(matches!(missing, Error::Read { .. }), "{missing}");
}

/// A small profile; its lines are numbered from 1.
const TEXT: &str = r#"{
  "brigade_profile": 1,
  "version": "0.1.0",
  "network": "abc",
  "measured_at": "2025-01-01 00:00 UTC",
  "machine": {"host": null, "cpu": "some", "cores": 2},
  "precision": "f32",
  "threads_per_node": 1,
  "links": {"latency_us": 3.5, "per_mib_us": 0},
  "sizes": [
    {
      "rows": 2,
      "message_bytes": [64],
      "layers": [
        {"key": "a", "measured": true, "forward_us": 1.5, "input_us": 1, "weight_us": 2,
         "update_us": 3, "parameter_bytes": 4, "stash_bytes": 5, "kept_bytes": 6, "output_bytes": 64},
        {"key": "b", "measured": true, "forward_us": 7, "input_us": 1, "weight_us": 2,
         "update_us": 3, "parameter_bytes": 4, "stash_bytes": 5, "kept_bytes": 6, "output_bytes": 4}
      ]
    }
  ]
}
"#;

#[test]
fn what_is_wrong_with_a_file_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profile.json");
    fs::write(&path, TEXT).unwrap();
    let profile = Profile::load(&path).unwrap();
    assert_eq!(
        profile.sizes[0].layers[0].time.forward,
        Duration::from_nanos(1500)
    );
    assert_eq!(profile.links.all.latency, 3.5e-6);

    let size = &TEXT[TEXT.find("    {\n").unwrap()..TEXT.find("\n  ]\n}").unwrap()];
    let twice = format!("{size},\n{size}");
    let others = format!(
        "{size},\n{}",
        size.replace("\"b\"", "\"c\"").replace(": 2,\n", ": 3,\n")
    );
    let second = &size[size.find(",\n        {").unwrap()..size.find("\n      ]").unwrap()];
    for (from, to, line, wanted) in [
        (
            "\"brigade_profile\": 1",
            "\"brigade_profile\": 2",
            2,
            "reads format 1",
        ),
        (
            "\"brigade_profile\": 1,",
            "",
            22,
            "missing field `brigade_profile`",
        ),
        ("\"abc\"", "7", 4, "invalid type: integer `7`"),
        ("\"cores\": 2", "\"cores\": -2", 6, "-2"),
        ("\"cores\"", "\"threads\"", 6, "unknown field `threads`"),
        ("\"f32\"", "\"f16\"", 7, "unknown variant `f16`"),
        (
            "\"threads_per_node\": 1",
            "\"threads_per_node\": 0",
            8,
            "whole number from 1",
        ),
        (
            "\"threads_per_node\": 1",
            "\"threads_per_node\": 1.5",
            8,
            "1.5; it must be",
        ),
        ("latency_us", "latency_ms", 9, "unknown field `latency_ms`"),
        (
            "3.5",
            "-3.5",
            9,
            "-3.5 microseconds; it must be between 0 and",
        ),
        ("\"rows\": 2", "\"rows\": 0", 12, "whole number from 1"),
        ("[64]", "[-64]", 13, "-64"),
        (
            "\"forward_us\": 1.5",
            "\"forward_us\": -1.5",
            15,
            "-1.5 microseconds",
        ),
        (
            "\"forward_us\": 1.5",
            "\"forward_us\": 1e999",
            15,
            "out of range",
        ),
        (
            "\"forward_us\": 1.5",
            "\"forward_us\": 1e300",
            15,
            "between 0 and",
        ),
        (
            "\"forward_us\": 1.5",
            "\"forward_us\": NaN",
            15,
            "expected value",
        ),
        (
            "\"forward_us\": 1.5",
            "\"forward_us\": null",
            15,
            "expected microseconds",
        ),
        (
            "\"forward_us\": 1.5, ",
            "",
            16,
            "missing field `forward_us`",
        ),
        (
            "\"forward_us\": 1.5",
            "\"forward_ms\": 1.5",
            15,
            "unknown field `forward_ms`",
        ),
        ("\"kept_bytes\": 6", "\"kept_bytes\": 6.5", 16, "6.5"),
        (
            "\"key\": \"b\"",
            "\"key\": \"a\"",
            18,
            "layer \"a\" is there twice",
        ),
        (size, &twice, 30, "micro-batches of 2 rows are there twice"),
        (
            size,
            &others,
            30,
            "other layers than for micro-batches of 2 rows",
        ),
        (size, "", 12, "no sizes"),
        (
            &size[size.find("        {").unwrap()..size.find("\n      ]").unwrap()],
            "",
            16,
            "no layers",
        ),
        (second, ",", 17, "trailing comma"),
        ("\n}\n", "\n", 21, "EOF"),
        ("\n}\n", "\n}\n}\n", 23, "trailing characters"),
        (TEXT, "[]", 1, "expected a profile"),
        (TEXT, "", 1, "EOF"),
    ] {
        fs::write(&path, TEXT.replacen(from, to, 1)).unwrap();
        let error = Profile::load(&path).unwrap_err();
        let said = error.to_string();
        let Error::Plan(PlanError::File { line: found, .. }) = error else {
            panic!("{to}: {said}");
        };
        assert_eq!(found, line, "{to}: {said}");
        assert!(said.contains(wanted), "{to}: {said}");
        assert!(
            said.contains(&format!("profile.json, line {line}, column")),
            "{said}"
        );
        assert!(!said.contains(" at line "), "{said}");
    }
    fs::write(&path, [b'{', 0xff]).unwrap();
    let said = Profile::load(&path).unwrap_err().to_string();
    assert!(
        said.contains("profile.json") && said.contains("UTF-8"),
        "{said}"
    );
}

#[test]
fn other_micro_batches_are_scaled() {
    let (network, _) = gpt();
    let mut profile = of_sizes(&[2, 4], &config(2));
    let us = Duration::from_micros;
    for (size, forward) in profile.sizes.iter_mut().zip([100, 160]) {
        for layer in &mut size.layers {
            layer.time.forward = us(forward);
        }
    }
    let forward = |profile: &Profile, rows: usize| -> Vec<Duration> {
        let size = profile.at(&network, rows).unwrap();
        assert_eq!((size.rows, size.layers.len()), (rows, 10));
        size.layers.iter().map(|layer| layer.time.forward).collect()
    };
    assert_eq!(forward(&profile, 2), [us(100); 10], "as measured");
    assert_eq!(forward(&profile, 3), [us(130); 10], "in between");
    // Operations of a GPT's layers grow with the rows; so do layers that say none.
    assert_eq!(forward(&profile, 8), [us(320); 10], "beyond");
    assert_eq!(forward(&profile, 1), [us(50); 10], "below");
    let [small, large] = [2, 8].map(|rows| profile.at(&network, rows).unwrap());
    for (small, large) in small.layers.iter().zip(&large.layers) {
        assert_eq!(large.parameter_bytes, small.parameter_bytes);
        assert!(small.measured && !large.measured);
    }
    assert_eq!(large.layers[0].output_bytes, 4 * 8 * 8 * 16);
    assert_eq!(large.message_bytes[0], 4 * 8 * 8 * 16);
    // A plan gets its own size.
    let config = Config {
        micro_batch_size: 3,
        ..config(2)
    };
    let plan = Plan::new(&network, &config, &AdamW::new(1e-3)).unwrap();
    let times = profile.times(&plan);
    let sum: f64 = times.forward.iter().sum();
    assert!((sum - 10.0 * 130e-6).abs() < 1e-9, "{sum}");
    assert_eq!(profile.sized(&network, 3).unwrap().times(&plan), times);
}

#[test]
fn another_network_precision_or_number_of_threads_is_refused() {
    let (network, data) = gpt();
    let given = config(2);
    let optimizer = AdamW::new(1e-3);
    let profile = Profile::measure(&network, &data, &given, &optimizer, Effort::Quick).unwrap();
    profile.check(&network, &given).unwrap();
    // Nodes and micro-batches are free.
    profile
        .check(
            &network,
            &Config {
                micro_batch_size: 2,
                ..config(4)
            },
        )
        .unwrap();
    let bf16 = Config {
        precision: Precision::Bf16,
        ..given.clone()
    };
    let threads = Config {
        threads_per_node: 4,
        ..given.clone()
    };
    let other = Gpt {
        context: 8,
        width: 16,
        blocks: 2,
        ..Gpt::default()
    };
    let other = other.network().unwrap();
    let prefix = &profile.network[..];
    for (network, config, words) in [
        (&other, &given, ["of network", prefix]),
        (&network, &bf16, ["of precision f32", "of precision bf16"]),
        (
            &network,
            &threads,
            ["of threads per node 1", "of threads per node 4"],
        ),
    ] {
        let said = profile.check(network, config).unwrap_err().to_string();
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
}

#[test]
fn more_rows_than_there_are_cannot_be_measured() {
    let (network, data) = gpt();
    let optimizer = AdamW::new(1e-3);
    for sizes in [&[9][..], &[0], &[]] {
        let effort = Effort::Quick;
        let config = config(2);
        let profile = Profile::measure_sizes(&network, &data, &config, &optimizer, sizes, effort);
        assert!(profile.is_err(), "{sizes:?}");
    }
}
