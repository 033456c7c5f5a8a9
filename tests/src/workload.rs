//! Producers that go on whatever happens to brokers, and the check of what a log must then hold.
//!
//! Each value is unique: `producer:number`. Every value is sent once by its application; the client may
//! retry. Afterwards the log is read from its start to its end:
//!
//! - every acknowledged value is there, at the offset that was told;
//! - no value is there twice, acknowledged or not;
//! - each producer's values are in the order in which they were sent;
//! - offsets have no gaps, and nothing is there that nobody sent.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use highwater_client::{Client, PartitionId, ProducerRecord, Until};
use tokio::task::JoinHandle;

/// Records that one producer has in flight.
const IN_FLIGHT: usize = 20;

/// How long one record may be on its way: longer than any fault of a test lasts.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// What became of one record.
#[derive(Debug, Clone)]
struct Sent {
    partition: u32,
    /// `None`: not acknowledged, in the log or not.
    acked: Option<Option<u64>>,
}

/// A running workload.
#[derive(Debug)]
pub struct Workload {
    topic: String,
    partitions: u32,
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
    gap_ms_max: Arc<AtomicU64>,
    producers: Vec<JoinHandle<BTreeMap<(u64, u64), Sent>>>,
}

/// What a workload has done.
#[derive(Debug)]
pub struct Outcome {
    topic: String,
    partitions: u32,
    sent: BTreeMap<(u64, u64), Sent>,
    /// The longest time in which nothing was acknowledged, in ms.
    pub gap_ms_max: u64,
}

impl Workload {
    /// Starts producers that send to all partitions of a topic until they are stopped.
    ///
    /// # Panics
    /// When no seed answers.
    pub async fn start(seeds: &[String], topic: &str, partitions: u32, producers: u64) -> Self {
        if std::env::var_os("HIGHWATER_TEST_LOG").is_some() {
            // Set by the first of several.
            let _ = tracing_subscriber::fmt()
                .with_env_filter(tracing_subscriber::EnvFilter::from_env(
                    "HIGHWATER_TEST_LOG",
                ))
                .try_init();
        }
        let stop = Arc::new(AtomicBool::new(false));
        let acked = Arc::new(AtomicU64::new(0));
        let gap_ms_max = Arc::new(AtomicU64::new(0));
        let mut running = Vec::new();
        for producer in 0..producers {
            let client = Client::builder()
                .seeds(seeds.to_vec())
                .client_name(format!("workload-{producer}"))
                .connect()
                .await
                .expect("a seed answers");
            let (topic, stop) = (topic.to_owned(), Arc::clone(&stop));
            let (acked, gap) = (Arc::clone(&acked), Arc::clone(&gap_ms_max));
            running.push(tokio::spawn(async move {
                produce(&client, producer, &topic, partitions, &stop, &acked, &gap).await
            }));
        }
        Self {
            topic: topic.to_owned(),
            partitions,
            stop,
            acked,
            gap_ms_max,
            producers: running,
        }
    }

    /// Records acknowledged so far.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// The longest time in which nothing of a producer was acknowledged, in ms, since this was last asked.
    #[must_use]
    pub fn take_gap_ms_max(&self) -> u64 {
        self.gap_ms_max.swap(0, Ordering::Relaxed)
    }

