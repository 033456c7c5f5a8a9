//! The one place that reads clocks.
//!
//! Timestamps are data: they go on records and into retention, and nothing correct depends on them.
//! Waiting is done by tokio's timers, which are monotonic.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use highwater_protocol::ids::Timestamp;

/// Wall clock of a broker, with an offset that tests turn.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    skew_ms: AtomicI64,
}

impl Clock {
    /// The time now, as this machine believes.
    #[must_use]
    pub(crate) fn now(&self) -> Timestamp {
        // A clock before 1970 is a broken clock; records then carry 0, which retention tolerates.
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let millis = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millis(millis.saturating_add(self.skew_ms.load(Ordering::Relaxed)))
    }

    /// Makes this broker's wall clock jump, to show that nothing but timestamps minds.
    pub(crate) fn jump(&self, by_ms: i64) {
        self.skew_ms.fetch_add(by_ms, Ordering::Relaxed);
    }
}
