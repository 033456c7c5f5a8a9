//! Keeps fetches in flight.
//!
//! Whoever takes a batch out, and every answer that comes, sends the fetches that are due: so the
//! next one is on its way before the application has seen the current one, without a task per reader.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use highwater_protocol::error_code::{ErrorCode, Remedy};
use highwater_protocol::ids::{LeaderEpoch, NodeId, Offset, PartitionId, TopicId, TopicName};
use highwater_protocol::messages::{
    FetchPartition, FetchPartitionResult, FetchRequest, FetchTopic, Isolation,
};
use highwater_protocol::record::{RecordError, RecordLimits};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::builder::{OutOfRange, lookup_failed};
use super::state::{Assigned, Next, State};
use crate::client::ClientCore;
use crate::connection::{Answer, Connection};
use crate::error::{ReadError, RequestError};
use crate::metadata::Topic;

/// Fetches in flight to one broker: partitions that wait for records must not keep others waiting.
const FETCHES_PER_BROKER_MAX: usize = 8;

#[derive(Debug, Clone, Copy)]
pub(super) struct ReaderOptions {
    pub(super) out_of_range: OutOfRange,
    pub(super) fetch_bytes_max: u32,
    pub(super) fetch_bytes_min: u32,
    pub(super) fetch_wait: Duration,
    pub(super) prefetch_bytes: usize,
    pub(super) check_crcs: bool,
    pub(super) retry_timeout: Duration,
    pub(super) limits: RecordLimits,
}

/// What the reader and the completions of its fetches share.
#[derive(Debug)]
pub(super) struct ReaderCore {
    client: Arc<ClientCore>,
    pub(super) topic: TopicName,
    topic_id: TopicId,
    pub(super) options: ReaderOptions,
    state: Mutex<State>,
    /// Told when an answer came or something was mended.
    pub(super) arrived: Notify,
}

/// A partition in a fetch.
#[derive(Debug, Clone, Copy)]
struct Asked {
    index: usize,
    partition: PartitionId,
    era: u64,
    from: Offset,
    epoch: LeaderEpoch,
}

/// Where a partition's fetch goes.
enum Route {
    To(NodeId, LeaderEpoch),
    NeedsMetadata,
}

impl ReaderCore {
    pub(super) fn new(
        client: Arc<ClientCore>,
        topic: TopicName,
        topic_id: TopicId,
        options: ReaderOptions,
        assigned: &[Assigned],
    ) -> Arc<Self> {
        let state = Mutex::new(State::new(assigned));
        Arc::new(Self {
            client,
            topic,
            topic_id,
            options,
            state,
            arrived: Notify::new(),
        })
    }

    /// The next batch, or what to wait for.
    pub(super) fn next(self: &Arc<Self>, now: Instant) -> Result<Next, ReadError> {
        let next = self
            .state
            .lock()
            .next(now, self.options.retry_timeout, |last| ReadError::Stalled {
                topic: self.topic.clone(),
                after: self.options.retry_timeout,
                last: Box::new(last),
            });
        // Also after an error: calling again must find progress.
        self.pump();
        next
    }

    /// Sends the fetches that are due.
    pub(super) fn pump(self: &Arc<Self>) {
        let now = Instant::now();
        let topic = self.client.metadata.topic(self.topic.as_str());
        let mut fetches: HashMap<NodeId, Vec<Asked>> = HashMap::new();
        let mut ask = false;
        {
            let mut state = self.state.lock();
            if state.closed {
                return;
            }
            let count = state.partitions.len();
            let room = state.buffered_bytes < self.options.prefetch_bytes;
            let first = state.turn;
            for step in 0..count {
                let index = (first + step) % count;
                let partition = &mut state.partitions[index];
                // What is due again is no trouble any more, unless metadata is still too old.
                if let Some(trouble) = &partition.trouble
                    && trouble.error.is_retriable()
                    && trouble.retry_at <= now
                {
                    let old = topic.as_ref().is_none_or(|topic| {
                        trouble
                            .needs_newer
                            .is_some_and(|seen| topic.generation <= seen)
                    });
                    if old {
                        ask = true;
                        continue;
                    }
                    partition.trouble = None;
                }
                if !room || !partition.may_fetch() {
                    continue;
                }
                match route(topic.as_deref(), partition.id) {
                    Route::NeedsMetadata => ask = true,
                    Route::To(node, epoch) => {
                        let (partition, era, from) =
                            (partition.id, partition.era, partition.fetch_from);
                        let asked = Asked {
                            index,
                            partition,
                            era,
                            from,
                            epoch,
                        };
                        fetches.entry(node).or_default().push(asked);
                    }
                }
            }
        }
        if ask {
            self.ask();
        }
        let generation = topic.map_or(0, |topic| topic.generation);
        for (node, asked) in fetches {
            self.fetch(node, asked, generation);
        }
    }

