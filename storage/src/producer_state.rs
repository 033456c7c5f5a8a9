//! What a partition remembers of its idempotent producers, and what that says about their batches.
//!
//! Pure: no files, no clock. The state is a function of the batches in the log, in their order, so it
//! is the same on every replica and after every restart. The only exception is that producers that were
//! silent for a day are forgotten some time, which makes a broker accept more, never refuse more.
//!
//! It lies in this crate, and not with the other decisions in `coordination`, because a verdict counts
//! only in the critical section of the append that follows it, truncation takes the state back with
//! the batches, and a start rebuilds it from their headers. Rules in one place and data in another
//! would be two versions of the same thing.
//!
//! The verdict on a batch with epoch `e` and sequences `f..=l`, when the producer is known with epoch
//! `E` and its last sequence was `L` (KIP-98, KIP-360; Kafka keeps the same number of batches):
//!
//! | case | verdict |
//! |---|---|
//! | unknown | append, whatever `f` |
//! | `e < E` | invalid epoch |
//! | `e > E`, `f` is 0 | append; what the old epoch did is forgotten |
//! | `e > E` otherwise | out of order |
//! | `e = E`, one of the last five batches has exactly `f..=l` | duplicate, with its offsets |
//! | `e = E`, `f` follows `L` | append |
//! | `e = E`, all of `f..=l` was accepted earlier | duplicate, offsets not known any more |
//! | `e = E` otherwise | out of order |
//!
//! Sequences count to 2^31 - 1 and go on with 0. "Earlier" looks back over half of that range at most,
//! so that a gap is never taken for the distant past.

use std::collections::{HashMap, VecDeque};

use highwater_protocol::ids::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use highwater_protocol::record_batch::{BatchHeader, ProducerStamp};
use thiserror::Error;

/// Batches whose offsets are remembered for each producer: as many as a producer has under way at
/// most.
pub const BATCHES_KEPT: usize = 5;

/// Producers that a partition remembers at most, about 2.5 MB. One more, and the one whose last batch
/// is the oldest in the log is forgotten: its next batch counts as that of a new producer.
pub const PRODUCERS_MAX: usize = 10_000;

/// A producer that was not heard for this long may be forgotten.
pub const IDLE_MS_MAX: i64 = 24 * 3600 * 1000;

/// How many sequence numbers there are: 0 to 2^31 - 1.
const SEQUENCES: u64 = 1 << 31;

/// The sequence number `count` after another.
fn after(sequence: Sequence, count: u64) -> Sequence {
    Sequence::new(((u64::from(sequence.get()) + count) % SEQUENCES) as u32)
}

/// How many sequence numbers `earlier` lies before `later`, going around if need be.
fn distance(earlier: Sequence, later: Sequence) -> u64 {
    (u64::from(later.get()) + SEQUENCES - u64::from(earlier.get())) % SEQUENCES
}

/// A batch of a producer that is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KnownBatch {
    /// Sequence number of its first record.
    pub first_sequence: Sequence,
    /// Sequence number of its last record.
    pub last_sequence: Sequence,
    /// Offset of its first record.
    pub first_offset: Offset,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// Its newest timestamp.
    pub timestamp: Timestamp,
}

impl KnownBatch {
    fn of(header: &BatchHeader, first_sequence: Sequence) -> Self {
        Self {
            first_sequence,
            last_sequence: after(first_sequence, u64::from(header.last_offset_delta)),
            first_offset: header.base_offset,
            last_offset: header.last_offset(),
            timestamp: header.max_timestamp,
        }
    }
}

/// One producer as a partition knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    pub(crate) epoch: ProducerEpoch,
    /// Oldest first; the first `kept` count.
    pub(crate) batches: [KnownBatch; BATCHES_KEPT],
    pub(crate) kept: u8,
    /// Records accepted in this epoch without a gap: the first sequence number ever accepted is this
    /// many before the one that comes next.
    pub(crate) accepted: u64,
    /// Of its last batch, also of one without sequence numbers.
    pub(crate) last_offset: Offset,
}

impl Producer {
    fn new(epoch: ProducerEpoch) -> Self {
        Self {
            epoch,
            batches: [KnownBatch::default(); BATCHES_KEPT],
            kept: 0,
            accepted: 0,
            last_offset: Offset::ZERO,
        }
    }

