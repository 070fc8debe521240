//! The other commands of the program: plan, config, generate, completions.
#![cfg(feature = "cli")]
#![allow(missing_docs, clippy::unwrap_used)]

mod program;

use program::{SMALL, assert_fails, brigade, folder_with_text, lines, sha, text};
use serde_json::Value;
use std::fs;

#[test]
fn a_plan_says_who_does_what_and_what_it_takes() {
    let folder = folder_with_text();
    let arguments = format!("plan text.txt {SMALL} --nodes 3");
    let said = text(&brigade(folder.path(), &arguments));
    for words in [
        "embed to",
        "loss",
        "B, ms",
        "MiB",
        "node 2 |",
        "ms a step",
        "bubble",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!folder.path().join("runs").exists(), "it trains nothing");

    let output = brigade(folder.path(), &format!("{arguments} --json"));
    let plan = &lines(&output)[0];
    let nodes = plan["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3);
    let layers = nodes
        .iter()
        .flat_map(|node| node["layers"].as_array().unwrap());
    assert_eq!(layers.count(), 8);
    for node in nodes {
        for figure in ["forward_ms", "backward_ms", "peak_bytes"] {
            assert!(node[figure].as_f64().unwrap() > 0.0, "{figure} of {node}");
        }
    }
    // The busiest node computes all its micro-batches one after the other.
    let busiest = nodes.iter().map(|node| {
        let ms = |name: &str| node[name].as_f64().unwrap();
        3.0 * (ms("forward_ms") + ms("backward_ms"))
    });
    assert!(plan["step_ms"].as_f64().unwrap() >= 0.999 * busiest.fold(0.0, f64::max));
    assert!((0.0..1.0).contains(&plan["bubble"].as_f64().unwrap()));
}

#[test]
fn a_profile_is_printed_and_planned_with() {
    let folder = folder_with_text();
    let arguments = format!("profile text.txt {SMALL} --nodes 2 --micro-batch-sizes 1,2");
    let said = text(&brigade(
        folder.path(),
        &format!("{arguments} --out profile.json"),
    ));
    for words in [
        "Measured now in",
        "Micro-batches of 1:",
        "Micro-batches of 2:",
        "GFLOP/s",
        "embed",
        "h.0.attn",
        "links:",
        "written to profile.json",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("h.1.attn"), "like h.0.attn: {said}");

    let output = brigade(folder.path(), &format!("{arguments} --json"));
    let profile = &lines(&output)[0];
    let sizes = profile["sizes"].as_array().unwrap();
    assert_eq!((sizes.len(), lines(&output).len()), (2, 1));
    for size in sizes {
        let layers = size["layers"].as_array().unwrap();
        let alike = layers.iter().map(|layer| layer["alike"].as_u64().unwrap());
        assert_eq!(alike.sum::<u64>(), 8);
        for layer in layers {
            assert!(layer["forward_ms"].as_f64().unwrap() > 0.0, "{layer}");
            assert_eq!(layer["measured"], true);
        }
    }

    // A plan of the same network with it: nothing is measured, so it is twice the same.
    let plan = format!("plan text.txt {SMALL} --nodes 3 --profile profile.json");
    let said = text(&brigade(folder.path(), &plan));
    let again = text(&brigade(folder.path(), &plan));
    assert!(said.contains("Times of profile.json, measured 2"), "{said}");
    assert_eq!(said, again);
    let planned = &lines(&brigade(folder.path(), &format!("{plan} --json")))[0];
    assert_eq!(planned["profile"]["file"], "profile.json");
    let now = text(&brigade(
        folder.path(),
        &format!("plan text.txt {SMALL} --nodes 3"),
    ));
    assert!(now.contains("Measured now in"), "{now}");
    // A size that was not measured is scaled.
    let scaled = format!("{plan} --micro-batch-size 3 --json");
    assert!(
        lines(&brigade(folder.path(), &scaled))[0]["step_ms"]
            .as_f64()
            .unwrap()
            > 0.0
    );

    for (more, wanted) in [
        ("--layers 3", "--profile is of network"),
        ("--precision bf16", "it must be of precision bf16"),
        ("--threads-per-node 2", "it must be of threads per node 2"),
    ] {
        let output = brigade(folder.path(), &format!("{plan} {more}"));
        assert_fails(&output, more, 2, wanted);
    }
    let broken = fs::read_to_string(folder.path().join("profile.json")).unwrap();
    let broken = broken.replacen("\"precision\"", "\"precisoin\"", 1);
    fs::write(folder.path().join("broken.json"), broken).unwrap();
    let plan = plan.replace("profile.json", "broken.json");
    let wanted = "broken.json, line 7, column";
    assert_fails(&brigade(folder.path(), &plan), "broken", 1, wanted);
}

/// What is printed is what is read: all options, and a file of them changes nothing.
#[test]
fn a_configuration_goes_round() {
    let folder = folder_with_text();
    let defaults = text(&brigade(folder.path(), "config"));
    fs::write(folder.path().join("run.toml"), &defaults).unwrap();
    let again = text(&brigade(folder.path(), "config --config run.toml"));
    assert_eq!(again, defaults);
    let options = |text: &str| -> Vec<String> {
        let name = |line: &str| {
            line.trim_start_matches("# ")
                .split(" =")
                .next()
                .map(str::to_owned)
        };
        text.lines()
            .filter(|line| line.contains(" ="))
            .filter_map(name)
            .collect()
    };
    for option in [
        "data",
        "layers",
        "min-lr",
        "out",
        "synthetic-vocab",
        "schedule",
    ] {
        assert!(options(&defaults).contains(&option.to_owned()), "{option}");
    }

    let given = "config --layers 3 --tied --lr 5e-4 --betas 0.8,0.9 --cuts 2,4 --out some/where";
    let changed = text(&brigade(folder.path(), given));
    fs::write(folder.path().join("run.toml"), &changed).unwrap();
    assert_eq!(
        text(&brigade(folder.path(), "config --config run.toml")),
        changed
    );
    let table: toml::Table = changed.parse().unwrap();
    assert_eq!(table["layers"].as_integer(), Some(3));
    assert_eq!(table["tied"].as_bool(), Some(true));
    assert_eq!(table["lr"].as_float(), Some(5e-4));
    assert_eq!(table["out"].as_str(), Some("some/where"));
}

#[test]
fn the_command_line_counts_more_than_the_file() {
    let folder = folder_with_text();
    fs::write(
        folder.path().join("run.toml"),
        "data = 'text.txt'\nlayers = 2\nwidth = 16\nheads = 2\ncontext = 8\nbatch_size = 6\n\
         tied = true\nbetas = [0.8, 0.9]\nsteps = 3\nout = 'from-file'\n",
    )
    .unwrap();
    let value = |more: &str, key: &str| -> Value {
        let said = text(&brigade(
            folder.path(),
            &format!("config --config run.toml {more}"),
        ));
        let table: toml::Table = said.parse().unwrap();
        serde_json::to_value(&table[key]).unwrap()
    };
    assert_eq!(value("", "data"), "text.txt");
    assert_eq!(value("other.txt", "data"), "other.txt");
    assert_eq!(value("", "batch-size"), 6);
    assert_eq!(value("--batch-size 12", "batch-size"), 12);
    assert_eq!(value("", "tied"), true);
    assert_eq!(value("--tied=false", "tied"), false);
    assert_eq!(value("", "betas"), "0.8,0.9");
    let from_file = brigade(folder.path(), "train --config run.toml --json");
    assert_eq!(lines(&from_file).len(), 4);
    assert!(folder.path().join("from-file/weights.safetensors").exists());
    // The same run again from what its folder says.
    let again = "train --config from-file/config.toml --out again --json --nodes 2";
    assert_eq!(sha(&brigade(folder.path(), again)), sha(&from_file));
}

#[test]
fn text_comes_from_a_run_and_does_not_depend_on_nodes() {
    let folder = folder_with_text();
    let train = format!("train text.txt {SMALL} --steps 60 --lr 1e-2 --sample 30");
    let trained = text(&brigade(folder.path(), &train));
    let generate = |arguments: &str| {
        let output = brigade(folder.path(), &format!("generate --tokens 30 {arguments}"));
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    };
    let newest = generate("");
    // Bytes that are no text are one character for each that might have become one.
    let said = String::from_utf8(newest.clone()).expect("only whole characters");
    let characters = said.chars().count();
    assert!(
        (20..=1 + 30 + 1).contains(&characters),
        "prompt, text, end of line: {said}"
    );
    // The sample at the end of the training is the same text.
    let sample = said.trim().to_owned();
    assert!(trained.contains(&sample), "{sample:?} in {trained}");
    for nodes in 1..=4 {
        assert_eq!(generate(&format!("runs/1 --nodes {nodes}")), newest);
    }
    assert_ne!(generate("--seed 2"), newest);
    let prompted = generate("--prompt line --temperature 0 --top-k 3");
    assert!(prompted.starts_with(b"line"));
    assert_eq!(prompted, generate("--prompt line --temperature 0 --seed 9"));

    let nucleus = generate("--top-p 0.6 --threads-per-node 2");
    assert_eq!(nucleus, generate("--top-p 0.6 --nodes 3"));
    let stopped = generate("--stop ne");
    let until = { newest.windows(2) }.skip(1).position(|two| two == b"ne");
    let until = until.map_or(newest.len() - 1, |at| 1 + at + 2);
    assert_eq!(stopped[..stopped.len() - 1], newest[..until]);

    // What programs read.
    let object: Value = serde_json::from_slice(&generate("--json --prompt line")).unwrap();
    let spoken = generate("--prompt line");
    let rest = String::from_utf8_lossy(&spoken[4..spoken.len() - 1]).into_owned();
    assert_eq!(
        (&object["prompt"], &object["text"]),
        (&"line".into(), &rest.into())
    );
    assert_eq!(object["tokens"].as_array().unwrap().len(), 30);
    assert_eq!(object["prompt_tokens"], 4);
    assert!(object["tokens_per_s"].as_f64().unwrap() > 0.0);

    // The weights of another network are refused with a reason.
    let other = format!("train text.txt {SMALL} --layers 1 --steps 1 --out other");
    text(&brigade(folder.path(), &other));
    let weights = "weights.safetensors";
    fs::copy(
        folder.path().join("other").join(weights),
        folder.path().join("runs/1").join(weights),
    )
    .unwrap();
    let output = brigade(folder.path(), "generate");
    program::assert_fails(&output, "other weights", 1, "is not of this run's network");
    fs::write(folder.path().join("runs/1").join(weights), "rubbish").unwrap();
    let output = brigade(folder.path(), "generate");
    program::assert_fails(
        &output,
        "rubbish",
        1,
        "cannot read runs/1/weights.safetensors",
    );
}

#[test]
fn shells_get_completions() {
    let folder = folder_with_text();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = text(&brigade(folder.path(), &format!("completions {shell}")));
        assert!(
            script.contains("brigade") && script.contains("micro-batch-size"),
            "{shell}"
        );
    }
}
