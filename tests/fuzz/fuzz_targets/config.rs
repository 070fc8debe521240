//! Promise: whatever a configuration file holds, it becomes options that can be had, or a line that
//! says why not; and options are a file that becomes the same options.
#![no_main]

use brigade::outside::configuration;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let command = ["config", "train", "plan", "profile"][text.lines().count() % 4];
    match configuration(command, text) {
        Ok(file) => {
            let again = configuration(command, &file).expect("what was written is read");
            assert_eq!(again, file);
        }
        Err(line) => assert!(!line.is_empty() && !line.contains('\n'), "{line}"),
    }
});