    /// Its epoch.
    #[must_use]
    pub const fn epoch(&self) -> ProducerEpoch {
        self.epoch
    }

    /// Its last batches, oldest first.
    #[must_use]
    pub fn batches(&self) -> &[KnownBatch] {
        &self.batches[..usize::from(self.kept).min(BATCHES_KEPT)]
    }

    fn last(&self) -> Option<&KnownBatch> {
        self.batches().last()
    }

    fn check(&self, stamp: &ProducerStamp, header: &BatchHeader) -> Verdict {
        if stamp.epoch < self.epoch {
            return Verdict::InvalidEpoch {
                current: self.epoch,
            };
        }
        let Some(first) = stamp.base_sequence else {
            return Verdict::Append;
        };
        let out_of_order = |expected| Verdict::OutOfOrder {
            expected,
            found: first,
        };
        if stamp.epoch > self.epoch {
            return if first == Sequence::ZERO {
                Verdict::Append
            } else {
                out_of_order(Sequence::ZERO)
            };
        }
        let Some(last) = self.last() else {
            return Verdict::Append;
        };
        let asked = KnownBatch::of(header, first);
        let same = |known: &&KnownBatch| {
            (known.first_sequence, known.last_sequence)
                == (asked.first_sequence, asked.last_sequence)
        };
        if let Some(known) = self.batches().iter().find(same) {
            return Verdict::Duplicate {
                first_offset: known.first_offset,
                last_offset: known.last_offset,
            };
        }
        let expected = after(last.last_sequence, 1);
        if first == expected {
            return Verdict::Append;
        }
        let back_to_first = distance(first, last.last_sequence);
        let back_to_last = distance(asked.last_sequence, last.last_sequence);
        if back_to_last <= back_to_first && back_to_first < self.accepted.min(SEQUENCES / 2) {
            return Verdict::DuplicateUnknownOffset;
        }
        out_of_order(expected)
    }

    /// The batch is in the log.
    fn record(&mut self, stamp: &ProducerStamp, header: &BatchHeader) {
        if stamp.epoch != self.epoch {
            *self = Self::new(stamp.epoch);
        }
        self.last_offset = header.last_offset();
        let Some(first) = stamp.base_sequence.filter(|_| !header.is_control) else {
            return;
        };
        let batch = KnownBatch::of(header, first);
        let records = u64::from(header.last_offset_delta) + 1;
        let follows = self
            .last()
            .is_some_and(|last| after(last.last_sequence, 1) == first);
        self.accepted = if follows {
            self.accepted.saturating_add(records)
        } else {
            // Nobody can say any more what was accepted before the gap, except for the batches kept.
            records
        };
        if usize::from(self.kept) == BATCHES_KEPT {
            self.batches.rotate_left(1);
            self.batches[BATCHES_KEPT - 1] = batch;
        } else {
            self.batches[usize::from(self.kept)] = batch;
            self.kept += 1;
        }
    }
}

/// What to do with a batch that a producer sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Append it.
    Append,
    /// It is in the log already.
    Duplicate {
        /// Offset of its first record.
        first_offset: Offset,
        /// Offset of its last record.
        last_offset: Offset,
    },
    /// It is in the log already, but not among the last batches of its producer.
    DuplicateUnknownOffset,
    /// Batches before it are missing.
    OutOfOrder {
        /// The sequence number that would be next.
        expected: Sequence,
        /// The first of the batch.
        found: Sequence,
    },
    /// A later incarnation of the producer was there already.
    InvalidEpoch {
        /// Epoch of the later one.
        current: ProducerEpoch,
    },
}

/// What to do with batches that are appended all or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitVerdict {
    /// Append them.
    Append,
    /// They are in the log already.
    Duplicate {
        /// Offset of the first record, if it is still known.
        first_offset: Option<Offset>,
        /// Offset of the last record, if it is still known.
        last_offset: Option<Offset>,
    },
}

