//! Points in time, as people type them and as we print them. All of it is UTC.

use highwater_protocol::ids::Timestamp;

const DAY_MS: i64 = 86_400_000;

/// Why a text is not a point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a time: write 2026-01-31, 2026-01-31T12:00:00Z, seconds or milliseconds since 1970, or -1h"
)]
pub(crate) struct MomentError(String);

/// A point in time as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// A date, or a number since 1970.
    Absolute(Timestamp),
    /// Milliseconds before (negative) or after something: now, or another moment.
    Relative(i64),
}

impl Moment {
    /// Reads `2026-01-31`, `2026-01-31T12:00[:00[.123]][Z|+02:00]`, 9 or 10 digits of seconds, 12 to 14
    /// of milliseconds, or a duration such as `-1h30m`.
    pub(crate) fn parse(text: &str) -> Result<Self, MomentError> {
        let wrong = || MomentError(text.to_owned());
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            let number: i64 = text.parse().map_err(|_| wrong())?;
            return match text.len() {
                9 | 10 => Ok(Self::Absolute(Timestamp::from_millis(number * 1000))),
                12..=14 => Ok(Self::Absolute(Timestamp::from_millis(number))),
                _ => Err(wrong()),
            };
        }
        if let Some(timestamp) = parse_date(text) {
            return Ok(Self::Absolute(timestamp));
        }
        let (sign, length) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text),
        };
        let duration = humantime::parse_duration(length).map_err(|_| wrong())?;
        let millis = i64::try_from(duration.as_millis()).map_err(|_| wrong())?;
        Ok(Self::Relative(sign * millis))
    }

    /// The timestamp, with relative moments counted from `base`.
    pub(crate) fn at(self, base: Timestamp) -> Timestamp {
        match self {
            Self::Absolute(timestamp) => timestamp,
            Self::Relative(millis) => Timestamp::from_millis(base.millis().saturating_add(millis)),
        }
    }
}

