//! Promise: nothing lost. A run that goes on from a checkpoint is bit for bit the run that was
//! never interrupted, whatever pipeline saved it and whatever pipeline goes on.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::layer::{Data, Network};
use brigade::nn::{Gpt, Sgd};
use brigade::{Checkpoint, Config, Cuts, Error, SaveTo, ScheduleKind, Trainer, Transport};
use common::*;
use std::path::Path;

/// Twenty layers: enough for eight nodes with two stages each.
fn network() -> (Network, Tokens) {
    let gpt = Gpt {
        vocab: 29,
        context: 4,
        width: 8,
        heads: 2,
        blocks: 8,
        tied: true,
        biases: true,
        dropout: 0.1,
        ..Gpt::default()
    };
    let data = Tokens {
        rows: 16,
        context: 4,
        vocab: 29,
    };
    (gpt.network().unwrap(), data)
}

fn on(nodes: usize, schedule: ScheduleKind) -> Config {
    Config {
        batch_size: 16,
        micro_batch_size: 2,
        saving_bytes: 1 << 10,
        ..with(nodes, schedule, Cuts::Balanced, 1)
    }
}

/// Every schedule on every number of nodes that it can order.
fn pipelines(network: &Network) -> Vec<Config> {
    let all = ScheduleKind::ALL.into_iter();
    let all = all.flat_map(|kind| [1, 2, 3, 4, 8].map(|nodes| on(nodes, kind)));
    let all: Vec<_> = all.filter(|config| is_legal(network, config)).collect();
    assert!(all.len() > 40, "{}", all.len());
    all
}

fn steps<D: Data + Clone>(trainer: &mut Trainer, data: &D, count: usize) {
    for _ in 0..count {
        trainer.step(data).unwrap();
    }
}

/// Two steps, a checkpoint, two more steps: the weights then.
fn saved(network: &Network, data: &Tokens, config: &Config, to: &Path, beside: bool) -> String {
    let mut trainer = Trainer::start(network, config, adamw()).unwrap();
    steps(&mut trainer, data, 2);
    match beside {
        true => trainer.save_beside(to).unwrap(),
        false => drop(trainer.save(to).unwrap()),
    }
    steps(&mut trainer, data, 2);
    trainer.finish_saving().unwrap();
    trainer.weights_sha256().unwrap()
}

fn resumed(network: &Network, data: &Tokens, config: &Config, from: &Checkpoint) -> String {
    let mut trainer = Trainer::start(network, config, adamw()).unwrap();
    let resumed = trainer.resume(from).unwrap();
    assert_eq!((resumed.step, trainer.steps()), (2, 2));
    assert!(resumed.differs.is_empty(), "{resumed:?}");
    steps(&mut trainer, data, 2);
    trainer.weights_sha256().unwrap()
}

/// What a checkpoint holds, whoever wrote it: every tensor with its checksum, in layer order.
fn tensors(checkpoint: &Checkpoint) -> Vec<(String, Option<String>, String)> {
    let files = checkpoint.manifest().files.iter();
    let mut tensors: Vec<_> = files
        .flat_map(|file| &file.tensors)
        .map(|tensor| {
            (
                tensor.key.clone(),
                tensor.state.clone(),
                tensor.sha256.clone(),
            )
        })
        .collect();
    tensors.sort();
    tensors
}

#[test]
fn whatever_pipeline_saved_it_and_whatever_pipeline_goes_on() {
    let (network, data) = network();
    let folder = tempfile::tempdir().unwrap();
    let one = on(1, ScheduleKind::GPipe);
    let mut trainer = Trainer::start(&network, &one, adamw()).unwrap();
    steps(&mut trainer, &data, 4);
    let wanted = trainer.weights_sha256().unwrap();
    let (pipelines, mut checkpoints) = (pipelines(&network), Vec::<Checkpoint>::new());
    for (number, config) in pipelines.iter().enumerate() {
        let to = folder.path().join(number.to_string());
        let found = saved(&network, &data, config, &to, number % 2 == 0);
        assert_eq!(found, wanted, "saving changes nothing: {config:?}");
        let checkpoint = Checkpoint::open(to.join("step-2")).unwrap();
        checkpoint.verify().unwrap();
        assert_eq!(checkpoint.manifest().files.len(), config.nodes);
        if let Some(first) = checkpoints.first() {
            assert_eq!(tensors(&checkpoint), tensors(first), "{config:?}");
        }
        checkpoints.push(checkpoint);
    }
    for (from, saver) in checkpoints.iter().zip(&pipelines) {
        for config in &pipelines {
            let found = resumed(&network, &data, config, from);
            assert_eq!(found, wanted, "{saver:?}, then {config:?}");
        }
    }
}

