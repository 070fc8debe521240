//! `brigade train`, as a user would run it.
#![cfg(feature = "cli")]
#![allow(missing_docs, clippy::unwrap_used)]

mod program;

use program::{SMALL, brigade, command, folder_with_text, lines, sha, text};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs;

#[test]
fn json_is_one_object_a_line_and_a_summary() {
    let folder = folder_with_text();
    let output = brigade(
        folder.path(),
        &format!("train text.txt {SMALL} --steps 5 --nodes 2 --json"),
    );
    let lines = lines(&output);
    assert_eq!(lines.len(), 6);
    for (step, line) in lines[..5].iter().enumerate() {
        assert_eq!(line["step"], step);
        let keys: Vec<_> = line
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(keys, ["grad_norm", "loss", "lr", "step", "step_ms"]);
        assert!(
            line.as_object()
                .unwrap()
                .values()
                .all(|value| value.as_f64().is_some_and(f64::is_finite))
        );
    }
    let summary = lines[5]["summary"].as_object().unwrap();
    assert_eq!(summary["final_loss"], lines[4]["loss"]);
    assert!(summary["tokens_per_s"].as_f64().unwrap() > 0.0);
    assert!((1.0..8.0).contains(&summary["val_loss"].as_f64().unwrap()));
    assert_eq!(summary["weights_sha256"].as_str().unwrap().len(), 64);
}

#[test]
fn the_run_folder_has_plan_losses_and_weights_and_the_string_follows_from_them() {
    let folder = folder_with_text();
    let run = |out: &str, more: &str| {
        brigade(
            folder.path(),
            &format!(
                "train text.txt {SMALL} --tied --dropout 0.1 --steps 4 --out {out} --json {more}"
            ),
        )
    };
    let output = run("one", "--nodes 1");
    let plan: Value =
        serde_json::from_str(&fs::read_to_string(folder.path().join("one/plan.json")).unwrap())
            .unwrap();
    let losses = fs::read_to_string(folder.path().join("one/losses.csv")).unwrap();
    assert_eq!(
        losses.lines().next().unwrap(),
        "step,loss,grad_norm,lr,step_ms,val_loss"
    );
    assert_eq!(losses.lines().count(), 5);
    let file = fs::read(folder.path().join("one/weights.safetensors")).unwrap();

    // The plan names the layers in order; the parameters of each follow in the order in which it
    // names them.
    assert_eq!(plan["layers"][0], "embed");
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    let digest = |key: &str| Sha256::digest(tensors.tensor(key).unwrap().data());
    let mut all = Sha256::new();
    let block = |n: usize| {
        let keys = [
            "ln_1",
            "attn.c_attn",
            "attn.c_proj",
            "ln_2",
            "mlp.c_fc",
            "mlp.c_proj",
        ];
        keys.map(|key| format!("h.{n}.{key}.weight"))
    };
    let keys = ["wte.weight".to_owned(), "wpe.weight".to_owned()].into_iter();
    for key in keys
        .chain(block(0))
        .chain(block(1))
        .chain(["ln_f.weight".to_owned()])
    {
        all.update(digest(&key));
    }
    let string: String = all
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(string, sha(&output));

    for more in [
        "--nodes 4",
        "--nodes 3 --schedule gpipe",
        "--nodes 2 --cuts 1 --threads-per-node 2",
        "--nodes 8",
    ] {
        let other = run("other", more);
        assert_eq!(sha(&other), string, "{more}");
        assert_eq!(
            fs::read(folder.path().join("other/weights.safetensors")).unwrap(),
            file,
            "{more}"
        );
        let loss = |output: &std::process::Output| {
            lines(output).last().unwrap()["summary"]["val_loss"].clone()
        };
        assert_eq!(loss(&other), loss(&output), "{more}");
    }
    assert_ne!(sha(&run("seed", "--seed 2")), string);
}

#[test]
fn runs_are_numbered_unless_named() {
    let folder = folder_with_text();
    for number in ["runs/1", "runs/2"] {
        let output = brigade(folder.path(), &format!("train {SMALL} --steps 2"));
        let text = text(&output);
        assert!(
            folder
                .path()
                .join(number)
                .join("weights.safetensors")
                .exists()
        );
        assert!(
            text.contains("validation loss") && text.contains(number),
            "{text}"
        );
    }
    let measured = brigade(
        folder.path(),
        &format!("train --synthetic-vocab 100 {SMALL} --steps 2 --json"),
    );
    assert_eq!(lines(&measured).len(), 3);
    assert!(
        !folder.path().join("runs/3").exists(),
        "measuring leaves nothing"
    );
}

