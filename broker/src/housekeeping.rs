//! What a broker does by itself, now and then: free space, checkpoints, retention.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use highwater_protocol::ids::{Offset, PartitionId, Timestamp, TopicId};
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};
use tracing::{error, info, warn};

use crate::shared::Shared;

/// How often free disk space is looked at.
const SPACE_INTERVAL: Duration = Duration::from_secs(1);

/// The wall clock may move this much more or less than time really passes between two looks at
/// retention; beyond that it was set, and whether it is right now or was before is not ours to guess.
const CLOCK_JUMP_MAX_MS: u64 = 60_000;

/// Runs until the broker stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let storage = &shared.config.storage;
    let mut space = interval(SPACE_INTERVAL);
    let later = |every: Duration| interval_at(Instant::now() + every, every);
    let mut checkpoint = later(storage.checkpoint_interval);
    let mut retention = later(storage.retention_check_interval);
    for timer in [&mut space, &mut checkpoint, &mut retention] {
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let mut written = Checkpoints::default();
    let mut clock = ClockWatch::new(shared.clock.now());
    loop {
        tokio::select! {
            _ = space.tick() => check_space(&shared),
            _ = checkpoint.tick() => {
                let shared = Arc::clone(&shared);
                let mut known = std::mem::take(&mut written);
                let work = tokio::task::spawn_blocking(move || {
                    checkpoint_high_watermarks(&shared, &mut known);
                    known
                });
                match work.await {
                    Ok(known) => written = known,
                    Err(error) => error!(%error, "checkpointing failed"),
                }
            }
            _ = retention.tick() => {
                if let Some(jump_ms) = clock.jump(shared.clock.now()) {
                    error!(
                        jump_ms,
                        "the clock was set while the broker ran: retention deletes nothing this time; \
                         if the clock is wrong now, put it right before the next check \
                         (storage.retention.check.interval)"
                    );
                    continue;
                }
                let shared = Arc::clone(&shared);
                let work = tokio::task::spawn_blocking(move || apply_retention(&shared));
                if let Err(error) = work.await {
                    error!(%error, "retention failed");
                }
            }
        }
    }
}

/// Compares the wall clock with a clock that nobody sets.
#[derive(Debug)]
struct ClockWatch {
    wall: Timestamp,
    seen: Instant,
}

impl ClockWatch {
    fn new(wall: Timestamp) -> Self {
        let seen = Instant::now();
        Self { wall, seen }
    }

    /// By how much the wall clock was set since the last call, if it was.
    fn jump(&mut self, wall: Timestamp) -> Option<i64> {
        let last = std::mem::replace(self, Self::new(wall));
        let passed = self.seen.duration_since(last.seen).as_millis();
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        let moved = wall.millis().saturating_sub(last.wall.millis());
        let jump = moved.saturating_sub(passed);
        (jump.unsigned_abs() > CLOCK_JUMP_MAX_MS).then_some(jump)
    }
}

/// High watermarks that were checkpointed last.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    written: HashMap<(TopicId, PartitionId), Offset>,
}

/// Checkpoints every high watermark that moved: a lower bound to start from next time.
pub(crate) fn checkpoint_high_watermarks(shared: &Shared, known: &mut Checkpoints) {
    let partitions = shared.partitions.online();
    let mut now = HashMap::with_capacity(partitions.len());
    for partition in partitions {
        let key = (partition.topic_id(), partition.partition());
        let high_watermark = partition.high_watermark();
        if known.written.get(&key) != Some(&high_watermark) {
            partition.log().checkpoint_high_watermark(high_watermark);
        }
        now.insert(key, high_watermark);
    }
    known.written = now;
}

fn apply_retention(shared: &Shared) {
    let now = shared.clock.now();
    for partition in shared.partitions.online() {
        match partition
            .log()
            .apply_retention(now, partition.high_watermark())
        {
            Ok(outcome) if outcome.segments > 0 => info!(
                topic = %partition.topic(), partition = %partition.partition(),
                segments = outcome.segments, bytes = outcome.bytes,
                log_start = %outcome.log_start, "retention deleted segments"
            ),
            Ok(_) => {}
            Err(error) => warn!(
                topic = %partition.topic(), partition = %partition.partition(), %error,
                "retention failed"
            ),
        }
    }
}

fn check_space(shared: &Shared) {
    let (free, total) = match rustix::fs::statvfs(&shared.config.data_dir) {
        Ok(space) => (
            space.f_bavail.saturating_mul(space.f_frsize),
            space.f_blocks.saturating_mul(space.f_frsize),
        ),
        Err(error) => {
            warn!(%error, "cannot tell the free space of the data directory");
            return;
        }
    };
    shared.metrics.disk_free(free);
    let limit = shared.config.storage.min_free_bytes;
    let low = free < limit;
    let was_low = shared.disk.note(free, total, low);
    match (was_low, low) {
        (false, true) => error!(
            free,
            limit,
            "disk is nearly full: appends are refused until space returns \
             (storage.min.free.bytes); reads go on"
        ),
        (true, false) => info!(free, limit, "disk has space again: appends go on"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_is_noticed_once() {
        let at = Timestamp::from_millis;
        let mut watch = ClockWatch::new(at(1_000_000));
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(watch.jump(at(1_000_000 + 3_600_000 + 59_000)), None);
        assert_eq!(watch.jump(at(90_000_000)), Some(90_000_000 - 4_659_000));
        assert_eq!(watch.jump(at(90_000_000)), None);
        assert_eq!(watch.jump(at(0)), Some(-90_000_000));
    }
}
