//! What the metrics ask of a broker when somebody scrapes.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_coordination::controller::replicas_on;
use highwater_coordination::partition_health::PartitionHealth;
use highwater_storage::{EngineStats, SYNC_LATENCY_BOUNDS_US};

use super::log_view;
use crate::metrics::{ClusterScrape, DurationBuckets, PartitionScrape, Scrape, StorageScrape};
use crate::partition::Partition;
use crate::shared::Shared;

pub(super) fn scrape(shared: &Shared) -> Scrape {
    let online = shared.partitions.online();
    let partitions = online.iter().map(|partition| {
        let view = log_view(partition);
        PartitionScrape {
            topic: partition.topic().clone(),
            partition: partition.partition().get(),
            log_start: view.log_start,
            high_watermark: view.high_watermark,
            log_end: view.log_end,
            durable_end: view.durable_end,
            size_bytes: view.size_bytes,
            segments: view.segments,
        }
    });
    Scrape {
        topics: shared.metadata.image().topics().len() as u64,
        partitions: partitions.collect(),
        partitions_offline: shared.partitions.offline_count() as u64,
        in_flight_bytes: shared.budget.used_bytes(),
        in_flight_bytes_max: shared.config.network.in_flight_bytes_max,
        admission_waiting: shared.budget.waiting() as u64,
        disk_is_low: shared.is_disk_low(),
        storage: Some(storage(&shared.engine.stats())),
        cluster: Some(cluster(shared, &online)),
    }
}

fn cluster(shared: &Shared, online: &[Arc<Partition>]) -> ClusterScrape {
    let me = shared.node_id;
    let image = shared.metadata.image();
    let (voters, _) = shared.quorum.members();
    let mut lags: BTreeMap<_, u64> = BTreeMap::new();
    for (node, lag) in online
        .iter()
        .flat_map(|partition| partition.follower_lags())
    {
        let most = lags.entry(node).or_default();
        *most = lag.max(*most);
    }
    ClusterScrape {
        controller: shared.controller.scrape(),
        metadata_applied: shared.quorum.applied().index,
        metadata_published: shared.metadata.index(),
        quorum_term: shared.quorum.term(),
        quorum_has_leader: shared.quorum.leader().is_some(),
        is_voter: voters.contains(&me),
        is_fenced: image.broker(me).is_none_or(|own| own.fenced),
        lease: shared.lease.left().unwrap_or(std::time::Duration::MAX),
        heartbeat_age: shared.heartbeats.age(),
        replicas: replicas_on(&image, me).into(),
        led: PartitionHealth::of_leader(&image, me),
        leaderless: PartitionHealth::of_cluster(&image).leaderless,
        follower_lags: lags.into_iter().collect(),
    }
}

fn storage(stats: &EngineStats) -> StorageScrape {
    let bounds = SYNC_LATENCY_BOUNDS_US
        .iter()
        .map(|us| *us as f64 / 1e6)
        .chain(std::iter::once(f64::INFINITY));
    StorageScrape {
        sync_durations: DurationBuckets {
            buckets: bounds.zip(stats.sync_latency_buckets).collect(),
            sum_seconds: stats.sync_latency_sum_us as f64 / 1e6,
        },
        sync_failures: stats.sync_failures,
        segments_prepared: stats.segments_prepared,
        segments_late: stats.segments_created_inline + stats.inline_growths,
        disk_full: stats.disk_full_refusals,
    }
}