/// The wall clock.
pub(crate) fn now() -> Timestamp {
    let since_epoch = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or(std::time::Duration::ZERO);
    Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// `2026-01-31T12:00:00.000Z`; a plain number of milliseconds outside of the years 0 to 9999.
pub(crate) fn format_timestamp(timestamp: Timestamp) -> String {
    let (days, in_day) = (
        timestamp.millis().div_euclid(DAY_MS),
        timestamp.millis().rem_euclid(DAY_MS),
    );
    // 0000-01-01 ..= 9999-12-31
    if !(-719_528..=2_932_896).contains(&days) {
        return timestamp.millis().to_string();
    }
    let (year, month, day) = civil_from_days(days);
    let (second, milli) = (in_day / 1000, in_day % 1000);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

fn parse_date(text: &str) -> Option<Timestamp> {
    let number = |part: &str, digits: usize| -> Option<i64> {
        (part.len() == digits && part.bytes().all(|b| b.is_ascii_digit()))
            .then(|| part.parse().ok())?
    };
    let date = text.get(..10)?;
    let mut parts = date.split('-');
    let year = number(parts.next()?, 4)?;
    let month = number(parts.next()?, 2)?;
    let day = number(parts.next()?, 2)?;
    if parts.next().is_some() || !(1..=12).contains(&month) {
        return None;
    }
    let days = days_from_civil(year, month, day);
    if civil_from_days(days) != (year, month, day) {
        return None;
    }
    let midnight = days * DAY_MS;
    let clock = &text[10..];
    if clock.is_empty() {
        return Some(Timestamp::from_millis(midnight));
    }
    let clock = clock.strip_prefix(['T', 't', ' '])?;
    let (clock, zone_minutes) = split_zone(clock, number)?;
    let (clock, millis) = match clock.split_once('.') {
        None => (clock, 0),
        Some((clock, fraction)) => (clock, parse_fraction(fraction)?),
    };
    let mut parts = clock.split(':');
    let hour = number(parts.next()?, 2)?;
    let minute = number(parts.next()?, 2)?;
    let second = match parts.next() {
        Some(second) => number(second, 2)?,
        None => 0,
    };
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let in_day = ((hour * 60 + minute - zone_minutes) * 60 + second) * 1000 + millis;
    Some(Timestamp::from_millis(midnight + in_day))
}

/// Splits off `Z` or `+02:00`; without either it is UTC.
fn split_zone(clock: &str, number: impl Fn(&str, usize) -> Option<i64>) -> Option<(&str, i64)> {
    if let Some(clock) = clock.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let Some(at) = clock.find(['+', '-']) else {
        return Some((clock, 0));
    };
    let (clock, zone) = clock.split_at(at);
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone[1..].split_once(':')?;
    let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
    (hours < 24 && minutes < 60).then_some((clock, sign * (hours * 60 + minutes)))
}

/// Digits behind the point as milliseconds; more than three are cut.
fn parse_fraction(digits: &str) -> Option<i64> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let three: String = digits.chars().chain("00".chars()).take(3).collect();
    three.parse().ok()
}

/// Days since 1970-01-01 of a date of the Gregorian calendar, which is taken to have always been.
/// (Howard Hinnant, "chrono-compatible low-level date algorithms".)
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn absolute(text: &str) -> i64 {
        match Moment::parse(text) {
            Ok(Moment::Absolute(timestamp)) => timestamp.millis(),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn dates_are_read() {
        assert_eq!(absolute("1970-01-01"), 0);
        assert_eq!(absolute("2000-02-29"), 951_782_400_000);
        assert_eq!(absolute("2026-01-01T00:00Z"), 1_767_225_600_000);
        assert_eq!(absolute("2026-01-01T00:00:01.5Z"), 1_767_225_601_500);
        assert_eq!(absolute("2026-01-01 00:00:01.123456"), 1_767_225_601_123);
        assert_eq!(absolute("2026-01-01T02:30:00+02:30"), 1_767_225_600_000);
        assert_eq!(absolute("2025-12-31T23:00:00-01:00"), 1_767_225_600_000);
        assert_eq!(absolute("1969-12-31T23:59:59.999Z"), -1);
    }

    #[test]
    fn numbers_are_seconds_or_milliseconds_by_their_length() {
        assert_eq!(absolute("1767225600"), 1_767_225_600_000);
        assert_eq!(absolute("1767225600123"), 1_767_225_600_123);
        assert_eq!(absolute("999999999"), 999_999_999_000);
    }

    #[test]
    fn durations_are_relative() {
        assert_eq!(Moment::parse("-1h"), Ok(Moment::Relative(-3_600_000)));
        assert_eq!(Moment::parse("-1hr"), Ok(Moment::Relative(-3_600_000)));
        assert_eq!(Moment::parse("1m3ms"), Ok(Moment::Relative(60_003)));
        let base = Timestamp::from_millis(10_000);
        assert_eq!(Moment::Relative(-3000).at(base).millis(), 7000);
        assert_eq!(
            Moment::Absolute(Timestamp::from_millis(1))
                .at(base)
                .millis(),
            1
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "",
            "12",
            "12345678901",
            "123456789012345",
            "2026-13-01",
            "2026-02-30",
            "2026-01-01T",
            "2026-01-01T25:00",
            "2026-01-01T1:00",
            "2026-01-01T10:00:60",
            "2026-01-01T10:00+2",
            "2026-1-1",
            "yesterday",
            "-",
            "1",
            "2026-01-01T10:00:00.",
            "2026-01-0ä",
        ] {
            assert!(Moment::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        let years = [
            -719_528, -1, 0, 1, 59, 60, 11_016, 19_782, 20_000, 2_932_896,
        ];
        for days in years {
            for in_day in [0, 1, 999, 3_599_999, DAY_MS - 1] {
                let timestamp = Timestamp::from_millis(days * DAY_MS + in_day);
                let text = format_timestamp(timestamp);
                assert_eq!(absolute(&text), timestamp.millis(), "{text}");
            }
        }
        assert_eq!(
            format_timestamp(Timestamp::from_millis(0)),
            "1970-01-01T00:00:00.000Z"
        );
        assert_eq!(
            format_timestamp(Timestamp::from_millis(i64::MAX)),
            i64::MAX.to_string()
        );
        assert_eq!(
            format_timestamp(Timestamp::from_millis(i64::MIN)),
            i64::MIN.to_string()
        );
    }
}
