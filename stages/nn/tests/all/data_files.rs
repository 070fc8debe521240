//! Promise: token files and arrays that NumPy wrote are read as they are; whatever else a file
//! holds is an error that names it and says what to do.

use brigade_layer::{Data, LayerError, StepId, Tensor};
use brigade_nn::{DataError, Npy, NpyHeader, NumberType, TokenWindows, Tokens};
use std::fs;
use std::path::PathBuf;

fn golden(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    folder.join("tests/goldens/data").join(name)
}

fn expected() -> Vec<i32> {
    (0..50).map(|i| (i * i + 7) % 300).collect()
}

/// The same tokens from everywhere.
fn all_tokens() -> Vec<Tokens> {
    vec![
        expected().into(),
        Tokens::open(golden("tokens_u16.bin"), NumberType::U16).unwrap(),
        Tokens::open(golden("tokens_u32.bin"), NumberType::U32).unwrap(),
        Tokens::open_npy(golden("tokens_u2.npy")).unwrap(),
        Tokens::open_npy(golden("tokens_i8.npy")).unwrap(),
    ]
}

fn numbers(tensors: brigade_layer::Tensors) -> Vec<i32> {
    let [tensor] = tensors.take().unwrap();
    tensor.i32().unwrap().to_vec()
}

#[test]
fn tokens_are_the_same_wherever_they_lie() {
    let step = StepId::new(0);
    let windows = Npy::open(golden("windows.npy")).unwrap();
    let random = |tokens: &Tokens| {
        let data = TokenWindows::random(tokens.clone(), 8, 20, 5).unwrap();
        let of = |step| (data.inputs(step, 0..20), data.targets(step, 0..20));
        let (inputs, targets) = of(StepId::new(3));
        (numbers(inputs.unwrap()), numbers(targets.unwrap()))
    };
    for tokens in all_tokens() {
        assert_eq!((tokens.len(), tokens.is_empty()), (50, false));
        assert_eq!(tokens.to_vec().unwrap(), expected());
        let some = tokens.slice(10..40).unwrap().slice(5..20).unwrap();
        assert_eq!(some.to_vec().unwrap(), &expected()[15..30]);
        assert!(some.slice(5..16).is_err());
        assert!(some.read(0..16, &mut Vec::new()).is_err());
        some.release(0..15);
        assert_eq!(some.to_vec().unwrap(), &expected()[15..30]);

        let data = TokenWindows::sequential(tokens.clone(), 8).unwrap();
        assert_eq!(data.rows(step), 7);
        for row in 0..7 {
            let both = windows.rows(&[row]).unwrap();
            let both = both.i32().unwrap();
            let (inputs, targets) = (
                data.inputs(step, row..row + 1),
                data.targets(step, row..row + 1),
            );
            assert_eq!(numbers(inputs.unwrap()), both[..8]);
            assert_eq!(numbers(targets.unwrap()), both[8..]);
        }
        assert_eq!(random(&tokens), random(&expected().into()));
    }
}

#[test]
fn a_token_outside_the_vocabulary_is_named_where_it_is_read() {
    // 13 * 13 + 7 = 176 is the first above 160.
    for (tokens, path) in all_tokens()
        .into_iter()
        .zip(["memory", "u16.bin", "u32.bin", "u2.npy", "i8.npy"])
    {
        let tokens = tokens.within(160);
        let mut before = Vec::new();
        tokens.read(0..13, &mut before).unwrap();
        let error = tokens.to_vec().unwrap_err();
        let DataError::Vocabulary {
            position,
            id,
            vocab,
            ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!((*position, *id, *vocab), (13, 176, 160));
        assert!(error.to_string().contains(path), "{error}");
        // Positions are those of the file.
        let later = tokens.slice(10..20).unwrap().to_vec().unwrap_err();
        assert_eq!(later, error);
        let data = TokenWindows::sequential(tokens, 8).unwrap();
        assert!(data.inputs(StepId::new(0), 0..1).is_ok());
        let error = data.inputs(StepId::new(0), 1..2).unwrap_err();
        assert!(error.to_string().contains("token 13 is 176"), "{error}");
    }
    let negative = Tokens::from(vec![1, -1]).within(5).to_vec().unwrap_err();
    assert!(negative.to_string().contains("token 1 is -1"), "{negative}");
}

#[test]
fn token_files_of_another_length_say_what_they_might_be() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("some.bin");
    for (bytes, number_type, wanted) in [
        (9, NumberType::U16, "cut off"),
        (10, NumberType::U32, "of u16 they would be"),
        (12, NumberType::I64, "of u16 or u32"),
    ] {
        fs::write(&file, vec![0; bytes]).unwrap();
        let error = Tokens::open(&file, number_type).unwrap_err();
        assert!(matches!(error, DataError::Length { .. }));
        let error = error.to_string();
        assert!(
            error.contains("some.bin has") && error.contains(wanted),
            "{error}"
        );
    }
    assert!(Tokens::open(&file, NumberType::F32).is_err());
    fs::write(&file, u32::MAX.to_le_bytes()).unwrap();
    let error = Tokens::open(&file, NumberType::U32)
        .unwrap()
        .to_vec()
        .unwrap_err();
    assert!(
        error.to_string().contains("token 0 is 4294967295"),
        "{error}"
    );
    fs::write(&file, []).unwrap();
    let empty = Tokens::open(&file, NumberType::U16).unwrap();
    assert!(empty.is_empty() && TokenWindows::sequential(empty, 4).is_err());
    assert!(Tokens::open(folder.path(), NumberType::U16).is_err());
    assert!(Tokens::open(folder.path().join("none"), NumberType::U16).is_err());
}

