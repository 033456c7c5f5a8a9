//! What the fake broker answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use highwater_client::{Acks, ErrorCode, LeaderEpoch, NodeId, Offset, OffsetSpec, PartitionId};
use highwater_protocol::api_key::{ApiKey, Request};
use highwater_protocol::codec::{ApiVersion, Decoder, Wire};
use highwater_protocol::frame::{
    decode_body, decode_request_header, encode_error_response, encode_response,
};
use highwater_protocol::ids::{CorrelationId, ProducerEpoch, ProducerId};
use highwater_protocol::messages as m;
use tokio::sync::mpsc;

use super::server::{ProduceCall, Shared, Verdict};
use super::world::Late;

pub(super) type Outbox = mpsc::UnboundedSender<Vec<Bytes>>;

/// A request's header fields that its answer needs.
#[derive(Clone, Copy)]
struct Reply {
    version: ApiVersion,
    correlation: CorrelationId,
}

impl Reply {
    fn send<B: Wire>(self, outbox: &Outbox, body: &B) {
        let _ = outbox.send(encode_response(body, self.version, self.correlation));
    }
}

/// Handles one request; `None` hangs up.
pub(super) fn handle(shared: &Arc<Shared>, mut frame: Decoder, outbox: &Outbox) -> Option<()> {
    let header = decode_request_header(&mut frame).unwrap();
    let reply = Reply {
        version: header.version,
        correlation: header.correlation,
    };
    let api = ApiKey::from_code(header.api).unwrap();
    shared.requests.lock().push(api);
    match api {
        ApiKey::Hello => hello(
            shared,
            &body::<m::HelloRequest>(frame, reply),
            reply,
            outbox,
        ),
        ApiKey::Metadata => reply.send(outbox, &metadata(shared, &body(frame, reply))),
        ApiKey::Produce => return produce(shared, body(frame, reply), reply, outbox),
        ApiKey::Fetch => fetch(shared, body(frame, reply), reply, outbox),
        ApiKey::DeleteTopics => {
            let request: m::DeleteTopicsRequest = body(frame, reply);
            reply.send(outbox, &delete_topics(shared, request));
        }
        ApiKey::InitProducerId => init_producer_id(shared, reply, outbox),
        ApiKey::ListOffsets => reply.send(outbox, &list_offsets(shared, &body(frame, reply))),
        other => {
            let message = format!("the fake broker does not do {other:?}");
            let answer = encode_error_response(ErrorCode::Unsupported, &message, reply.correlation);
            let _ = outbox.send(answer);
        }
    }
    Some(())
}

fn body<R: Request>(frame: Decoder, reply: Reply) -> R {
    decode_body(frame, reply.version).expect("the client sends valid requests")
}

fn hello(shared: &Shared, request: &m::HelloRequest, reply: Reply, outbox: &Outbox) {
    assert_eq!(request.magic, m::HELLO_MAGIC);
    let cluster_id = *shared.world.cluster.lock();
    if request
        .cluster_id
        .is_some_and(|expected| expected != cluster_id)
    {
        let message = format!("this is cluster {cluster_id}");
        let answer = encode_error_response(ErrorCode::WrongCluster, &message, reply.correlation);
        let _ = outbox.send(answer);
        return;
    }
    let answer = m::HelloResponse {
        cluster_id,
        node_id: NodeId::new(shared.node),
        broker_version: "fake".to_owned(),
        apis: shared.apis.lock().clone(),
        frame_bytes_max: 64 << 20,
        in_flight_bytes_max: 64 << 20,
        in_flight_requests_max: 1000,
        auth_mechanisms: Vec::new(),
    };
    reply.send(outbox, &answer);
}

fn delete_topics(shared: &Shared, request: m::DeleteTopicsRequest) -> m::DeleteTopicsResponse {
    let refused = shared.world.refuse_changes.lock().pop();
    let mut topics = shared.world.topics.lock();
    let results = request.topics.into_iter().map(|name| {
        let error = refused.unwrap_or_else(|| match topics.remove(&name) {
            Some(_) => ErrorCode::None,
            None => ErrorCode::UnknownTopicOrPartition,
        });
        m::TopicResult {
            name,
            error,
            message: None,
        }
    });
    m::DeleteTopicsResponse {
        topics: results.collect(),
    }
}

fn init_producer_id(shared: &Shared, reply: Reply, outbox: &Outbox) {
    if let Some(code) = shared.world.refuse_ids.lock().pop() {
        let _ = outbox.send(encode_error_response(
            code,
            "refused by the script",
            reply.correlation,
        ));
        return;
    }
    let id = shared.world.next_producer.fetch_add(1, Ordering::SeqCst);
    let answer = m::InitProducerIdResponse {
        producer_id: ProducerId::new(id),
        producer_epoch: ProducerEpoch::new(0),
    };
    reply.send(outbox, &answer);
}

