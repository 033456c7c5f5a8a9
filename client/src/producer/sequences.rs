//! Who a producer is towards one partition and how its batches are numbered there, so that the
//! broker can tell a batch that it has already from a new one, and refuse one that comes too early.
//!
//! Every batch that was sent keeps its producer id, epoch and sequence numbers, and is byte for byte
//! the same in every attempt. A batch that is given up leaves a hole in the sequence, and the broker
//! refuses everything behind it. Then the sequence starts over: with the next epoch of the same id,
//! from 0. The broker accepts that from a newer epoch, and refuses from then on whatever of the
//! older one may still be under way.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use highwater_protocol::ids::{ProducerEpoch, ProducerId, Sequence, TopicId};
use highwater_protocol::record_batch::{self, ProducerStamp};
use tokio::time::Instant;

use super::batch::Batch;

/// Most batches of one partition in flight: the broker recognizes as many as repetitions.
const IN_FLIGHT_MAX: u64 = 5;

/// Sequence numbers are below this, and begin again at 0.
const SEQUENCES: u64 = 1 << 31;

/// The last epoch of a producer id.
const EPOCH_MAX: u16 = i16::MAX as u16;

/// For how long after an acknowledgement the broker is taken to know the producer. A broker that
/// knows nothing takes any sequence number, also one behind a batch that it refused.
const PROOF_LASTS: Duration = Duration::from_secs(60);

/// Which producer this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: ProducerId,
    pub(super) epoch: ProducerEpoch,
}

/// A batch that has numbers and was given up.
#[derive(Debug, Clone, Copy)]
struct Hole {
    /// The last such batch.
    batch: u64,
    /// Whether one of them may be in the log.
    doubtful: bool,
}

/// The sequence of one partition.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    identity: Option<Identity>,
    /// The log that the numbers are about: a topic that is made anew has other logs.
    topic_id: Option<TopicId>,
    /// The number of the next record that has none.
    next: u32,
    /// When the broker last acknowledged something of this identity.
    proven: Option<Instant>,
    hole: Option<Hole>,
    /// The broker refused the first batch that it does not have: it lacks what comes before.
    refused: bool,
    /// The id that must not be used any more.
    used_up: Option<ProducerId>,
}

impl Sequences {
    /// Whether nothing can be sent for want of a producer id.
    pub(super) fn lack_identity(&self) -> bool {
        self.identity.is_none()
    }

    /// The id that is of no use any more, if there is one.
    pub(super) fn used_up(&self) -> Option<ProducerId> {
        self.used_up
    }

    /// Begins with an id.
    pub(super) fn adopt(&mut self, identity: Identity) {
        self.identity = Some(identity);
        self.begin();
    }

    fn begin(&mut self) {
        self.next = 0;
        self.proven = None;
        self.hole = None;
        self.refused = false;
    }

    /// Begins with a log; `true` if that is another one than before, where batches get new numbers.
    pub(super) fn follow(&mut self, topic_id: TopicId) -> bool {
        let before = self.topic_id.replace(topic_id);
        let another = before.is_some_and(|before| before != topic_id);
        if another {
            self.begin();
        }
        another
    }

    /// Whether the numbers are about this log, or about none yet.
    pub(super) fn are_about(&self, topic_id: TopicId) -> bool {
        self.topic_id.is_none_or(|known| known == topic_id)
    }

    /// What was acknowledged before proves nothing any more: the next broker may be another one, or
    /// one that lost what its leader had acknowledged alone.
    pub(super) fn doubt_proof(&mut self) {
        self.proven = None;
    }

    /// How many batches may be in flight, counted from the oldest of them.
    pub(super) fn in_flight_max(&self) -> u64 {
        let known = self
            .proven
            .is_some_and(|proven| proven.elapsed() < PROOF_LASTS);
        if known { IN_FLIGHT_MAX } else { 1 }
    }

    /// Whether batches without numbers must wait: they would get numbers behind a hole.
    pub(super) fn are_broken(&self) -> bool {
        self.hole.is_some() || self.refused
    }

