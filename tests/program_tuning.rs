//! Promise: what the program is told to freeze or to train otherwise is so wherever it plans,
//! measures, trains, resumes or keeps settings.
#![cfg(feature = "cli")]
#![allow(missing_docs, clippy::unwrap_used)]

mod program;

use program::{SMALL, assert_fails, brigade, folder_with_text, lines, sha, text};
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const TUNED: &str = "--freeze embed,h.0.* --group *.bias:weight-decay=0,lr=2 \
                     --group lm_head.*:lr=0.1 --biases";

fn train(folder: &Path, more: &str) -> std::process::Output {
    let run = format!("train text.txt {SMALL} --steps 6 --json --eval-every 0 --sample 0 {more}");
    brigade(folder, &run)
}

fn weights(run: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(run.join("weights.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter();
    tensors
        .map(|(key, tensor)| (key, tensor.data().to_vec()))
        .collect()
}

#[test]
fn what_is_frozen_stays_and_groups_count_on_any_number_of_nodes() {
    let folder = folder_with_text();
    let path = folder.path();
    let one = sha(&train(path, &format!("{TUNED} --nodes 1 --out one")));
    for more in [
        "--nodes 2",
        "--nodes 4 --schedule zb-h1",
        "--nodes 2 --schedule zb-v",
    ] {
        assert_eq!(sha(&train(path, &format!("{TUNED} {more}"))), one, "{more}");
    }
    // The rates of groups count, in their order, and those of the frozen layers do not.
    let other = |tuned: &str| sha(&train(path, &format!("{tuned} --nodes 2")));
    assert_ne!(
        other(&TUNED.replace("lm_head.*:lr=0.1", "lm_head.*:lr=0.2")),
        one
    );
    let block = "--group h.1.*:lr=9";
    assert_ne!(
        other(&format!("{TUNED} {block}")),
        other(&TUNED.replace("--group *.bias", &format!("{block} --group *.bias")))
    );
    let shadowed = train(path, &format!("{TUNED} --group lm_*:lr=9"));
    assert_fails(&shadowed, "a shadowed group", 2, "group lm_* gets nothing");
    let still = train(
        path,
        &format!("{TUNED} --nodes 1 --lr 0 --min-lr 0 --out still"),
    );
    assert_ne!(sha(&still), one);
    let (before, after) = (weights(&path.join("still")), weights(&path.join("one")));
    for (key, values) in &before {
        let frozen = key.starts_with("h.0.") || key.starts_with("wte") || key.starts_with("wpe");
        assert_eq!(after[key] == *values, frozen, "{key}");
    }
}

#[test]
fn the_start_says_how_many_parameters_train() {
    let folder = folder_with_text();
    let of = |verb: &str, more: &str| {
        let run = format!("{verb} text.txt {SMALL} --nodes 2 {more}");
        let said = text(&brigade(folder.path(), &run));
        said.lines().next().unwrap().to_owned()
    };
    // A vocabulary of 256 by 16 and 8 positions are frozen, a head and two blocks are not.
    let (block, norm, head) = (12 * 16 * 16 + 2 * 16, 16, 256 * 16);
    let trained = 2 * block + norm + head;
    let all = trained + 264 * 16;
    for (verb, more) in [("train", "--steps 1"), ("plan", ""), ("profile", "")] {
        let frozen = of(verb, &format!("{more} --freeze embed"));
        let wanted = format!("A GPT of {all} parameters, of which {trained} train, on ");
        assert!(frozen.starts_with(&wanted), "{frozen}");
        let whole = of(verb, more);
        assert!(
            whole.starts_with(&format!("A GPT of {all} parameters on ")),
            "{whole}"
        );
    }
}

/// In a profile a frozen layer has no W and no update, and nothing below what trains an I.
#[test]
fn a_profile_measures_what_is_done() {
    let folder = folder_with_text();
    let run = format!("profile text.txt {SMALL} --nodes 2 --json --freeze embed,h.0.attn,h.1.*");
    let said = &lines(&brigade(folder.path(), &run))[0];
    let layers = said["sizes"][0]["layers"].as_array().unwrap();
    let of = |key: &str| {
        let layer = layers.iter().find(|layer| layer["key"] == key).unwrap();
        let times = ["forward_ms", "input_ms", "weight_ms", "update_ms"];
        times.map(|time| layer[time].as_f64().unwrap() > 0.0)
    };
    assert_eq!(of("embed"), [true, false, false, false]);
    assert_eq!(of("h.0.attn"), [true, false, false, false]);
    assert_eq!(of("h.0.mlp"), [true, true, true, true]);
    assert_eq!(of("h.1.attn"), [true, true, false, false]);
    assert_eq!(of("lm_head"), [true, true, true, true]);
    // A plan of the profile takes the same frozen layers, and a run takes the plan's.
    let run = |arguments: &str| brigade(folder.path(), &format!("{arguments} text.txt {SMALL}"));
    let freeze = "--freeze embed,h.0.attn,h.1.*";
    text(&run(&format!(
        "profile {freeze} --nodes 2 --out profile.json"
    )));
    let plan = format!("plan {freeze} --nodes 2 --profile profile.json --out plan.json");
    text(&run(&plan));
    let whole = run("plan --nodes 2 --profile profile.json");
    assert_fails(&whole, "a profile of other layers", 2, "measure again");
    let train = "train text.txt --layers 2 --width 16 --heads 2 --context 8 --plan plan.json \
                 --steps 2";
    text(&brigade(folder.path(), &format!("{train} {freeze}")));
    let whole = brigade(folder.path(), train);
    assert_fails(&whole, "a plan of other layers", 1, "of another network");
}

/// The configuration file of a run is that run again, and `brigade config` prints such a file.
#[test]
fn settings_are_kept_and_read_again() {
    let folder = folder_with_text();
    let path = folder.path();
    let first = sha(&train(path, &format!("{TUNED} --nodes 2 --out first")));
    let kept = fs::read_to_string(path.join("first/config.toml")).unwrap();
    assert!(kept.contains("freeze = \"embed,h.0.*\"\n"), "{kept}");
    let groups = "group = [\"*.bias:weight-decay=0,lr=2\", \"lm_head.*:lr=0.1\"]\n";
    assert!(kept.contains(groups), "{kept}");
    let again = "train --config first/config.toml --out again --json --nodes 2";
    assert_eq!(sha(&brigade(path, again)), first);
    // What is on the command line counts alone.
    let other = "train --config first/config.toml --out other --json --freeze none \
                 --group *:lr=0.5";
    assert_ne!(sha(&brigade(path, other)), first);
    let kept = fs::read_to_string(path.join("other/config.toml")).unwrap();
    assert!(kept.contains("freeze = \"none\"\n"), "{kept}");
    assert!(kept.contains("group = [\"*:lr=0.5\"]\n"), "{kept}");

    let printed = text(&brigade(path, &format!("config {TUNED}")));
    assert!(printed.contains("freeze = \"embed,h.0.*\"\n") && printed.contains(groups));
    let usual = text(&brigade(path, "config"));
    assert!(
        usual.contains("freeze = \"none\"\n") && usual.contains("# group =\n"),
        "{usual}"
    );
    // A file may have a list of layers and a single group.
    fs::write(
        path.join("run.toml"),
        "freeze = [\"embed\", \"ln_f\"]\ngroup = \"*:lr=2\"\n",
    )
    .unwrap();
    let read = text(&brigade(path, "config --config run.toml"));
    assert!(read.contains("freeze = \"embed,ln_f\"\n") && read.contains("group = [\"*:lr=2\"]\n"));
}

#[test]
fn a_tuned_run_goes_on_and_says_what_cannot() {
    let folder = folder_with_text();
    let path = folder.path();
    let whole = sha(&train(
        path,
        &format!("{TUNED} --nodes 1 --out whole --save-every 3 --keep 9"),
    ));
    let from = "train --resume whole/checkpoints/step-3 --json";
    let gone_on = brigade(path, &format!("{from} --nodes 4 --out more"));
    assert_eq!(sha(&gone_on), whole);
    let more = brigade(
        path,
        &format!("{from} --out less --freeze embed,h.0.*,h.1.attn"),
    );
    let resumed = &lines(&more)[0]["resumed"];
    let differs = resumed["differs"].to_string();
    assert!(
        differs.contains("h.1.attn, it was embed, h.0.attn, h.0.mlp"),
        "{differs}"
    );
    let fewer = brigade(path, &format!("{from} --out fewer --freeze embed"));
    let wanted = "h.0.ln_1.weight was not trained there";
    assert_fails(&fewer, "layers that train again", 1, wanted);
}

#[test]
fn layers_of_a_file_say_themselves_what_goes_backward() {
    let folder = folder_with_text();
    fs::write(folder.path().join("layers.json"), "{}").unwrap();
    let plan = "plan --layers-file layers.json --micro-batch-size 2";
    for option in ["--freeze embed", "--group *:lr=2"] {
        let output = brigade(folder.path(), &format!("{plan} {option}"));
        assert_fails(&output, option, 2, "--layers-file says itself");
    }
}

#[test]
fn what_is_not_there_is_named() {
    let folder = folder_with_text();
    for (options, wanted) in [
        (
            "--freeze h.9.*",
            "--freeze: no layer matches \"h.9.*\"; there are embed, h.0.attn",
        ),
        ("--freeze embed,,ln_f", "such as embed,h.0.*, or none"),
        (
            "--freeze lm_head --tied",
            "layers lm_head and embed share a parameter",
        ),
        ("--group h.0.*:speed=1", "there are lr, weight-decay"),
        ("--group h.0.*:lr=-1", "lr of group h.0.* is -1"),
        ("--group h.0.*:lr=x", "give a number"),
        (
            "--group x:lr=1",
            "--group: no parameter matches \"x\"; there are wte.weight",
        ),
        (
            "--freeze h.0.* --group h.0.*:lr=1",
            "parameters that are not trained",
        ),
    ] {
        for verb in ["train", "plan", "profile"] {
            let run = format!("{verb} text.txt {SMALL} --steps 1 {options}");
            assert_fails(&brigade(folder.path(), &run), options, 2, wanted);
        }
        let output = brigade(folder.path(), &format!("config {options}"));
        assert_fails(&output, options, 2, wanted);
    }
    // A long list of layers is cut short.
    let output = brigade(folder.path(), "config --layers 40 --freeze x");
    assert_fails(&output, "many layers", 2, ", ..");
    assert!(output.stderr.len() < 400);
}
