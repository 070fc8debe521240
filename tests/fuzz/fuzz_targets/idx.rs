//! Promise: whatever an IDX file begins with, its header is read or refused; what is read has sizes
//! that a tensor may have.
#![no_main]

use brigade::nn::IdxHeader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match IdxHeader::parse("it", bytes) {
        Ok(header) => {
            assert!(header.start <= bytes.len());
            let numbers = header.shape.elements() * header.number_type.size_bytes();
            assert_eq!(header.end(), Some(header.start + numbers));
        }
        Err(error) => assert!(error.to_string().len() < 1000, "{error}"),
    }
});
