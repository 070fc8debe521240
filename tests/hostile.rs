//! Promise: whatever comes from outside is read or refused, in little time and memory: never a
//! panic. What the fuzz targets of `tests/fuzz` look for at length is held here for what they and
//! their authors have found, and for the files they start from, damaged.
#![allow(missing_docs, clippy::unwrap_used)]

use brigade::checkpoint::NamedTensor;
use brigade::layer::{Network, Random};
use brigade::nn::{AdamW, Decoder, Gpt, IdxHeader, NpyHeader};
use brigade::outside::{header, index, message, tensors, word};
use brigade::planner::{LayersFile, NodeSpec, Planner, layout_string};
use brigade::profile::Profile;
use brigade::schedule::csv::{CsvSchedule, Dialect};
use brigade::{Config, Plan, PlanError, SavedPlan, Weights};
use std::path::{Path, PathBuf};
use std::{fs, str};

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let files = fs::read_dir(folder.join(target)).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let mut files: Vec<_> = files
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn of_corpus(target: &str, name: &str) -> Vec<u8> {
    let files = corpus(target).into_iter();
    let mut named = files.filter(|(path, _)| path.ends_with(name));
    named.next().unwrap().1
}

fn text_of(target: &str, name: &str) -> String {
    String::from_utf8(of_corpus(target, name)).unwrap()
}

/// The network of `corpus/plan`.
fn network() -> Network {
    let gpt = Gpt {
        vocab: 16,
        context: 4,
        width: 8,
        heads: 2,
        blocks: 2,
        ..Gpt::default()
    };
    gpt.network().unwrap()
}

/// Makes the plans of the corpus anew where `BRIGADE_BLESS` asks for it: after a change of what a
/// plan says.
fn bless() {
    if std::env::var_os("BRIGADE_BLESS").is_none() {
        return;
    }
    for (path, bytes) in corpus("plan") {
        let saved = SavedPlan::parse("plan.json", str::from_utf8(&bytes).unwrap()).unwrap();
        let config = saved.config(&Config::default());
        let plan = Plan::with_schedule(&network(), &config, &AdamW::new(1e-3), &saved);
        let mut plan = plan.unwrap();
        plan.predicted = saved.predicted();
        plan.save(path).unwrap();
    }
}

/// Reads a plan and plans it again.
fn planned(text: &str) -> Result<Plan, PlanError> {
    let saved = SavedPlan::parse("plan.json", text)?;
    let config = saved.config(&Config::default());
    saved.plan(&network(), &config, &AdamW::new(1e-3))
}

/// What reads the inputs of a fuzz target: whether it takes this one.
fn read(target: &str, bytes: &[u8]) -> bool {
    let text = str::from_utf8(bytes);
    match (target, text) {
        ("idx", _) => IdxHeader::parse("it", bytes).is_ok(),
        ("npy", _) => NpyHeader::parse("it", bytes).is_ok(),
        ("weights", _) => Weights::from_safetensors(bytes).is_ok(),
        ("wire", _) => match bytes.split_first() {
            Some((0, rest)) => message(rest).is_ok(),
            Some((1, rest)) => header(rest).is_ok(),
            Some((_, rest)) => word(rest).is_ok(),
            None => false,
        },
        ("interchange", _) => match bytes.split_first() {
            Some((b'0', rest)) => {
                str::from_utf8(rest).is_ok_and(|text| Decoder::from_hugging_face(text).is_ok())
            }
            Some((b'1', rest)) => index(rest).is_ok(),
            Some((b'2', rest)) => tensors(rest).is_ok(),
            _ => false,
        },
        (_, Err(_)) => false,
        #[cfg(feature = "cli")]
        ("config", Ok(text)) => brigade::outside::configuration("profile", text).is_ok(),
        ("plan", Ok(text)) => planned(text).is_ok(),
        ("profile", Ok(text)) => Profile::from_json(text).is_ok(),
        ("schedule_csv", Ok(text)) => CsvSchedule::parse("it", text, Dialect::Current).is_ok(),
        (_, Ok(text)) => {
            let mut parts = text.split("\n---\n");
            let mut next = || parts.next().unwrap_or_default();
            let (layers, nodes, layout) = (next(), next(), next());
            let _ = layout_string::cuts(layout, 1, 4, 2, 3);
            let read = LayersFile::parse("layers", layers).and_then(|layers| {
                let nodes = NodeSpec::parse_file("nodes", nodes)?;
                plan_described(&layers, nodes)
            });
            read.is_ok()
        }
    }
}

fn plan_described(layers: &LayersFile, nodes: Vec<NodeSpec>) -> Result<(), PlanError> {
    let config = Config {
        nodes: nodes.len(),
        ..Config::default()
    };
    let (network, profile) = (layers.network()?, layers.profile(&config)?);
    let optimizer = AdamW::new(1e-3);
    let planner = Planner::new(&network, &config, &optimizer, &profile)?;
    planner.nodes(nodes).plan().map(drop)
}

