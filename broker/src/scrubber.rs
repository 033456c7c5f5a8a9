//! Reads all finished segments again within `storage.scrub.interval`, to find damage before somebody
//! needs the bytes.
//!
//! What is due comes from [`ScrubRound`]; this gives it time, a thread that may block, and a rate. A
//! damaged log goes offline, says so in the log, and is reported with the partitions that are offline.

use std::sync::Arc;
use std::time::Duration;

use highwater_storage::{Engine, ScrubNext, ScrubRound, ScrubStep, SealedSegment, SegmentScrub};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, warn};

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::shared::Shared;

/// Segments come and go: what is due is looked at again at least this often.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// How often the progress of a round is kept for the next start, at most.
const KEEP_INTERVAL: Duration = Duration::from_secs(60);
/// Read at once, at most: the disk is held up for no longer than that.
const STEP_BYTES_MAX: u64 = 1 << 20;
/// Steps a second, as long as they are not too large.
const STEPS_A_SECOND: u64 = 8;

/// Runs until the broker stops; ends at once when scrubbing is off.
pub(crate) async fn run(shared: Arc<Shared>) {
    let storage = &shared.config.storage;
    let Some(interval) = storage.scrub_interval else {
        return;
    };
    let scrubber = Scrubber {
        engine: Arc::clone(&shared.engine),
        metrics: Arc::clone(&shared.metrics),
        clock: Arc::clone(&shared.clock),
        interval_ms: i64::try_from(interval.as_millis()).unwrap_or(i64::MAX),
        rate: storage.scrub_rate.max(1),
    };
    drop(shared);
    scrubber.run().await;
}

struct Scrubber {
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
    clock: Arc<Clock>,
    interval_ms: i64,
    /// Bytes a second.
    rate: u64,
}

impl Scrubber {
    async fn run(self) {
        let now = self.clock.now();
        let Some(mut round) = self.blocking(move |engine| engine.scrub_round(now)).await else {
            return;
        };
        let mut kept_at = Instant::now();
        loop {
            let Some(segments) = self.blocking(Engine::sealed_segments).await else {
                return;
            };
            let now = self.clock.now();
            match round.next(&segments, now, self.interval_ms) {
                ScrubNext::WaitUntil(then) => {
                    let wait = then.millis().saturating_sub(now.millis()).max(1);
                    let wait = Duration::from_millis(wait.unsigned_abs());
                    sleep(wait.min(LOOK_INTERVAL)).await;
                }
                ScrubNext::Scrub(segment) => {
                    self.scrub(segment).await;
                    round.on_done(segment.key);
                    if kept_at.elapsed() >= KEEP_INTERVAL {
                        self.keep(round).await;
                        kept_at = Instant::now();
                    }
                }
            }
        }
    }

    /// Scrubs one segment. One that cannot be scrubbed now is left to the next round.
    async fn scrub(&self, segment: SealedSegment) {
        let began = Instant::now();
        let key = segment.key;
        let begun = self.blocking(move |engine| match engine.log_of(&key) {
            Some(log) => log.begin_scrub(key.base),
            None => Ok(None),
        });
        let mut scrub = match begun.await {
            Some(Ok(Some(scrub))) => scrub,
            Some(Err(error)) => {
                warn!(%error, "cannot scrub a segment; the next round tries again");
                return;
            }
            Some(Ok(None)) | None => return,
        };
        let step_bytes = (self.rate / STEPS_A_SECOND).clamp(1, STEP_BYTES_MAX);
        let mut read = 0;
        loop {
            let Some((step, rest)) = self.step(scrub, step_bytes).await else {
                return;
            };
            scrub = rest;
            match step {
                Ok(ScrubStep::Read { bytes }) => {
                    read += bytes;
                    self.metrics.scrubbed(bytes);
                }
                Ok(ScrubStep::Healthy { bytes }) => {
                    read += bytes;
                    self.metrics.scrubbed(bytes);
                    self.metrics.segment_scrubbed();
                    self.pause(began, read).await;
                    return;
                }
                // The storage has said in the log where the damage is.
                Ok(ScrubStep::Damaged(_)) => {
                    self.metrics.segment_scrubbed();
                    self.metrics.segment_damaged();
                    return;
                }
                Ok(ScrubStep::Gone) => return,
                Err(error) => {
                    warn!(%error, "cannot scrub a segment; the next round tries again");
                    return;
                }
            }
            self.pause(began, read).await;
        }
    }

