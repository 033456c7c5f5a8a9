//! Describing a reader.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use highwater_protocol::ids::{Offset, PartitionId, Timestamp, TopicName};
use highwater_protocol::messages::OffsetSpec;
use highwater_protocol::record::RecordLimits;

use super::Reader;
use super::fetch::{ReaderCore, ReaderOptions};
use super::state::Assigned;
use crate::client::ClientCore;
use crate::error::ReadError;
use crate::metadata::{LookupError, Topic};

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the first record that is there.
    Beginning,
    /// At the end: only records that come later.
    End,
    /// At this offset.
    Offset(Offset),
    /// At the first record with this timestamp or a later one; at the end if there is none.
    Time(Timestamp),
    /// This many records before the end, or at the beginning if there are fewer.
    FromEnd(u64),
}

/// Where a reader ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Nowhere: it waits for more.
    Never,
    /// At what was the end when it was built.
    End,
    /// Before this offset.
    Offset(Offset),
    /// Before the first record with this timestamp or a later one; if there is none, at what was the
    /// end when it was built.
    Time(Timestamp),
}

/// What a reader does when its position is not in the log: trimmed away, or beyond the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutOfRange {
    /// It reports [`ReadError::OffsetOutOfRange`].
    Fail,
    /// It goes on at the first record that is there.
    Beginning,
    /// It goes on at the end.
    End,
}

/// Makes a [`Reader`]: see [`Client::reader`](crate::Client::reader).
#[derive(Debug, Clone)]
#[must_use]
pub struct ReaderBuilder {
    client: Arc<ClientCore>,
    topic: String,
    partitions: Option<Vec<PartitionId>>,
    start: Start,
    starts: BTreeMap<PartitionId, Start>,
    until: Until,
    out_of_range: OutOfRange,
    fetch_bytes_max: u32,
    fetch_bytes_min: u32,
    fetch_wait: Duration,
    prefetch_bytes: usize,
    check_crcs: bool,
    retry_timeout: Duration,
    limits: RecordLimits,
}

impl ReaderBuilder {
    pub(crate) fn new(client: Arc<ClientCore>, topic: String) -> Self {
        Self {
            retry_timeout: client.request_timeout,
            client,
            topic,
            partitions: None,
            start: Start::Beginning,
            starts: BTreeMap::new(),
            until: Until::Never,
            out_of_range: OutOfRange::Fail,
            fetch_bytes_max: 1 << 20,
            fetch_bytes_min: 1,
            fetch_wait: Duration::from_millis(500),
            prefetch_bytes: 2 << 20,
            check_crcs: true,
            limits: RecordLimits::default(),
        }
    }

    /// Reads these partitions. Default: all that the topic has when the reader is built.
    pub fn partitions(mut self, partitions: impl IntoIterator<Item = PartitionId>) -> Self {
        self.partitions = Some(partitions.into_iter().collect());
        self
    }

    /// Where to begin. Default: [`Start::Beginning`].
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Where to begin in one partition, for example where an earlier reader stopped.
    pub fn start_at(mut self, partition: PartitionId, start: Start) -> Self {
        self.starts.insert(partition, start);
        self
    }

    /// Where to end. Default: [`Until::Never`].
    pub fn until(mut self, until: Until) -> Self {
        self.until = until;
        self
    }

    /// What to do when a position is not in the log. Default: [`OutOfRange::Fail`], because
    /// skipping or repeating records should not happen unasked.
    pub fn on_out_of_range(mut self, policy: OutOfRange) -> Self {
        self.out_of_range = policy;
        self
    }

    /// About how many bytes one fetch may bring. The first batch always comes whole. Default: 1 MiB,
    /// which stays in the processor's caches until it is decoded.
    pub fn fetch_bytes_max(mut self, bytes: u32) -> Self {
        self.fetch_bytes_max = bytes.max(1);
        self
    }

    /// How many bytes are worth an answer before [`Self::fetch_wait`] is over. Default: 1.
    pub fn fetch_bytes_min(mut self, bytes: u32) -> Self {
        self.fetch_bytes_min = bytes;
        self
    }

    /// How long the broker may wait for records before it answers without. Default: 500 ms.
    pub fn fetch_wait(mut self, wait: Duration) -> Self {
        self.fetch_wait = wait;
        self
    }

    /// Fetch ahead while fewer bytes than this are waiting to be handed out. Default: 2 MiB.
    pub fn prefetch_bytes(mut self, bytes: usize) -> Self {
        self.prefetch_bytes = bytes.max(1);
        self
    }

    /// Whether to compare the checksum of every batch. Default: yes.
    pub fn check_crcs(mut self, check: bool) -> Self {
        self.check_crcs = check;
        self
    }

    /// How long failures that may pass are retried before they are reported. Default: the client's
    /// request timeout.
    pub fn retry_timeout(mut self, timeout: Duration) -> Self {
        self.retry_timeout = timeout;
        self
    }

    /// Most bytes that one compressed batch may unfold to. Default: 128 MiB.
    pub fn decompressed_bytes_max(mut self, bytes: usize) -> Self {
        self.limits.decompressed_bytes_max = bytes;
        self
    }

