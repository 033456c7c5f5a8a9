//! How nodes are, as the controller hears from their heartbeats: never in the metadata log.

use std::collections::BTreeMap;

use highwater_protocol::ids::NodeId;

/// How one node is. Times are monotonic milliseconds of the controller's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeLoad {
    /// Bytes of record data that it has.
    pub log_bytes: u64,
    /// Free bytes of its disk.
    pub disk_free: u64,
    /// Size of its disk in bytes; 0: not known, and then nothing is moved there.
    pub disk_total: u64,
    /// How long ago its last heartbeat came, in ms; `None`: none came since this controller became
    /// active.
    pub silent_ms: Option<u64>,
    /// Since when it is both fenced and silent, in ms; `None`: it is not. For a node that was fenced
    /// when this controller became active, the time of that.
    pub absent_since_ms: Option<u64>,
}

/// The nodes that something is known of.
pub type NodeLoads = BTreeMap<NodeId, NodeLoad>;

impl NodeLoad {
    /// Bytes that the disk may still take until `percent_max` of it are filled.
    #[must_use]
    pub fn room(&self, percent_max: u32) -> u64 {
        let used = self.disk_total.saturating_sub(self.disk_free);
        let allowed = u128::from(self.disk_total) * u128::from(percent_max.min(100)) / 100;
        // Cannot truncate: at most `disk_total`.
        (allowed as u64).saturating_sub(used)
    }

    /// Whether the disk, with `more` bytes on it, would be filled to at most `percent_max`.
    #[must_use]
    pub fn has_room(&self, more: u64, percent_max: u32) -> bool {
        let room = self.room(percent_max);
        room > 0 && room >= more
    }

    /// For how long it has been absent, in ms; `None`: it is not.
    #[must_use]
    pub fn absent_ms(&self, now_ms: u64) -> Option<u64> {
        self.absent_since_ms
            .map(|since| now_ms.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_may_be_filled_to_the_limit_and_an_unknown_one_not_at_all() {
        let load = NodeLoad {
            disk_free: 50,
            disk_total: 100,
            ..NodeLoad::default()
        };
        assert!(load.has_room(35, 85));
        assert!(!load.has_room(36, 85));
        assert!(!load.has_room(u64::MAX, 85));
        assert!(!NodeLoad::default().has_room(0, 100));
    }
}
