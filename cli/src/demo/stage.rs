//! Everyone who takes part: feeders, lanes and readers, and how they start and end.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use highwater_client::{Acks, Client, NewTopic};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::demo::feed::{Entrances, Pace, feed_counters, feed_text};
use crate::demo::files::FileSet;
use crate::demo::follow::follow;
use crate::demo::lane::{Doubts, Lane};
use crate::demo::machine::Machine;
use crate::demo::track::Track;

const COUNTER_PARTITIONS: u32 = 2;
const TEXT_PARTITIONS: u32 = 4;
/// Chunks that wait in front of a partition: few, since the wait counts as latency.
const CHUNKS_WAITING: usize = 2;
/// How long all that was sent may take to be acknowledged.
const FINISH_TIMEOUT: Duration = Duration::from_secs(120);

/// Where records go, and how.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Addresses of brokers.
    pub(crate) seeds: Vec<String>,
    /// Replicas of each partition.
    pub(crate) replicas: u16,
    /// Text that is sent per second: a load, but not one that makes records wait for each other.
    pub(crate) text_bytes_per_second: f64,
    /// Whether senders find out what became of records, rather than their producers.
    pub(crate) resolves_doubts: bool,
}

/// The demo's cast at work.
#[derive(Debug)]
pub(crate) struct Stage {
    plan: Plan,
    tracks: Vec<Arc<Track>>,
    stop: Arc<AtomicBool>,
    feeders: Vec<std::thread::JoinHandle<()>>,
    lanes: JoinSet<Result<Doubts>>,
    readers: JoinSet<Result<()>>,
    all_sent: watch::Sender<bool>,
}

impl Stage {
    /// Creates the topics and starts everyone.
    pub(crate) async fn set(plan: Plan, files: FileSet) -> Result<Stage> {
        let client = Client::builder()
            .seeds(&plan.seeds)
            .client_name("highwater-demo")
            .connect()
            .await?;
        let (all_sent, _) = watch::channel(false);
        let mut stage = Stage {
            plan,
            tracks: Vec::new(),
            stop: Arc::default(),
            feeders: Vec::new(),
            lanes: JoinSet::new(),
            readers: JoinSet::new(),
            all_sent,
        };
        let counters = stage
            .open_topic(&client, "machine", COUNTER_PARTITIONS)
            .await?;
        let text = stage.open_topic(&client, "text", TEXT_PARTITIONS).await?;
        // A thread per partition: one that waits for its leader must not hold up the others.
        for (partition, entrance) in counters.each() {
            stage.feed("feed-machine", move |stop| {
                feed_counters(
                    &Machine::new(Path::new("/proc")),
                    &entrance,
                    partition,
                    stop,
                );
            })?;
        }
        let files = Arc::new(files);
        let pace = Arc::new(Pace::new(stage.plan.text_bytes_per_second));
        for (partition, entrance) in text.each() {
            let (files, pace) = (Arc::clone(&files), Arc::clone(&pace));
            stage.feed("feed-text", move |stop| {
                feed_text(&files, &entrance, partition, &pace, stop);
            })?;
        }
        Ok(stage)
    }

    /// The topics.
    pub(crate) fn tracks(&self) -> Vec<Arc<Track>> {
        self.tracks.clone()
    }

    /// Records that were handed to a producer and not acknowledged yet.
    pub(crate) fn unacknowledged(&self) -> u64 {
        self.tracks
            .iter()
            .map(|track| track.counts())
            .map(|counts| counts.sent.saturating_sub(counts.acknowledged))
            .sum()
    }

    /// Lets everyone work for a while; whoever fails ends it.
    pub(crate) async fn run_for(&mut self, time: Duration) -> Result<()> {
        self.run_during(sleep(time)).await
    }

    /// Lets everyone work until something else is done; whoever fails ends it.
    pub(crate) async fn run_during<T>(&mut self, work: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            done = work => Ok(done),
            Some(ended) = self.lanes.join_next() => {
                ended.context("a sender panicked")??;
                bail!("a sender stopped before its time")
            }
            Some(ended) = self.readers.join_next() => {
                ended.context("a reader panicked")??;
                bail!("a reader stopped before its time")
            }
        }
    }

    /// Stops feeding, waits until everything is acknowledged and read back.
    pub(crate) async fn finish(&mut self) -> Result<Doubts> {
        self.stop.store(true, Ordering::Relaxed);
        let mut doubts = Doubts::default();
        let acknowledged = async {
            while let Some(ended) = self.lanes.join_next().await {
                doubts.add(ended.context("a sender panicked")??);
            }
            anyhow::Ok(())
        };
        timeout(FINISH_TIMEOUT, acknowledged)
            .await
            .context("not everything was acknowledged in time")??;
        self.all_sent.send_replace(true);
        while let Some(ended) = self.readers.join_next().await {
            ended.context("a reader panicked")??;
        }
        for feeder in self.feeders.drain(..) {
            // Its lanes have ended, so it has, too.
            if feeder.join().is_err() {
                bail!("a feeder panicked");
            }
        }
        Ok(doubts)
    }

    async fn open_topic(
        &mut self,
        client: &Client,
        name: &'static str,
        partitions: u32,
    ) -> Result<Entrances> {
        client
            .admin()
            .create_topic(
                NewTopic::new(name)
                    .partitions(partitions)
                    .replicas(self.plan.replicas),
            )
            .await?;
        let track = Arc::new(Track::new(name, partitions));
        let producer = client
            .producer()
            .acks(Acks::All)
            .retry_in_doubt(!self.plan.resolves_doubts)
            .build();
        let mut entrances = Vec::new();
        for partition in 0..partitions {
            let (entrance, chunks) = mpsc::channel(CHUNKS_WAITING);
            entrances.push(entrance);
            let lane = Lane {
                client: client.clone(),
                producer: producer.clone(),
                resolves_doubts: self.plan.resolves_doubts,
                track: Arc::clone(&track),
                partition,
                chunks,
            };
            self.lanes.spawn(lane.run());
        }
        let all_sent = self.all_sent.subscribe();
        self.readers
            .spawn(follow(client.clone(), Arc::clone(&track), all_sent));
        self.tracks.push(track);
        Ok(Entrances(entrances))
    }

    fn feed(&mut self, name: &str, feed: impl FnOnce(&AtomicBool) + Send + 'static) -> Result<()> {
        let stop = Arc::clone(&self.stop);
        let feeder = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || feed(&stop))
            .context("starting a thread")?;
        self.feeders.push(feeder);
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