#[test]
fn damaged_files_are_read_or_refused() {
    bless();
    let targets = [
        "config",
        "idx",
        "interchange",
        "npy",
        "plan",
        "planner_files",
        "profile",
        "schedule_csv",
        "weights",
        "wire",
    ];
    let targets = targets
        .into_iter()
        .filter(|target| cfg!(feature = "cli") || *target != "config");
    for target in targets {
        let random = Random::named(7, "hostile");
        let (mut taken, mut all) = (0, 0);
        for (number, (path, whole)) in corpus(target).into_iter().enumerate() {
            let bad = path.file_stem().is_some_and(|name| name == "bad");
            let other = path.ends_with("year_2024.csv");
            assert_eq!(read(target, &whole), !bad && !other, "{}", path.display());
            for case in 0..400 {
                let below = |draw, most: usize| {
                    let at = (number * 1000 + case) as u64;
                    random.below(at, draw, most.max(1) as u64) as usize
                };
                let (at, mut damaged) = (below(0, whole.len()), whole.clone());
                match below(1, 4) {
                    0 => damaged.truncate(at),
                    1 => damaged[at] ^= 1 << below(2, 8),
                    2 => drop(damaged.remove(at)),
                    _ => damaged.insert(at, b"019-,[{\"\xff\n"[below(3, 10)]),
                }
                all += 1;
                taken += usize::from(read(target, &damaged));
            }
        }
        assert!((1..all).contains(&taken), "{target}: {taken} of {all}");
    }
}

#[test]
fn plans_of_other_sizes_than_a_configuration_may_have_are_refused() {
    let text = text_of("plan", "1f1b.json");
    planned(&text).unwrap();
    let with = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        planned(&text.replacen(from, to, 1))
            .unwrap_err()
            .to_string()
    };
    for (from, to, says) in [
        (
            "\"rows\": 3",
            "\"rows\": 1152921504606846976",
            "between 1 and 1073741824",
        ),
        ("\"rows\": 3", "\"rows\": 0", "batch_size is 0"),
        ("\"rows\": 3", "\"rows\": 1000000", "at least 16, for"),
        (
            "\"micro_rows\": 1",
            "\"micro_rows\": 0",
            "micro_batch_size is 0",
        ),
        ("\"micro_rows\": 1", "\"micro_rows\": 4", "between 1 and 3"),
    ] {
        let error = with(from, to);
        assert!(
            error.starts_with("plan.json: ") && error.contains(says),
            "{error}"
        );
    }
    let nodes = with(
        "\"node_of\": [\n        0,",
        "\"node_of\": [\n        4294967295,",
    );
    assert!(nodes.contains("nodes is 4294967296"), "{nodes}");
    let nodes = with(
        "\"nodes\": [\n        [",
        &format!("\"nodes\": [{}[", "[],".repeat(70_000)),
    );
    assert!(nodes.contains("a list of more than 65536"), "{nodes}");
    // A schedule of one's own may say so too.
    let config = Config {
        nodes: 2,
        batch_size: 3,
        micro_batch_size: 1,
        ..Config::default()
    };
    let saved = SavedPlan::parse("plan.json", &text).unwrap();
    let other = Config { nodes: 3, ..config };
    assert!(saved.plan(&network(), &other, &AdamW::new(1e-3)).is_err());
}

#[test]
fn weights_whose_sizes_no_number_holds_are_refused() {
    let of = |header: &str, data: usize| {
        let length = (header.len() as u64).to_le_bytes();
        Weights::from_safetensors(&[&length[..], header.as_bytes(), &vec![0; data]].concat())
    };
    let tensor = |name: u64, from: u64, to: u64| {
        let shape = (to - from) / 4;
        format!(
            "\"{name}\":{{\"dtype\":\"F32\",\"shape\":[{shape}],\"data_offsets\":[{from},{to}]}}"
        )
    };
    of(&format!("{{{}}}", tensor(0, 0, 8)), 8).unwrap();
    let each = (1 << 61) - 4;
    let eight: Vec<_> = (0..8)
        .map(|at| tensor(at, at * each, (at + 1) * each))
        .collect();
    let rest = tensor(8, 8 * each, 8 * each + 28);
    let error = of(&format!("{{{},{rest}}}", eight.join(",")), 8).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("its header says 18446744073709551615"),
        "{error}"
    );
    let error = of(&format!("{{{}}}", tensor(0, 0, 1 << 40)), 8).unwrap_err();
    assert!(
        error.to_string().contains("where its header says"),
        "{error}"
    );
    for bytes in [&[][..], &[255; 8], &[255, 255, 255, 5, 0, 0, 0, 0, b'{']] {
        assert!(Weights::from_safetensors(bytes).is_err());
    }
    let bits = |weights: &Weights| weights.params[0].values[0].to_bits();
    let nan = f32::from_bits(0x7fc0_1234);
    let weights = Weights::new(vec![NamedTensor::new("a", vec![1, 1], vec![nan])]);
    let again = Weights::from_safetensors(&weights.to_safetensors().unwrap()).unwrap();
    assert_eq!(bits(&again), bits(&weights));
}
