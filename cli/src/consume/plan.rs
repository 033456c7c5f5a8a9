//! From the offset grammar to what is read of each partition.

use highwater_protocol::ids::{Offset, PartitionId};

use super::offset_range::{Bounds, OffsetRange, Place};

/// What is known about a partition: its bounds, and where the times of the range lie in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PartitionFacts {
    /// The partition.
    pub(crate) partition: PartitionId,
    /// What it has.
    pub(crate) bounds: Bounds,
    /// The first offset at or after the first time of the range, if there is one.
    pub(crate) from_time: Option<Offset>,
    /// The first offset at or after the second time of the range, if there is one.
    pub(crate) until_time: Option<Offset>,
}

/// What is read of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// The partition.
    pub(crate) partition: PartitionId,
    /// Where the reader is put: inside of what the partition has.
    pub(crate) position: Offset,
    /// Records before this are skipped.
    pub(crate) from: Offset,
    /// The record behind the last; `None` goes on for ever.
    pub(crate) until: Option<Offset>,
    /// How many of the wanted records are gone.
    pub(crate) missing: u64,
}

impl Span {
    /// Plans a partition. `exit_at_end` stops at its end of now, whatever the range says.
    pub(crate) fn new(range: &OffsetRange, exit_at_end: bool, facts: &PartitionFacts) -> Self {
        let bounds = facts.bounds;
        let from = range.from.resolve(bounds, facts.from_time);
        let until_time = match range.from {
            Place::Time(_) => facts.until_time,
            // The only time of the range is its second place.
            _ => facts.until_time.or(facts.from_time),
        };
        let until = range.until.map(|place| place.resolve(bounds, until_time));
        let until = if exit_at_end {
            Some(until.map_or(bounds.end, |until| until.min(bounds.end)))
        } else {
            until
        };
        let gone = until.map_or(bounds.start, |until| until.min(bounds.start));
        Self {
            partition: facts.partition,
            position: from.clamp(bounds.start, bounds.end),
            from,
            until,
            missing: gone.records_since(from),
        }
    }

    /// Whether there is nothing to read, now or ever.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_done_at(self.position.max(self.from))
    }

    /// Whether everything wanted lies before `next`.
    pub(crate) fn is_done_at(&self, next: Offset) -> bool {
        self.until.is_some_and(|until| next >= until)
    }

    /// Whether a record is wanted.
    pub(crate) fn contains(&self, offset: Offset) -> bool {
        offset >= self.from && self.until.is_none_or(|until| offset < until)
    }
}

#[cfg(test)]
mod tests {
    use highwater_protocol::ids::Timestamp;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);

    /// A partition with offsets 10 to 19, of which 14 is the first in the last hour.
    fn span(range: &str, exit_at_end: bool) -> Span {
        let facts = PartitionFacts {
            partition: PartitionId::ZERO,
            bounds: Bounds {
                start: Offset::new(10),
                end: Offset::new(20),
            },
            from_time: Some(Offset::new(14)),
            until_time: None,
        };
        Span::new(
            &OffsetRange::parse(range, NOW).unwrap(),
            exit_at_end,
            &facts,
        )
    }

    fn reads(range: &str, exit_at_end: bool) -> (u64, Option<u64>) {
        let span = span(range, exit_at_end);
        (span.from.get(), span.until.map(Offset::get))
    }

    #[test]
    fn ranges_become_spans() {
        assert_eq!(reads("start", false), (10, None));
        assert_eq!(reads("start", true), (10, Some(20)));
        assert_eq!(reads("end", false), (20, None));
        assert_eq!(reads("-3", true), (17, Some(20)));
        assert_eq!(reads("12:15", false), (12, Some(15)));
        assert_eq!(reads("12:99", false), (12, Some(99)));
        assert_eq!(reads("12:99", true), (12, Some(20)));
        assert_eq!(reads(":end", false), (10, Some(20)));
        assert_eq!(reads("@-1h", false), (14, None));
        assert_eq!(reads("@-1h:end", false), (14, Some(20)));
        assert_eq!(reads("@:-1h", false), (10, Some(14)));
    }

    #[test]
    fn both_times_of_a_range_are_looked_up() {
        let facts = PartitionFacts {
            partition: PartitionId::ZERO,
            bounds: Bounds {
                start: Offset::new(10),
                end: Offset::new(20),
            },
            from_time: Some(Offset::new(12)),
            until_time: Some(Offset::new(17)),
        };
        let range = OffsetRange::parse("@-2h:-1h", NOW).unwrap();
        let span = Span::new(&range, false, &facts);
        assert_eq!(
            (span.from.get(), span.until.map(Offset::get)),
            (12, Some(17))
        );
        // Nothing that new yet: the end of now.
        let span = Span::new(
            &range,
            false,
            &PartitionFacts {
                until_time: None,
                ..facts
            },
        );
        assert_eq!(span.until.map(Offset::get), Some(20));
        // Nothing in the range at all must not turn into everything.
        let none = PartitionFacts {
            from_time: None,
            until_time: None,
            ..facts
        };
        assert!(Span::new(&range, false, &none).is_empty());
    }

    #[test]
    fn offsets_outside_of_the_partition_are_waited_for_or_reported() {
        let behind = span("50", false);
        assert_eq!(
            (behind.position.get(), behind.from.get(), behind.missing),
            (20, 50, 0)
        );
        assert!(!behind.is_empty());
        assert!(!behind.contains(Offset::new(20)) && behind.contains(Offset::new(50)));
        assert!(span("50", true).is_empty());
        let gone = span("5", false);
        assert_eq!((gone.position.get(), gone.missing), (10, 5));
        assert_eq!(span("5:7", false).missing, 2);
        assert!(span("5:7", false).is_empty());
    }

    #[test]
    fn a_span_is_done_at_its_end() {
        let span = span("12:15", false);
        assert!(!span.is_empty() && !span.is_done_at(Offset::new(14)));
        assert!(span.is_done_at(Offset::new(15)));
        assert!(!span.contains(Offset::new(15)) && span.contains(Offset::new(14)));
        assert!(
            super::Span {
                until: Some(Offset::new(12)),
                ..span
            }
            .is_empty()
        );
    }
}
