//! Promise: IDX files are read as they are, and whatever else a file holds is an error that names
//! it and says what to do; arrays of any kind become images in one way.

use brigade_layer::{LayerError, Tensor};
use brigade_nn::{
    Array, Arrays, DataError, Dataset, Idx, IdxHeader, ImageArray, Npy, NpyHeader, NumberType,
};
use std::fs;
use std::path::PathBuf;

fn golden(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    folder.join("tests/goldens/data").join(name)
}

#[test]
fn idx_files_of_all_types_have_the_numbers_of_the_same_arrays_of_numpy() {
    for (name, number_type) in [
        ("u1", NumberType::U8),
        ("i1", NumberType::I8),
        ("i2", NumberType::I16),
        ("i4", NumberType::I32),
        ("f4", NumberType::F32),
        ("f8", NumberType::F64),
    ] {
        let idx = Idx::open(golden(&format!("{name}.idx"))).unwrap();
        let npy = Npy::open(golden(&format!("{name}.npy"))).unwrap();
        assert_eq!(idx.number_type(), number_type);
        assert!(idx.path().ends_with(&format!("{name}.idx")));
        assert_eq!(idx.shape().axes(), [3, 2]);
        let order = [2, 0, 2];
        for (one, other) in [
            (idx.tensor().unwrap(), npy.tensor().unwrap()),
            (idx.rows(&order).unwrap(), npy.rows(&order).unwrap()),
        ] {
            assert_eq!(one.spec(), other.spec(), "{name}");
            match number_type.is_integer() {
                true => assert_eq!(one.i32().unwrap(), other.i32().unwrap(), "{name}"),
                false => assert_eq!(one.f32().unwrap(), other.f32().unwrap(), "{name}"),
            }
        }
        let error = idx.rows(&[0, 3]).unwrap_err().to_string();
        assert!(error.contains(".idx: rows 3..4 of 3"), "{error}");
    }
}

/// The header of an IDX file.
fn header(code: u8, sizes: &[u32]) -> Vec<u8> {
    let mut bytes = vec![0, 0, code, sizes.len() as u8];
    bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    bytes
}

#[test]
fn hostile_idx_files_are_refused() {
    let good = header(0x0B, &[2, 3]);
    let read = IdxHeader::parse("it", &good).unwrap();
    assert_eq!((read.start, read.end()), (12, Some(24)));
    assert_eq!(read.shape.axes(), [2, 3]);
    for end in 0..good.len() {
        assert!(IdxHeader::parse("it", &good[..end]).is_err(), "{end}");
    }
    for (bytes, wanted) in [
        (vec![], "does not begin with 0, 0, type, axes"),
        (vec![0, 1, 8, 1, 0, 0, 0, 0], "does not begin with 0, 0"),
        (b"\x93NUMPY\x01\x00".to_vec(), "does not begin with 0, 0"),
        (vec![0x1F, 0x8B, 8, 0], "decompress it first, with gunzip"),
        (header(7, &[2]), "type 0x07, and 08, 09"),
        (header(0x0A, &[2]), "type 0x0A, and 08, 09"),
        (header(8, &[1; 7]), "7 axes"),
        (header(8, &[u32::MAX; 2]), "elements"),
        (header(8, &[u32::MAX; 6]), "elements"),
        (header(8, &[1; 255]), "255 axes"),
        (vec![0, 0, 8, 255, 0, 0, 0, 1], "cut off"),
    ] {
        let error = IdxHeader::parse("it.idx", &bytes).unwrap_err();
        assert!(matches!(error, DataError::Array { .. }), "{error}");
        let error = error.to_string();
        assert!(error.starts_with("it.idx is no array"), "{error}");
        assert!(error.contains(wanted), "{error}, not {wanted}");
        assert!(error.len() < 300, "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.idx");
    for bytes in [0, 11, 13] {
        fs::write(&path, [good.clone(), vec![0; bytes]].concat()).unwrap();
        let error = Idx::open(&path).unwrap_err().to_string();
        let wanted = format!(
            "its header says [2, 3] of i16, and it has {} bytes",
            12 + bytes
        );
        assert!(
            error.contains("a.idx") && error.contains(&wanted),
            "{error}"
        );
    }
    // As much as a tensor may have takes no memory.
    fs::write(&path, header(0x0E, &[1 << 24, 1 << 24])).unwrap();
    let error = Idx::open(&path).unwrap_err().to_string();
    assert!(error.contains("and it has 12 bytes"), "{error}");
    fs::write(&path, []).unwrap();
    assert!(Idx::open(&path).is_err());
    assert!(Idx::open(folder.path()).is_err());
    assert!(Idx::open(folder.path().join("none")).is_err());
    fs::write(&path, header(8, &[0, u32::MAX])).unwrap();
    let empty = Idx::open(&path).unwrap();
    assert_eq!(empty.tensor().unwrap().shape().elements(), 0);
    assert!(empty.rows(&[]).is_ok() && empty.rows(&[0]).is_err());
    fs::write(&path, [header(8, &[]), vec![5]].concat()).unwrap();
    let scalar = Idx::open(&path).unwrap();
    assert_eq!(scalar.tensor().unwrap().i32().unwrap(), [5]);
    assert!(scalar.rows(&[0]).is_err());
    assert!(NpyHeader::parse("it", &good).is_err());
}

const BYTES: [u8; 12] = [0, 51, 102, 255, 1, 2, 3, 4, 5, 6, 7, 8];

/// The same bytes in an IDX and in an NPY file, and in a tensor as they become.
fn everywhere(axes: &[usize]) -> [Array; 3] {
    let folder = tempfile::tempdir().unwrap();
    let (idx, npy) = (folder.path().join("a.idx"), folder.path().join("a.npy"));
    let sizes: Vec<_> = axes.iter().map(|axis| *axis as u32).collect();
    fs::write(&idx, [header(8, &sizes), BYTES.to_vec()].concat()).unwrap();
    let shape = axes
        .iter()
        .map(|axis| format!("{axis},"))
        .collect::<String>();
    let text = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape}), }}");
    let begin = [b"\x93NUMPY\x01\x00", &(text.len() as u16).to_le_bytes()[..]].concat();
    fs::write(&npy, [begin, text.into_bytes(), BYTES.to_vec()].concat()).unwrap();
    let shape = brigade_layer::Shape::new(axes).unwrap();
    let numbers = BYTES.iter().map(|byte| f32::from(*byte) / 255.0).collect();
    [
        Idx::open(idx).unwrap().into(),
        Npy::open(npy).unwrap().into(),
        Tensor::from_vec::<f32>(shape, numbers).unwrap().into(),
    ]
}

