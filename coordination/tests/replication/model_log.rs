//! A log as a list of records, with the epochs as the storage keeps them.

use highwater_coordination::partition_follower::LogPosition;
use highwater_protocol::ids::{LeaderEpoch, Offset};
use highwater_protocol::messages::EpochEnd;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) epoch: u32,
    pub(crate) value: u64,
}

/// Starts at offset 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ModelLog {
    pub(crate) records: Vec<Record>,
    epochs: Vec<(u32, usize)>,
}

impl ModelLog {
    pub(crate) fn end(&self) -> Offset {
        Offset::new(self.records.len() as u64)
    }

    pub(crate) fn position(&self) -> LogPosition {
        LogPosition {
            log_start: Offset::ZERO,
            log_end: self.end(),
            last_epoch: self
                .epochs
                .last()
                .map(|(epoch, _)| LeaderEpoch::new(*epoch)),
        }
    }

    /// A leader begins an epoch at the end.
    pub(crate) fn assign(&mut self, epoch: u32) {
        let start = self.records.len();
        if self
            .epochs
            .last()
            .is_some_and(|last| last.0 == epoch && last.1 <= start)
        {
            return;
        }
        self.epochs
            .retain(|(other, from)| *other < epoch && *from < start);
        self.epochs.push((epoch, start));
    }

    pub(crate) fn append(&mut self, record: Record) {
        if self
            .epochs
            .last()
            .is_none_or(|(epoch, _)| *epoch != record.epoch)
        {
            self.assign(record.epoch);
        }
        self.records.push(record);
    }

    pub(crate) fn truncate(&mut self, to: Offset) {
        let to = to.get() as usize;
        self.records.truncate(to);
        self.epochs.retain(|(_, from)| *from < to);
    }

    pub(crate) fn epoch_end(&self, epoch: LeaderEpoch) -> Option<EpochEnd> {
        let asked = epoch.get();
        let end = |epoch: u32, end: usize| EpochEnd {
            epoch: LeaderEpoch::new(epoch),
            end: Offset::new(end as u64),
        };
        if self.epochs.last()?.0 == asked {
            return Some(end(asked, self.records.len()));
        }
        let higher = self.epochs.iter().position(|(other, _)| *other > asked)?;
        let floor = higher.checked_sub(1).map_or(asked, |at| self.epochs[at].0);
        Some(end(floor, self.epochs[higher].1))
    }

    /// How many records at the front are the same in both.
    pub(crate) fn common_with(&self, other: &Self) -> usize {
        let pairs = self.records.iter().zip(&other.records);
        pairs.take_while(|(a, b)| a == b).count()
    }
}
