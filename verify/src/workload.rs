//! Clients that go on whatever happens to brokers.

mod final_read;
mod probes;
mod producers;
mod readers;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use highwater_client::{AdminError, Client, ConnectError, ReadError};
use thiserror::Error;
use tokio::task::{JoinError, JoinSet};

use crate::checks;
use crate::event::{Header, Kind, Op, Phase, Rules};
use crate::file::{FileError, HistoryWriter};
use crate::history::{History, HistoryError};
use crate::recorder::{RecordError, Recorder};
use crate::verdict::Verdict;

/// How often [`Workload::settle`] looks.
const SETTLE_POLL: Duration = Duration::from_millis(100);

/// How long every other producer waits for an answer before it asks whoever leads now. Only so are there
/// records that a leader which stands still does not know of when it wakes; the others wait as long as
/// clients do by themselves.
const IMPATIENT: Duration = Duration::from_secs(1);

/// What a workload does. Everything but the topic and its partitions has a default.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The topic; it exists.
    pub topic: String,
    /// Its partitions.
    pub partitions: u32,
    /// Producers, each with a connection of its own. Default: 2.
    pub producers: u32,
    /// Readers that follow all partitions. Default: 1.
    pub readers: u32,
    /// Records a second of all producers together; `None`: as fast as they are acknowledged.
    pub rate: Option<u64>,
    /// Size of a value in bytes, at the least what tells them apart, about 20. Default: 64.
    pub value_bytes: usize,
    /// Records that one producer has on their way. Default: 20.
    pub in_flight: usize,
    /// How long one record may be on its way. Default: 60 s.
    pub delivery_timeout: Duration,
    /// How often each partition is asked where it ends. Default: 100 ms.
    pub probe_every: Duration,
    /// What may be asked of the cluster. The producers are configured by it.
    pub rules: Rules,
    /// Kinds of faults without which the run shows nothing.
    pub faults_wanted: Vec<String>,
    /// Where to write the history.
    pub file: Option<PathBuf>,
}

impl Plan {
    /// The defaults.
    pub fn new(topic: impl Into<String>, partitions: u32) -> Self {
        Self {
            topic: topic.into(),
            partitions,
            producers: 2,
            readers: 1,
            rate: None,
            value_bytes: 64,
            in_flight: 20,
            delivery_timeout: Duration::from_secs(60),
            probe_every: Duration::from_millis(100),
            rules: Rules::default(),
            faults_wanted: Vec::new(),
            file: None,
        }
    }
}

/// Why a workload could not do its work.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WorkloadError {
    /// No seed answers.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The history cannot be.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The history cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The history is not what happened.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The ends of a partition could not be found out.
    #[error("partition {partition} does not tell its ends: {source}")]
    Ends {
        /// The partition.
        partition: u32,
        /// Why.
        source: AdminError,
    },
    /// A partition could not be read as a whole.
    #[error("partition {partition} cannot be read to its end: {source}")]
    FinalRead {
        /// The partition.
        partition: u32,
        /// Why.
        source: ReadError,
    },
    /// The producers get nowhere.
    #[error("the producers get nowhere: {acked} of {wanted} records after {within:?}")]
    NoProgress {
        /// Acknowledged so far.
        acked: u64,
        /// That were waited for.
        wanted: u64,
        /// How long.
        within: Duration,
    },
    /// A task of the workload panicked.
    #[error("a task of the workload did not end in order: {0}")]
    Task(#[from] JoinError),
}

/// What the tasks of a workload share.
#[derive(Debug)]
struct Shared {
    plan: Plan,
    recorder: Recorder,
    stop: AtomicBool,
    acked: AtomicU64,
    in_doubt: AtomicU64,
    refused: AtomicU64,
    /// Of each partition.
    acked_in: Vec<AtomicU64>,
    gap_ms_max: AtomicU64,
    /// When each partition acknowledged last, in ns.
    last_ack: Vec<AtomicU64>,
}

impl Shared {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// How a workload is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Records acknowledged.
    pub acked: u64,
    /// Records in doubt.
    pub in_doubt: u64,
    /// Records refused.
    pub refused: u64,
    /// For how long the partition that is silent for longest has acknowledged nothing.
    pub silent_for: Duration,
}

/// A running workload.
#[derive(Debug)]
pub struct Workload {
    shared: Arc<Shared>,
    producers: JoinSet<()>,
    others: JoinSet<()>,
    admin: Client,
}