#[test]
fn arrays_become_images_in_one_way() {
    let by = |at: usize| f32::from(BYTES[at]) / 255.0;
    for (axes, channels) in [(&[3, 2, 2][..], 1), (&[3, 2, 1, 2], 2)] {
        for array in everywhere(axes) {
            let images = ImageArray::new(array).unwrap();
            let shape = [3, 2, 2 / channels, channels];
            assert_eq!(images.shape().axes(), shape);
            let some = images.rows(&[2, 0]).unwrap();
            assert_eq!(some.shape().axes(), [2, 2, 2 / channels, channels]);
            let wanted = [8, 9, 10, 11, 0, 1, 2, 3].map(by);
            assert_eq!(some.f32().unwrap(), wanted);
            assert_eq!((wanted[4], wanted[5], wanted[7]), (0.0, 0.2, 1.0));

            let (mean, deviation) = ([0.25, 0.5], [0.5, 2.0]);
            let normalised =
                { images.clone() }.normalised(&mean[..channels], &deviation[..channels]);
            let normalised = normalised.unwrap();
            let some = normalised.rows(&[1]).unwrap();
            for (at, x) in some.f32().unwrap().iter().enumerate() {
                let channel = at % channels;
                assert_eq!(*x, (by(4 + at) - mean[channel]) / deviation[channel]);
            }
            // A dataset takes them, and so do images themselves.
            let labels = Tensor::from_vec([3], vec![7, 8, 9]).unwrap();
            let arrays = Arrays::new(normalised.clone(), labels).unwrap();
            let [of_dataset] = arrays.inputs(&[1]).unwrap().take().unwrap();
            assert_eq!(of_dataset.f32().unwrap(), some.f32().unwrap());
            let again = ImageArray::new(normalised).unwrap();
            assert_eq!(
                again.rows(&[1]).unwrap().f32().unwrap(),
                some.f32().unwrap()
            );
            assert!(images.rows(&[3]).is_err());

            let refused = |mean: &[f32], deviation: &[f32]| {
                let error = { images.clone() }.normalised(mean, deviation).unwrap_err();
                error.to_string()
            };
            let error = refused(&[0.0; 3], &[1.0; 3]);
            assert!(error.contains("3 means and 3 deviations"), "{error}");
            for (mean, deviation) in [(0.0, 0.0), (0.0, -1.0), (f32::NAN, 1.0), (0.0, f32::NAN)] {
                let error = refused(&[mean; 2][..channels], &[deviation; 2][..channels]);
                assert!(error.contains("deviations above 0"), "{error}");
            }
        }
    }
}

#[test]
fn arrays_that_are_no_images_are_refused() {
    let error = ImageArray::new(Idx::open(golden("u1.idx")).unwrap()).unwrap_err();
    assert!(matches!(error, LayerError::Shape { .. }));
    assert!(error.to_string().contains("[N, height, width]"), "{error}");
    let whole = Tensor::from_vec([1, 2, 2], vec![1; 4]).unwrap();
    let error = ImageArray::new(whole).unwrap_err().to_string();
    assert!(error.contains("numbers of i32; use u8"), "{error}");
}

/// Both files of one kind of data at once.
#[test]
fn images_and_labels_are_opened_together() {
    let folder = tempfile::tempdir().unwrap();
    let [images, labels] = ["images", "labels"].map(|name| folder.path().join(name));
    fs::write(&images, [header(8, &[3, 2, 2]), BYTES.to_vec()].concat()).unwrap();
    fs::write(&labels, [header(8, &[3]), vec![4, 0, 9]].concat()).unwrap();
    let arrays = Arrays::open_idx(&images, &labels).unwrap();
    let ([x], [y]) = (
        arrays.inputs(&[1, 0]).unwrap().take().unwrap(),
        arrays.targets(&[1, 0]).unwrap().take().unwrap(),
    );
    assert_eq!(x.shape().axes(), [2, 2, 2, 1]);
    assert_eq!(x.f32().unwrap()[7], 1.0);
    assert_eq!(y.i32().unwrap(), [0, 4]);
    // Masks stay what they are.
    let arrays = Arrays::open_idx(&images, &images).unwrap();
    let [masks] = arrays.targets(&[0]).unwrap().take().unwrap();
    assert_eq!(masks.shape().axes(), [1, 2, 2]);
    assert_eq!(masks.i32().unwrap(), [0, 51, 102, 255]);
    assert!(Arrays::open_idx(&labels, &labels).is_err());
    fs::write(&labels, [header(8, &[2]), vec![4, 0]].concat()).unwrap();
    let error = Arrays::open_idx(&images, &labels).unwrap_err().to_string();
    assert!(error.contains("3 rows and another 2"), "{error}");
}
