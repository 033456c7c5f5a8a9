//! Asks the cluster again and again how it is, through the same calls that any client has.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use highwater_client::{Admin, Client, OffsetSpec, PartitionId};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::demo::board::{Board, PartitionOf};

/// Often enough to see each step of a failover.
const PLACEMENT_EVERY: Duration = Duration::from_millis(50);
const BROKERS_EVERY: Duration = Duration::from_millis(100);
const OFFSETS_EVERY: Duration = Duration::from_millis(250);
/// A broker that does not answer for this long is no source of news: another is asked.
const PATIENCE: Duration = Duration::from_millis(1000);

/// Keeps the board up to date, in tasks of this set.
///
/// Cancel safety: dropped, it starts nothing.
pub(crate) async fn watch(
    board: &Arc<Board>,
    seeds: &[String],
    tasks: &mut JoinSet<()>,
) -> Result<()> {
    let client = Client::builder()
        .seeds(seeds)
        .client_name("highwater-demo-watch")
        .connect_timeout(PATIENCE)
        .request_timeout(PATIENCE)
        .connect()
        .await
        .context("watching the cluster")?;
    tasks.spawn(watch_placement(Arc::clone(board), client.admin()));
    tasks.spawn(watch_brokers(Arc::clone(board), client.admin()));
    for partition in board.partitions() {
        // Each by itself: one without a leader has no answer for a while.
        tasks.spawn(watch_offsets(Arc::clone(board), client.admin(), partition));
    }
    Ok(())
}

async fn watch_placement(board: Arc<Board>, admin: Admin) {
    let mut tick = every(PLACEMENT_EVERY);
    loop {
        tick.tick().await;
        for topic in board.topics() {
            // What cannot be told now is asked again soon.
            if let Ok(described) = admin.describe_topic(topic).await {
                board.take_topic(topic, &described);
            }
        }
    }
}

async fn watch_brokers(board: Arc<Board>, admin: Admin) {
    let mut tick = every(BROKERS_EVERY);
    loop {
        tick.tick().await;
        if let Ok(quorum) = admin.describe_quorum().await {
            board.take_quorum(&quorum);
        }
        if let Ok(cluster) = admin.describe_cluster().await {
            board.take_brokers(&cluster);
        }
    }
}

async fn watch_offsets(board: Arc<Board>, admin: Admin, partition: PartitionOf) {
    let mut tick = every(OFFSETS_EVERY);
    let (topic, number) = partition;
    let number = PartitionId::new(number);
    loop {
        tick.tick().await;
        // In this order, so that the lag is not smaller than it was.
        let wanted = [(number, OffsetSpec::Latest)];
        let latest = timeout(PATIENCE, admin.list_partition_offsets(topic, &wanted)).await;
        let wanted = [(number, OffsetSpec::LogEnd)];
        let end = timeout(PATIENCE, admin.list_partition_offsets(topic, &wanted)).await;
        if let (Ok(Ok(latest)), Ok(Ok(end))) = (latest, end)
            && let Some(high_watermark) = latest.first().and_then(|found| found.offset)
            && let Some(end) = end.first().and_then(|found| found.offset)
        {
            board.take_ends(partition, high_watermark.get(), end.get());
        }
    }
}

fn every(time: Duration) -> tokio::time::Interval {
    let mut tick = interval(time);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}