/// Why batches of an idempotent producer are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SequenceError {
    /// Batches before it are missing.
    #[error("sequence number {found} of producer {producer} does not follow: {expected} is next")]
    OutOfOrder {
        /// The producer.
        producer: ProducerId,
        /// The sequence number that would be next.
        expected: Sequence,
        /// The first of the batch.
        found: Sequence,
    },
    /// A later incarnation of the producer was there already.
    #[error("producer {producer} has epoch {current} by now, the batch has {found}")]
    InvalidEpoch {
        /// The producer.
        producer: ProducerId,
        /// Epoch of the later incarnation.
        current: ProducerEpoch,
        /// Epoch of the batch.
        found: ProducerEpoch,
    },
    /// Some batches of one append are in the log already, and others are not.
    #[error("some of the batches were appended before and some were not; send one batch at a time")]
    PartlyDuplicate,
}

/// A producer and when it was heard last by this broker's clock; `None` when it is known from the log,
/// whose timestamps are the producer's own. Not part of the state.
#[derive(Debug, Clone, Copy)]
struct Entry {
    producer: Producer,
    heard: Option<Timestamp>,
}

/// All producers that a partition knows.
#[derive(Debug, Clone)]
pub struct Producers {
    known: HashMap<ProducerId, Entry>,
    max: usize,
    /// When the silent ones were last looked for.
    looked: Option<Timestamp>,
    /// Who was the longest silent when this was made, in that order. An entry counts only while its
    /// offset is still that of the producer's last batch.
    silent: VecDeque<(ProducerId, Offset)>,
}

impl Default for Producers {
    fn default() -> Self {
        Self::with_max(PRODUCERS_MAX)
    }
}

/// Who is silent is not part of the state.
impl PartialEq for Producers {
    fn eq(&self, other: &Self) -> bool {
        self.sorted() == other.sorted()
    }
}

impl Eq for Producers {}

