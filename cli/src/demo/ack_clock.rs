//! When the records of one partition were acknowledged, and the longest time in which none was.

use std::time::{Duration, Instant};

/// The acknowledgements of one partition.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AckClock {
    records: u64,
    last: Option<Instant>,
    longest: Duration,
}

impl AckClock {
    /// Records were acknowledged.
    pub(crate) fn tick(&mut self, now: Instant, records: u64) {
        if let Some(last) = self.last {
            self.longest = self.longest.max(now.saturating_duration_since(last));
        }
        self.last = Some(now);
        self.records += records;
    }

    /// Forgets how long it was silent so far. The silence that lasts goes on: a partition may have
    /// been idle when its leader died, and for its writer that is all one pause.
    pub(crate) fn watch(&mut self) {
        self.longest = Duration::ZERO;
    }

    /// Longest silence since [`Self::watch`], the one that lasts included; `None` where nothing was
    /// ever acknowledged.
    pub(crate) fn longest(&self, now: Instant) -> Option<Duration> {
        Some(self.longest.max(self.silence(now)?))
    }

    /// Time since the last acknowledgement, if there was one.
    pub(crate) fn silence(&self, now: Instant) -> Option<Duration> {
        self.last.map(|last| now.saturating_duration_since(last))
    }

    /// Records that were acknowledged.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// Whether anything was acknowledged after this moment.
    pub(crate) fn ticked_after(&self, moment: Instant) -> bool {
        self.last.is_some_and(|last| last > moment)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::AckClock;

    #[test]
    fn the_longest_silence_begins_before_the_watch_and_may_still_last() {
        let ms = Duration::from_millis;
        let start = Instant::now();
        let mut clock = AckClock::default();
        assert_eq!(clock.longest(start), None);
        clock.tick(start, 2);
        clock.tick(start + ms(500), 1);
        clock.watch();
        assert!(clock.ticked_after(start));
        assert!(!clock.ticked_after(start + ms(500)));
        clock.tick(start + ms(700), 1);
        assert_eq!(clock.longest(start + ms(800)), Some(ms(200)));
        assert_eq!(clock.longest(start + ms(1000)), Some(ms(300)));
        assert_eq!(clock.silence(start + ms(1000)), Some(ms(300)));
        assert_eq!(clock.records(), 4);
    }
}
