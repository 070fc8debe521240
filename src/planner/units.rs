//! Quantities as people write them: a number, and a unit behind it.

/// More bytes than any machine has; counts up to it are exact wherever numbers are read.
pub const MOST_BYTES: u64 = 1 << 53;
/// In seconds: more is taken for a mistake.
const MOST_LATENCY: f64 = 1e9;
/// In bytes a second: less is taken for a mistake.
const LEAST_BANDWIDTH: f64 = 1e-9;

type Units = &'static [(&'static str, f64)];

const BYTES: Units = &[
    ("B", 1.0),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
];
const BITS: Units = &[
    ("bit", 0.125),
    ("kbit", 125.0),
    ("Mbit", 125e3),
    ("Gbit", 125e6),
    ("Tbit", 125e9),
];
/// How many make a second: dividing by it is as exact as can be.
const SECONDS: Units = &[("s", 1.0), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)];

/// Bytes: a number, or one with a unit, such as `2GiB`. Rounded to the nearest byte.
///
/// # Example
/// ```
/// use brigade::planner::units::bytes;
/// assert_eq!(bytes("1.5 KiB"), Ok(1536));
/// assert_eq!(bytes("2GB"), Ok(2_000_000_000));
/// assert!(bytes("2 gigs").is_err());
/// ```
///
/// # Errors
/// Says which units there are.
pub fn bytes(text: &str) -> Result<u64, String> {
    let problem = || {
        let units = names(&[BYTES], "");
        format!("give bytes, or a number with {units}, such as 512MiB")
    };
    let (number, scale) = parts(text, &[BYTES], "").ok_or_else(problem)?;
    whole(number * scale)
}

/// Bytes a second: a number, or one with a unit, such as `10 GB/s` or `100Mbit/s`.
///
/// # Errors
/// Says which units there are.
pub fn bandwidth(text: &str) -> Result<f64, String> {
    let problem = || {
        let units = names(&[BYTES, BITS], "/s");
        format!("give bytes a second, or a number with {units}, such as 10 GB/s")
    };
    let (number, scale) = parts(text, &[BYTES, BITS], "/s").ok_or_else(problem)?;
    check_bandwidth(number * scale)
}

/// Seconds: a number, or one with a unit, such as `1.5 ms`.
///
/// # Errors
/// Says which units there are.
pub fn duration(text: &str) -> Result<f64, String> {
    let problem = || {
        let units = names(&[SECONDS], "");
        format!("give seconds, or a number with {units}, such as 5us")
    };
    let (number, per_second) = parts(text, &[SECONDS], "").ok_or_else(problem)?;
    check_latency(number / per_second)
}

/// How many units of time by this name make a second.
///
/// # Errors
/// Says which units there are.
pub fn per_second(unit: &str) -> Result<f64, String> {
    let found = SECONDS.iter().find(|(name, _)| *name == unit);
    found.map(|(_, count)| *count).ok_or_else(|| {
        let units = names(&[SECONDS], "");
        format!("give a unit of time: {units}")
    })
}

/// A number of bytes that is no fraction and not too large.
pub(super) fn whole_bytes(number: f64) -> Result<u64, String> {
    match number {
        _ if number < 0.0 => Err(format!("{number} bytes are below 0")),
        _ if number.fract() != 0.0 => Err(format!("{number} is no whole number of bytes")),
        _ => whole(number),
    }
}

fn whole(number: f64) -> Result<u64, String> {
    if number > MOST_BYTES as f64 {
        return Err(format!("{number} bytes are more than {MOST_BYTES}"));
    }
    Ok(number.round() as u64)
}

pub(super) fn check_bandwidth(number: f64) -> Result<f64, String> {
    if number.is_finite() && number >= LEAST_BANDWIDTH {
        return Ok(number);
    }
    Err(format!(
        "a bandwidth of {number}; it must be above 0 and finite"
    ))
}

pub(super) fn check_latency(number: f64) -> Result<f64, String> {
    if (0.0..=MOST_LATENCY).contains(&number) {
        return Ok(number);
    }
    Err(format!(
        "a latency of {number} seconds; it must be between 0 and {MOST_LATENCY}"
    ))
}

/// A number and its unit's number, 1 without a unit. Units end in `end`.
fn parts(text: &str, units: &[Units], end: &str) -> Option<(f64, f64)> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let scale = match unit.trim() {
        "" => 1.0,
        unit => {
            let unit = unit.strip_suffix(end)?;
            let mut all = units.iter().copied().flatten();
            all.find(|(name, _)| *name == unit)?.1
        }
    };
    Some((number.parse().ok()?, scale))
}

/// All units, as text.
fn names(units: &[Units], end: &str) -> String {
    let all = units.iter().copied().flatten();
    let all: Vec<_> = all.map(|(name, _)| format!("{name}{end}")).collect();
    match all.split_last() {
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        for (text, wanted) in [
            ("0", 0),
            ("1000", 1000),
            ("7B", 7),
            ("64KiB", 65_536),
            ("1.5MiB", 3 << 19),
            ("2 GiB", 2 << 30),
            ("1TiB", 1 << 40),
            ("3kB", 3000),
            ("1MB", 1_000_000),
            ("1.1GB", 1_100_000_000),
            ("4TB", 4_000_000_000_000),
            ("9007199254740992", MOST_BYTES),
            ("8192TiB", MOST_BYTES),
        ] {
            assert_eq!(bytes(text), Ok(wanted), "{text}");
        }
        let long = "9".repeat(400);
        for wrong in [
            "", "MiB", "-1", "1e3", "1.2.3", "much", "1KB", "1mib", "1 G iB", ".", "9000TiB",
            &long, "1B/s", "NaN", "inf", "1\u{fc}",
        ] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        let error = bytes("5 megs").unwrap_err();
        assert!(
            error.contains("B, KiB, MiB, GiB, TiB, kB, MB, GB or TB"),
            "{error}"
        );
    }

    #[test]
    fn bandwidths_have_units() {
        for (text, wanted) in [
            ("1000", 1000.0),
            ("10 GB/s", 10e9),
            ("12.5GiB/s", 12.5 * 1_073_741_824.0),
            ("1 Gbit/s", 125e6),
            ("100Mbit/s", 12.5e6),
            ("8 bit/s", 1.0),
        ] {
            assert_eq!(bandwidth(text), Ok(wanted), "{text}");
        }
        for wrong in [
            "", "0", "0 GB/s", "-1", "10GB", "10 Gbps", "1 Gbit", "fast", "1 /s",
        ] {
            assert!(bandwidth(wrong).is_err(), "{wrong}");
        }
        let error = bandwidth("10 Gbps").unwrap_err();
        assert!(
            error.contains("GB/s") && error.contains("or Tbit/s"),
            "{error}"
        );
    }

    #[test]
    fn durations_have_units() {
        for (text, wanted) in [
            ("0", 0.0),
            ("2", 2.0),
            ("5us", 5e-6),
            ("1.5 ms", 1.5e-3),
            ("20 ns", 20e-9),
            ("1 s", 1.0),
        ] {
            assert_eq!(duration(text), Ok(wanted), "{text}");
        }
        for wrong in ["", "-1", "5 min", "us", "1e-6", "5 u s", "99999999999"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(duration("5 min").unwrap_err().contains("s, ms, us or ns"));
        assert_eq!(per_second("ms"), Ok(1e3));
        assert!(per_second("min").unwrap_err().contains("s, ms, us or ns"));
    }
}
