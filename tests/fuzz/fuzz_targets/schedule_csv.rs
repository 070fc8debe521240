//! Promise: whatever a schedule file holds, it is read or refused; what is read is proven or
//! refused, and survives being written.
#![no_main]

use brigade::ids::MicroBatchCount;
use brigade::schedule::csv::{CsvError, CsvSchedule, Dialect, compute_comms, compute_only};
use brigade::schedule::{Layout, Schedule, Task, check, lower};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    for dialect in [Dialect::Current, Dialect::Year2025, Dialect::Year2024] {
        match CsvSchedule::parse("fuzz", text, dialect) {
            Ok(file) => holds(&file, dialect),
            Err(error) => names_a_place(&error, text),
        }
    }
});

fn names_a_place(error: &CsvError, text: &str) {
    assert!(error.row >= 1 && error.column >= 1, "{error}");
    assert!(error.row <= text.lines().count().max(1), "{error}");
    assert!(error.to_string().len() < 1000, "{error}");
}

fn holds(file: &CsvSchedule, dialect: Dialect) {
    let text = compute_only(file.definition(), dialect);
    let again = CsvSchedule::parse("again", &text, dialect).expect("what was written is read");
    assert_eq!(again.definition(), file.definition());
    assert_eq!(again.placement(), file.placement());

    let layout = Layout::chain(file.placement().clone());
    let half = file.micro_batches().get().div_ceil(2);
    for count in [file.micro_batches(), MicroBatchCount::new(half)] {
        let task = Task::new(file.placement().clone(), count);
        let definition = file.define(&task).expect("as many as the file has, or fewer");
        // An order that gets stuck is refused here.
        let Ok(lowered) = lower(&definition, &layout, count) else {
            continue;
        };
        let slots = |lane| lowered.slots.of(lane);
        check(&lowered, &layout, count, None, &slots).expect("a file keeps the laws");
        let text = compute_comms(&lowered, &layout, dialect).expect("a chain can be written");
        let again = CsvSchedule::parse("again", &text, dialect).expect("what was written is read");
        assert_eq!(again.placement(), file.placement());
        let again = compute_only(again.definition(), dialect);
        let again = CsvSchedule::parse("again", &again, dialect).expect("and once more");
        assert_eq!(again.micro_batches(), count);
    }
}
