//! Durations and sizes as people write them: `7d`, `1h30m`, `64KiB`, `1.5GiB`.
//!
//! Exact to the millisecond and to the byte: what is written is what is meant, or it is refused.

use std::time::Duration;

use thiserror::Error;

/// Why a text is not a duration or a size.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnitError {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// Not a number followed by a unit.
    #[error("is not {expected}")]
    Malformed {
        /// What would have been one.
        expected: &'static str,
    },
    /// A unit that does not exist.
    #[error("has the unknown unit `{unit}`; use {expected}")]
    UnknownUnit {
        /// The unit as written.
        unit: String,
        /// The units there are.
        expected: &'static str,
    },
    /// A number without a unit where its meaning would be a guess.
    #[error("has no unit; write for example `{number}s` or `{number}ms`")]
    UnitMissing {
        /// The number as written.
        number: String,
    },
    /// Part of a millisecond or of a byte.
    #[error("is finer than one {smallest}")]
    TooFine {
        /// The smallest step.
        smallest: &'static str,
    },
    /// Past what 64 bits hold.
    #[error("is too large")]
    TooLarge,
}

const DURATION_EXPECTED: &str = "a duration such as `500ms`, `30s`, `10m`, `12h` or `7d`";
const DURATION_UNITS_EXPECTED: &str = "ms, s, m, h, d or w";
const SIZE_EXPECTED: &str = "a size such as `4096`, `64KiB`, `1MiB` or `2GiB`";
const SIZE_UNITS_EXPECTED: &str =
    "B, KiB, MiB, GiB, TiB (powers of 1024) or kB, MB, GB, TB (powers of 1000)";

const DURATION_UNITS: [(&str, u64); 6] = [
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

const BINARY_UNITS: [(&str, u64); 4] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];

/// Reads a duration: one or more numbers with a unit, such as `7d` or `1h30m`.
///
/// A bare number other than 0 is refused, since nobody can tell what it counts.
///
/// # Errors
/// [`UnitError`] says what is wrong with it.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(UnitError::Empty);
    }
    if rest.bytes().all(|b| b == b'0') {
        return Ok(Duration::ZERO);
    }
    let mut millis = 0_u64;
    while !rest.is_empty() {
        let (number, after) = split_number(rest, DURATION_EXPECTED)?;
        let after = after.trim_start();
        let end = after
            .find(|c: char| !c.is_alphabetic())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let factor = match unit {
            "" => {
                return Err(UnitError::UnitMissing {
                    number: number.to_owned(),
                });
            }
            "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1,
            "s" | "sec" | "secs" | "second" | "seconds" => 1000,
            "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
            "h" | "hour" | "hours" => 3_600_000,
            "d" | "day" | "days" => 24 * 3_600_000,
            "w" | "week" | "weeks" => 7 * 24 * 3_600_000,
            "us" | "µs" | "ns" => {
                return Err(UnitError::TooFine {
                    smallest: "millisecond",
                });
            }
            other => {
                return Err(UnitError::UnknownUnit {
                    unit: other.to_owned(),
                    expected: DURATION_UNITS_EXPECTED,
                });
            }
        };
        let part = scaled(number, factor, DURATION_EXPECTED, "millisecond")?;
        millis = millis.checked_add(part).ok_or(UnitError::TooLarge)?;
        rest = after.trim_start();
    }
    Ok(Duration::from_millis(millis))
}

/// Writes a duration so that [`parse_duration`] reads it back: `7d`, `1h30m`, `250ms`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0ms".to_owned();
    }
    let mut text = String::new();
    // Weeks are read but never written: `7d` is what everyone writes.
    for (unit, factor) in &DURATION_UNITS[1..] {
        let count = millis / factor;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
            millis %= factor;
        }
    }
    text
}

/// Reads a size in bytes: a bare number, or a number with a unit such as `64KiB` or `1.5 GiB`.
///
/// `KiB`, `MiB`… are powers of 1024; `kB`, `MB`… are powers of 1000. A bare `K` or `M` is refused:
/// half of the world reads it one way and half the other.
///
/// # Errors
/// [`UnitError`] says what is wrong with it.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(UnitError::Empty);
    }
    let (number, unit) = split_number(text, SIZE_EXPECTED)?;
    let factor = match unit.trim() {
        "" | "B" | "b" | "byte" | "bytes" => 1,
        "KiB" | "Ki" | "kib" => 1 << 10,
        "MiB" | "Mi" | "mib" => 1 << 20,
        "GiB" | "Gi" | "gib" => 1 << 30,
        "TiB" | "Ti" | "tib" => 1 << 40,
        "kB" | "KB" | "kb" => 1000,
        "MB" | "mb" => 1_000_000,
        "GB" | "gb" => 1_000_000_000,
        "TB" | "tb" => 1_000_000_000_000,
        other => {
            return Err(UnitError::UnknownUnit {
                unit: other.to_owned(),
                expected: SIZE_UNITS_EXPECTED,
            });
        }
    };
    scaled(number, factor, SIZE_EXPECTED, "byte")
}

