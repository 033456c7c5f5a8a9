//! What a broker knows about idempotent producers, and the rules that it has for their batches.

use std::collections::{HashMap, VecDeque};

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{Offset, ProducerId};
use highwater_protocol::record_batch::BatchHeader;

/// Batches that are recognized when they come again.
const RECOGNIZED: usize = 5;

/// The producers of one partition.
#[derive(Debug, Default)]
pub(super) struct Producers(HashMap<ProducerId, Entry>);

#[derive(Debug)]
struct Entry {
    epoch: u16,
    /// The first sequence number that was accepted.
    first: u32,
    last: u32,
    batches: VecDeque<(u32, u32, Offset)>,
}

/// What is to be done with a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Append,
    /// It is there already, from this offset on.
    Repeated(Offset),
}

impl Producers {
    pub(super) fn judge(&self, header: &BatchHeader) -> Result<Judgement, ErrorCode> {
        let Some(stamp) = header.producer else {
            return Ok(Judgement::Append);
        };
        let Some(entry) = self.0.get(&stamp.id) else {
            return Ok(Judgement::Append);
        };
        let (first, last) = range(header);
        let epoch = stamp.epoch.get();
        if epoch < entry.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if epoch > entry.epoch {
            return if first == 0 {
                Ok(Judgement::Append)
            } else {
                Err(ErrorCode::OutOfOrderSequence)
            };
        }
        let known = entry.batches.iter().find(|b| (b.0, b.1) == (first, last));
        if let Some((_, _, base)) = known {
            return Ok(Judgement::Repeated(*base));
        }
        if first == next(entry.last) {
            return Ok(Judgement::Append);
        }
        if last <= entry.last && first >= entry.first {
            return Err(ErrorCode::DuplicateSequence);
        }
        Err(ErrorCode::OutOfOrderSequence)
    }

    pub(super) fn appended(&mut self, header: &BatchHeader, base: Offset) {
        let Some(stamp) = header.producer else {
            return;
        };
        let (first, last) = range(header);
        let epoch = stamp.epoch.get();
        let new = || Entry {
            epoch,
            first,
            last,
            batches: VecDeque::new(),
        };
        let entry = self.0.entry(stamp.id).or_insert_with(new);
        if entry.epoch < epoch {
            *entry = new();
        }
        entry.last = last;
        entry.batches.push_back((first, last, base));
        if entry.batches.len() > RECOGNIZED {
            entry.batches.pop_front();
        }
    }
}

fn next(sequence: u32) -> u32 {
    (sequence + 1) % (1 << 31)
}

fn range(header: &BatchHeader) -> (u32, u32) {
    let stamp = header.producer.expect("asked only for such batches");
    let first = stamp.base_sequence.expect("clients number their batches");
    let first = first.get();
    let last = (u64::from(first) + u64::from(header.record_count) - 1) % (1 << 31);
    (first, u32::try_from(last).unwrap())
}
