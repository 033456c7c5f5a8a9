//! From batches to requests and from answers to acknowledgements.
//!
//! One lane per broker limits the requests in flight there. Whoever has something to send, or takes
//! in an answer, pumps the lane: one at a time, so that the batches of a partition are written in
//! their order; others leave a note and go on.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use highwater_protocol::error_code::{ErrorCode, Remedy};
use highwater_protocol::ids::{NodeId, TopicId};
use highwater_protocol::messages::{
    Acks, ProducePartition, ProducePartitionResult, ProduceRequest, ProduceResponse, ProduceTopic,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::core::ProducerCore;
use super::queue::{Attempt, PartitionQueue, Readiness};
use super::topic::Partition;
use super::upkeep;
use crate::connection::{Answer, Connection};
use crate::error::{RequestError, SendError};

/// Batches of several partitions share a request up to about this size; a larger one goes alone.
const REQUEST_BYTES_TARGET: usize = 256 << 10;
/// The broker's own time limit ends this much before ours, so that its answer arrives.
const ANSWER_MARGIN: Duration = Duration::from_millis(500);

/// Partitions that were added are found after this long at the latest, if anything is sent.
const METADATA_AGE_MAX: Duration = Duration::from_secs(60);

/// Requests to one broker.
#[derive(Debug)]
pub(super) struct Lane {
    node: NodeId,
    state: Mutex<LaneState>,
}

#[derive(Debug, Default)]
struct LaneState {
    waiting: VecDeque<Arc<Partition>>,
    in_flight: usize,
    pumping: bool,
    again: bool,
}

/// A batch in a request.
struct Carried {
    partition: Arc<Partition>,
    topic_id: TopicId,
    /// Of the metadata that the request was addressed by.
    generation: u64,
    number: u64,
}

/// A request under construction.
struct Load {
    topics: Vec<ProduceTopic>,
    carried: Vec<Carried>,
    bytes: usize,
    deadline: Option<Instant>,
}

impl ProducerCore {
    fn lane(&self, node: NodeId) -> Arc<Lane> {
        let mut lanes = self.lanes.lock();
        let new = || {
            Arc::new(Lane {
                node,
                state: Mutex::default(),
            })
        };
        Arc::clone(lanes.entry(node).or_insert_with(new))
    }

    /// Queues the partition at its leader's lane and sends what can be sent.
    pub(super) fn schedule(self: &Arc<Self>, partition: &Arc<Partition>) {
        if let Some(lane) = self.line_up(partition) {
            self.pump(&lane);
        }
    }

    /// Queues the partition; `None` where it is queued already or has no leader.
    fn line_up(&self, partition: &Arc<Partition>) -> Option<Arc<Lane>> {
        let topic = self.client.metadata.topic(partition.topic.as_str());
        let leader = topic
            .and_then(|topic| topic.leader(partition.id))
            .and_then(|l| l.node);
        let Some(node) = leader else {
            self.upkeep.trouble(partition);
            return None;
        };
        {
            let mut queue = partition.queue.lock();
            if queue.scheduled || queue.troubled {
                return None;
            }
            queue.scheduled = true;
        }
        let lane = self.lane(node);
        lane.state.lock().waiting.push_back(Arc::clone(partition));
        Some(lane)
    }

    /// Sends requests while there is something to send and the lane is not full.
    fn pump(self: &Arc<Self>, lane: &Arc<Lane>) {
        {
            let mut state = lane.state.lock();
            if state.pumping {
                state.again = true;
                return;
            }
            state.pumping = true;
        }
        loop {
            while self.send_one(lane) {}
            let mut state = lane.state.lock();
            if !std::mem::take(&mut state.again) {
                state.pumping = false;
                return;
            }
        }
    }

    /// Sends one request; `false` when there is nothing to send or no room for it.
    fn send_one(self: &Arc<Self>, lane: &Arc<Lane>) -> bool {
        {
            let state = lane.state.lock();
            if state.in_flight >= self.max_in_flight || state.waiting.is_empty() {
                return false;
            }
        }
        let Some(connection) = self.client.brokers.live(lane.node) else {
            // No connection: all of them wait until there is one.
            let waiting = std::mem::take(&mut lane.state.lock().waiting);
            for partition in waiting {
                partition.queue.lock().scheduled = false;
                self.upkeep.trouble(&partition);
            }
            return false;
        };
        if lane.state.lock().in_flight >= connection.requests_max() {
            return false;
        }
        let load = self.load(lane, &connection);
        if load.carried.is_empty() {
            // What was queued had nothing to send after all; there may be others.
            return !lane.state.lock().waiting.is_empty();
        }
        lane.state.lock().in_flight += 1;
        self.submit(lane, &connection, load);
        true
    }

    /// Takes one batch of each waiting partition until the request is large enough.
    fn load(self: &Arc<Self>, lane: &Lane, connection: &Connection) -> Load {
        let mut load = Load {
            topics: Vec::new(),
            carried: Vec::new(),
            bytes: 0,
            deadline: None,
        };
        let mut again = Vec::new();
        let mut aboard = HashSet::new();
        while load.bytes < REQUEST_BYTES_TARGET {
            let Some(partition) = lane.state.lock().waiting.pop_front() else {
                break;
            };
            // Lined up anew since its batch was taken. An answer has one result for each partition: two
            // batches of one would be told the same offset, and the second the fate of the first.
            if aboard.contains(&Arc::as_ptr(&partition)) {
                again.push(partition);
                continue;
            }
            let topic = self.client.metadata.topic(partition.topic.as_str());
            if topic
                .as_ref()
                .is_some_and(|t| t.known_since.elapsed() > METADATA_AGE_MAX)
            {
                // In the background: this request goes where it would have gone.
                upkeep::ask(self, &partition);
            }
            let found = topic.and_then(|t| Some((t.id, t.generation, t.leader(partition.id)?)));
            let Some((topic_id, generation, leader)) = found else {
                partition.queue.lock().scheduled = false;
                self.upkeep.trouble(&partition);
                continue;
            };
            let (expired, sent, readiness, nameless) = {
                let mut queue = partition.queue.lock();
                queue.scheduled = false;
                if queue.lacks_identity() && !self.identify(&mut queue) {
                    drop(queue);
                    self.upkeep.trouble(&partition);
                    continue;
                }
                let expired = queue.expire(Instant::now(), &self.options);
                let sent = queue.take(connection.id(), topic_id, &self.options, self.hurries());
                let readiness = queue.readiness(&self.options, self.hurries());
                // Only more batches behind this one; what could not be taken waits for an answer.
                queue.scheduled = sent.is_some() && readiness == Readiness::Now;
                // Its last epoch may have been used up just now.
                let nameless = queue.lacks_identity();
                (expired, sent, readiness, nameless)
            };
            self.finish(&partition, expired);
            if nameless {
                self.upkeep.trouble(&partition);
                continue;
            }
            match readiness {
                Readiness::Now if sent.is_some() => again.push(Arc::clone(&partition)),
                Readiness::At(due) => self.upkeep.linger(&partition, due),
                Readiness::Blocked => self.upkeep.trouble(&partition),
                Readiness::Now | Readiness::Later => {}
            }
            let Some(sent) = sent else { continue };
            self.move_on(&partition);
            load.bytes += sent.bytes.len();
            load.deadline = Some(
                load.deadline
                    .map_or(sent.deadline, |d| d.min(sent.deadline)),
            );
            let entry = ProducePartition {
                partition: partition.id,
                leader_epoch: Some(leader.epoch),
                records: sent.bytes,
            };
            match load
                .topics
                .iter_mut()
                .find(|topic| topic.topic_id == topic_id)
            {
                Some(topic) => topic.partitions.push(entry),
                None => load.topics.push(ProduceTopic {
                    topic_id,
                    partitions: vec![entry],
                }),
            }
            let number = sent.number;
            aboard.insert(Arc::as_ptr(&partition));
            load.carried.push(Carried {
                partition,
                topic_id,
                generation,
                number,
            });
        }
        lane.state.lock().waiting.extend(again);
        load
    }

    /// Gives a partition the producer id, if there is one that it can use.
    pub(super) fn identify(&self, queue: &mut PartitionQueue) -> bool {
        let identity = self.identity.current(queue.used_up_identity());
        if let Some(identity) = identity {
            queue.adopt(identity);
        }
        identity.is_some()
    }

    fn submit(self: &Arc<Self>, lane: &Arc<Lane>, connection: &Connection, load: Load) {
        let left = load
            .deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left
            .unwrap_or(self.request_timeout)
            .min(self.request_timeout);
        let broker_timeout = timeout.saturating_sub(ANSWER_MARGIN.min(timeout / 4));
        let request = ProduceRequest {
            acks: self.acks,
            timeout_ms: u32::try_from(broker_timeout.as_millis()).unwrap_or(u32::MAX),
            topics: load.topics,
        };
        let carried = load.carried;
        let core = Arc::clone(self);
        let lane = Arc::clone(lane);
        if self.acks == Acks::None {
            let written = move |written| core.on_written(&lane, &carried, &written);
            connection.submit_unanswered(&request, Box::new(written));
            return;
        }
        let completion = move |answer| core.on_answer(&lane, &carried, answer);
        if let Err(away) = connection.submit(&request, timeout, Box::new(completion)) {
            (away.completion)(Err(away.error));
        }
    }

    /// With `acks = 0`: the system has the request, or why it has not.
    fn on_written(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        carried: &[Carried],
        written: &Result<(), RequestError>,
    ) {
        lane.state.lock().in_flight -= 1;
        let mut lanes = Vec::new();
        for item in carried {
            let attempt = match written {
                Ok(()) => Attempt::Appended(None),
                Err(error) => self.attempt_of_error(item, error.clone()),
            };
            lanes.extend(self.settle(item, attempt));
        }
        self.pump_all(lane, &lanes);
    }

    /// Takes in an answer, or why there is none. Runs in the connection's read task.
    fn on_answer(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        carried: &[Carried],
        answer: Result<Answer, RequestError>,
    ) {
        lane.state.lock().in_flight -= 1;
        let mut lanes = Vec::new();
        match answer.and_then(Answer::decode::<ProduceRequest>) {
            Ok(response) => {
                for item in carried {
                    let attempt = match result_for(&response, item) {
                        Some(result) => self.attempt_of_result(item, result),
                        None => Attempt::Failed(SendError::Refused {
                            topic: item.partition.topic.clone(),
                            partition: item.partition.id,
                            code: ErrorCode::Internal,
                            message: "the broker's answer leaves this partition out".to_owned(),
                        }),
                    };
                    lanes.extend(self.settle(item, attempt));
                }
            }
            Err(error) => {
                for item in carried {
                    let attempt = self.attempt_of_error(item, error.clone());
                    lanes.extend(self.settle(item, attempt));
                }
            }
        }
        self.pump_all(lane, &lanes);
    }

    fn attempt_of_result(&self, item: &Carried, result: &ProducePartitionResult) -> Attempt {
        if result.error == ErrorCode::None {
            return Attempt::Appended(result.base_offset);
        }
        let code = result.error;
        let error = SendError::Refused {
            topic: item.partition.topic.clone(),
            partition: item.partition.id,
            code,
            message: result
                .message
                .clone()
                .unwrap_or_else(|| code.name().to_owned()),
        };
        match code {
            // It is there; only where is forgotten.
            ErrorCode::DuplicateSequence => return Attempt::Appended(None),
            ErrorCode::OutOfOrderSequence if self.options.idempotent => {
                return Attempt::OutOfOrder(error);
            }
            ErrorCode::InvalidProducerEpoch if self.options.idempotent => {
                return Attempt::Fenced(error);
            }
            _ => {}
        }
        match code.remedy() {
            Remedy::BackOff => Attempt::Returned {
                error,
                needs_newer: None,
            },
            Remedy::RefreshMetadata => Attempt::Returned {
                error,
                needs_newer: Some(item.generation),
            },
            Remedy::None | Remedy::Fail => Attempt::Failed(error),
        }
    }

    fn attempt_of_error(&self, item: &Carried, source: RequestError) -> Attempt {
        let retriable = source.is_retriable();
        // A lost connection alone says nothing about the leader: reconnecting comes first.
        let refused = matches!(&source, RequestError::Refused { code, .. }
            if code.remedy() == Remedy::RefreshMetadata);
        let needs_newer = refused.then_some(item.generation);
        let error = SendError::Request {
            topic: item.partition.topic.clone(),
            partition: item.partition.id,
            source,
        };
        if retriable {
            Attempt::Returned { error, needs_newer }
        } else {
            Attempt::Failed(error)
        }
    }

    /// Hands an attempt's result to its partition and does what that asks for. Returns the lane that
    /// the partition waits in now; it is pumped when the whole answer is taken in, so that
    /// partitions share a request.
    fn settle(self: &Arc<Self>, item: &Carried, attempt: Attempt) -> Option<Arc<Lane>> {
        let (finished, readiness) = {
            let mut queue = item.partition.queue.lock();
            let finished = queue.on_attempt(item.number, attempt, &self.options);
            (finished, queue.readiness(&self.options, self.hurries()))
        };
        self.finish(&item.partition, finished);
        if readiness == Readiness::Now {
            return self.line_up(&item.partition);
        }
        self.act_on(&item.partition, readiness);
        None
    }

    /// Pumps the lane that an answer came on, and those that partitions moved to.
    fn pump_all(self: &Arc<Self>, lane: &Arc<Lane>, others: &[Arc<Lane>]) {
        self.pump(lane);
        for other in others.iter().filter(|other| !Arc::ptr_eq(other, lane)) {
            self.pump(other);
        }
    }
}

fn result_for<'a>(
    response: &'a ProduceResponse,
    item: &Carried,
) -> Option<&'a ProducePartitionResult> {
    let topic = response
        .topics
        .iter()
        .find(|topic| topic.topic_id == item.topic_id)?;
    topic
        .partitions
        .iter()
        .find(|result| result.partition == item.partition.id)
}