/// Writes a size so that [`parse_size`] reads it back: `64KiB` where it is exact, bytes otherwise.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    for (unit, factor) in BINARY_UNITS {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    bytes.to_string()
}

fn split_number<'a>(
    text: &'a str,
    expected: &'static str,
) -> Result<(&'a str, &'a str), UnitError> {
    let is_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | '_');
    let end = text.find(|c| !is_number(c)).unwrap_or(text.len());
    if end == 0 {
        return Err(UnitError::Malformed { expected });
    }
    Ok(text.split_at(end))
}

/// `number * factor` without rounding; `number` may have a decimal part.
fn scaled(
    number: &str,
    factor: u64,
    expected: &'static str,
    smallest: &'static str,
) -> Result<u64, UnitError> {
    let number = number.replace('_', "");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    if whole.is_empty() || fraction.contains('.') || (number.contains('.') && fraction.is_empty()) {
        return Err(UnitError::Malformed { expected });
    }
    let whole: u64 = whole.parse().map_err(|_| UnitError::TooLarge)?;
    let mut total = whole.checked_mul(factor).ok_or(UnitError::TooLarge)?;
    let fraction = fraction.trim_end_matches('0');
    if !fraction.is_empty() {
        // More digits than this cannot be exact with any factor there is, nor fit the arithmetic.
        if fraction.len() > 15 {
            return Err(UnitError::TooFine { smallest });
        }
        let digits: u128 = fraction
            .parse()
            .map_err(|_| UnitError::Malformed { expected })?;
        let divisor = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(u32::MAX));
        let product = digits * u128::from(factor);
        if !product.is_multiple_of(divisor) {
            return Err(UnitError::TooFine { smallest });
        }
        let part = u64::try_from(product / divisor).map_err(|_| UnitError::TooLarge)?;
        total = total.checked_add(part).ok_or(UnitError::TooLarge)?;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Result<Duration, UnitError> {
        Ok(Duration::from_millis(millis))
    }

    #[test]
    fn durations_are_read() {
        assert_eq!(parse_duration("7d"), ms(604_800_000));
        assert_eq!(parse_duration("1h30m"), ms(5_400_000));
        assert_eq!(parse_duration(" 1 h 30 min "), ms(5_400_000));
        assert_eq!(parse_duration("1.5s"), ms(1500));
        assert_eq!(parse_duration("2w"), ms(1_209_600_000));
        assert_eq!(parse_duration("0"), ms(0));
        assert_eq!(parse_duration("0ms"), ms(0));
        assert_eq!(parse_duration("1_000ms"), ms(1000));
        assert_eq!(
            parse_duration("10"),
            Err(UnitError::UnitMissing {
                number: "10".to_owned()
            })
        );
        assert_eq!(
            parse_duration("1.0005s"),
            Err(UnitError::TooFine {
                smallest: "millisecond"
            })
        );
        assert_eq!(
            parse_duration("5us"),
            Err(UnitError::TooFine {
                smallest: "millisecond"
            })
        );
        assert_eq!(
            parse_duration("999999999999999999999d"),
            Err(UnitError::TooLarge)
        );
        assert_eq!(
            parse_duration("18446744073709551615w"),
            Err(UnitError::TooLarge)
        );
        assert!(matches!(
            parse_duration("3 fortnights"),
            Err(UnitError::UnknownUnit { .. })
        ));
        for bad in [
            "", " ", "d", "-1s", "1..5s", ".5s", "5.s", "1h-30m", "s1", "1h30", "١s",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("1.5 GiB"), Ok(1_610_612_736));
        assert_eq!(parse_size("10 MB"), Ok(10_000_000));
        assert_eq!(parse_size("1_048_576"), Ok(1 << 20));
        assert_eq!(parse_size("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(parse_size("18446744073709551616"), Err(UnitError::TooLarge));
        assert_eq!(parse_size("16777216TiB"), Err(UnitError::TooLarge));
        assert_eq!(
            parse_size("0.3KiB"),
            Err(UnitError::TooFine { smallest: "byte" })
        );
        for bad in [
            "", "K", "1K", "1M", "-1", "1 2", "0x10", "1e6", "1KiBB", "1.2.3", "∞",
        ] {
            assert!(parse_size(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for millis in [0, 1, 999, 1000, 60_000, 90_061_001, 604_800_000, u64::MAX] {
            let text = format_duration(Duration::from_millis(millis));
            assert_eq!(parse_duration(&text), ms(millis), "{text}");
        }
        for bytes in [
            0,
            1,
            1023,
            1024,
            1025,
            1 << 20,
            3 << 30,
            (5 << 40) + 1,
            u64::MAX,
        ] {
            let text = format_size(bytes);
            assert_eq!(parse_size(&text), Ok(bytes), "{text}");
        }
        assert_eq!(format_duration(Duration::from_secs(604_800)), "7d");
        assert_eq!(format_size(256 << 20), "256MiB");
    }
}
