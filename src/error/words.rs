//! Words of errors.

use std::any::Any;

/// The first of many numbers.
pub(super) fn listed(numbers: &[u64]) -> String {
    const SHOWN: usize = 16;
    let shown: Vec<_> = numbers.iter().take(SHOWN).map(u64::to_string).collect();
    let more = match numbers.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    shown.join(", ") + &more
}

/// Where in a file.
pub(super) fn place(line: usize, column: usize) -> String {
    match line {
        0 => String::new(),
        _ => format!(", line {line}, column {column}"),
    }
}

/// What a panic says.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "for no stated reason".into())
}