fn metadata(shared: &Shared, request: &m::MetadataRequest) -> m::MetadataResponse {
    let world = &shared.world;
    let topics = world.topics.lock();
    let names = request.topics.clone().unwrap_or_else(|| {
        let mut names: Vec<_> = topics.keys().cloned().collect();
        names.sort();
        names
    });
    let stale = shared.stale_metadata.lock();
    let described = names.into_iter().map(|name| {
        let unheard = shared.unheard.lock().contains(&name);
        let Some(topic) = topics.get(&name).filter(|_| !unheard) else {
            let error = ErrorCode::UnknownTopicOrPartition;
            return m::TopicMetadata {
                error,
                name,
                topic_id: None,
                partitions: Vec::new(),
            };
        };
        let partitions = topic.partitions.iter().enumerate().map(|(n, log)| {
            let (leader, epoch) = stale.unwrap_or((log.leader, log.epoch));
            m::PartitionMetadata {
                error: ErrorCode::None,
                partition: PartitionId::new(u32::try_from(n).unwrap()),
                leader: leader.map(NodeId::new),
                leader_epoch: LeaderEpoch::new(epoch),
                replicas: vec![NodeId::new(shared.node)],
                isr: vec![NodeId::new(shared.node)],
                elr: Vec::new(),
                adding: Vec::new(),
                removing: Vec::new(),
            }
        });
        m::TopicMetadata {
            error: ErrorCode::None,
            name,
            topic_id: Some(topic.id),
            partitions: partitions.collect(),
        }
    });
    let topics = described.collect();
    let live = world.live.lock();
    let brokers = live.iter().map(|(node, address)| {
        let (host, port) = address.rsplit_once(':').unwrap();
        m::BrokerEndpoint {
            node_id: NodeId::new(*node),
            host: host.to_owned(),
            port: port.parse().unwrap(),
            rack: None,
        }
    });
    m::MetadataResponse {
        cluster_id: *world.cluster.lock(),
        controller: live.keys().next().copied().map(NodeId::new),
        brokers: brokers.collect(),
        topics,
    }
}

fn produce(
    shared: &Arc<Shared>,
    request: m::ProduceRequest,
    reply: Reply,
    outbox: &Outbox,
) -> Option<()> {
    let mut holds = Vec::new();
    let mut forget = false;
    let mut hang_up = false;
    let mut answer = m::ProduceResponse {
        throttle_ms: 0,
        topics: Vec::new(),
    };
    let world = &shared.world;
    for topic in request.topics {
        let mut results = Vec::new();
        for partition in topic.partitions {
            let id = partition.partition;
            let number = world.calls.fetch_add(1, Ordering::SeqCst);
            world.append_late(number);
            let mut topics = world.topics.lock();
            let Some(found) = topics.values_mut().find(|t| t.id == topic.topic_id) else {
                results.push(refusal(id, ErrorCode::UnknownTopicId));
                continue;
            };
            let log = &mut found.partitions[id.get() as usize];
            if log.leader != Some(shared.node) {
                results.push(refusal(id, ErrorCode::NotLeader));
                continue;
            }
            let call = ProduceCall {
                number,
                partition: id,
                bytes: partition.records.len(),
            };
            let verdict = match &mut *world.script.lock() {
                Some(script) => script(&call),
                None => Verdict::Append,
            };
            let mut refused = None;
            match verdict {
                Verdict::Append => {}
                Verdict::Refuse(code) => {
                    results.push(refusal(id, code));
                    continue;
                }
                Verdict::AppendAndRefuse(code) => refused = Some(code),
                Verdict::AppendAndHangUp => hang_up = true,
                Verdict::HangUp => return None,
                Verdict::HangUpAndAppendLate(calls) => {
                    world.late.lock().push(Late {
                        due: number + calls,
                        topic_id: topic.topic_id,
                        partition: id,
                        records: partition.records,
                    });
                    return None;
                }
                Verdict::AppendAndHold(told) => holds.push(told),
                Verdict::AppendAndForget => forget = true,
            }
            results.push(match (log.append(&partition.records), refused) {
                (Err(code), _) | (Ok(_), Some(code)) => refusal(id, code),
                (Ok(base), None) => m::ProducePartitionResult {
                    partition: id,
                    error: ErrorCode::None,
                    message: None,
                    base_offset: Some(base),
                    log_start: Some(log.start),
                },
            });
        }
        answer.topics.push(m::ProduceTopicResult {
            topic_id: topic.topic_id,
            partitions: results,
        });
    }
    world.appended.notify_waiters();
    if hang_up {
        return None;
    }
    if request.acks == Acks::None || forget {
        return Some(());
    }
    let outbox = outbox.clone();
    if holds.is_empty() {
        reply.send(&outbox, &answer);
    } else {
        tokio::spawn(async move {
            for hold in holds {
                let _ = hold.await;
            }
            reply.send(&outbox, &answer);
        });
    }
    Some(())
}

