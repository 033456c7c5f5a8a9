//! When the high watermark moves.
//!
//! - R6: on a leader it moves only while |isr| >= `min.insync.replicas`, as the leader knows both; on no
//!   replica does it go back within a life (a log that is begun anew, and a declared unclean election,
//!   aside); it is never past the log.

use highwater_coordination::partition_leader::PartitionLeader;

use super::Oracle;
use crate::message::Key;

impl Oracle {
    /// The high watermark of a replica as it is now. `leader`: if it leads; `isr_min` as it knows it.
    pub(crate) fn on_high_watermark(
        &mut self,
        node: usize,
        key: Key,
        now: u64,
        leader: Option<&PartitionLeader>,
        isr_min: usize,
    ) {
        let shadow = self.shadows.entry((node, key)).or_default();
        let in_sync_before = shadow.in_sync;
        shadow.in_sync = leader.map_or(0, |leader| leader.isr().len());
        let before = shadow.high_watermark;
        let (start, end) = (shadow.start, shadow.end());
        shadow.high_watermark = now;
        if now == before {
            return;
        }
        if now > end.max(start) {
            self.broken(
                "R6",
                format!("broker {node}: high watermark {now} past the end {end}"),
            );
        } else if now < before && !self.is_unclean(key) {
            self.broken(
                "R6",
                format!("broker {node}: high watermark went back from {before} to {now}"),
            );
        }
        if now <= before {
            return;
        }
        self.on_committed_up_to(node, key, before, now);
        let Some(leader) = leader else {
            return;
        };
        // The first look after a start finds what was kept, not what moved.
        if before == 0 && now == leader.high_watermark().get() && !leader.high_watermark_is_known()
        {
            return;
        }
        // One step of a broker may be several of its leader: who was in sync at either end counts.
        let in_sync = leader.isr().len().max(in_sync_before);
        if in_sync < isr_min && before > 0 {
            self.broken(
                "R6",
                format!("broker {node} moved the high watermark from {before} to {now} with {in_sync} of {isr_min} in sync"),
            );
        }
        if before > 0 {
            self.check_holders(node, key, now, isr_min);
        }
    }
}
