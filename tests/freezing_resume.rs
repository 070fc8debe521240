//! Promise: a checkpoint of a network with frozen layers goes on as if never interrupted; with
//! other layers frozen it goes on where it can, says what differs, or says what it lacks.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::layer::{KeyPattern, Network};
use brigade::nn::{Gpt, Group, Sgd};
use brigade::{Checkpoint, Config, Cuts, Error, ScheduleKind, Trainer};
use common::*;

fn gpt(frozen: &[&str]) -> Network {
    let network = Gpt {
        tied: false,
        ..small()
    };
    let keys: Vec<_> = frozen.iter().copied().map(KeyPattern::from).collect();
    network.network().unwrap().freeze_matching(&keys).unwrap()
}

const FROZEN: &[&str] = &["embed", "h.0.*", "h.1.mlp"];

fn on(nodes: usize, schedule: ScheduleKind) -> Config {
    Config {
        saving_bytes: 1 << 10,
        ..with(nodes, schedule, Cuts::Balanced, 1)
    }
}

fn steps(trainer: &mut Trainer, count: usize) {
    let (_, data) = small_gpt();
    for _ in 0..count {
        trainer.step(&data).unwrap();
    }
}

/// After two steps of a pipeline of two nodes, written while a third one is taken.
fn saved(network: &Network, folder: &std::path::Path) -> Checkpoint {
    let config = on(2, ScheduleKind::OneFOneB);
    let mut trainer = Trainer::start(network, &config, adamw()).unwrap();
    steps(&mut trainer, 2);
    trainer.save_beside(folder).unwrap();
    // It may be whole in the midst of this step, or after it.
    let path = match trainer.step(&small_gpt().1).unwrap().saved {
        Some(saved) => saved.unwrap(),
        None => trainer.finish_saving().unwrap().unwrap(),
    };
    Checkpoint::open(path).unwrap()
}

#[test]
fn the_same_layers_frozen_go_on_on_any_pipeline() {
    let network = gpt(FROZEN);
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = saved(&network, folder.path());
    // What is frozen is saved without optimizer state, and all of it.
    for (key, param) in network.params() {
        let files = checkpoint.manifest().files.iter();
        let tensors = files.flat_map(|file| &file.tensors);
        let own = tensors.filter(|tensor| tensor.key == key).count();
        assert_eq!(own, if param.trains { 3 } else { 1 }, "{key}");
    }
    let mut whole = Trainer::start(&network, &on(1, ScheduleKind::GPipe), adamw()).unwrap();
    steps(&mut whole, 4);
    let wanted = whole.weights_sha256().unwrap();
    for schedule in ScheduleKind::ALL {
        for nodes in [1, 2, 4] {
            let config = on(nodes, schedule);
            if !is_legal(&network, &config) {
                continue;
            }
            let mut trainer = Trainer::start(&network, &config, adamw()).unwrap();
            let resumed = trainer.resume(&checkpoint).unwrap();
            assert!(resumed.differs.is_empty(), "{resumed:?}");
            steps(&mut trainer, 2);
            let found = trainer.weights_sha256().unwrap();
            assert_eq!(found, wanted, "{nodes} nodes, {schedule}");
        }
    }
}

#[test]
fn more_layers_may_be_frozen_than_were() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = saved(&gpt(&["embed"]), folder.path());
    let network = gpt(FROZEN);
    let config = on(4, ScheduleKind::ZbH1);
    let mut trainer = Trainer::start(&network, &config, adamw()).unwrap();
    let resumed = trainer.resume(&checkpoint).unwrap();
    let said = "frozen is embed, h.0.attn, h.0.mlp, h.1.mlp, it was embed";
    assert_eq!(resumed.differs, [said]);
    let before = trainer.weights().unwrap();
    steps(&mut trainer, 1);
    let after = trainer.weights().unwrap();
    let params = network.params();
    let trained: u64 = { params.iter() }
        .filter(|(_, param)| param.trains)
        .map(|(_, param)| param.bytes())
        .sum();
    let held = trainer.report().unwrap();
    let state: u64 = held.iter().map(|node| node.params.state).sum();
    assert_eq!(state, 2 * trained, "dropped states take no room");
    for (key, param) in network.params() {
        let same = before.get(&key).unwrap() == after.get(&key).unwrap();
        assert_eq!(same, !param.trains, "{key}");
    }
}