fn shape(tensor: &Tensor) -> Vec<usize> {
    tensor.shape().axes().to_vec()
}

#[test]
fn arrays_of_all_types_are_read_as_numpy_wrote_them() {
    for name in ["i1", "i2", "i4", "i8", "u1", "u2", "u4"] {
        let npy = Npy::open(golden(&format!("{name}.npy"))).unwrap();
        let less = if name.starts_with('i') { 28 } else { 0 };
        let wanted = [0, 1, 2, 3, 100, 127].map(|number| number - less);
        let all = npy.tensor().unwrap();
        assert_eq!(shape(&all), [3, 2], "{name}");
        assert_eq!(all.i32().unwrap(), wanted, "{name}");
        let some = npy.rows(&[2, 0, 2]).unwrap();
        assert_eq!(shape(&some), [3, 2]);
        let [a, b, .., c, d] = wanted;
        assert_eq!(some.i32().unwrap(), [c, d, a, b, c, d], "{name}");
    }
    for name in ["f4", "f8"] {
        let npy = Npy::open(golden(&format!("{name}.npy"))).unwrap();
        let wanted = [0.0f64, 1.0, 2.0, 3.0, 100.0, 127.0].map(|number| (number + 0.1) as f32);
        assert_eq!(npy.tensor().unwrap().f32().unwrap(), wanted, "{name}");
        assert_eq!(
            npy.rows(&[1]).unwrap().f32().unwrap(),
            &wanted[2..4],
            "{name}"
        );
    }
    for name in ["v2", "v3"] {
        let npy = Npy::open(golden(&format!("{name}.npy"))).unwrap();
        let row = npy.rows(&[1]).unwrap();
        assert_eq!(shape(&row), [1, 3, 4]);
        let wanted: Vec<_> = (12..24).map(|n| n as f32).collect();
        assert_eq!(row.f32().unwrap(), wanted, "{name}");
    }
    let scalar = Npy::open(golden("scalar.npy")).unwrap();
    assert_eq!(scalar.tensor().unwrap().f32().unwrap(), [1.5]);
    assert!(scalar.rows(&[0]).is_err());
    let empty = Npy::open(golden("empty.npy")).unwrap();
    assert_eq!(shape(&empty.tensor().unwrap()), [0, 3]);
    let error = empty.rows(&[0]).unwrap_err().to_string();
    assert!(error.contains("empty.npy: rows 0..1 of 0"), "{error}");
}

#[test]
fn arrays_that_are_not_read_say_how_to_save_them() {
    for (name, wanted) in [
        ("fortran", "save numpy.ascontiguousarray of it"),
        ("big_endian", ".astype('<i4')"),
        ("bool", ".astype('<f4')"),
        ("half", "\"<f2\""),
        ("structure", "save each field by itself"),
    ] {
        let error = Npy::open(golden(&format!("{name}.npy"))).unwrap_err();
        assert!(matches!(error, DataError::Array { .. }));
        let error = error.to_string();
        assert!(error.contains(name) && error.contains(wanted), "{error}");
    }
    for name in ["f4", "i4"] {
        let error = Tokens::open_npy(golden(&format!("{name}.npy"))).unwrap_err();
        assert!(
            error.to_string().contains(".ravel().astype('<u4')"),
            "{error}"
        );
    }
}