    /// Sends one fetch to a broker, if there is a connection and not too many are in flight.
    fn fetch(self: &Arc<Self>, node: NodeId, mut asked: Vec<Asked>, generation: u64) {
        let Some(connection) = self.client.brokers.live(node) else {
            self.connect(node);
            return;
        };
        {
            let mut state = self.state.lock();
            let in_flight = state.fetches.get(&node).copied().unwrap_or(0);
            if in_flight >= FETCHES_PER_BROKER_MAX {
                return;
            }
            // Another pump may have been faster.
            asked.retain(|asked| {
                let partition = &state.partitions[asked.index];
                partition.era == asked.era && partition.may_fetch()
            });
            if asked.is_empty() || state.closed {
                return;
            }
            for asked in &asked {
                state.partitions[asked.index].fetching = true;
            }
            *state.fetches.entry(node).or_insert(0) += 1;
            state.turn = (asked[0].index + 1) % state.partitions.len();
        }
        self.submit(&connection, node, asked, generation);
    }

    fn submit(
        self: &Arc<Self>,
        connection: &Connection,
        node: NodeId,
        asked: Vec<Asked>,
        generation: u64,
    ) {
        let options = &self.options;
        let partitions = asked.iter().map(|asked| FetchPartition {
            partition: asked.partition,
            leader_epoch: Some(asked.epoch),
            offset: asked.from,
            last_epoch: None,
            durable_end: None,
            log_start: None,
            bytes_max: options.fetch_bytes_max,
        });
        let topic = FetchTopic {
            topic_id: self.topic_id,
            partitions: partitions.collect(),
        };
        let request = FetchRequest {
            replica: None,
            wait_ms_max: u32::try_from(options.fetch_wait.as_millis()).unwrap_or(u32::MAX),
            bytes_min: options.fetch_bytes_min,
            bytes_max: options.fetch_bytes_max,
            isolation: Isolation::ReadUncommitted,
            topics: vec![topic],
        };
        let timeout = self
            .client
            .request_timeout
            .saturating_add(options.fetch_wait);
        let core = Arc::clone(self);
        let completion = move |answer| core.on_answer(node, &asked, generation, answer);
        if let Err(away) = connection.submit(&request, timeout, Box::new(completion)) {
            (away.completion)(Err(away.error));
        }
    }

    /// Takes in an answer. Runs in the connection's read task.
    fn on_answer(
        self: &Arc<Self>,
        node: NodeId,
        asked: &[Asked],
        generation: u64,
        answer: Result<Answer, RequestError>,
    ) {
        let answer = answer.and_then(Answer::decode::<FetchRequest>);
        {
            let mut state = self.state.lock();
            if let Some(in_flight) = state.fetches.get_mut(&node) {
                *in_flight -= 1;
            }
            if state.closed {
                return;
            }
            let mut results: HashMap<PartitionId, FetchPartitionResult> = HashMap::new();
            let failed = match answer {
                Ok(answer) => {
                    let all = answer.topics.into_iter().flat_map(|topic| topic.partitions);
                    results.extend(all.map(|result| (result.partition, result)));
                    None
                }
                Err(error) => Some(error),
            };
            for asked in asked {
                let partition = &mut state.partitions[asked.index];
                if partition.era != asked.era {
                    continue;
                }
                partition.fetching = false;
                match (&failed, results.remove(&asked.partition)) {
                    (Some(error), _) => {
                        let error = self.request_failed(error.clone());
                        self.on_failure(&mut state, asked, error, None);
                    }
                    (None, Some(result)) => self.on_result(&mut state, asked, result, generation),
                    (None, None) => {
                        let code = ErrorCode::Internal;
                        let message = "the broker's answer leaves this partition out";
                        let error = self.refused(asked.partition, code, Some(message.to_owned()));
                        self.on_failure(&mut state, asked, error, None);
                    }
                }
            }
        }
        // First: another thread may hand the batches out while this one sends the next fetch.
        self.arrived.notify_one();
        self.pump();
    }

