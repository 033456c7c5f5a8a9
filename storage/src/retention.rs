//! What retention deletes: a pure function of what there is.

use highwater_protocol::ids::{Offset, Timestamp};

use crate::segment::Segment;

/// What the plan looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// First offset.
    pub base: Offset,
    /// End, exclusive.
    pub end: Offset,
    /// Bytes of batches.
    pub bytes: u64,
    /// Newest timestamp in it.
    pub max_timestamp_ms: Option<i64>,
}

impl SegmentInfo {
    pub(crate) fn of(segment: &Segment) -> Self {
        Self {
            base: segment.base,
            end: segment.end(),
            bytes: segment.log_bytes(),
            max_timestamp_ms: segment.max_timestamp_ms(),
        }
    }
}

/// How long and how much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Segments whose newest record is older than this may go.
    pub retention_ms: Option<i64>,
    /// Segments may go as long as the rest is at least this large.
    pub retention_bytes: Option<u64>,
}

/// Up to where to trim, if at all. Oldest segments first and without gap; never the last one, never
/// one that reaches past the high watermark.
#[must_use]
pub fn plan(
    segments: &[SegmentInfo],
    policy: &Policy,
    now: Timestamp,
    high_watermark: Offset,
) -> Option<Offset> {
    let mut left: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let mut to = None;
    let (_, deletable) = segments.split_last()?;
    for segment in deletable {
        let too_old = policy.retention_ms.is_some_and(|keep| {
            segment
                .max_timestamp_ms
                .is_some_and(|newest| now.millis().saturating_sub(newest) > keep)
        });
        let too_much = policy
            .retention_bytes
            .is_some_and(|keep| left.saturating_sub(segment.bytes) >= keep);
        if segment.end > high_watermark || !(too_old || too_much) {
            break;
        }
        left -= segment.bytes;
        to = Some(segment.end);
    }
    to
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segments(list: &[(u64, i64)]) -> Vec<SegmentInfo> {
        list.iter()
            .enumerate()
            .map(|(n, (bytes, newest))| SegmentInfo {
                base: Offset::new(n as u64 * 10),
                end: Offset::new(n as u64 * 10 + 10),
                bytes: *bytes,
                max_timestamp_ms: Some(*newest),
            })
            .collect()
    }

    const KEEP_ALL: Policy = Policy {
        retention_ms: None,
        retention_bytes: None,
    };

    fn at(policy: Policy, list: &[(u64, i64)], now: i64, high_watermark: u64) -> Option<u64> {
        let now = Timestamp::from_millis(now);
        plan(&segments(list), &policy, now, Offset::new(high_watermark)).map(Offset::get)
    }

    #[test]
    fn time_size_and_high_watermark() {
        let list = [(100, 10), (100, 30), (100, 20), (100, 40)];
        let by_time = Policy {
            retention_ms: Some(50),
            ..KEEP_ALL
        };
        assert_eq!(at(KEEP_ALL, &list, 1000, 40), None);
        assert_eq!(at(by_time, &list, 60, 40), None);
        assert_eq!(at(by_time, &list, 61, 40), Some(10));
        assert_eq!(
            at(by_time, &list, 75, 40),
            Some(10),
            "the second holds newer records"
        );
        assert_eq!(at(by_time, &list, 1000, 40), Some(30), "the last one stays");
        assert_eq!(
            at(by_time, &list, 1000, 25),
            Some(20),
            "the high watermark holds"
        );
        let by_size = Policy {
            retention_bytes: Some(250),
            ..KEEP_ALL
        };
        assert_eq!(
            at(by_size, &list, 0, 40),
            Some(10),
            "what is left is at least the size"
        );
        let by_size = Policy {
            retention_bytes: Some(0),
            ..KEEP_ALL
        };
        assert_eq!(at(by_size, &list, 0, 40), Some(30));
        assert_eq!(at(by_size, &[], 0, 40), None);
        assert_eq!(at(by_size, &[(1, 1)], 0, 40), None);
    }

    proptest! {
        #[test]
        fn the_plan_is_within_its_bounds(
            list in prop::collection::vec((0u64..1000, 0i64..1000), 0..12),
            now in 0i64..3000,
            high_watermark in 0u64..150,
            retention_ms in prop::option::of(0i64..2000),
            retention_bytes in prop::option::of(0u64..5000),
        ) {
            let policy = Policy { retention_ms, retention_bytes };
            if let Some(to) = at(policy, &list, now, high_watermark) {
                prop_assert!(to <= high_watermark);
                prop_assert!(to <= (list.len() as u64 - 1) * 10);
                prop_assert!(to > 0 && to % 10 == 0);
            }
        }
    }
}