    /// Whether the broker surely lacks something in front of the first batch.
    pub(super) fn are_refused(&self) -> bool {
        self.refused
    }

    /// Whether a batch that was given up may be in the log.
    pub(super) fn have_doubt(&self) -> bool {
        self.hole.is_some_and(|hole| hole.doubtful)
    }

    /// The stamp that a batch will probably have which is finished now, behind `last`.
    pub(super) fn plan(&self, last: Option<&Batch>) -> Option<ProducerStamp> {
        let next = match last {
            Some(last) => after(last.stamp?.base_sequence?.get(), last.records),
            None => self.next,
        };
        self.stamp(next)
    }

    fn stamp(&self, sequence: u32) -> Option<ProducerStamp> {
        let identity = self.identity?;
        Some(ProducerStamp {
            id: identity.id,
            epoch: identity.epoch,
            base_sequence: Some(Sequence::new(sequence)),
        })
    }

    /// Gives the batch its numbers for good, unless it has them.
    pub(super) fn number(&mut self, batch: &mut Batch) {
        if batch.numbered {
            return;
        }
        let stamp = self.stamp(self.next);
        if batch.stamp != stamp {
            let mut bytes = BytesMut::from(std::mem::take(&mut batch.bytes));
            record_batch::set_producer(&mut bytes, stamp);
            batch.bytes = Bytes::from(bytes);
            batch.stamp = stamp;
        }
        batch.numbered = true;
        self.next = after(self.next, batch.records);
    }

    /// The broker has the batch, and so everything in front of it.
    pub(super) fn appended(&mut self, batch: u64, now: Instant) {
        self.proven = Some(now);
        if self.hole.is_some_and(|hole| hole.batch < batch) {
            self.hole = None;
        }
    }

    /// A batch that has numbers was given up.
    pub(super) fn gave_up(&mut self, batch: u64, doubtful: bool) {
        let before = self.hole.unwrap_or(Hole { batch, doubtful });
        self.hole = Some(Hole {
            batch: before.batch.max(batch),
            doubtful: before.doubtful || doubtful,
        });
    }

    /// The broker refused the first batch that it does not have.
    pub(super) fn refuse(&mut self) {
        self.refused = true;
    }

    /// The broker knows a newer epoch of the id, which is nobody else's: the id is spoilt.
    pub(super) fn fence(&mut self) {
        self.refused = true;
        self.used_up = self.identity.map(|identity| identity.id);
    }

    /// Starts over: with the next epoch, or without an id if that was the last one. Nothing may be
    /// in flight.
    pub(super) fn restart(&mut self) {
        self.begin();
        let Some(identity) = &mut self.identity else {
            return;
        };
        if identity.epoch.get() >= EPOCH_MAX || self.used_up == Some(identity.id) {
            self.used_up = Some(identity.id);
            self.identity = None;
        } else {
            identity.epoch = ProducerEpoch::new(identity.epoch.get() + 1);
        }
    }
}

/// The number that follows `records` numbers from `sequence` on.
fn after(sequence: u32, records: u32) -> u32 {
    ((u64::from(sequence) + u64::from(records)) % SEQUENCES) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_wrap_below_the_sign_bit() {
        assert_eq!(after(0, 3), 3);
        assert_eq!(after(i32::MAX as u32, 1), 0);
        assert_eq!(after(i32::MAX as u32 - 1, 5), 3);
    }

    #[test]
    fn the_last_epoch_is_followed_by_a_new_id() {
        let mut sequences = Sequences::default();
        sequences.adopt(Identity {
            id: ProducerId::new(7),
            epoch: ProducerEpoch::new(EPOCH_MAX - 1),
        });
        sequences.restart();
        assert!(!sequences.lack_identity());
        sequences.restart();
        assert!(sequences.lack_identity());
        assert_eq!(sequences.used_up(), Some(ProducerId::new(7)));
    }
}
