//! The offset grammar: from where to consume, and up to where.
//!
//! It is the grammar of `rpk topic consume`, because it is the best that users know:
//! `start`, `end`, `N`, `+N`, `-N`, `N:M`, `:M`, `:end`, `@TIME`, `@T1:T2`, `@:T2`, `@-1h:end`.

use highwater_protocol::ids::{Offset, Timestamp};

use crate::moment::Moment;

/// Why a text is not a range of offsets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RangeError {
    /// It fits no form.
    #[error(
        "{0:?} is not an offset: write start, end, N, -N, +N, N:M, :end, @TIME, @T1:T2 or @-1h:end"
    )]
    Form(String),
    /// The end lies before the start.
    #[error("{0:?} ends before it starts")]
    Backwards(String),
}

/// A place in every partition, to be turned into an offset of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The first offset that there is.
    Start,
    /// The end as it is now.
    End,
    /// This offset.
    Exact(Offset),
    /// So many records behind the start.
    AfterStart(u64),
    /// So many records before the end.
    BeforeEnd(u64),
    /// The first record at or after this time.
    Time(Timestamp),
}

/// From where, and up to where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OffsetRange {
    /// The first record.
    pub(crate) from: Place,
    /// The record behind the last; `None` goes on for ever.
    pub(crate) until: Option<Place>,
}

/// What a partition has, to resolve a [`Place`] in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// First offset.
    pub(crate) start: Offset,
    /// Offset behind the last record.
    pub(crate) end: Offset,
}

impl OffsetRange {
    /// Reads the grammar; relative times count from `now`.
    pub(crate) fn parse(text: &str, now: Timestamp) -> Result<Self, RangeError> {
        let range = match text.strip_prefix('@') {
            Some(times) => Self::parse_times(times, now),
            None => Self::parse_offsets(text),
        };
        let range = range.ok_or_else(|| RangeError::Form(text.to_owned()))?;
        let backwards = match (range.from, range.until) {
            (Place::Exact(from), Some(Place::Exact(until))) => until < from,
            (Place::Time(from), Some(Place::Time(until))) => until < from,
            _ => false,
        };
        if backwards {
            Err(RangeError::Backwards(text.to_owned()))
        } else {
            Ok(range)
        }
    }

    fn parse_offsets(text: &str) -> Option<Self> {
        let Some((from, until)) = text.split_once(':') else {
            return Some(Self {
                from: parse_from(text)?,
                until: None,
            });
        };
        if from.is_empty() && until.is_empty() {
            return None;
        }
        let from = if from.is_empty() {
            Place::Start
        } else {
            parse_from(from)?
        };
        let until = match until {
            "" => None,
            "end" => Some(Place::End),
            number => Some(Place::Exact(parse_number(number).and_then(offset)?)),
        };
        Some(Self { from, until })
    }

    /// `T1`, `T1:`, `:T2`, `T1:T2`. Times contain colons themselves, so every colon is tried.
    fn parse_times(text: &str, now: Timestamp) -> Option<Self> {
        if let Ok(from) = Moment::parse(text) {
            return Some(Self {
                from: Place::Time(from.at(now)),
                until: None,
            });
        }
        text.match_indices(':').find_map(|(at, _)| {
            let (first, second) = (&text[..at], &text[at + 1..]);
            if first.is_empty() && second.is_empty() {
                return None;
            }
            let first = match first {
                "" => None,
                time => Some(Moment::parse(time).ok()?),
            };
            let from = first.map_or(Place::Start, |moment| Place::Time(moment.at(now)));
            // A length behind an absolute time counts from that time, otherwise from now.
            let base = match first {
                Some(Moment::Absolute(time)) => time,
                _ => now,
            };
            let until = match second {
                "" => None,
                "end" => Some(Place::End),
                time => Some(Place::Time(Moment::parse(time).ok()?.at(base))),
            };
            Some(Self { from, until })
        })
    }

    /// The times that must be looked up in every partition.
    pub(crate) fn times(&self) -> impl Iterator<Item = Timestamp> {
        [Some(self.from), self.until]
            .into_iter()
            .flatten()
            .filter_map(|place| match place {
                Place::Time(time) => Some(time),
                _ => None,
            })
    }
}

impl Place {
    /// The offset in a partition. `at` is the first offset at or after the time, if this is a time
    /// and there is such a record.
    ///
    /// Counted places stay inside of the partition. An exact one stays what it is, even outside:
    /// the caller decides whether to wait for it.
    pub(crate) fn resolve(self, bounds: Bounds, at: Option<Offset>) -> Offset {
        match self {
            Self::Start => bounds.start,
            Self::End => bounds.end,
            Self::Exact(offset) => offset,
            Self::AfterStart(records) => bounds
                .start
                .checked_add(records)
                .unwrap_or(Offset::MAX)
                .min(bounds.end),
            Self::BeforeEnd(records) => {
                Offset::new(bounds.end.get().saturating_sub(records)).max(bounds.start)
            }
            Self::Time(_) => at.unwrap_or(bounds.end),
        }
    }
}

fn parse_from(text: &str) -> Option<Place> {
    match text {
        "start" => Some(Place::Start),
        "end" => Some(Place::End),
        _ => match text.as_bytes().first()? {
            b'+' => parse_number(&text[1..]).map(Place::AfterStart),
            b'-' => parse_number(&text[1..]).map(Place::BeforeEnd),
            _ => parse_number(text).and_then(offset).map(Place::Exact),
        },
    }
}