/// Messages encoded as between machines, and a budget for copies of one tensor up to all.
#[test]
fn transport_and_budget_do_not_show() {
    let (network, data) = small_gpt();
    let folder = tempfile::tempdir().unwrap();
    let mut found = Vec::new();
    for (number, saving_bytes) in [0, 1, 3000, 1 << 30].into_iter().enumerate() {
        let transport = match number % 2 {
            0 => Transport::Local,
            _ => Transport::Encoded,
        };
        let config = Config {
            saving_bytes,
            transport,
            ..with(3, ScheduleKind::ZbH1, Cuts::Balanced, 1)
        };
        let to = folder.path().join(number.to_string());
        found.push(saved(&network, &data, &config, &to, true));
        let from = Checkpoint::newest(&to).unwrap().unwrap();
        found.push(resumed(&network, &data, &config, &from));
        from.verify().unwrap();
    }
    assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
}

#[test]
fn only_the_last_ones_are_kept() {
    let (network, data) = small_gpt();
    let folder = tempfile::tempdir().unwrap();
    let to = SaveTo::new(folder.path().join("a/b"))
        .keep(2)
        .note("data", "tokens");
    let config = with(2, ScheduleKind::OneFOneB, Cuts::Balanced, 1);
    let mut trainer = Trainer::start(&network, &config, adamw()).unwrap();
    assert_eq!(Checkpoint::list(&to.folder).unwrap(), []);
    for step in 1..=4 {
        trainer.step(&data).unwrap();
        let path = trainer.save(to.clone()).unwrap();
        assert_eq!(path, to.folder.join(format!("step-{step}")));
    }
    // The same step once more.
    trainer.save(to.clone()).unwrap();
    let list = Checkpoint::list(&to.folder).unwrap();
    let kept: Vec<_> = list.iter().map(|(step, _)| *step).collect();
    assert_eq!(kept, [3, 4]);
    let newest = Checkpoint::newest(&to.folder).unwrap().unwrap();
    assert_eq!(newest.manifest().notes["data"], "tokens");
    assert_eq!(
        newest.weights().unwrap().sha256(),
        trainer.weights_sha256().unwrap()
    );
    assert_eq!(
        newest.manifest().weights_sha256,
        trainer.weights_sha256().unwrap()
    );
    // Nobody else saves there meanwhile.
    let mut other = Trainer::start(&network, &config, adamw()).unwrap();
    let refused = other.save(to.clone()).unwrap_err();
    assert!(
        refused.to_string().contains("another run saves"),
        "{refused}"
    );
    let refused = Checkpoint::prune(&to.folder, 1).unwrap_err();
    assert!(
        refused.to_string().contains("another run saves"),
        "{refused}"
    );
    drop(trainer);
    other.save(to.clone()).unwrap();
    drop(other);
    assert_eq!(Checkpoint::prune(&to.folder, 1).unwrap().len(), 2);
    assert_eq!(Checkpoint::list(&to.folder).unwrap().len(), 1);
    let left = std::fs::read_dir(&to.folder).unwrap().count();
    assert_eq!(left, 2, "a checkpoint and the lock");
}

#[test]
fn what_does_not_fit_is_refused_with_what_differs() {
    let (network, data) = small_gpt();
    let folder = tempfile::tempdir().unwrap();
    let config = with(2, ScheduleKind::OneFOneB, Cuts::Balanced, 1);
    let mut trainer = Trainer::start(&network, &config, adamw()).unwrap();
    trainer.step(&data).unwrap();
    let path = trainer.save(folder.path()).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let gpt = small();
    let refused = |gpt: Gpt, wanted: &[&str]| {
        let network = gpt.network().unwrap();
        let mut trainer = Trainer::start(&network, &config, adamw()).unwrap();
        let before = trainer.weights_sha256().unwrap();
        let error = trainer.resume(&checkpoint).unwrap_err();
        assert!(matches!(error, Error::Resume { .. }), "{error:?}");
        let said = error.to_string();
        assert!(wanted.iter().all(|wanted| said.contains(wanted)), "{said}");
        assert!(said.contains(&path.display().to_string()), "{said}");
        assert_eq!(trainer.weights_sha256().unwrap(), before);
    };
    refused(
        Gpt {
            vocab: 30,
            ..gpt.clone()
        },
        &["wte.weight", "[29, 16]", "[30, 16]"],
    );
    refused(
        Gpt {
            blocks: 3,
            ..gpt.clone()
        },
        &["h.2", "is missing"],
    );
    refused(
        Gpt {
            heads: 4,
            ..gpt.clone()
        },
        &["h.0.attn", "heads: 2", "heads: 4"],
    );
    refused(
        Gpt {
            dropout: 0.2,
            ..gpt.clone()
        },
        &["0.1", "0.2"],
    );
    // Another optimizer, and one with other settings.
    let mut other = Trainer::start(&network, &config, Sgd::new(0.1)).unwrap();
    let error = other.resume(&checkpoint).unwrap_err().to_string();
    assert!(
        error.contains("first_moment") && error.contains("optimizer"),
        "{error}"
    );
    let seed = Config {
        seed: 8,
        clip: None,
        ..config
    };
    let mut other = Trainer::start(&network, &seed, adamw()).unwrap();
    let resumed = other.resume(&checkpoint).unwrap();
    let wanted = ["clip is none, it was 0.5", "seed is 8, it was 1"];
    assert_eq!(resumed.differs, wanted);
}