/// Git-ignored, hidden and non-text files do not change what is read.
#[test]
fn a_folder_is_its_text_files_in_order() {
    let (folder, out) = (folder_with_text(), tempfile::tempdir().unwrap());
    let run = || {
        sha(&brigade(
            folder.path(),
            &format!(
                "train . {SMALL} --steps 2 --nodes 2 --json --out {}",
                out.path().display()
            ),
        ))
    };
    let first = run();
    fs::create_dir(folder.path().join(".git")).unwrap();
    fs::write(folder.path().join(".gitignore"), "ignored/\n").unwrap();
    fs::create_dir(folder.path().join("ignored")).unwrap();
    fs::write(folder.path().join("ignored/more.txt"), "not read").unwrap();
    fs::write(folder.path().join(".hidden.txt"), "not read").unwrap();
    fs::write(folder.path().join("picture.bin"), [0u8, 1, 2, 255]).unwrap();
    fs::write(folder.path().join("latin1.txt"), [b'a', 0xe4, b'b']).unwrap();
    assert_eq!(run(), first);
    fs::write(folder.path().join("zzz.txt"), "read\n").unwrap();
    assert_ne!(run(), first);
}

/// A reader that goes away early ends the run after its step: no error, and nothing lost.
#[test]
fn a_closed_pipe_is_no_error() {
    use std::io::Read;
    let folder = folder_with_text();
    let arguments = format!("train text.txt {SMALL} --steps 1000000 --json");
    let mut child = command(folder.path(), &arguments).spawn().unwrap();
    let mut some = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let weights = folder.path().join("runs/1/weights.safetensors");
    assert!(brigade::Weights::load(weights).is_ok());
}

/// Validation on the way is in the step it followed, in the losses and in what people see.
#[test]
fn validation_every_so_many_steps() {
    let folder = folder_with_text();
    let arguments = format!("train text.txt {SMALL} --steps 7 --eval-every 3 --out run");
    let output = brigade(folder.path(), &format!("{arguments} --json"));
    let with: Vec<_> = lines(&output)
        .iter()
        .filter(|line| line["val_loss"].is_number())
        .map(|line| line["step"].as_u64().unwrap())
        .collect();
    assert_eq!(with, [2, 5]);
    let losses = fs::read_to_string(folder.path().join("run/losses.csv")).unwrap();
    let validated = losses.lines().skip(1).filter(|line| !line.ends_with(','));
    assert_eq!(validated.count(), 2);
    let said = text(&brigade(folder.path(), &arguments));
    assert_eq!(said.matches("  validation ").count(), 2, "{said}");
}

/// Validating, tracing and talking change no number.
#[test]
fn what_is_watched_changes_no_number() {
    let folder = folder_with_text();
    let run = |more: &str| {
        let arguments = format!("train text.txt {SMALL} --dropout 0.1 --steps 6 --json --out run");
        sha(&brigade(folder.path(), &format!("{arguments} {more}")))
    };
    let plain = run("--eval-every 0 --trace-steps 0");
    assert_eq!(
        run("--eval-every 1 --eval-windows 3 --trace-steps 6 -vvv"),
        plain
    );
}

/// The bubble as it was and as the simulator has it, and memory as it was and as predicted.
#[test]
fn the_summary_has_measured_beside_predicted() {
    let folder = folder_with_text();
    let output = brigade(
        folder.path(),
        &format!("train text.txt {SMALL} --steps 20 --nodes 2 --json --out run"),
    );
    let summary = program::summary(&output);
    for bubble in ["measured", "simulated"] {
        let share = summary["bubble"][bubble].as_f64().unwrap();
        assert!((0.0..1.0).contains(&share), "{summary}");
    }
    let bytes = |name: &str| -> Vec<u64> {
        let list = summary[name].as_array().unwrap();
        list.iter().map(|bytes| bytes.as_u64().unwrap()).collect()
    };
    let (peaks, predicted) = (bytes("peak_bytes"), bytes("predicted_peak_bytes"));
    assert_eq!((peaks.len(), predicted.len()), (2, 2));
    assert!(
        peaks
            .iter()
            .zip(&predicted)
            .all(|(peak, most)| peak <= most)
    );
    let said = text(&brigade(
        folder.path(),
        &format!("train text.txt {SMALL} --steps 20 --nodes 2 --sample 40 --out run"),
    ));
    for words in [
        "% measured in 5 traced steps",
        "% simulated",
        "peak memory",
        "A sample:",
    ] {
        assert!(said.contains(words), "{said}");
    }
}

/// Nothing of an earlier run stays in a folder that is used again.
#[test]
fn a_folder_that_is_used_again_has_one_run() {
    let folder = folder_with_text();
    let first = format!("train text.txt {SMALL} --steps 3 --out run");
    text(&brigade(folder.path(), &first));
    let second = format!("{first} --trace-steps 0 --lr 1e30 --warmup 0");
    assert_eq!(
        brigade(folder.path(), &second).status.code(),
        Some(1),
        "it diverges"
    );
    for left in ["weights.safetensors", "trace.json"] {
        assert!(!folder.path().join("run").join(left).exists(), "{left}");
    }
}