    /// Finds the offsets to begin and to end at, and starts to fetch.
    ///
    /// # Errors
    /// [`ReadError`] when the topic or a partition does not exist, or the brokers do not answer.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn build(self) -> Result<Reader, ReadError> {
        let name = TopicName::new(&self.topic)?;
        let topic = self
            .client
            .topic(&name)
            .await
            .map_err(|e| lookup_failed(&name, e, false))?;
        let mut partitions = self
            .partitions
            .clone()
            .unwrap_or_else(|| (0..topic.partition_count()).map(PartitionId::new).collect());
        partitions.sort_unstable();
        partitions.dedup();
        let topic = self.with_partitions(&name, topic, &partitions).await?;
        let assigned = self.assign(&name, &partitions).await?;
        let options = ReaderOptions {
            out_of_range: self.out_of_range,
            fetch_bytes_max: self.fetch_bytes_max,
            fetch_bytes_min: self.fetch_bytes_min,
            fetch_wait: self.fetch_wait,
            prefetch_bytes: self.prefetch_bytes,
            check_crcs: self.check_crcs,
            retry_timeout: self.retry_timeout,
            limits: self.limits,
        };
        Ok(Reader::new(ReaderCore::new(
            self.client,
            name,
            topic.id,
            options,
            &assigned,
        )))
    }

    /// The topic, with fresh metadata if it lacks one of the partitions.
    async fn with_partitions(
        &self,
        name: &TopicName,
        mut topic: Arc<Topic>,
        partitions: &[PartitionId],
    ) -> Result<Arc<Topic>, ReadError> {
        if partitions
            .iter()
            .any(|partition| topic.leader(*partition).is_none())
        {
            let seen = Some(topic.generation);
            let fresh = self.client.refresh(name, seen).await;
            topic = fresh.map_err(|error| lookup_failed(name, error, false))?;
        }
        match partitions
            .iter()
            .find(|partition| topic.leader(**partition).is_none())
        {
            Some(partition) => Err(ReadError::UnknownPartition {
                topic: name.clone(),
                partition: *partition,
                partitions: topic.partition_count(),
            }),
            None => Ok(topic),
        }
    }

    /// Turns starts and ends into offsets.
    async fn assign(
        &self,
        name: &TopicName,
        partitions: &[PartitionId],
    ) -> Result<Vec<Assigned>, ReadError> {
        let start_of = |p: &PartitionId| self.starts.get(p).copied().unwrap_or(self.start);
        let from_end = |p: &PartitionId| matches!(start_of(p), Start::FromEnd(_));
        let bounded = matches!(self.until, Until::End | Until::Time(_));

        let ends = self
            .offsets(name, partitions, |p| {
                let start = start_of(p);
                let wanted = bounded || from_end(p) || matches!(start, Start::End | Start::Time(_));
                wanted.then_some(OffsetSpec::Latest)
            })
            .await?;
        let firsts = self
            .offsets(name, partitions, |p| match start_of(p) {
                Start::Beginning | Start::FromEnd(_) => Some(OffsetSpec::Earliest),
                Start::Time(time) => Some(OffsetSpec::At(time)),
                Start::End | Start::Offset(_) => None,
            })
            .await?;
        let stops = self
            .offsets(name, partitions, |_| match self.until {
                Until::Time(time) => Some(OffsetSpec::At(time)),
                _ => None,
            })
            .await?;

        let assigned = partitions.iter().map(|p| {
            let end = ends.get(p).copied().unwrap_or_default();
            let first = firsts.get(p).copied();
            let start = match start_of(p) {
                Start::Beginning => first.unwrap_or_default(),
                Start::End => end,
                Start::Offset(offset) => offset,
                Start::Time(_) => first.unwrap_or(end),
                Start::FromEnd(records) => {
                    let back = Offset::new(end.get().saturating_sub(records));
                    back.max(first.unwrap_or_default())
                }
            };
            let until = match self.until {
                Until::Never => None,
                Until::End => Some(end),
                Until::Offset(offset) => Some(offset),
                Until::Time(_) => Some(stops.get(p).copied().unwrap_or(end)),
            };
            Assigned {
                partition: *p,
                start,
                until,
            }
        });
        Ok(assigned.collect())
    }

    /// Asks for an offset of each partition for which `spec` names one. Times that no record has
    /// leave no entry.
    async fn offsets(
        &self,
        name: &TopicName,
        partitions: &[PartitionId],
        spec: impl Fn(&PartitionId) -> Option<OffsetSpec>,
    ) -> Result<BTreeMap<PartitionId, Offset>, ReadError> {
        let wanted: Vec<_> = partitions
            .iter()
            .filter_map(|p| spec(p).map(|spec| (*p, spec)))
            .collect();
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let found = self
            .client
            .list_offsets(name, &wanted)
            .await
            .map_err(|error| ReadError::Request {
                topic: name.clone(),
                source: error.into_request_error(),
            })?;
        Ok(found
            .into_iter()
            .filter_map(|o| o.offset.map(|offset| (o.partition, offset)))
            .collect())
    }
}

pub(super) fn lookup_failed(name: &TopicName, error: LookupError, was_there: bool) -> ReadError {
    let topic = name.clone();
    match error {
        LookupError::Unknown => ReadError::UnknownTopic { topic, was_there },
        LookupError::Request(source) => ReadError::Request { topic, source },
    }
}