/// An NPY file of version 1 with this dictionary and so many bytes of numbers.
fn file(dictionary: &str, bytes: usize) -> Vec<u8> {
    let length = (dictionary.len() as u16).to_le_bytes();
    let begin = [b"\x93NUMPY\x01\x00", &length[..], dictionary.as_bytes()].concat();
    [begin, vec![0; bytes]].concat()
}

#[test]
fn hostile_headers_are_refused() {
    let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }";
    let header = NpyHeader::parse("it", &file(good, 8)).unwrap();
    assert_eq!((header.start, header.end()), (67, Some(75)));
    let huge = usize::MAX;
    for (dictionary, wanted) in [
        ("", "'{' should be".replace('\'', "")),
        ("{", "a text in quotes".into()),
        ("{}", "no shape".into()),
        ("{'shape': (2,)}", "no descr".into()),
        ("{'descr': '<f4', 'shape': (2,)}", "no fortran_order".into()),
        ("{'descr': '<f4', 'descr': '<f4'}", "descr twice".into()),
        ("{'more': 3}", "a key \"more\"".into()),
        (
            &good.replace("(2,)", &format!("({huge}, 2)")),
            "elements".into(),
        ),
        (
            &good.replace("(2,)", "(99999999999999999999,)"),
            "a size".into(),
        ),
        (&good.replace("(2,)", "(-1,)"), "a size".into()),
        (&good.replace("(2,)", "(1,1,1,1,1,1,1)"), "7 axes".into()),
        (&good.replace("(2,)", "((((((2))))))"), "a size".into()),
        (&good.replace("(2,)", "[2]"), "( should be".into()),
        (&good.replace("False", "0"), "True or False".into()),
        (&good.replace("<f4", ""), "type \"\"".into()),
        (&good.replace("<f4", "é4"), "type \"é4\"".into()),
        (&good.replace("'<f4'", "'<f4"), "should be".into()),
        (&format!("{good} 3"), "its end should be".into()),
        (&good.replace("(2,)", "(2,) (3,)"), "} should be".into()),
    ] {
        let error = NpyHeader::parse("it.npy", &file(dictionary, 8)).unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with("it.npy is no array"), "{error}");
        assert!(
            error.contains(&wanted),
            "{dictionary}: {error}, not {wanted}"
        );
        assert!(error.len() < 300, "{error}");
    }
    let whole = file(good, 8);
    for end in 0..67 {
        assert!(NpyHeader::parse("it", &whole[..end]).is_err(), "{end}");
    }
    for (at, byte, wanted) in [
        (0, 0, "does not begin with"),
        (6, 9, "version 9.0"),
        (7, 1, "version 1.1"),
        (9, 255, "the most is 10000"),
        (20, 255, "no text"),
    ] {
        let mut other = whole.clone();
        other[at] = byte;
        let error = NpyHeader::parse("it", &other).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    // A length of 4 GiB takes no memory.
    let long = [b"\x93NUMPY\x02\x00", &u32::MAX.to_le_bytes()[..]].concat();
    let error = NpyHeader::parse("it", &long).unwrap_err();
    assert!(error.to_string().contains("4294967295 bytes"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    for bytes in [0, 7, 9] {
        fs::write(&path, file(good, bytes)).unwrap();
        let error = Npy::open(&path).unwrap_err().to_string();
        assert!(error.contains("its header says [2] of f32"), "{error}");
    }
    fs::write(&path, []).unwrap();
    assert!(Npy::open(&path).is_err());
    let wide = good.replace("<f4", "<i8").replace("(2,)", "(1,)");
    fs::write(
        &path,
        [file(&wide, 0), i64::MIN.to_le_bytes().to_vec()].concat(),
    )
    .unwrap();
    let error = Npy::open(&path).unwrap().tensor().unwrap_err();
    assert!(
        matches!(&error, DataError::TooLarge { position: 0, .. }),
        "{error}"
    );
    let as_layer = LayerError::from(error).to_string();
    assert!(
        as_layer.contains("a.npy: number 0 is -9223372036854775808"),
        "{as_layer}"
    );
}
