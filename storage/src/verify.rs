//! Verifying, after a crash, what the start did not read.
//!
//! A start after a crash scans from the recovery point on, so that it is quick whatever the size of
//! the log. What lies before it in the last segment was durable, and is verified here, in the
//! background, while the log is served already. Damage takes the log offline: it is told, never cut.

use crate::error::OfflineReason;
use crate::layout::SegmentFileKind;
use crate::log::Log;
use crate::scan::{ScanStart, scan};

impl Log {
    /// Reads the last segment from its start to its present end.
    pub(crate) fn verify_last_segment(&self) {
        let Some(segment) = self.segment_list().last().cloned() else {
            return;
        };
        let end_position = segment.log_bytes();
        let path = segment.path(SegmentFileKind::Log);
        // A log that was deleted meanwhile has no file to verify.
        let Ok(file) = self.shared.disk().open_read_only(&path) else {
            return;
        };
        let start = ScanStart {
            position: 0,
            offset: segment.base,
            epoch: None,
            end_offset: None,
            end_position,
        };
        let end = scan(&*file, start, |_, _| {});
        // Truncated or removed meanwhile: what is missing is not damage.
        let is_shorter = segment.log_bytes() < end_position
            || !self
                .segment_list()
                .iter()
                .any(|listed| listed.base == segment.base);
        if end.position >= end_position || is_shorter {
            return;
        }
        // Without a reason the scan met zeros where batches had been.
        let kind = end
            .stopped_by
            .unwrap_or(crate::error::DamageKind::FileTooShort {
                expected: end_position,
                found: end.position,
            });
        let damage = segment.damage(end.position, end.offset, kind);
        self.go_offline(OfflineReason::Damaged(damage));
    }
}