impl Workload {
    /// Starts producers that send to all partitions of a topic until they are stopped, a reader that
    /// follows it, and probes.
    ///
    /// # Errors
    /// [`WorkloadError`] when no seed answers.
    pub async fn start(
        seeds: &[String],
        topic: &str,
        partitions: u32,
        producers: u32,
    ) -> Result<Self, WorkloadError> {
        let mut plan = Plan::new(topic, partitions);
        plan.producers = producers;
        Self::start_plan(seeds, plan).await
    }

    /// Starts what a plan says.
    ///
    /// # Errors
    /// [`WorkloadError`] when no seed answers or the history cannot be written.
    pub async fn start_plan(seeds: &[String], plan: Plan) -> Result<Self, WorkloadError> {
        let header = Header {
            history: Header::VERSION,
            topic: plan.topic.clone(),
            partitions: plan.partitions,
            rules: plan.rules,
            faults_wanted: plan.faults_wanted.clone(),
        };
        let writer = match &plan.file {
            Some(path) => Some(HistoryWriter::create(path, &header)?),
            None => None,
        };
        let recorder = Recorder::new(History::new(header)?, writer);
        let began = recorder.now().ns();
        let partitions = 0..plan.partitions;
        let last_ack = partitions.clone().map(|_| AtomicU64::new(began)).collect();
        let acked_in = partitions.map(|_| AtomicU64::new(0)).collect();
        let (producer_count, reader_count) = (plan.producers, plan.readers);
        let shared = Arc::new(Shared {
            plan,
            recorder,
            stop: AtomicBool::new(false),
            acked: AtomicU64::new(0),
            acked_in,
            in_doubt: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            gap_ms_max: AtomicU64::new(0),
            last_ack,
        });
        let mut producers = JoinSet::new();
        for number in 0..producer_count {
            let mut client = Client::builder()
                .seeds(seeds.to_vec())
                .client_name(format!("verify-producer-{number}"));
            if number % 2 == 0 {
                client = client.request_timeout(IMPATIENT);
            }
            let client = client.connect().await?;
            producers::start(&mut producers, &shared, &client, number);
        }
        let mut others = JoinSet::new();
        for number in 0..reader_count {
            let client = connect(seeds, &format!("verify-reader-{number}")).await?;
            others.spawn(readers::follow(Arc::clone(&shared), client, number));
        }
        let prober = connect(seeds, "verify-probe").await?;
        probes::start(&mut others, &shared, &prober);
        Ok(Self {
            shared,
            producers,
            others,
            admin: connect(seeds, "verify-admin").await?,
        })
    }

