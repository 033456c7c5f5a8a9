//! What was committed, shown or acknowledged stays.
//!
//! - R1: the leader of the newest epoch has every record that was ever below any high watermark: for each
//!   take-over of replica l in an epoch, committed ∩ [start(l), ∞) ⊆ log(l).
//! - R7: what was committed at an offset is never another record: hw(r) = h means log(r)[o] = committed[o]
//!   for each o < h, for ever.
//! - R8: what a reader was shown at an offset is what is committed there, each time.
//! - R14: when a leader's high watermark moves to h, `min.insync.replicas` replicas have written
//!   everything below h (on disk for `synced`), or had and lost it with their power since.
//!
//! Only a declared unclean election makes another truth: what its winner has.

use highwater_coordination::cluster_image::PartitionImage;
use highwater_storage::Durability;

use super::{Oracle, facts_in};
use crate::message::Key;

impl Oracle {
    /// A replica begins to lead. Its log was looked at before.
    pub(crate) fn on_leader(
        &mut self,
        node: usize,
        life: u64,
        key: Key,
        partition: &PartitionImage,
    ) {
        let epoch = partition.leader_epoch.get();
        let Some(shadow) = self.shadows.get(&(node, key)) else {
            return;
        };
        let end = shadow.end();
        let start = shadow.start;
        let Some(truth) = self.truths.get_mut(&key) else {
            self.note_leader(node, life, key, epoch, end);
            return;
        };
        if partition.recovering {
            // The only truth from now on.
            let log: Vec<_> = shadow.batches.clone();
            truth.committed.retain(|base, fact| {
                log.binary_search_by_key(base, |one| one.base)
                    .is_ok_and(|at| log[at] == *fact)
            });
            truth.high_watermark = truth.high_watermark.min(end);
        }
        let missing = truth
            .committed
            .range(start..)
            .find(|(base, fact)| shadow.starting_at(**base) != Some(*fact))
            .map(|(_, fact)| *fact);
        let is_newest = truth
            .leaders
            .keys()
            .next_back()
            .is_none_or(|newest| *newest <= epoch);
        if let Some(fact) = missing
            && is_newest
            && !truth.is_unclean
        {
            self.broken(
                "R1",
                format!(
                    "broker {node} leads in epoch {epoch} with {end} records and lacks {fact:?}"
                ),
            );
        }
        self.note_leader(node, life, key, epoch, end);
    }

    /// The high watermark of a replica moved forward.
    pub(super) fn on_committed_up_to(&mut self, node: usize, key: Key, from: u64, to: u64) {
        let Some(shadow) = self.shadows.get(&(node, key)) else {
            return;
        };
        let truth = self.truths.entry(key).or_default();
        let mut wrong = None;
        let first = shadow.batches.partition_point(|fact| fact.next <= from);
        for fact in &shadow.batches[first..] {
            if fact.next > to {
                break;
            }
            let known = truth.committed.entry(fact.base).or_insert(*fact);
            if known != fact {
                wrong = Some(format!(
                    "broker {node} takes {fact:?} for committed, {known:?} was committed there"
                ));
                break;
            }
        }
        truth.high_watermark = truth.high_watermark.max(to);
        if let Some(wrong) = wrong
            && !truth.is_unclean
        {
            self.broken("R7", wrong);
        }
    }

    /// A leader's high watermark moved to here: enough replicas must have it.
    pub(super) fn check_holders(&mut self, node: usize, key: Key, to: u64, isr_min: usize) {
        let durability = self
            .durability
            .get(&key)
            .copied()
            .unwrap_or(Durability::Synced);
        let Some(fact) = self
            .shadows
            .get(&(node, key))
            .and_then(|shadow| shadow.ending_at(to))
        else {
            return;
        };
        let fact = *fact;
        let holders = self.shadows.iter().filter(|((_, of), shadow)| {
            *of == key
                && ((shadow.written(durability) >= to && shadow.ending_at(to) == Some(&fact))
                    || shadow.start >= to
                    || shadow.lost.contains(&fact))
        });
        let holders = holders.count();
        if holders < isr_min {
            self.broken(
                "R14",
                format!(
                    "broker {node} committed up to {to}, which {holders} replicas have of {isr_min}"
                ),
            );
        }
    }

    /// A reader was shown these records.
    pub(crate) fn on_shown(&mut self, key: Key, records: &[u8]) {
        let Ok(facts) = facts_in(records) else {
            self.broken("R8", "a reader got what is no batch".to_owned());
            return;
        };
        let truth = self.truth(key);
        if truth.is_unclean {
            return;
        }
        let wrong = facts
            .iter()
            .find(|fact| truth.committed.get(&fact.base) != Some(*fact));
        if let Some(fact) = wrong {
            let known = truth.committed.get(&fact.base).copied();
            let what = format!("a reader was shown {fact:?}, {known:?} is committed there");
            self.broken("R8", what);
        }
    }
}
