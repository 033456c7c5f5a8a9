//! How nodes are, as the controller hears from their heartbeats: never in the metadata log.

use std::collections::BTreeMap;

use highwater_protocol::ids::NodeId;

use crate::broker_registry::BrokerRegistry;
use crate::cluster_image::ClusterImage;

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

/// What the controller knows of every broker that is registered.
///
/// A broker that is fenced, and was not heard of for a session timeout, is absent, and is so since it
/// was heard of last: or since the controller became active, which cannot know more.
#[must_use]
pub fn node_loads(
    image: &ClusterImage,
    registry: &BrokerRegistry,
    now_ms: u64,
    session_timeout_ms: u64,
) -> NodeLoads {
    image
        .brokers()
        .filter(|(_, broker)| broker.registration.is_some())
        .filter_map(|(id, broker)| {
            let vitals = registry.vitals(id)?;
            let is_silent = now_ms.saturating_sub(vitals.last_seen_ms) >= session_timeout_ms;
            let load = NodeLoad {
                log_bytes: vitals.log_bytes,
                disk_free: vitals.disk_free.unwrap_or(0),
                disk_total: vitals.disk_total.unwrap_or(0),
                silent_ms: registry.silent_ms(id, now_ms),
                absent_since_ms: (broker.fenced && is_silent).then_some(vitals.last_seen_ms),
            };
            Some((id, load))
        })
        .collect()
}

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
    use highwater_protocol::ids::{BrokerEpoch, DirectoryId, IncarnationId};
    use highwater_protocol::messages::BrokerHeartbeatRequest;
    use highwater_protocol::metadata_record::MetadataRecord;

    use super::*;

    const SESSION_MS: u64 = 6_000;

    #[test]
    fn a_broker_is_absent_since_it_was_heard_of_last_once_it_is_fenced_and_its_session_is_over() {
        let id = NodeId::new(1);
        let mut image = ClusterImage::default();
        image
            .apply(&MetadataRecord::BrokerRegistered {
                node_id: id,
                broker_epoch: BrokerEpoch::new(1),
                directory: DirectoryId::from_bytes([1; 16]),
                incarnation: IncarnationId::from_bytes([1; 16]),
                host: "127.0.0.1".to_owned(),
                port: 7171,
                rack: None,
                version: "0".to_owned(),
            })
            .unwrap();
        let mut registry = BrokerRegistry::default();
        registry.activate(
            &image,
            NodeId::new(2),
            IncarnationId::from_bytes([2; 16]),
            1_000,
        );
        let load = |image: &ClusterImage, registry: &BrokerRegistry, now_ms| {
            node_loads(image, registry, now_ms, SESSION_MS)[&id]
        };
        // Fenced when this controller became active: absent since then, as far as it knows.
        assert_eq!(load(&image, &registry, 6_999).absent_since_ms, None);
        let unheard = load(&image, &registry, 7_000);
        assert_eq!(unheard.absent_since_ms, Some(1_000));
        assert_eq!(unheard.silent_ms, None);
        assert!(!unheard.has_room(0, 100));

        registry.touch(
            &BrokerHeartbeatRequest {
                node_id: id,
                broker_epoch: BrokerEpoch::new(1),
                metadata_index: 5,
                wants_fence: false,
                wants_shutdown: false,
                offline: Vec::new(),
                log_bytes: 10,
                disk_free: 60,
                disk_total: 100,
            },
            8_000,
        );
        let heard = load(&image, &registry, 8_500);
        assert_eq!(heard.absent_since_ms, None);
        assert_eq!(heard.silent_ms, Some(500));
        assert_eq!((heard.log_bytes, heard.room(85)), (10, 45));
        assert_eq!(load(&image, &registry, 14_000).absent_since_ms, Some(8_000));

        // Silent and not fenced yet: fencing comes first.
        image
            .apply(&MetadataRecord::BrokerChanged {
                node_id: id,
                broker_epoch: BrokerEpoch::new(1),
                fenced: false,
                shutting_down: false,
                draining: false,
            })
            .unwrap();
        assert_eq!(load(&image, &registry, 20_000).absent_since_ms, None);
    }

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
