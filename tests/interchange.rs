//! Promise: tensors of another library that do not fit are named, with both shapes and their file,
//! and nothing has changed then; what fits comes through as it is.
#![allow(missing_docs, clippy::unwrap_used)]

mod foreign;

use brigade::interchange::{Export, FloatType, TensorFolder, export, import};
use brigade::layer::MappedFile;
use brigade::nn::{AdamW, Decoder, Gpt};
use brigade::{Config, Error, TensorError, Trainer};
use foreign::{TABLE, Tensors, names, single, trainer};
use half::f16;
use std::fs;
use std::path::Path;

fn loaded(trainer: &mut Trainer, folder: &Path) -> Result<(), Error> {
    trainer.load_tensors(&TensorFolder::open(folder)?, &names())
}

fn refused(trainer: &mut Trainer, change: impl FnOnce(&mut Tensors)) -> (TensorError, String) {
    let folder = single(change);
    match loaded(trainer, folder.path()).unwrap_err() {
        Error::Tensor(error) => (*error.clone(), error.to_string()),
        other => panic!("{other}"),
    }
}

const FC: &str = "transformer.h.0.mlp.c_fc.weight";
const HEAD: &str = "lm_head.weight";

#[test]
fn what_does_not_fit_is_named_and_changes_nothing() {
    let mut trainer = trainer();
    let before = trainer.weights_sha256().unwrap();
    let (error, text) = refused(&mut trainer, |all| drop(all.remove(FC)));
    assert!(
        matches!(&error, TensorError::Missing { tensor, .. } if tensor == FC),
        "{text}"
    );
    let (error, text) = refused(&mut trainer, |all| {
        let other = all[FC].clone();
        all.insert("transformer.h.1.x".into(), other);
    });
    assert!(matches!(error, TensorError::Extra { .. }), "{text}");
    assert!(
        text.contains("model.safetensors") && text.contains("transformer.h.1.x"),
        "{text}"
    );
    let (error, text) = refused(&mut trainer, |all| {
        // As we have it ourselves.
        all.get_mut(FC).unwrap().1.reverse();
    });
    let TensorError::Shape {
        found,
        wanted,
        path,
        ..
    } = error
    else {
        panic!("{text}");
    };
    assert_eq!((found, wanted), (vec![6, 4], vec![4, 6]));
    assert!(
        path.ends_with("model.safetensors") && text.contains("shape [6, 4]"),
        "{text}"
    );
    let (error, text) = refused(&mut trainer, |all| {
        all.get_mut(FC).unwrap().0 = "I32".into()
    });
    assert!(
        matches!(&error, TensorError::DType { found, .. } if found == "I32"),
        "{text}"
    );
    let (error, text) = refused(&mut trainer, |all| {
        let mut head = all[TABLE].clone();
        head.2[5] ^= 1;
        all.insert(HEAD.into(), head);
    });
    assert!(
        matches!(&error, TensorError::Differs { tensor, .. } if tensor == HEAD),
        "{text}"
    );
    let (error, text) = refused(&mut trainer, |all| {
        let other = all[FC].clone();
        all.insert(FC.trim_start_matches("transformer.").into(), other);
    });
    assert!(matches!(error, TensorError::Damaged { .. }), "{text}");
    assert!(text.contains("both"), "{text}");
    assert_eq!(trainer.weights_sha256().unwrap(), before);
}

#[test]
fn what_is_superfluous_or_called_otherwise_does_no_harm() {
    let mut trainer = trainer();
    loaded(&mut trainer, single(|_| {}).path()).unwrap();
    let wanted = trainer.weights_sha256().unwrap();
    let same: [fn(&mut Tensors); 5] = [
        // Of other elements.
        |all| {
            let mut head = all[TABLE].clone();
            let numbers = head.2.as_chunks::<4>().0.iter();
            let numbers = numbers.map(|number| f16::from_f32(f32::from_le_bytes(*number)));
            head.2 = numbers.flat_map(f16::to_le_bytes).collect();
            head.0 = "F16".into();
            all.insert(HEAD.into(), head);
        },
        |all| {
            let table = all[TABLE].clone();
            all.insert(HEAD.into(), table);
        },
        // Only as the head.
        |all| {
            let table = all.remove(TABLE).unwrap();
            all.insert(HEAD.into(), table);
        },
        |all| {
            let mask = ("BOOL".to_owned(), vec![1, 1, 4, 4], vec![1; 16]);
            all.insert("transformer.h.0.attn.bias".into(), mask);
        },
        |all| {
            let bare = |name: &String| name.trim_start_matches("transformer.").to_owned();
            *all = all
                .iter()
                .map(|(name, tensor)| (bare(name), tensor.clone()))
                .collect();
        },
    ];
    for change in same {
        let folder = single(change);
        let mut other = self::trainer();
        loaded(&mut other, folder.path()).unwrap();
        assert_eq!(other.weights_sha256().unwrap(), wanted);
    }
}