/// What is loaded while a checkpoint is being written is not in it.
#[test]
fn a_checkpoint_is_of_the_step_it_was_begun_after() {
    let (network, data) = small_gpt();
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        saving_bytes: 1,
        ..with(2, ScheduleKind::OneFOneB, Cuts::Balanced, 1)
    };
    let mut trainer = Trainer::start(&network, &config, adamw()).unwrap();
    let first = trainer.weights().unwrap();
    steps(&mut trainer, &data, 2);
    let wanted = trainer.weights_sha256().unwrap();
    trainer.save_beside(folder.path()).unwrap();
    trainer.evaluate(&data).unwrap();
    trainer.predict(&data).unwrap();
    trainer.load_weights(&first).unwrap();
    let report = trainer.step(&data).unwrap();
    let path = report.saved.unwrap().unwrap();
    let checkpoint = Checkpoint::open(path).unwrap();
    assert_eq!(checkpoint.manifest().step, 2);
    assert_eq!(checkpoint.manifest().weights_sha256, wanted);
    assert_eq!(checkpoint.weights().unwrap().sha256(), wanted);
}

/// State that a layer changes by itself, whenever it likes, is as it was after the step.
#[test]
fn state_that_is_not_trained_is_saved_as_it_was() {
    let network = chain_with(Toy {
        params: 2,
        counts: true,
        ..toy()
    });
    let data = numbers(13);
    let folder = tempfile::tempdir().unwrap();
    let mut found = Vec::new();
    for (nodes, saving_bytes) in [(1, 0), (1, 1), (3, 1), (5, 1 << 20)] {
        let config = Config {
            saving_bytes,
            ..with(nodes, ScheduleKind::OneFOneB, Cuts::Uniform, 1)
        };
        let to = folder.path().join(format!("{nodes}-{saving_bytes}"));
        let mut trainer = Trainer::start(&network, &config, adamw()).unwrap();
        steps(&mut trainer, &data, 2);
        trainer.save_beside(&*to).unwrap();
        steps(&mut trainer, &data, 2);
        trainer.finish_saving().unwrap();
        let newest = Checkpoint::newest(&to).unwrap().unwrap();
        let weights = newest.weights().unwrap();
        // Five micro-batches a step.
        assert_eq!(weights.get("toy.p0").unwrap().values, [11.0, 1.0, 1.0]);
        found.push(trainer.weights_sha256().unwrap());
        let mut other = Trainer::start(&network, &config, adamw()).unwrap();
        other.resume(&newest).unwrap();
        steps(&mut other, &data, 2);
        found.push(other.weights_sha256().unwrap());
    }
    assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
}

/// Whatever a killed run has left, the next one finds what is whole and removes the rest.
#[test]
fn a_checkpoint_that_was_to_give_way_is_not_lost() {
    let (network, data) = small_gpt();
    let folder = tempfile::tempdir().unwrap();
    let config = with(2, ScheduleKind::OneFOneB, Cuts::Balanced, 1);
    let at = |name: &str| folder.path().join(name);
    let mut trainer = Trainer::start(&network, &config, adamw()).unwrap();
    for _ in 0..2 {
        trainer.step(&data).unwrap();
        trainer.save(folder.path()).unwrap();
    }
    drop(trainer);
    // Killed between the two names, and while an old one and a new one were there.
    std::fs::rename(at("step-1"), at(".step-1.old")).unwrap();
    std::fs::create_dir(at(".step-1.part")).unwrap();
    std::fs::create_dir(at(".step-2.old")).unwrap();
    std::fs::create_dir(at(".step-9.gone")).unwrap();
    std::fs::write(at(".step-9.gone/node-0.safetensors"), "half").unwrap();
    let mut trainer = Trainer::start(&network, &config, adamw()).unwrap();
    let newest = Checkpoint::newest(folder.path()).unwrap().unwrap();
    trainer.resume(&newest).unwrap();
    trainer.save(folder.path()).unwrap();
    let list = Checkpoint::list(folder.path()).unwrap();
    let kept: Vec<_> = list.iter().map(|(step, _)| *step).collect();
    assert_eq!(kept, [1, 2]);
    for (_, path) in list {
        Checkpoint::open(path).unwrap().verify().unwrap();
    }
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 3, "two checkpoints and the lock");
}

/// Of two that follow each other the second is waited for, and the first one is told of, too.
#[test]
fn the_last_one_is_waited_for() {
    let (network, data) = small_gpt();
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        saving_bytes: 1,
        ..with(2, ScheduleKind::OneFOneB, Cuts::Balanced, 1)
    };
    let mut trainer = Trainer::start(&network, &config, adamw()).unwrap();
    let at = |name: &str| folder.path().join(name);
    trainer.save_beside(at("a")).unwrap();
    trainer.save_beside(at("b")).unwrap();
    assert_eq!(trainer.finish_saving().unwrap(), Some(at("b/step-0")));
    Checkpoint::open(at("b/step-0")).unwrap().verify().unwrap();
    let report = trainer.step(&data).unwrap();
    assert_eq!(report.saved.unwrap().unwrap(), at("a/step-0"));
    assert_eq!(trainer.finish_saving().unwrap(), None);
}