    /// Records acknowledged so far.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.shared.acked.load(Ordering::Relaxed)
    }

    /// Records of a partition acknowledged so far; 0 for one that is not written to.
    #[must_use]
    pub fn acked_in(&self, partition: u32) -> u64 {
        let acked = self.shared.acked_in.get(partition as usize);
        acked.map_or(0, |acked| acked.load(Ordering::Relaxed))
    }

    /// How it is doing.
    #[must_use]
    pub fn state(&self) -> Progress {
        let now = self.shared.recorder.now();
        let last = self.shared.last_ack.iter();
        let oldest = last.map(|at| at.load(Ordering::Relaxed)).min();
        Progress {
            acked: self.acked(),
            in_doubt: self.shared.in_doubt.load(Ordering::Relaxed),
            refused: self.shared.refused.load(Ordering::Relaxed),
            silent_for: now.since(crate::event::Moment::from_ns(oldest.unwrap_or_default())),
        }
    }

    /// The longest time in which one producer was acknowledged nothing in a partition, in ms, since
    /// this was last asked.
    #[must_use]
    pub fn take_gap_ms_max(&self) -> u64 {
        self.shared.gap_ms_max.swap(0, Ordering::Relaxed)
    }

    /// Waits until so many more records are acknowledged.
    ///
    /// # Errors
    /// [`WorkloadError::NoProgress`] when that takes longer than `within`.
    pub async fn progress(&self, more: u64, within: Duration) -> Result<(), WorkloadError> {
        let wanted = self.acked() + more;
        let began = Instant::now();
        while self.acked() < wanted {
            if began.elapsed() > within {
                return Err(WorkloadError::NoProgress {
                    acked: self.acked(),
                    wanted,
                    within,
                });
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Notes a fault, or its end: `invoke` is when its doing was begun ([`Recorder::now`] before it),
    /// and `done` whether it was.
    pub fn note_fault(
        &self,
        invoke: crate::event::Moment,
        fault: &str,
        target: &str,
        phase: Phase,
        done: bool,
    ) {
        let kind = if done { Kind::Ok } else { Kind::Fail };
        let op = Op::Fault {
            fault: fault.to_owned(),
            target: target.to_owned(),
            phase,
        };
        self.shared.recorder.record("faults", invoke, kind, op);
    }

    /// The time of the history.
    #[must_use]
    pub fn now(&self) -> crate::event::Moment {
        self.shared.recorder.now()
    }

    /// Says that all faults are lifted, and waits until every partition is whole again: it takes a
    /// record and shows it, and all its replicas are in sync. Returns whether that was so within
    /// [`Rules::heal_ms_max`]; if not, the verdict says what was missing.
    pub async fn settle(&self) -> bool {
        let recorder = &self.shared.recorder;
        recorder.record("faults", recorder.now(), Kind::Ok, Op::Settle);
        let bound = Duration::from_millis(self.shared.plan.rules.heal_ms_max);
        let began = Instant::now();
        loop {
            self.describe().await;
            if recorder.look(checks::is_whole) {
                return true;
            }
            if began.elapsed() > bound {
                return false;
            }
            tokio::time::sleep(SETTLE_POLL).await;
        }
    }

    async fn describe(&self) {
        let recorder = &self.shared.recorder;
        let invoke = recorder.now();
        let topic = &self.shared.plan.topic;
        let described = match self.admin.admin().describe_topic(topic).await {
            Ok(described) => described,
            Err(error) => {
                tracing::debug!(%error, "the topic cannot be described");
                return;
            }
        };
        for p in described.partitions {
            let ids = |nodes: &[highwater_client::NodeId]| nodes.iter().map(|n| n.get()).collect();
            let op = Op::Describe {
                partition: p.partition.get(),
                leader: p.leader.map(highwater_client::NodeId::get),
                replicas: ids(&p.replicas),
                isr: ids(&p.isr),
            };
            recorder.record("admin", invoke, Kind::Ok, op);
        }
    }

    /// Ends the producers once everything that they sent is settled, then the readers.
    ///
    /// # Errors
    /// [`WorkloadError::Task`] when one of them did not end in order.
    pub async fn stop(mut self) -> Result<Stopped, WorkloadError> {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.producers.join_next().await {
            ended?;
        }
        // What they are waiting for may never come; nothing that they ask leaves a trace.
        self.others.abort_all();
        while let Some(ended) = self.others.join_next().await {
            match ended {
                Err(error) if !error.is_cancelled() => return Err(error.into()),
                _ => {}
            }
        }
        Ok(Stopped {
            gap_ms_max: self.shared.gap_ms_max.load(Ordering::Relaxed),
            shared: self.shared,
            readings: AtomicU64::new(0),
        })
    }
}

/// A workload that is over.
#[derive(Debug)]
pub struct Stopped {
    shared: Arc<Shared>,
    /// How often the partitions were read as a whole.
    readings: AtomicU64,
    /// The longest time in which one producer was acknowledged nothing in a partition, in ms, since it
    /// was last asked.
    pub gap_ms_max: u64,
}

impl Stopped {
    /// Records that were acknowledged.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.shared.acked.load(Ordering::Relaxed)
    }

    /// Records whose producer saw an error: they may be in the log or not, or are not.
    #[must_use]
    pub fn in_doubt(&self) -> u64 {
        let refused = self.shared.refused.load(Ordering::Relaxed);
        refused + self.shared.in_doubt.load(Ordering::Relaxed)
    }

    /// Reads all partitions as a whole and judges the history. May be called again: what was read the
    /// first time must then still be there.
    ///
    /// # Errors
    /// [`WorkloadError`] when a partition cannot be read or the history cannot be written.
    pub async fn check(&self, seeds: &[String]) -> Result<Verdict, WorkloadError> {
        let round = self.readings.fetch_add(1, Ordering::Relaxed);
        let client = connect(seeds, "verify-final").await?;
        final_read::read_all(&self.shared, &client, round).await?;
        let recorder = &self.shared.recorder;
        recorder.record("workload", recorder.now(), Kind::Ok, Op::End);
        recorder.flush()?;
        Ok(recorder.look(Verdict::of))
    }

    /// Judges the history without the last reading, as when the cluster cannot be read any more: it
    /// can be found invalid, and is insufficient otherwise.
    ///
    /// # Errors
    /// [`WorkloadError::Record`] when the history cannot be written.
    pub fn check_unread(&self) -> Result<Verdict, WorkloadError> {
        self.shared.recorder.flush()?;
        Ok(self.shared.recorder.look(Verdict::of))
    }
}

async fn connect(seeds: &[String], name: &str) -> Result<Client, ConnectError> {
    Client::builder()
        .seeds(seeds.to_vec())
        .client_name(name)
        .connect()
        .await
}