    fn on_result(
        &self,
        state: &mut State,
        asked: &Asked,
        result: FetchPartitionResult,
        generation: u64,
    ) {
        match result.error {
            ErrorCode::None => {
                let end = result.high_watermark;
                if let Err((offset, source)) = state.on_records(asked.index, &result.records, end) {
                    let error = ReadError::CorruptBatch {
                        topic: self.topic.clone(),
                        partition: asked.partition,
                        offset,
                        source,
                    };
                    state.partitions[asked.index].on_fatal(error, Instant::now());
                }
            }
            ErrorCode::OffsetOutOfRange => {
                let (start, end) = (result.log_start, result.high_watermark);
                let partition = &mut state.partitions[asked.index];
                if asked.from > end
                    && let Some(behind) = partition.behind_for(asked.from, Instant::now())
                    && behind < self.options.retry_timeout
                {
                    let code = ErrorCode::OffsetNotAvailable;
                    let message = format!("the leader's end {end} is before {}", asked.from);
                    let error = self.refused(asked.partition, code, Some(message));
                    self.on_failure(state, asked, error, None);
                    return;
                }
                partition.forget_end();
                match self.options.out_of_range {
                    OutOfRange::Beginning => state.restart(asked.index, start),
                    OutOfRange::End => state.restart(asked.index, end),
                    OutOfRange::Fail => {
                        let error = ReadError::OffsetOutOfRange {
                            topic: self.topic.clone(),
                            partition: asked.partition,
                            requested: asked.from,
                            start,
                            end,
                        };
                        state.partitions[asked.index].on_fatal(error, Instant::now());
                    }
                }
            }
            code => {
                let fresh = code.remedy() == Remedy::RefreshMetadata;
                let error = self.refused(asked.partition, code, result.message);
                self.on_failure(state, asked, error, fresh.then_some(generation));
            }
        }
    }

    fn on_failure(&self, state: &mut State, asked: &Asked, error: ReadError, newer: Option<u64>) {
        let partition = &mut state.partitions[asked.index];
        let now = Instant::now();
        if error.is_retriable() {
            partition.on_failure(error, newer, &self.client.backoff, now);
        } else {
            partition.on_fatal(error, now);
        }
    }

    /// Has the broker connected to, once at a time.
    fn connect(self: &Arc<Self>, node: NodeId) {
        if !self.state.lock().connecting.insert(node) {
            return;
        }
        let core = Arc::clone(self);
        self.client.runtime.spawn(async move {
            let told = || {
                core.pump();
                core.arrived.notify_one();
            };
            let connecting = core.client.connect_or_learn(node, &core.topic, told);
            let result = connecting.await;
            {
                let mut state = core.state.lock();
                state.connecting.remove(&node);
                if let Err(error) = result {
                    core.cannot_connect(&mut state, node, &error.into());
                }
            }
            core.pump();
            core.arrived.notify_one();
        });
    }

    /// Notes for the partitions of a broker that it cannot be reached.
    fn cannot_connect(&self, state: &mut State, node: NodeId, error: &RequestError) {
        let topic = self.client.metadata.topic(self.topic.as_str());
        let now = Instant::now();
        // The leader may have moved; but with no other broker to ask, reconnecting comes first.
        let generation = topic.as_ref().map(|topic| topic.generation);
        let newer = generation.filter(|_| self.client.brokers.has_live());
        for partition in &mut state.partitions {
            let here =
                matches!(route(topic.as_deref(), partition.id), Route::To(n, _) if n == node);
            if here && partition.may_fetch() {
                let error = self.request_failed(error.clone());
                if error.is_retriable() {
                    partition.on_failure(error, newer, &self.client.backoff, now);
                } else {
                    partition.on_fatal(error, now);
                }
            }
        }
    }