/// The newest run has the largest number, whatever was removed before it.
#[test]
fn a_new_run_has_a_larger_number_than_all_before() {
    let folder = folder_with_text();
    fs::create_dir_all(folder.path().join("runs/5")).unwrap();
    fs::create_dir_all(folder.path().join("runs/007")).unwrap();
    let said = text(&brigade(folder.path(), &format!("train {SMALL} --steps 2")));
    assert!(said.contains("runs/6 has"), "{said}");
    assert!(
        brigade(folder.path(), "generate --tokens 3")
            .status
            .success()
    );
}

/// Rows of every node add up to its step, and name the kernels.
#[test]
fn a_breakdown_says_where_a_steps_time_went() {
    let folder = folder_with_text();
    let arguments = format!("train text.txt {SMALL} --steps 4 --nodes 2 --breakdown");
    let output = brigade(folder.path(), &format!("{arguments} --json"));
    let lines = lines(&output);
    let breakdown = &lines[4]["breakdown"];
    assert!(breakdown["limits"]["product_flops"].as_f64().unwrap() > 1e6);
    let rows = breakdown["rows"].as_array().unwrap();
    let seconds = |node: u64| {
        let of_node = rows.iter().filter(|row| row["node"] == node);
        of_node
            .map(|row| row["seconds"].as_f64().unwrap())
            .sum::<f64>()
    };
    let ratio = seconds(0) / seconds(1);
    assert!(
        (0.9..1.1).contains(&ratio),
        "both have the same step: {ratio}"
    );
    for what in ["product y", "attention", "optimizer", "idle"] {
        assert!(rows.iter().any(|row| row["what"] == what), "{what}");
    }
    let text = text(&brigade(folder.path(), &arguments));
    assert!(text.contains("where a step's time went"), "{text}");
}

/// Both are part of the numbers, and neither lets the cut show.
#[test]
fn precision_and_wire_change_the_numbers_alike_on_any_number_of_nodes() {
    let folder = folder_with_text();
    let mut all = Vec::new();
    for more in ["", "--precision bf16", "--wire bf16"] {
        let of = |nodes: usize| {
            let arguments = format!("train text.txt {SMALL} --steps 3 --nodes {nodes} {more}");
            sha(&brigade(folder.path(), &format!("{arguments} --json")))
        };
        let (one, three) = (of(1), of(3));
        assert_eq!(one, three, "{more}");
        assert!(!all.contains(&one), "{more} changes nothing");
        all.push(one);
    }
}

/// With weights that are beyond repair after the first step, none of the others changes them: said
/// in lines, in JSON that parses, and in files as whole as ever.
#[test]
fn steps_without_numbers_are_skipped_if_one_asks_for_it() {
    let folder = folder_with_text();
    let file = "lr = 1e30\nwarmup = 0\nclip = 0\non_nonfinite = \"skip\"\n";
    fs::write(folder.path().join("skip.toml"), file).unwrap();
    let run = |more: &str| {
        let arguments = format!("train text.txt {SMALL} --config skip.toml --nodes 2 {more}");
        brigade(folder.path(), &arguments)
    };
    let all = lines(&run("--steps 5 --out five --json"));
    assert_eq!(all.len(), 6);
    assert!(all[0].get("skipped").is_none() && all[0]["loss"].is_number());
    for line in &all[1..5] {
        let why = line["skipped"].as_str().unwrap();
        assert!(
            why.contains("not finite") || why.contains("is NaN"),
            "{why}"
        );
        assert!(line["grad_norm"].is_null(), "{line}");
    }
    let summary = &all[5]["summary"];
    assert_eq!(
        (&summary["steps"], &summary["skipped_steps"]),
        (&5.into(), &4.into())
    );
    assert_eq!(summary["final_loss"], all[4]["loss"]);
    let losses = fs::read_to_string(folder.path().join("five/losses.csv")).unwrap();
    assert_eq!(losses.lines().count(), 6);
    assert!(
        losses.lines().all(|line| line.split(',').count() == 6),
        "{losses}"
    );
    assert!(folder.path().join("five/report.html").exists());
    let settings = fs::read_to_string(folder.path().join("five/config.toml")).unwrap();
    assert!(settings.contains("on-nonfinite = \"skip\""), "{settings}");

    let said = text(&run("--steps 5"));
    assert_eq!(said.matches("  skipped: the ").count(), 4, "{said}");
    assert!(said.contains("4 of 5 steps skipped"), "{said}");
    let one = lines(&run("--steps 1 --json"));
    assert_eq!(
        summary["weights_sha256"],
        one[1]["summary"]["weights_sha256"]
    );
    assert!(one[1]["summary"].get("skipped_steps").is_none());
}
