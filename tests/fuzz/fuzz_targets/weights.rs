//! Promise: whatever a file of weights holds, it is read or refused; what is read survives being
//! written.
#![no_main]

use brigade::Weights;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let weights = match Weights::from_safetensors(bytes) {
        Ok(weights) => weights,
        Err(error) => return assert!(error.to_string().len() < 2000, "{error}"),
    };
    let numbers: usize = weights.params.iter().map(|param| param.values.len()).sum();
    assert!(4 * numbers <= bytes.len());
    let written = weights
        .to_safetensors()
        .expect("what was read can be written");
    let again = Weights::from_safetensors(&written).expect("what was written is read");
    assert_eq!(again.params.len(), weights.params.len());
    for param in &weights.params {
        let other = again.get(&param.key).expect("no key is lost");
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(other.shape, param.shape);
        assert_eq!(bits(&other.values), bits(&param.values));
    }
});
