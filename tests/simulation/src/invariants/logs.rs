//! Logs agree with each other, and are what they say of themselves.
//!
//! - R3: two replicas agree on all records below both their high watermarks; and if they agree on offset
//!   and epoch of a batch, they agree on everything before it.
//!   For all replicas a, b and offsets o < min(hw(a), hw(b)): log(a)[o] = log(b)[o].
//! - R4: every batch of an epoch was appended by the leader of that epoch: for each partition, epoch and
//!   base offset there is one batch, whatever replica it is found on.
//! - R9: in one log offsets follow each other without gap, epochs never fall, and the epochs that the log
//!   notes are those of its batches.
//! - R13: a log is cut below its own high watermark only after a declared unclean election.
//! - S1, S4 (`docs/STORAGE.md`): after a crash a log is a prefix of what it was, with everything before
//!   its durable end.

use highwater_protocol::ids::{LeaderEpoch, Offset};
use highwater_storage::Log;

use super::{Fact, Oracle, Shadow, facts_in, read_facts};
use crate::message::Key;

impl Oracle {
    /// A log was opened after a crash or a stop, or could not be (`None`), or was made.
    pub(crate) fn on_opened(&mut self, node: usize, key: Key, log: Option<&Log>) {
        let Some(log) = log else {
            self.on_removed(node, key);
            return;
        };
        let facts = match read_facts(log, log.log_start()) {
            Ok(facts) => facts,
            Err(error) => return self.broken("S1", error),
        };
        let is_unsure = self.unsure.contains(&node);
        let shadow = self.shadows.entry((node, key)).or_default();
        let end = log.end().get();
        let start = log.log_start().get();
        let known = shadow.batches.iter().filter(|fact| fact.next > start);
        let is_prefix = facts
            .iter()
            .zip(known.clone())
            .all(|(found, known)| found == known)
            && (is_unsure || facts.len() <= known.count());
        let durable = if is_unsure { 0 } else { shadow.durable };
        let start_before = shadow.start;
        let (before, lost_some) = (shadow.end(), end < shadow.end());
        if lost_some {
            let gone = shadow
                .batches
                .iter()
                .filter(|fact| fact.base >= end)
                .copied();
            shadow.lost.extend(gone);
        }
        shadow.batches = facts;
        shadow.start = start;
        shadow.empty_end = end;
        shadow.durable = log.durable_end().get();
        shadow.high_watermark = 0;
        if !is_prefix {
            self.broken("S1", format!(
                    "broker {node} found other records than it had: {log:?}, which began at {start_before} and ended at {before}"
                ));
        } else if end < durable {
            self.broken(
                "S4",
                format!(
                    "broker {node} had synced up to {durable} of {before} and found {end}: {log:?}"
                ),
            );
        }
        self.check_epochs(node, key, log);
    }

    /// A log may have grown, or have been cut. `restarted`: it was emptied in between.
    pub(crate) fn on_log(&mut self, node: usize, key: Key, log: &Log, restarted: bool) {
        let (start, end) = (log.log_start().get(), log.end().get());
        let is_unclean = self.is_unclean(key);
        let shadow = self.shadows.entry((node, key)).or_default();
        shadow.durable = log.durable_end().get();
        if restarted {
            shadow.batches.clear();
            shadow.empty_end = start;
            shadow.start = start;
            shadow.high_watermark = 0;
        }
        if start > shadow.start {
            let gone = shadow.batches.partition_point(|fact| fact.next <= start);
            shadow.batches.drain(..gone);
            shadow.start = start;
            shadow.empty_end = shadow.empty_end.max(start);
        }
        if end < shadow.end() {
            let high_watermark = shadow.high_watermark;
            let kept = shadow.batches.partition_point(|fact| fact.next <= end);
            shadow.batches.truncate(kept);
            shadow.empty_end = end;
            shadow.high_watermark = high_watermark.min(end);
            if end < high_watermark && !is_unclean {
                self.broken(
                    "R13",
                    format!("broker {node} cut {log:?} below its high watermark {high_watermark}"),
                );
            }
            self.check_epochs(node, key, log);
            return;
        }
        if end > shadow.end() {
            let from = Offset::new(shadow.end().max(start));
            match read_facts(log, from) {
                Ok(facts) => self.on_appended(node, key, &facts),
                Err(error) => self.broken("R9", error),
            }
            self.check_epochs(node, key, log);
        }
    }

    /// A log went offline, and had taken this in before.
    pub(crate) fn on_failed(&mut self, node: usize, key: Key, taken_in: &[u8], restarted: bool) {
        let mut facts = match facts_in(taken_in) {
            Ok(facts) => facts,
            Err(error) => return self.broken("R9", error),
        };
        let Some(first) = facts.first().map(|fact| fact.base) else {
            return;
        };
        let shadow = self.shadows.entry((node, key)).or_default();
        if restarted {
            shadow.batches.clear();
            shadow.empty_end = first;
            shadow.start = first;
            shadow.high_watermark = 0;
        }
        let end = shadow.end();
        facts.retain(|fact| fact.base >= end);
        self.on_appended(node, key, &facts);
    }

    fn on_appended(&mut self, node: usize, key: Key, facts: &[Fact]) {
        for fact in facts {
            let Some(shadow) = self.shadows.get_mut(&(node, key)) else {
                return;
            };
            let last = shadow.batches.last().copied();
            let end = shadow.end();
            let is_first = last.is_none();
            shadow.batches.push(*fact);
            if !is_first && fact.base != end {
                self.broken(
                    "R9",
                    format!("broker {node}: {fact:?} does not follow {last:?}"),
                );
            }
            if last.is_some_and(|last| last.epoch > fact.epoch) {
                self.broken(
                    "R9",
                    format!("broker {node}: {fact:?} has an earlier epoch than {last:?}"),
                );
            }
            let before = last.map(|last| (last.epoch, last.base));
            let is_trimmed = self.truths.get(&key).is_some_and(|truth| truth.is_trimmed);
            let known = self
                .truth(key)
                .appended
                .entry((fact.epoch, fact.base))
                .or_insert((*fact, before));
            let (known, known_before) = *known;
            if known != *fact {
                self.broken(
                    "R4",
                    format!("broker {node} has {fact:?}, its leader appended {known:?}"),
                );
            } else if known_before != before && !is_trimmed {
                self.broken(
                    "R3",
                    format!("broker {node} has {fact:?} behind {before:?}, others behind {known_before:?}"),
                );
            }
            self.check_sequence(node, key, *fact);
        }
    }

    /// The epochs that the log notes are those of its batches.
    fn check_epochs(&mut self, node: usize, key: Key, log: &Log) {
        let Some(shadow) = self.shadows.get(&(node, key)) else {
            return;
        };
        if let Some(wrong) = wrong_epoch(shadow, log) {
            self.broken("R9", format!("broker {node}: {wrong} in {log:?}"));
        }
    }
}

/// Looks at the last three epochs that have records.
fn wrong_epoch(shadow: &Shadow, log: &Log) -> Option<String> {
    let mut next_start = log.end().get();
    let mut batches = &shadow.batches[..];
    for _ in 0..3 {
        let last = batches.last()?;
        let first = batches.partition_point(|fact| fact.epoch < last.epoch);
        let found = log.end_offset_for(LeaderEpoch::new(last.epoch))?;
        if found.epoch.get() != last.epoch || found.end_offset.get() != next_start {
            return Some(format!(
                "epoch {} ends at {next_start}, the log says {found:?}, its last batches are {:?}",
                last.epoch,
                &shadow.batches[first..]
            ));
        }
        next_start = batches[first].base;
        batches = &batches[..first];
    }
    None
}