    /// Has the topic asked for, once at a time.
    fn ask(self: &Arc<Self>) {
        if std::mem::replace(&mut self.state.lock().asking, true) {
            return;
        }
        let core = Arc::clone(self);
        self.client.runtime.spawn(async move {
            let seen = core
                .client
                .metadata
                .topic(core.topic.as_str())
                .map(|t| t.generation);
            let result = core.client.refresh(&core.topic, seen).await;
            {
                let mut state = core.state.lock();
                state.asking = false;
                core.on_metadata(&mut state, result);
            }
            core.pump();
            core.arrived.notify_one();
        });
    }

    fn on_metadata(
        &self,
        state: &mut State,
        result: Result<Arc<Topic>, crate::metadata::LookupError>,
    ) {
        let now = Instant::now();
        let error = match result {
            Ok(topic) if topic.id == self.topic_id => {
                // A partition without leader: elections take a moment.
                for partition in &mut state.partitions {
                    if matches!(route(Some(&topic), partition.id), Route::NeedsMetadata) {
                        let code = ErrorCode::NotLeader;
                        let message = Some("it has no leader now".to_owned());
                        let error = self.refused(partition.id, code, message);
                        let newer = Some(topic.generation);
                        partition.on_failure(error, newer, &self.client.backoff, now);
                    }
                }
                return;
            }
            Ok(_) => ReadError::UnknownTopic {
                topic: self.topic.clone(),
                was_there: true,
            },
            Err(error) => lookup_failed(&self.topic, error, true),
        };
        for partition in &mut state.partitions {
            if error.is_retriable() {
                partition.on_failure(error.clone(), None, &self.client.backoff, now);
            } else {
                partition.on_fatal(error.clone(), now);
            }
        }
    }

    fn refused(
        &self,
        partition: PartitionId,
        code: ErrorCode,
        message: Option<String>,
    ) -> ReadError {
        let message = message.unwrap_or_else(|| code.name().to_owned());
        ReadError::Refused {
            topic: self.topic.clone(),
            partition,
            code,
            message,
        }
    }

    fn request_failed(&self, source: RequestError) -> ReadError {
        ReadError::Request {
            topic: self.topic.clone(),
            source,
        }
    }

    pub(super) fn unreadable(
        &self,
        partition: PartitionId,
        offset: Offset,
        source: RecordError,
    ) -> ReadError {
        let (topic, source) = (self.topic.clone(), Arc::new(source));
        ReadError::UnreadableBatch {
            topic,
            partition,
            offset,
            source,
        }
    }

    /// Starts a partition over, in front of something damaged.
    pub(super) fn rewind(&self, partition: PartitionId, at: Offset) {
        let mut state = self.state.lock();
        if let Some(index) = state.index_of(partition) {
            state.restart(index, at);
        }
    }

    pub(super) fn seek(self: &Arc<Self>, id: PartitionId, at: Offset) -> Result<(), ReadError> {
        {
            let mut state = self.state.lock();
            let Some(index) = state.index_of(id) else {
                return Err(ReadError::UnknownPartition {
                    topic: self.topic.clone(),
                    partition: id,
                    partitions: u32::try_from(state.partitions.len()).unwrap_or(u32::MAX),
                });
            };
            state.restart(index, at);
        }
        self.pump();
        Ok(())
    }

    pub(super) fn set_paused(
        self: &Arc<Self>,
        partitions: impl IntoIterator<Item = PartitionId>,
        paused: bool,
    ) {
        {
            let mut state = self.state.lock();
            for id in partitions {
                if let Some(index) = state.index_of(id) {
                    state.set_paused(index, paused);
                }
            }
        }
        self.pump();
    }

    pub(super) fn positions(&self) -> BTreeMap<PartitionId, Offset> {
        self.state.lock().positions()
    }

    pub(super) fn high_watermarks(&self) -> BTreeMap<PartitionId, Offset> {
        self.state.lock().high_watermarks()
    }

    pub(super) fn close(&self) {
        self.state.lock().close();
    }
}

fn route(topic: Option<&Topic>, partition: PartitionId) -> Route {
    match topic.and_then(|topic| topic.leader(partition)) {
        Some(leader) => match leader.node {
            Some(node) => Route::To(node, leader.epoch),
            None => Route::NeedsMetadata,
        },
        None => Route::NeedsMetadata,
    }
}