#[test]
fn a_layer_that_was_frozen_has_no_state_to_train_with() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = saved(&gpt(FROZEN), folder.path());
    let config = on(1, ScheduleKind::GPipe);
    let mut trainer = Trainer::start(&gpt(&["embed"]), &config, adamw()).unwrap();
    let before = trainer.weights_sha256().unwrap();
    let Error::Resume { problem, .. } = trainer.resume(&checkpoint).unwrap_err() else {
        panic!("another error")
    };
    let said = [
        "h.0.ln_1.weight was not trained there",
        "first_moment",
        "freeze its layer",
    ];
    assert!(said.iter().all(|said| problem.contains(said)), "{problem}");
    assert_eq!(
        trainer.weights_sha256().unwrap(),
        before,
        "nothing has changed"
    );
    // Its weights alone are there for everybody.
    trainer
        .load_weights(&checkpoint.weights().unwrap())
        .unwrap();
    steps(&mut trainer, 1);
}

/// An optimizer that keeps nothing misses nothing.
#[test]
fn without_optimizer_state_any_layer_may_train_again() {
    let folder = tempfile::tempdir().unwrap();
    let config = on(2, ScheduleKind::GPipe);
    let mut trainer = Trainer::start(&gpt(FROZEN), &config, Sgd::new(0.1)).unwrap();
    steps(&mut trainer, 2);
    let path = trainer.save(folder.path()).unwrap();
    let checkpoint = Checkpoint::open(path).unwrap();
    let mut trainer = Trainer::start(&gpt(&[]), &config, Sgd::new(0.1)).unwrap();
    let resumed = trainer.resume(&checkpoint).unwrap();
    let said = "frozen is no layer, it was embed, h.0.attn, h.0.mlp, h.1.mlp";
    assert_eq!(resumed.differs, [said]);
    steps(&mut trainer, 1);
}

#[test]
fn other_groups_are_another_optimizer() {
    let folder = tempfile::tempdir().unwrap();
    let network = gpt(&["embed"]);
    let checkpoint = saved(&network, folder.path());
    let tuned = brigade::nn::AdamW {
        groups: vec![Group::of("h.*").lr(0.5)],
        ..adamw()
    };
    let config = on(1, ScheduleKind::GPipe);
    let mut trainer = Trainer::start(&network, &config, tuned).unwrap();
    let resumed = trainer.resume(&checkpoint).unwrap();
    assert_eq!(resumed.differs.len(), 1);
    assert!(resumed.differs[0].starts_with("optimizer is ") && resumed.differs[0].contains("h.*"));
}

/// Said before anything is trained, whoever made the plan.
#[test]
fn a_group_that_matches_nothing_is_refused() {
    let network = gpt(&["embed"]);
    let config = on(2, ScheduleKind::GPipe);
    let of = |keys: &str| brigade::nn::AdamW {
        groups: vec![Group::of(keys)],
        ..adamw()
    };
    let plan = brigade::Plan::new(&network, &config, &adamw()).unwrap();
    for (keys, said) in [
        (
            "h.7.*",
            "no parameter matches \"h.7.*\"; there are wte.weight, wpe.weight",
        ),
        (
            "w?e.weight",
            "group w?e.weight has only parameters that are not trained",
        ),
    ] {
        let refused = [
            Trainer::start(&network, &config, of(keys)).err().unwrap(),
            Trainer::start_with_plan(&network, &config, of(keys), plan.clone())
                .err()
                .unwrap(),
        ];
        for error in refused {
            assert!(
                matches!(error, Error::Plan(_)) && error.to_string().contains(said),
                "{error}"
            );
        }
    }
}