/// Digits only: the standard parser would take a second sign.
fn parse_number(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

fn offset(number: u64) -> Option<Offset> {
    (number <= Offset::MAX.get()).then(|| Offset::new(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);
    const HOUR: i64 = 3_600_000;

    fn parse(text: &str) -> (Place, Option<Place>) {
        let range = OffsetRange::parse(text, NOW).unwrap_or_else(|error| panic!("{text}: {error}"));
        (range.from, range.until)
    }

    fn exact(offset: u64) -> Place {
        Place::Exact(Offset::new(offset))
    }

    fn ago(hours: i64) -> Place {
        Place::Time(Timestamp::from_millis(NOW.millis() - hours * HOUR))
    }

    #[test]
    fn offsets() {
        assert_eq!(parse("start"), (Place::Start, None));
        assert_eq!(parse("end"), (Place::End, None));
        assert_eq!(parse("0"), (exact(0), None));
        assert_eq!(parse("17"), (exact(17), None));
        assert_eq!(parse("17:"), (exact(17), None));
        assert_eq!(parse("+5"), (Place::AfterStart(5), None));
        assert_eq!(parse("-5"), (Place::BeforeEnd(5), None));
        assert_eq!(parse("3:9"), (exact(3), Some(exact(9))));
        assert_eq!(parse("3:3"), (exact(3), Some(exact(3))));
        assert_eq!(parse(":9"), (Place::Start, Some(exact(9))));
        assert_eq!(parse(":end"), (Place::Start, Some(Place::End)));
        assert_eq!(parse("3:end"), (exact(3), Some(Place::End)));
        assert_eq!(parse("-3:end"), (Place::BeforeEnd(3), Some(Place::End)));
        assert_eq!(parse("start:end"), (Place::Start, Some(Place::End)));
    }

    #[test]
    fn times() {
        assert_eq!(parse("@-1h"), (ago(1), None));
        assert_eq!(parse("@-1h:"), (ago(1), None));
        assert_eq!(parse("@-1h:end"), (ago(1), Some(Place::End)));
        assert_eq!(parse("@-48h:-24h"), (ago(48), Some(ago(24))));
        assert_eq!(parse("@:-1hr"), (Place::Start, Some(ago(1))));
        assert_eq!(parse("@2026-01-01"), (Place::Time(NOW), None));
        assert_eq!(parse("@2026-01-01T00:00:00Z"), (Place::Time(NOW), None));
        assert_eq!(parse("@1767225600"), (Place::Time(NOW), None));
        assert_eq!(parse("@1767225600000"), (Place::Time(NOW), None));
        // A length behind an absolute time counts from that time.
        assert_eq!(parse("@2026-01-01:1h"), (Place::Time(NOW), Some(ago(-1))));
        // Colons inside of both times.
        assert_eq!(
            parse("@2025-12-31T22:00:00Z:2025-12-31T23:00:00Z"),
            (ago(2), Some(ago(1))),
        );
        assert_eq!(
            parse("@2025-12-31T22:00:2025-12-31T23:00"),
            (ago(2), Some(ago(1)))
        );
        assert_eq!(
            parse("@2025-12-31T22:00:00Z:end"),
            (ago(2), Some(Place::End))
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "",
            ":",
            "@",
            "@:",
            "begin",
            "1.5",
            "--1",
            "+-1",
            "1:-2",
            "1:2:3",
            "end5",
            "@now",
            "@1",
            "9223372036854775808",
            ":9223372036854775808",
            "99999999999999999999",
            "@end",
            "5:start",
            "@-1h:start",
        ] {
            let result = OffsetRange::parse(bad, NOW);
            assert_eq!(result, Err(RangeError::Form(bad.to_owned())), "{bad}");
        }
        for backwards in [
            "9:3",
            "@-1h:-2h",
            "@2026-01-01:-1h",
            "@2026-01-02:2026-01-01",
        ] {
            let result = OffsetRange::parse(backwards, NOW);
            assert_eq!(
                result,
                Err(RangeError::Backwards(backwards.to_owned())),
                "{backwards}"
            );
        }
    }

    #[test]
    fn counted_places_stay_inside_of_the_partition() {
        let bounds = Bounds {
            start: Offset::new(10),
            end: Offset::new(20),
        };
        let resolve = |place: Place| place.resolve(bounds, None).get();
        assert_eq!(resolve(Place::Start), 10);
        assert_eq!(resolve(Place::End), 20);
        assert_eq!(resolve(Place::AfterStart(3)), 13);
        assert_eq!(resolve(Place::AfterStart(30)), 20);
        assert_eq!(resolve(Place::AfterStart(u64::MAX)), 20);
        assert_eq!(resolve(Place::BeforeEnd(3)), 17);
        assert_eq!(resolve(Place::BeforeEnd(300)), 10);
        assert_eq!(resolve(exact(5)), 5);
        assert_eq!(resolve(exact(50)), 50);
        assert_eq!(resolve(ago(1)), 20);
        assert_eq!(ago(1).resolve(bounds, Some(Offset::new(15))).get(), 15);
    }

    #[test]
    fn times_to_look_up() {
        let range = OffsetRange::parse("@-2h:-1h", NOW).unwrap();
        let times: Vec<i64> = range.times().map(Timestamp::millis).collect();
        assert_eq!(times, [NOW.millis() - 2 * HOUR, NOW.millis() - HOUR]);
        assert_eq!(OffsetRange::parse("5:9", NOW).unwrap().times().count(), 0);
    }
}
