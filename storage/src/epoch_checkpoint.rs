//! Which leader epoch began at which offset.
//!
//! Each batch carries its epoch, so the file only saves reading the log. It is on disk before the
//! recovery point moves past the start of an entry; what lies behind the recovery point is rebuilt
//! from the batches.

use std::path::Path;

use highwater_protocol::ids::{LeaderEpoch, Offset};

use crate::disk::Disk;
use crate::error::IoError;
use crate::small_file::{self, Fields, Kind, SmallFileError};

const KIND: Kind = *b"HWep";
const VERSION: u16 = 1;

/// An epoch and the offset at which it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// The epoch: the one asked for, or the latest before it that the log has.
    pub epoch: LeaderEpoch,
    /// First offset that does not belong to it.
    pub end_offset: Offset,
}

/// Epochs of a log in order, each with its first offset. Both grow strictly.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EpochCache {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl EpochCache {
    /// The latest epoch.
    #[must_use]
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|(epoch, _)| *epoch)
    }

    /// All entries in order.
    #[must_use]
    pub fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.entries
    }

    /// Whether [`EpochCache::assign`] would change nothing.
    #[must_use]
    pub fn knows(&self, epoch: LeaderEpoch, start: Offset) -> bool {
        self.entries
            .last()
            .is_some_and(|(last, from)| *last == epoch && *from <= start)
    }

    /// The epoch begins at `start`. Entries that contradict this are dropped. Says whether anything
    /// changed.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if self.knows(epoch, start) {
            return false;
        }
        self.entries
            .retain(|(other, from)| *other < epoch && *from < start);
        self.entries.push((epoch, start));
        true
    }

    /// The log ends at `end` now: epochs that begin there or later are forgotten, also an epoch
    /// that has no record yet. Says whether anything changed.
    pub fn truncate_suffix(&mut self, end: Offset) -> bool {
        let before = self.entries.len();
        self.entries.retain(|(_, from)| *from < end);
        self.entries.len() != before
    }

    /// The log starts at `start` now: the epoch of its first record begins there, earlier ones are
    /// forgotten. Says whether anything changed.
    pub fn truncate_prefix(&mut self, start: Offset) -> bool {
        let Some(first_kept) = self.entries.iter().rposition(|(_, from)| *from <= start) else {
            return false;
        };
        let changed = first_kept > 0 || self.entries[0].1 < start;
        self.entries.drain(..first_kept);
        self.entries[0].1 = start;
        changed
    }

    /// Where `epoch` ends in a log that ends at `log_end`: what a follower compares with its own
    /// log to find the point from which the two differ. `None` when the log does not know.
    #[must_use]
    pub fn end_offset_for(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<EpochEnd> {
        if self.latest()? == epoch {
            return Some(EpochEnd {
                epoch,
                end_offset: log_end,
            });
        }
        let higher = self.entries.partition_point(|(other, _)| *other <= epoch);
        let (_, end_offset) = *self.entries.get(higher)?;
        let floor = higher
            .checked_sub(1)
            .map_or(epoch, |index| self.entries[index].0);
        Some(EpochEnd {
            epoch: floor,
            end_offset,
        })
    }

    /// The bytes of the file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(4 + self.entries.len() * 12);
        let count = u32::try_from(self.entries.len()).expect("epochs fit 32 bits");
        payload.extend_from_slice(&count.to_le_bytes());
        for (epoch, start) in &self.entries {
            payload.extend_from_slice(&epoch.get().to_le_bytes());
            payload.extend_from_slice(&start.get().to_le_bytes());
        }
        small_file::wrap(KIND, VERSION, &payload)
    }

    /// Reads the bytes of the file.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, SmallFileError> {
        let payload = small_file::unwrap(KIND, VERSION, bytes)?;
        let mut fields = Fields::new(payload);
        let count = fields.u32()? as usize;
        // Checked against the bytes before anything is reserved for it.
        if payload.len() != 4 + count.saturating_mul(12) {
            return Err(SmallFileError::Content);
        }
        let mut entries: Vec<(LeaderEpoch, Offset)> = Vec::with_capacity(count);
        for _ in 0..count {
            let entry = (LeaderEpoch::new(fields.u32()?), Offset::new(fields.u64()?));
            let grows = entries
                .last()
                .is_none_or(|last| last.0 < entry.0 && last.1 < entry.1);
            if !grows || entry.1 > Offset::MAX {
                return Err(SmallFileError::Content);
            }
            entries.push(entry);
        }
        Ok(Self { entries })
    }

    /// Reads the file of a log. `None`: there is none, or none that can be trusted.
    pub(crate) fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Self>, IoError> {
        let Some(bytes) = small_file::read_all(disk, path)? else {
            return Ok(None);
        };
        match Self::decode(&bytes) {
            Ok(cache) => Ok(Some(cache)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "leader epochs are unreadable; rebuilding");
                Ok(None)
            }
        }
    }

    /// Replaces the file of a log, durably.
    pub(crate) fn write(&self, disk: &dyn Disk, path: &Path) -> Result<(), IoError> {
        small_file::replace(disk, path, &self.encode())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cache(entries: &[(u32, u64)]) -> EpochCache {
        let mut cache = EpochCache::default();
        for (epoch, start) in entries {
            cache.assign(LeaderEpoch::new(*epoch), Offset::new(*start));
        }
        cache
    }

    fn end(epoch: u32, offset: u64) -> Option<EpochEnd> {
        Some(EpochEnd {
            epoch: LeaderEpoch::new(epoch),
            end_offset: Offset::new(offset),
        })
    }

    #[test]
    fn end_offsets_follow_the_four_cases() {
        let cache = cache(&[(2, 0), (4, 10), (7, 25)]);
        let ask = |epoch| cache.end_offset_for(LeaderEpoch::new(epoch), Offset::new(40));
        assert_eq!(ask(7), end(7, 40), "the latest ends at the end");
        assert_eq!(ask(8), None, "no higher entry");
        assert_eq!(ask(1), end(1, 0), "no entry at or below");
        assert_eq!(ask(2), end(2, 10));
        assert_eq!(ask(3), end(2, 10), "the floor");
        assert_eq!(ask(6), end(4, 25));
        assert_eq!(
            EpochCache::default().end_offset_for(LeaderEpoch::new(0), Offset::new(1)),
            None
        );
    }

    #[test]
    fn assign_drops_what_contradicts_it() {
        let mut epochs = cache(&[(1, 0), (3, 10), (5, 20)]);
        assert!(
            !epochs.assign(LeaderEpoch::new(5), Offset::new(22)),
            "known"
        );
        assert!(epochs.assign(LeaderEpoch::new(4), Offset::new(15)));
        assert_eq!(epochs, cache(&[(1, 0), (3, 10), (4, 15)]));
        assert!(epochs.assign(LeaderEpoch::new(9), Offset::new(10)));
        assert_eq!(epochs, cache(&[(1, 0), (9, 10)]));
    }

    #[test]
    fn truncation_forgets_an_empty_epoch_too() {
        let mut epochs = cache(&[(1, 0), (3, 10), (5, 20)]);
        assert!(epochs.truncate_suffix(Offset::new(20)));
        assert_eq!(epochs, cache(&[(1, 0), (3, 10)]));
        assert!(!epochs.truncate_suffix(Offset::new(11)));
        assert!(epochs.truncate_prefix(Offset::new(12)));
        assert_eq!(epochs.entries(), [(LeaderEpoch::new(3), Offset::new(12))]);
        assert!(!epochs.truncate_prefix(Offset::new(12)));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Assign(u32, u64),
        Suffix(u64),
        Prefix(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u32..20, 0u64..50).prop_map(|(epoch, start)| Step::Assign(epoch, start)),
            1 => (0u64..50).prop_map(Step::Suffix),
            1 => (0u64..50).prop_map(Step::Prefix),
        ]
    }

    proptest! {
        #[test]
        fn entries_always_grow_and_survive_the_file(steps in prop::collection::vec(step(), 0..40)) {
            let mut cache = EpochCache::default();
            for step in steps {
                match step {
                    Step::Assign(epoch, start) => {
                        let (epoch, start) = (LeaderEpoch::new(epoch), Offset::new(start));
                        cache.assign(epoch, start);
                        prop_assert!(cache.knows(epoch, start));
                    }
                    Step::Suffix(end) => {
                        cache.truncate_suffix(Offset::new(end));
                        prop_assert!(cache.entries.iter().all(|(_, from)| from.get() < end));
                    }
                    Step::Prefix(start) => {
                        let before = cache.latest();
                        cache.truncate_prefix(Offset::new(start));
                        prop_assert_eq!(cache.latest(), before);
                    }
                }
                for pair in cache.entries.windows(2) {
                    prop_assert!(pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1);
                }
                prop_assert_eq!(EpochCache::decode(&cache.encode()), Ok(cache.clone()));
            }
        }
    }
}
