//! What must hold, looked at after every step from outside of the cluster: with eyes that no broker has.
//! The names are those of `docs/REPLICATION.md`.
//!
//! - `records` what is committed, shown and acknowledged stays: R1, R7, R8, R14
//! - `logs` logs agree, and are what they say of themselves: R3, R4, R9, R13
//! - `members` who is in sync or eligible, and why: R2, R5, R10, R11, R12
//! - `watermark` when the high watermark moves: R6
//! - `standing` brokers and the metadata: R4, R15, R16, Q3, Q4
//! - `producers` retries: P1 to P6
//! - `liveness` when everything works again: R17, R18, R19

mod liveness;
mod logs;
mod members;
mod producers;
mod records;
mod standing;
mod watermark;

use std::collections::{BTreeMap, BTreeSet};

use highwater_protocol::ids::{BrokerEpoch, LeaderEpoch, Offset, ProducerId, Sequence};
use highwater_protocol::messages::IsrProposal;
use highwater_protocol::record_batch::{BatchHeader, Batches, batch_crc};
use highwater_storage::{Durability, Log};

use crate::message::Key;

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// As `docs/REPLICATION.md` names it.
    pub rule: &'static str,
    /// What was seen.
    pub what: String,
}

/// Leader epoch and base offset of a batch.
type BatchName = (u32, u64);

/// A batch in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fact {
    base: u64,
    next: u64,
    epoch: u32,
    crc: u32,
    /// Producer, first sequence number, number of records.
    producer: Option<(ProducerId, u32, u32)>,
}

/// What a replica's log is known to hold.
#[derive(Debug, Default)]
pub(crate) struct Shadow {
    start: u64,
    /// Where the log ends when it has no batch.
    empty_end: u64,
    batches: Vec<Fact>,
    durable: u64,
    high_watermark: u64,
    /// How many were in sync when it was last looked at, if it led.
    in_sync: usize,
    /// What it had once and lost with the power, or when it was begun anew.
    lost: Vec<Fact>,
}

/// What is known of a partition.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// By base offset: everything that was ever below a high watermark.
    committed: BTreeMap<u64, Fact>,
    high_watermark: u64,
    /// Which life of which broker led in which epoch.
    leaders: BTreeMap<u32, (usize, u64)>,
    /// Where the log of the leader ended when its epoch began.
    epoch_starts: BTreeMap<u32, u64>,
    /// Every batch of an epoch at an offset, and the one before it.
    appended: BTreeMap<BatchName, (Fact, Option<BatchName>)>,
    /// What followers told of themselves in an epoch: registration, written end.
    told: BTreeMap<(usize, u32), BTreeMap<BrokerEpoch, u64>>,
    /// What leaders proposed, by leader epoch and partition epoch.
    proposals: BTreeMap<(u32, u32), Vec<IsrProposal>>,
    /// Acknowledged with `acks=all`: producer and sequence number, offset.
    acknowledged: BTreeMap<(ProducerId, u32), Option<Offset>>,
    /// Some leader deleted old records.
    is_trimmed: bool,
    /// An operator gave up what nobody had any more.
    is_unclean: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    violation: Option<Violation>,
    shadows: BTreeMap<(usize, Key), Shadow>,
    truths: BTreeMap<Key, Truth>,
    durability: BTreeMap<Key, Durability>,
    /// Lives of a broker that ended with a loss of power.
    power_losses: BTreeMap<usize, Vec<u64>>,
    /// Brokers whose power went in the middle of a step: what their last one did is not known.
    unsure: BTreeSet<usize>,
    /// The last life of a broker that was registered.
    registered: BTreeMap<usize, u64>,
}

impl Oracle {
    /// Notes the first broken rule.
    pub(crate) fn broken(&mut self, rule: &'static str, what: String) {
        self.violation.get_or_insert(Violation { rule, what });
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.violation.is_some()
    }

    pub(crate) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// How many batches were committed.
    pub(crate) fn committed(&self) -> usize {
        self.truths
            .values()
            .map(|truth| truth.committed.len())
            .sum()
    }

    /// How many batches were acknowledged with `acks=all`.
    pub(crate) fn acknowledged(&self) -> usize {
        self.truths
            .values()
            .map(|truth| truth.acknowledged.len())
            .sum()
    }

    pub(crate) fn is_unclean(&self, key: Key) -> bool {
        self.truths.get(&key).is_some_and(|truth| truth.is_unclean)
    }

    fn truth(&mut self, key: Key) -> &mut Truth {
        self.truths.entry(key).or_default()
    }

    /// An operator gives a partition up: what the next leader has is the truth.
    pub(crate) fn declare_unclean(&mut self, key: Key) {
        self.truth(key).is_unclean = true;
    }

    pub(crate) fn on_trimmed(&mut self, key: Key) {
        self.truth(key).is_trimmed = true;
    }

    /// The log of a replica is gone, or another one was begun in its place.
    pub(crate) fn on_removed(&mut self, node: usize, key: Key) {
        let shadow = self.shadows.entry((node, key)).or_default();
        let mut lost = std::mem::take(&mut shadow.lost);
        lost.append(&mut shadow.batches);
        *shadow = Shadow {
            lost,
            ..Shadow::default()
        };
    }
}

impl Shadow {
    fn end(&self) -> u64 {
        self.batches.last().map_or(self.empty_end, |last| last.next)
    }

    /// Up to where the log counts as written.
    fn written(&self, durability: Durability) -> u64 {
        match durability {
            Durability::Synced => self.durable.min(self.end()),
            Durability::Replicated => self.end(),
        }
    }

    /// The batch that ends at this offset.
    fn ending_at(&self, end: u64) -> Option<&Fact> {
        let at = self.batches.partition_point(|fact| fact.next < end);
        self.batches.get(at).filter(|fact| fact.next == end)
    }

    fn starting_at(&self, base: u64) -> Option<&Fact> {
        let at = self
            .batches
            .binary_search_by_key(&base, |fact| fact.base)
            .ok()?;
        self.batches.get(at)
    }
}

impl Fact {
    fn of(header: &BatchHeader, bytes: &[u8]) -> Self {
        let producer = header.producer.map(|stamp| {
            let sequence = stamp.base_sequence.map_or(0, Sequence::get);
            (stamp.id, sequence, header.last_offset_delta + 1)
        });
        Self {
            base: header.base_offset.get(),
            next: header.next_offset().get(),
            epoch: header.leader_epoch.map_or(0, LeaderEpoch::get),
            crc: batch_crc(bytes),
            producer,
        }
    }
}

/// The batches of a log from an offset on.
fn read_facts(log: &Log, from: Offset) -> Result<Vec<Fact>, String> {
    let mut facts = Vec::new();
    let mut at = from;
    while at < log.end() {
        let slice = log
            .read(at, log.end(), 1 << 20)
            .map_err(|error| format!("{log:?} cannot be read at {at}: {error}"))?;
        if slice.next <= at {
            return Err(format!("{log:?} has nothing at {at}"));
        }
        facts.append(&mut facts_in(&slice.records)?);
        at = slice.next;
    }
    Ok(facts)
}

fn facts_in(records: &[u8]) -> Result<Vec<Fact>, String> {
    let mut facts = Vec::new();
    for batch in Batches::new(records) {
        let (header, bytes) = batch.map_err(|error| error.to_string())?;
        facts.push(Fact::of(&header, bytes));
    }
    Ok(facts)
}
