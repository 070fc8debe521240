//! Promise: every epoch has every sample once, in an order that follows from seed and epoch alone;
//! what runs over its end goes on in the next one; a position that was saved is gone on from, also
//! with another size of mini-batch.

use brigade_layer::{Data, Random, StepId, Tensor};
use brigade_nn::{Array, Arrays, Batches, Dataset, Npy, Position};
use std::path::PathBuf;
use std::sync::Arc;

/// Sample i has the input [i, -i] and the target i.
fn dataset(len: usize) -> Arrays {
    let inputs = (0..len).flat_map(|i| [i as f32, -(i as f32)]).collect();
    let targets = (0..len as i32).collect();
    Arrays::new(
        Tensor::from_vec([len, 2], inputs).unwrap(),
        Tensor::from_vec([len], targets).unwrap(),
    )
    .unwrap()
}

/// The samples of steps in one row, as their targets say.
fn seen<D: Dataset>(data: &Batches<D>, steps: std::ops::Range<u64>) -> Vec<usize> {
    let of = |step| {
        let step = StepId::new(step);
        let rows = data.rows(step);
        let [targets] = data.targets(step, 0..rows).unwrap().take().unwrap();
        targets
            .i32()
            .unwrap()
            .iter()
            .map(|id| *id as usize)
            .collect::<Vec<_>>()
    };
    steps.flat_map(of).collect()
}

#[test]
fn every_epoch_is_a_permutation_whatever_the_sizes() {
    let random = Random::named(11, "sizes");
    for case in 0..60 {
        let len = 1 + random.below(case, 0, 90) as usize;
        let rows = 1 + random.below(case, 1, 40) as usize;
        let data = Batches::shuffled(dataset(len), rows, case).unwrap();
        let steps = (4 * len).div_ceil(rows) as u64;
        let all = seen(&data, 0..steps);
        let epochs: Vec<_> = all.chunks_exact(len).collect();
        assert!(epochs.len() >= 4);
        for (number, epoch) in epochs.iter().enumerate() {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert!(
                sorted.into_iter().eq(0..len),
                "{len} by {rows}, epoch {number}"
            );
            if len > 20 && number > 0 {
                assert_ne!(*epoch, epochs[number - 1], "{len} by {rows}");
            }
        }
        let begun = (0..steps).map(|step| data.epoch(step) as usize);
        assert!(begun.eq((0..steps as usize).map(|step| step * rows / len)));
        // In the order of their numbers.
        let data = Batches::sequential(dataset(len), rows).unwrap();
        let ordered = seen(&data, 0..steps);
        assert!(
            ordered
                .into_iter()
                .eq((0..steps as usize * rows).map(|at| at % len))
        );
    }
}

#[test]
fn rows_of_micro_batches_are_those_of_the_whole() {
    let data = Batches::shuffled(dataset(37), 12, 5).unwrap();
    let step = StepId::new(8);
    let [all] = data.inputs(step, 0..12).unwrap().take().unwrap();
    let [targets] = data.targets(step, 0..12).unwrap().take().unwrap();
    let pairs = all.f32().unwrap().chunks(2).zip(targets.i32().unwrap());
    for (input, target) in pairs {
        assert_eq!(input, [*target as f32, -*target as f32]);
    }
    for start in 0..12 {
        for end in start..=12 {
            // In any order, on another copy.
            let other = Batches::shuffled(Arc::new(dataset(37)), 12, 5).unwrap();
            let [some] = other.inputs(step, start..end).unwrap().take().unwrap();
            let wanted = all.rows(start..end).unwrap();
            assert_eq!(some.f32().unwrap(), wanted.f32().unwrap());
        }
    }
    assert!(data.inputs(step, 0..13).is_err());
    let other = Batches::shuffled(dataset(37), 12, 6).unwrap();
    assert_ne!(seen(&data, 0..3), seen(&other, 0..3));
}

#[test]
fn a_saved_position_is_gone_on_from() {
    let small = Batches::shuffled(dataset(50), 4, 9).unwrap();
    let whole = seen(&small, 0..60);
    let saved = serde_json::to_string(&small.position(7)).unwrap();
    assert_eq!(saved, r#"{"step":7,"samples":28}"#);
    let position: Position = serde_json::from_str(&saved).unwrap();
    for rows in [1, 4, 10, 33] {
        let data = Batches::shuffled(dataset(50), rows, 9)
            .unwrap()
            .starting_at(position);
        assert_eq!(data.position(7), position);
        let steps = 7 + 200u64.div_ceil(rows as u64);
        let rest = seen(&data, 7..steps);
        assert_eq!(rest[..200], whole[28..228], "{rows}");
        // And once more.
        let later = data.position(9);
        let third = Batches::shuffled(dataset(50), 4, 9)
            .unwrap()
            .starting_at(later);
        assert_eq!(seen(&third, 9..10), whole[28 + 2 * rows..][..4]);
        let error = data.inputs(StepId::new(6), 0..1).unwrap_err().to_string();
        assert!(error.contains("step 6 is before step 7"), "{error}");
    }
    // Far away nothing overflows.
    let far = Position {
        step: 0,
        samples: u64::MAX,
    };
    let data = Batches::shuffled(dataset(50), 4, 9)
        .unwrap()
        .starting_at(far);
    assert_eq!(seen(&data, u64::MAX - 1..u64::MAX).len(), 4);
}

#[test]
fn the_whole_is_every_sample_once() {
    let data = Batches::whole(dataset(9)).unwrap();
    assert!(seen(&data, 0..1).into_iter().eq(0..9));
    assert!(Batches::whole(dataset(0)).is_err());
    assert!(Batches::shuffled(dataset(3), 0, 1).is_err());
}

#[test]
fn arrays_in_files_and_in_memory_are_one_dataset() {
    let golden = |name: &str| {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/data");
        folder.join(name)
    };
    let files = Arrays::open_npy(golden("f4.npy"), golden("i8.npy")).unwrap();
    let memory = |name: &str| Npy::open(golden(name)).unwrap().tensor().unwrap();
    let tensors = Arrays::new(memory("f4.npy"), memory("i8.npy")).unwrap();
    let both: Vec<Array> = vec![
        Npy::open(golden("f4.npy")).unwrap().into(),
        memory("f4.npy").into(),
    ];
    let both = Arrays::several(both, Vec::new()).unwrap();
    let order = [1, 0, 2, 2];
    let [one] = files.inputs(&order).unwrap().take().unwrap();
    let [other] = tensors.inputs(&order).unwrap().take().unwrap();
    assert_eq!(one.f32().unwrap(), other.f32().unwrap());
    let [first, second] = both.inputs(&order).unwrap().take().unwrap();
    assert_eq!(first.f32().unwrap(), second.f32().unwrap());
    let [one] = files.targets(&order).unwrap().take().unwrap();
    let [other] = tensors.targets(&order).unwrap().take().unwrap();
    assert_eq!(one.i32().unwrap(), other.i32().unwrap());
    assert!(both.targets(&order).unwrap().is_empty());
    assert!(tensors.inputs(&[3]).is_err() && files.inputs(&[3]).is_err());
    let uneven = Arrays::open_npy(golden("f4.npy"), golden("v2.npy")).unwrap_err();
    assert!(
        uneven.to_string().contains("3 rows and another 2"),
        "{uneven}"
    );
}
