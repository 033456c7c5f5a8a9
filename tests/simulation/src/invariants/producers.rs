//! Retries of idempotent producers.
//!
//! - P1: in one log, the sequence numbers of a producer follow each other from the first one on; P3: no
//!   batch of an earlier producer epoch follows one of a later (producers here have one epoch each).
//! - P2: the verdict on a batch is the one that the batches in the log demand: duplicate with its offset
//!   if it is one of the last five of its producer, appended if it follows, refused otherwise.
//! - P4: a batch that is acknowledged twice has the same offset both times.
//! - P5: the order of sequence numbers is the order of offsets.
//! - P6: nothing is acknowledged with `acks=all` before the high watermark is past it.
//!
//! Where old records are deleted, a replica that begins after them may know less, and P2 is not asserted.

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{Offset, ProducerId};
use highwater_protocol::record_batch::BatchHeader;
use highwater_storage::IdempotentAppend;

use super::{Fact, Oracle};
use crate::message::Key;
use crate::replica::Waiting;

/// What the batches in a log demand for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Append,
    Duplicate(u64),
    OldDuplicate,
    Refuse,
}

/// As many batches of a producer are remembered with their offsets.
const REMEMBERED: usize = 5;

impl Oracle {
    /// A batch was appended to a log.
    pub(super) fn check_sequence(&mut self, node: usize, key: Key, fact: Fact) {
        let Some((id, sequence, _)) = fact.producer else {
            return;
        };
        if self.truths.get(&key).is_some_and(|truth| truth.is_trimmed) {
            return;
        }
        let Some(shadow) = self.shadows.get(&(node, key)) else {
            return;
        };
        let others = shadow.batches.iter().rev().skip(1);
        let last = others
            .filter_map(|fact| fact.producer)
            .find(|(of, ..)| *of == id);
        if let Some((_, first, count)) = last
            && first + count != sequence
        {
            self.broken(
                "P1",
                format!("broker {node} has sequence {sequence} of {id} behind {first} and {count} records"),
            );
        }
    }

    /// What the log of a replica demands for a batch; `None`: that is not known.
    pub(crate) fn verdict(&self, node: usize, key: Key, batch: &[u8]) -> Option<Verdict> {
        if self.truths.get(&key).is_some_and(|truth| truth.is_trimmed) {
            return None;
        }
        let (id, sequence, count) = Fact::of(&BatchHeader::parse(batch).ok()?, batch).producer?;
        let Some(shadow) = self.shadows.get(&(node, key)) else {
            return Some(Verdict::Append);
        };
        let own = shadow.batches.iter().rev().filter_map(|fact| {
            let (of, first, count) = fact.producer?;
            (of == id).then_some((first, count, fact.base))
        });
        let own: Vec<_> = own.collect();
        let (Some((first, last_count, _)), Some((oldest, ..))) =
            (own.first().copied(), own.last().copied())
        else {
            return Some(Verdict::Append);
        };
        let mut remembered = own.iter().take(REMEMBERED);
        if let Some((.., base)) = remembered.find(|one| (one.0, one.1) == (sequence, count)) {
            return Some(Verdict::Duplicate(*base));
        }
        let next = first + last_count;
        Some(match sequence {
            _ if sequence == next => Verdict::Append,
            _ if sequence >= oldest && sequence + count <= next => Verdict::OldDuplicate,
            _ => Verdict::Refuse,
        })
    }

    /// What became of a batch of which the log demanded `known`.
    pub(crate) fn on_verdict(
        &mut self,
        key: Key,
        batch: &[u8],
        known: Option<Verdict>,
        found: Result<IdempotentAppend, ErrorCode>,
    ) {
        let Some(known) = known else { return };
        let fits = match (known, found) {
            (Verdict::Append, Ok(IdempotentAppend::Appended(_)))
            | (Verdict::Refuse, Err(ErrorCode::OutOfOrderSequence)) => true,
            (Verdict::Duplicate(base), Ok(IdempotentAppend::Duplicate { base_offset, .. })) => {
                base_offset == Some(Offset::new(base))
            }
            (Verdict::OldDuplicate, Ok(IdempotentAppend::Duplicate { .. })) => true,
            (_, Err(code)) => code != ErrorCode::OutOfOrderSequence,
            _ => false,
        };
        if !fits {
            let header = BatchHeader::parse(batch);
            self.broken(
                "P2",
                format!("{key:?}: {header:?} is {known:?} and was {found:?}"),
            );
        }
    }

    /// A leader acknowledges with `acks=all`.
    pub(crate) fn on_ack(&mut self, key: Key, waiting: &Waiting, high_watermark: Offset) {
        if high_watermark < waiting.end_offset {
            self.broken(
                "P6",
                format!("{key:?}: {waiting:?} is acknowledged at high watermark {high_watermark}"),
            );
        }
    }

    /// A producer hears that a batch is safe.
    pub(crate) fn on_acknowledged(
        &mut self,
        key: Key,
        id: ProducerId,
        sequence: u32,
        offset: Option<Offset>,
    ) {
        let is_unclean = self.is_unclean(key);
        let truth = self.truth(key);
        let known = truth.acknowledged.get(&(id, sequence)).copied().flatten();
        truth.acknowledged.insert((id, sequence), offset.or(known));
        let Some(offset) = offset.filter(|_| !is_unclean) else {
            return;
        };
        let is_other = known.is_some_and(|known| known != offset);
        let before = truth
            .acknowledged
            .range((id, 0)..(id, sequence))
            .next_back();
        let after = truth
            .acknowledged
            .range((id, sequence + 1)..(id, u32::MAX))
            .next();
        let is_unordered = before.is_some_and(|(_, one)| one.is_some_and(|one| one >= offset))
            || after.is_some_and(|(_, one)| one.is_some_and(|one| one <= offset));
        if is_other {
            self.broken(
                "P4",
                format!("sequence {sequence} of {id} is at {known:?} and at {offset}"),
            );
        } else if is_unordered {
            self.broken(
                "P5",
                format!("sequence {sequence} of {id} is out of order at {offset}"),
            );
        }
    }
}