fn refusal(partition: PartitionId, error: ErrorCode) -> m::ProducePartitionResult {
    let message = Some(format!("refused with {error} by the script"));
    m::ProducePartitionResult {
        partition,
        error,
        message,
        base_offset: None,
        log_start: None,
    }
}

fn fetch(shared: &Arc<Shared>, request: m::FetchRequest, reply: Reply, outbox: &Outbox) {
    let shared = Arc::clone(shared);
    let outbox = outbox.clone();
    let wait = Duration::from_millis(request.wait_ms_max.into());
    tokio::spawn(async move {
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let appended = shared.world.appended.notified();
            tokio::pin!(appended);
            appended.as_mut().enable();
            let (answer, bytes, failed) = read(&shared, &request);
            let enough = bytes >= request.bytes_min as usize && bytes > 0;
            if enough || failed || tokio::time::Instant::now() >= deadline {
                reply.send(&outbox, &answer);
                return;
            }
            let _ = tokio::time::timeout_at(deadline, appended).await;
        }
    });
}

fn read(shared: &Shared, request: &m::FetchRequest) -> (m::FetchResponse, usize, bool) {
    let topics = shared.world.topics.lock();
    let corrupt = *shared.corrupt_fetches.lock();
    let mut bytes = 0;
    let mut failed = false;
    let mut results = Vec::new();
    for topic in &request.topics {
        let found = topics.values().find(|t| t.id == topic.topic_id);
        let mut partitions = Vec::new();
        for partition in &topic.partitions {
            let mut result = m::FetchPartitionResult {
                partition: partition.partition,
                error: ErrorCode::None,
                message: None,
                high_watermark: Offset::ZERO,
                last_stable: Offset::ZERO,
                log_start: Offset::ZERO,
                diverging: None,
                records: Bytes::new(),
            };
            match found.and_then(|t| t.partitions.get(partition.partition.get() as usize)) {
                None => {
                    result.error = ErrorCode::UnknownTopicId;
                    failed = true;
                }
                Some(log) if log.leader != Some(shared.node) => {
                    result.error = ErrorCode::NotLeader;
                    failed = true;
                }
                Some(log) => {
                    let end = log.visible_end();
                    result.high_watermark = end;
                    result.last_stable = end;
                    result.log_start = log.start;
                    if partition.offset < log.start || partition.offset > end {
                        result.error = shared
                            .world
                            .beyond_end
                            .lock()
                            .unwrap_or(ErrorCode::OffsetOutOfRange);
                        failed = true;
                    } else {
                        let room = (request.bytes_max as usize).saturating_sub(bytes);
                        let room = room.min(partition.bytes_max as usize);
                        if bytes == 0 || room > 0 {
                            result.records = log.read(partition.offset, room);
                        }
                    }
                    if corrupt && !result.records.is_empty() {
                        let mut records = BytesMut::from(&result.records[..]);
                        *records.last_mut().unwrap() ^= 1;
                        result.records = records.freeze();
                    }
                    bytes += result.records.len();
                }
            }
            partitions.push(result);
        }
        results.push(m::FetchTopicResult {
            topic_id: topic.topic_id,
            partitions,
        });
    }
    (
        m::FetchResponse {
            throttle_ms: 0,
            topics: results,
        },
        bytes,
        failed,
    )
}

fn list_offsets(shared: &Shared, request: &m::ListOffsetsRequest) -> m::ListOffsetsResponse {
    let topics = shared.world.topics.lock();
    let unheard = shared.unheard.lock();
    let answer = request.topics.iter().map(|topic| {
        let found = topics
            .iter()
            .find(|(name, t)| t.id == topic.topic_id && !unheard.contains(*name))
            .map(|(_, topic)| topic);
        let partitions = topic.partitions.iter().map(|asked| {
            let log = found.and_then(|t| t.partitions.get(asked.partition.get() as usize));
            let leads = log.is_none_or(|log| log.leader == Some(shared.node));
            let offset = log.filter(|_| leads).map(|log| match asked.spec {
                OffsetSpec::Earliest => log.start,
                _ => log.visible_end(),
            });
            m::ListOffsetsPartitionResult {
                partition: asked.partition,
                error: if offset.is_some() {
                    ErrorCode::None
                } else if !leads {
                    ErrorCode::NotLeader
                } else {
                    ErrorCode::UnknownTopicId
                },
                message: None,
                offset,
                timestamp: None,
                leader_epoch: LeaderEpoch::new(0),
            }
        });
        m::ListOffsetsTopicResult {
            topic_id: topic.topic_id,
            partitions: partitions.collect(),
        }
    });
    m::ListOffsetsResponse {
        topics: answer.collect(),
    }
}
