//! Promise: whatever a checkpoint's manifest holds, it is read or refused; what is read fits
//! together, and is read again as it was.
#![no_main]

use brigade::checkpoint::Manifest;
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;

fuzz_target!(|bytes: &[u8]| {
    // As it is: a checksum keeps nearly everything out.
    if let Ok(manifest) = Manifest::parse(bytes) {
        holds(&manifest);
    }
    // With the right checksum: what is in the frame of a whole file, or all of it.
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let framed = text.split_once("\"checkpoint\": ");
    let text = framed.and_then(|(_, text)| text.strip_suffix("\n}\n")).unwrap_or(text);
    if let Ok(manifest) = Manifest::parse(Manifest::signed(text).as_bytes()) {
        holds(&manifest);
        let again = serde_json::to_string(&manifest).expect("what was read is written");
        let again = Manifest::parse(Manifest::signed(&again).as_bytes());
        assert_eq!(again.as_ref(), Ok(&manifest));
    }
});

fn holds(manifest: &Manifest) {
    let (mut files, mut tensors, mut total) = (BTreeSet::new(), BTreeSet::new(), 0u64);
    for file in &manifest.files {
        assert!(!file.name.contains(['/', '\\', '\0']) && !file.name.starts_with('.'));
        assert!(files.insert(&file.name));
        total = total.checked_add(file.bytes).expect("all files together can be counted");
        let mut end = file.start;
        for tensor in &file.tensors {
            assert!(tensors.insert((&tensor.key, &tensor.state)));
            assert!((tensor.layer as usize) < manifest.layers.len());
            end += 4 * tensor.shape.iter().product::<usize>() as u64;
        }
        assert_eq!(end, file.bytes);
    }
    for (key, _) in &tensors {
        assert!(tensors.contains(&(*key, &None)), "{key} has values");
    }
    assert!(manifest.step < u64::MAX);
}