    async fn step(
        &self,
        mut scrub: SegmentScrub,
        bytes: u64,
    ) -> Option<(
        Result<ScrubStep, highwater_storage::StorageError>,
        SegmentScrub,
    )> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.blocking(move |_| (scrub.step(bytes), scrub)).await
    }

    /// Waits until so many bytes may have been read since a moment.
    async fn pause(&self, began: Instant, read: u64) {
        let micros = u128::from(read) * 1_000_000 / u128::from(self.rate);
        let due = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        if let Some(at) = began.checked_add(due) {
            sleep_until(at).await;
        }
    }

    async fn keep(&self, round: ScrubRound) {
        let kept = self.blocking(move |engine| engine.keep_scrub_round(&round));
        if let Some(Err(error)) = kept.await {
            warn!(%error, "cannot keep how far scrubbing got; a restart begins the round anew");
        }
    }

    /// Does something on a thread that may block. `None`: it panicked, or the runtime ends.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> T + Send + 'static,
    ) -> Option<T> {
        let engine = Arc::clone(&self.engine);
        let done = tokio::task::spawn_blocking(move || work(&engine)).await;
        if let Err(error) = &done
            && error.is_panic()
        {
            error!(%error, "scrubbing failed");
        }
        done.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    use highwater_protocol::batch_builder::BatchBuilder;
    use highwater_protocol::compression::Compression;
    use highwater_protocol::ids::{
        LeaderEpoch, Offset, PartitionId, Timestamp, TopicId, TopicName,
    };
    use highwater_storage::layout::{SegmentFileKind, segment_path};
    use highwater_storage::{EngineOptions, Log, LogHealth, LogOptions, PartitionMeta};

    use super::*;

    fn log(engine: &Arc<Engine>, partition: u32) -> Arc<Log> {
        let meta = PartitionMeta {
            topic_id: TopicId::from_bytes([6; 16]),
            topic: TopicName::new("old").unwrap(),
            partition: PartitionId::new(partition),
        };
        let log = engine.create_log(meta, LogOptions::default()).unwrap();
        for n in 0..3u8 {
            let mut builder = BatchBuilder::new(Compression::None, None);
            builder.push(Timestamp::from_millis(1), None, Some(&[n; 3000]), &[]);
            log.append(
                &builder.build(),
                LeaderEpoch::new(1),
                Timestamp::from_millis(1),
            )
            .unwrap();
            log.roll().unwrap();
        }
        log
    }

    async fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds() {
            assert!(Instant::now() < deadline, "{what}");
            sleep(Duration::from_millis(2)).await;
        }
    }

    fn scrubber(engine: &Arc<Engine>, metrics: &Arc<Metrics>) -> Scrubber {
        Scrubber {
            engine: Arc::clone(engine),
            metrics: Arc::clone(metrics),
            clock: Arc::default(),
            interval_ms: 20,
            rate: 1 << 30,
        }
    }

    fn engine(dir: &Path) -> Arc<Engine> {
        Engine::open(dir, EngineOptions::default()).unwrap()
    }

    #[tokio::test]
    async fn damage_is_found_and_the_healthy_log_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let engine = engine(dir.path());
        let (healthy, damaged) = (log(&engine, 0), log(&engine, 1));
        until("seals", || engine.sealed_segments().len() == 6).await;
        let path = segment_path(damaged.dir(), Offset::new(1), SegmentFileKind::Log);
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(b"?", 1000).unwrap();

        let metrics = Arc::new(Metrics::new());
        let task = tokio::spawn(scrubber(&engine, &metrics).run());
        until("the damage is found", || {
            matches!(damaged.health(), LogHealth::Offline(_))
        })
        .await;
        let count = |name: &str| -> u64 {
            let text = metrics.render(Default::default());
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(&format!("highwater_{name}_total ")));
            line.unwrap().parse().unwrap()
        };
        let segments = count("scrubbed_segments");
        until("rounds go on", || count("scrubbed_segments") > segments + 6).await;
        assert_eq!(count("scrub_damaged_segments"), 1);
        assert!(count("scrubbed_bytes") > 6 * 3000);
        assert!(matches!(healthy.health(), LogHealth::Online));
        assert_eq!(engine.sealed_segments().len(), 3);
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        drop((healthy, damaged));
        engine.close().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn it_reads_no_faster_than_it_may() {
        let dir = tempfile::tempdir().unwrap();
        let engine = engine(dir.path());
        let metrics = Arc::new(Metrics::new());
        let scrubber = Scrubber {
            rate: 1000,
            ..scrubber(&engine, &metrics)
        };
        let began = Instant::now();
        scrubber.pause(began, 2500).await;
        assert!(began.elapsed() >= Duration::from_millis(2500));
        let before = Instant::now();
        scrubber.pause(began, 2500).await;
        assert_eq!(before.elapsed(), Duration::ZERO, "that time has passed");
    }
}
