//! Numbers as people read them.

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three digits that matter: `0.0123`, `1.23`, `123`, `1.23e-7`.
pub(super) fn short(number: f64) -> String {
    let size = number.abs();
    match size {
        0.0 => "0".to_owned(),
        _ if !(1e-3..1e6).contains(&size) => format!("{number:.2e}"),
        _ => {
            let decimals = (2.0 - size.log10().floor()).clamp(0.0, 5.0) as usize;
            format!("{number:.decimals$}")
        }
    }
}

/// Seconds in the unit that suits them.
pub(super) fn seconds(seconds: f64) -> String {
    let (scale, unit) = time_unit(seconds);
    format!("{}\u{a0}{unit}", short(seconds * scale))
}

/// The unit that suits a time, and how many of it make a second.
pub(super) fn time_unit(seconds: f64) -> (f64, &'static str) {
    match seconds {
        _ if seconds >= 1.0 => (1.0, "s"),
        _ if seconds >= 1e-3 => (1e3, "ms"),
        _ => (1e6, "µs"),
    }
}

/// Bytes in the unit that suits them.
pub(super) fn bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1024.0 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{}\u{a0}{}", short(size), units[unit])
}

/// A share of one.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0}%", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [0.0, 0.012_34, 1.234, 123.4, -4321.0, 1.23e-7].map(short),
            ["0", "0.0123", "1.23", "123", "-4321", "1.23e-7"]
        );
        assert_eq!(seconds(0.0123), "12.3\u{a0}ms");
        assert_eq!(bytes(1536), "1.50\u{a0}KiB");
    }
}