    /// Waits until so many more records are acknowledged.
    ///
    /// # Panics
    /// When that takes longer than `within`.
    pub async fn progress(&self, more: u64, within: Duration) {
        let wanted = self.acked() + more;
        let began = Instant::now();
        while self.acked() < wanted {
            assert!(
                began.elapsed() < within,
                "the producers get nowhere: {} of {wanted} records after {within:?}",
                self.acked()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Ends the producers once everything that they sent is settled.
    ///
    /// # Panics
    /// When a producer did.
    pub async fn stop(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        let mut sent = BTreeMap::new();
        for producer in self.producers {
            sent.extend(producer.await.expect("a producer ends in order"));
        }
        Outcome {
            topic: self.topic,
            partitions: self.partitions,
            sent,
            gap_ms_max: self.gap_ms_max.load(Ordering::Relaxed),
        }
    }
}

async fn produce(
    client: &Client,
    number: u64,
    topic: &str,
    partitions: u32,
    stop: &AtomicBool,
    acked: &AtomicU64,
    gap_ms_max: &AtomicU64,
) -> BTreeMap<(u64, u64), Sent> {
    let producer = client
        .producer()
        .delivery_timeout(DELIVERY_TIMEOUT)
        .linger(Duration::from_millis(1))
        .build();
    let mut sent = BTreeMap::new();
    let mut next = 0u64;
    let mut last_ack = Instant::now();
    let mut waiting = std::collections::VecDeque::new();
    loop {
        let is_over = stop.load(Ordering::Relaxed);
        while !is_over && waiting.len() < IN_FLIGHT {
            let partition = (next % u64::from(partitions)) as u32;
            let record = ProducerRecord::to(topic)
                .partition(PartitionId::new(partition))
                .value(format!("{number}:{next}"));
            sent.insert(
                (number, next),
                Sent {
                    partition,
                    acked: None,
                },
            );
            match producer.enqueue(record).await {
                Ok(pending) => waiting.push_back((next, pending)),
                Err(error) => eprintln!("producer {number}: record {next} not enqueued: {error}"),
            }
            next += 1;
        }
        let Some((index, pending)) = waiting.pop_front() else {
            break;
        };
        match pending.await {
            Ok(ack) => {
                let offset = ack.offset.map(highwater_client::Offset::get);
                sent.entry((number, index))
                    .and_modify(|sent| sent.acked = Some(offset));
                acked.fetch_add(1, Ordering::Relaxed);
                let gap = u64::try_from(last_ack.elapsed().as_millis()).unwrap_or(u64::MAX);
                gap_ms_max.fetch_max(gap, Ordering::Relaxed);
                last_ack = Instant::now();
            }
            Err(error) => eprintln!("producer {number}: record {index} in doubt: {error}"),
        }
    }
    sent
}

impl Outcome {
    /// Records that were acknowledged.
    #[must_use]
    pub fn acked(&self) -> usize {
        self.sent
            .values()
            .filter(|sent| sent.acked.is_some())
            .count()
    }

    /// Records whose producer was told that they may not be in the log.
    #[must_use]
    pub fn in_doubt(&self) -> usize {
        self.sent.len() - self.acked()
    }

    /// Reads the topic and checks it.
    ///
    /// # Panics
    /// When the log is not as it must be.
    pub async fn check(&self, seeds: &[String]) {
        let client = Client::builder()
            .seeds(seeds.to_vec())
            .connect()
            .await
            .expect("a seed answers");
        let mut found: HashMap<(u64, u64), (u32, u64)> = HashMap::new();
        let mut reader = client
            .reader(&self.topic)
            .until(Until::End)
            .retry_timeout(Duration::from_secs(30))
            .build()
            .await
            .expect("the topic can be read");
        let mut next: BTreeMap<u32, u64> = BTreeMap::new();
        let mut last: HashMap<(u32, u64), u64> = HashMap::new();
        while let Some(record) = reader.next().await.expect("the topic can be read") {
            let (partition, offset) = (record.partition.get(), record.offset.get());
            let expected = next.entry(partition).or_default();
            assert_eq!(
                offset, *expected,
                "offsets of partition {partition} have no gaps"
            );
            *expected += 1;
            let value = String::from_utf8(record.value.clone().unwrap_or_default().to_vec())
                .expect("values are text");
            let (producer, number) = value.split_once(':').expect("producer:number");
            let key: (u64, u64) = (
                producer.parse().expect("a number"),
                number.parse().expect("a number"),
            );
            if let Some(before) = last.insert((partition, key.0), key.1) {
                assert!(
                    before < key.1,
                    "producer {} in partition {partition}: {} after {before}",
                    key.0,
                    key.1
                );
            }
            let twice = found.insert(key, (partition, offset));
            assert_eq!(twice, None, "{value} is at {partition}/{offset} as well");
        }
        assert!(next.keys().all(|partition| *partition < self.partitions));
        let mut lost = Vec::new();
        for (key, sent) in &self.sent {
            if let Some(told) = sent.acked {
                match found.get(key) {
                    Some((partition, offset)) => {
                        assert_eq!(*partition, sent.partition, "{key:?}");
                        assert!(
                            told.is_none_or(|told| told == *offset),
                            "{key:?} was told to be at {told:?} and is at {offset}"
                        );
                    }
                    None => lost.push((*key, sent.partition, told)),
                }
            }
        }
        assert!(
            lost.is_empty(),
            "{} acknowledged records are lost: {:?} ...",
            lost.len(),
            &lost[..lost.len().min(5)]
        );
        let sent: HashSet<_> = self.sent.keys().collect();
        assert!(
            found.keys().all(|key| sent.contains(key)),
            "nothing is there that nobody sent"
        );
    }
}