impl Producers {
    /// None, with another bound than [`PRODUCERS_MAX`], at least 1.
    #[must_use]
    pub fn with_max(max: usize) -> Self {
        Self {
            known: HashMap::new(),
            max: max.max(1),
            looked: None,
            silent: VecDeque::new(),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// What is known of one.
    #[must_use]
    pub fn get(&self, id: ProducerId) -> Option<&Producer> {
        self.known.get(&id).map(|entry| &entry.producer)
    }

    /// All of them, sorted by id.
    #[must_use]
    pub fn sorted(&self) -> Vec<(ProducerId, Producer)> {
        let mut all: Vec<_> = self
            .known
            .iter()
            .map(|(id, entry)| (*id, entry.producer))
            .collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }

    /// Takes one from a snapshot.
    pub(crate) fn insert(&mut self, id: ProducerId, producer: Producer) {
        let heard = None;
        self.known.insert(id, Entry { producer, heard });
    }

    /// What to do with a batch that a producer sent. One without producer is appended.
    #[must_use]
    pub fn check(&self, header: &BatchHeader) -> Verdict {
        let Some(stamp) = &header.producer else {
            return Verdict::Append;
        };
        self.get(stamp.id)
            .map_or(Verdict::Append, |known| known.check(stamp, header))
    }

    /// What to do with batches that are appended all or none, each checked as if those before it
    /// were in the log.
    ///
    /// # Errors
    /// [`SequenceError`] for the first batch that must not be appended, or when only some of them are
    /// in the log already.
    pub fn check_all<'a>(
        &self,
        headers: impl Iterator<Item = &'a BatchHeader>,
    ) -> Result<UnitVerdict, SequenceError> {
        // What the batches before would leave behind. Nothing is needed for the usual single batch.
        let mut ahead: HashMap<ProducerId, Producer> = HashMap::new();
        let mut previous: Option<&BatchHeader> = None;
        let mut unit = None;
        for header in headers {
            if let Some((before, stamp)) = previous
                .take()
                .and_then(|before| before.producer.as_ref().map(|stamp| (before, stamp)))
            {
                let known = self.get(stamp.id).copied();
                ahead
                    .entry(stamp.id)
                    .or_insert_with(|| known.unwrap_or_else(|| Producer::new(stamp.epoch)))
                    .record(stamp, before);
            }
            let verdict = match &header.producer {
                Some(stamp) => match ahead.get(&stamp.id) {
                    Some(known) => known.check(stamp, header),
                    None => self.check(header),
                },
                None => Verdict::Append,
            };
            let so_far = one(header, verdict)?;
            match (&mut unit, so_far) {
                (None, first) => unit = Some(first),
                (Some(UnitVerdict::Append), UnitVerdict::Append) => {}
                (
                    Some(UnitVerdict::Duplicate { last_offset, .. }),
                    UnitVerdict::Duplicate {
                        last_offset: last, ..
                    },
                ) => {
                    // Not knowing one of them is not knowing the last of all.
                    *last_offset = last_offset.zip(last).map(|(a, b)| a.max(b));
                }
                _ => return Err(SequenceError::PartlyDuplicate),
            }
            if so_far == UnitVerdict::Append {
                previous = Some(header);
            }
        }
        Ok(unit.unwrap_or(UnitVerdict::Append))
    }

    /// A batch is in the log, whoever put it there. It is never refused here: what a leader accepted
    /// is a fact for its followers. `now` is `None` when the batch was found and not appended.
    pub fn record(&mut self, header: &BatchHeader, now: Option<Timestamp>) {
        let Some(stamp) = &header.producer else {
            return;
        };
        if let Some(known) = self.known.get_mut(&stamp.id) {
            known.producer.record(stamp, header);
            known.heard = known.heard.max(now);
            return;
        }
        while self.known.len() >= self.max {
            self.forget_longest_silent();
        }
        let mut producer = Producer::new(stamp.epoch);
        producer.record(stamp, header);
        let heard = now;
        self.known.insert(stamp.id, Entry { producer, heard });
    }

    /// Forgets the one whose last batch has the lowest offset. Sorting all of them is spread over as
    /// many calls as there are producers.
    fn forget_longest_silent(&mut self) {
        if self.silent.is_empty() {
            let mut order: Vec<_> = self
                .known
                .iter()
                .map(|(id, known)| (*id, known.producer.last_offset))
                .collect();
            order.sort_unstable_by_key(|(id, offset)| (*offset, *id));
            self.silent = order.into();
        }
        // Who is not in the queue came later than everyone in it, and who was heard since then moved
        // behind them all: the first whose offset is still the same is the one.
        while let Some((id, offset)) = self.silent.pop_front() {
            if self
                .known
                .get(&id)
                .is_some_and(|known| known.producer.last_offset == offset)
            {
                self.known.remove(&id);
                return;
            }
        }
    }

    /// Forgets who was not heard for [`IDLE_MS_MAX`]. To be called now and then.
    ///
    /// One that is known from the log alone counts as heard now: its timestamps say nothing about this
    /// broker's clock. And when that clock seems to have jumped since the last call, all count as heard
    /// now: a jump must not make a broker forget what it is about to be asked.
    pub fn forget_idle(&mut self, now: Timestamp) {
        let since = |then: Timestamp| now.millis().saturating_sub(then.millis());
        let steady = self
            .looked
            .is_some_and(|looked| (0..IDLE_MS_MAX / 2).contains(&since(looked)));
        self.looked = Some(now);
        self.known.retain(|_, known| {
            let heard = known.heard.filter(|_| steady).unwrap_or(now);
            known.heard = Some(heard);
            since(heard) <= IDLE_MS_MAX
        });
    }
}

/// The verdict on one batch as that on all.
fn one(header: &BatchHeader, verdict: Verdict) -> Result<UnitVerdict, SequenceError> {
    let stamp = header.producer.as_ref();
    let producer = stamp.map_or(ProducerId::ZERO, |stamp| stamp.id);
    match verdict {
        Verdict::Append => Ok(UnitVerdict::Append),
        Verdict::Duplicate {
            first_offset,
            last_offset,
        } => Ok(UnitVerdict::Duplicate {
            first_offset: Some(first_offset),
            last_offset: Some(last_offset),
        }),
        Verdict::DuplicateUnknownOffset => Ok(UnitVerdict::Duplicate {
            first_offset: None,
            last_offset: None,
        }),
        Verdict::OutOfOrder { expected, found } => Err(SequenceError::OutOfOrder {
            producer,
            expected,
            found,
        }),
        Verdict::InvalidEpoch { current } => Err(SequenceError::InvalidEpoch {
            producer,
            current,
            found: stamp.map_or(ProducerEpoch::ZERO, |stamp| stamp.epoch),
        }),
    }
}

#[cfg(test)]
#[path = "producer_state_tests.rs"]
mod tests;