#[test]
fn what_is_finite_does_not_become_infinite() {
    let mut trainer = trainer();
    let large = single(|all| {
        let bytes = &mut all.get_mut(FC).unwrap().2[8..12];
        bytes.copy_from_slice(&1e6f32.to_le_bytes());
    });
    loaded(&mut trainer, large.path()).unwrap();
    let to = tempfile::tempdir().unwrap();
    let own = to.path().join("own.safetensors");
    trainer.save_weights(&own).unwrap();
    let from = TensorFolder::open(&own).unwrap();
    let network = foreign::decoder().network().unwrap();
    let exported = |float| {
        let how = Export::default().float(float).shard_bytes(1);
        export(&from, (&names(), &network), to.path().join("there"), &how)
    };
    let error = exported(FloatType::F16).unwrap_err();
    let text = error.to_string();
    let Error::Tensor(error) = error else {
        panic!("{text}");
    };
    assert!(
        matches!(&*error, TensorError::TooLarge { tensor, .. } if tensor == "h.0.mlp.c_fc.weight"),
        "{text}"
    );
    assert!(
        text.contains("1000000") && text.contains("write bf16 or f32"),
        "{text}"
    );
    // Nothing is left in the way of the next try.
    exported(FloatType::BF16).unwrap();
}

/// Matrices that take several pieces and stripes come through as small ones do.
#[test]
fn large_matrices_are_transposed_as_they_are_everywhere() {
    let gpt = Gpt {
        vocab: 3,
        context: 4,
        width: 1200,
        heads: 2,
        blocks: 1,
        inner: Some(1100),
        ..Gpt::default()
    };
    let decoder = Decoder::from(gpt);
    let (network, names) = (
        decoder.network().unwrap(),
        decoder.hugging_face_names().unwrap(),
    );
    let config = Config {
        batch_size: 1,
        micro_batch_size: 1,
        ..Config::default()
    };
    let to = tempfile::tempdir().unwrap();
    let [own, there, again] =
        ["own.safetensors", "there", "again.safetensors"].map(|name| to.path().join(name));
    let mut trainer = Trainer::start(&network, &config, AdamW::new(1e-3)).unwrap();
    trainer.save_weights(&own).unwrap();
    let weights = trainer.weights().unwrap();
    for float in FloatType::ALL {
        let _ = fs::remove_dir_all(&there);
        let from = TensorFolder::open(&own).unwrap();
        export(
            &from,
            (&names, &network),
            &there,
            &Export::default().float(float),
        )
        .unwrap();
        let folder = TensorFolder::open(&there).unwrap();
        if float == FloatType::F32 {
            let map = MappedFile::open(there.join("model.safetensors")).unwrap();
            let file = safetensors::SafeTensors::deserialize(map.bytes()).unwrap();
            let found = file.tensor("transformer.h.0.attn.c_attn.weight").unwrap();
            let own = weights.get("h.0.attn.c_attn.weight").unwrap();
            assert_eq!(
                (own.shape.as_slice(), found.shape()),
                (&[3600, 1200][..], &[1200, 3600][..])
            );
            for (at, number) in found.data().as_chunks::<4>().0.iter().enumerate() {
                let (row, column) = (at / 3600, at % 3600);
                assert_eq!(f32::from_le_bytes(*number), own.values[column * 1200 + row]);
            }
        }
        import(&folder, &names, &network, &again).unwrap();
        let exact = fs::read(&own).unwrap() == fs::read(&again).unwrap();
        assert_eq!(exact, float == FloatType::F32);
        // What was rounded once stays.
        trainer.load_tensors(&folder, &names).unwrap();
        let saved = to.path().join("saved.safetensors");
        trainer.save_weights(&saved).unwrap();
        assert!(fs::read(&saved).unwrap() == fs::read(&again).unwrap());
    }
}
