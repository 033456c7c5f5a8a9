//! The fake broker's network side.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use highwater_client::{
    Acks, ClusterId, ErrorCode, LeaderEpoch, NodeId, Offset, OffsetSpec, PartitionId, TopicId,
};
use highwater_protocol::api_key::{ApiKey, Request};
use highwater_protocol::codec::{ApiVersion, Decoder, Wire};
use highwater_protocol::frame::{
    FrameReader, decode_body, decode_request_header, encode_error_response, encode_response,
};
use highwater_protocol::ids::CorrelationId;
use highwater_protocol::messages as m;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::log::{Appended, Log, Topic, Topics, records};

/// One partition of a produce request, as a test's script sees it.
#[derive(Debug, Clone)]
pub struct ProduceCall {
    /// Counts the partitions of produce requests from 0.
    pub number: usize,
    pub partition: PartitionId,
    pub bytes: usize,
}

/// What the broker does with it.
#[derive(Debug)]
pub enum Verdict {
    /// As it should.
    Append,
    /// Answers with an error, appends nothing.
    Refuse(ErrorCode),
    /// Appends, answers with an error all the same.
    AppendAndRefuse(ErrorCode),
    /// Appends and hangs up without an answer.
    AppendAndHangUp,
    /// Hangs up without appending.
    HangUp,
    /// Appends, and answers when the other half is told or dropped.
    AppendAndHold(oneshot::Receiver<()>),
    /// Appends and never answers.
    AppendAndForget,
}

/// Releases a held answer when told or dropped.
pub type Held = oneshot::Sender<()>;

type Script = Box<dyn FnMut(&ProduceCall) -> Verdict + Send>;

pub(super) struct Shared {
    cluster: Mutex<ClusterId>,
    topics: Mutex<Topics>,
    script: Mutex<Option<Script>>,
    calls: AtomicUsize,
    requests: Mutex<Vec<ApiKey>>,
    connections: AtomicUsize,
    appended: Notify,
    address: Mutex<String>,
    apis: Mutex<Vec<m::ApiRange>>,
    hang_up: watch::Sender<u64>,
    corrupt_fetches: Mutex<bool>,
}

/// A broker in memory on a free port of the loopback interface.
pub struct FakeBroker {
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

pub const NODE: u32 = 1;

impl FakeBroker {
    pub async fn start() -> Self {
        let all = ApiKey::ALL.iter().map(|api| {
            let (low, high) = api.versions();
            m::ApiRange {
                api: api.code(),
                version_min: low.0,
                version_max: high.0,
            }
        });
        let shared = Arc::new(Shared {
            cluster: Mutex::new(ClusterId::random()),
            topics: Mutex::default(),
            script: Mutex::default(),
            calls: AtomicUsize::new(0),
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            appended: Notify::new(),
            address: Mutex::default(),
            apis: Mutex::new(all.collect()),
            hang_up: watch::Sender::new(0),
            corrupt_fetches: Mutex::new(false),
        });
        let mut broker = Self {
            shared,
            accepting: None,
        };
        broker.listen("127.0.0.1:0").await;
        broker
    }

    async fn listen(&mut self, address: &str) {
        let listener = TcpListener::bind(address).await.unwrap();
        *self.shared.address.lock() = listener.local_addr().unwrap().to_string();
        let shared = Arc::clone(&self.shared);
        self.accepting = Some(tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                shared.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(Arc::clone(&shared), socket));
            }
        }));
    }

    pub fn address(&self) -> String {
        self.shared.address.lock().clone()
    }

    /// Creates a topic; there are no requests for that.
    pub fn topic(&self, name: &str, partitions: usize) -> TopicId {
        let id = TopicId::random();
        let partitions = (0..partitions).map(|_| Log::default()).collect();
        self.shared
            .topics
            .lock()
            .insert(name.to_owned(), Topic { id, partitions });
        id
    }

    pub fn add_partition(&self, name: &str) {
        self.shared
            .topics
            .lock()
            .get_mut(name)
            .unwrap()
            .partitions
            .push(Log::default());
    }

    pub fn delete_topic(&self, name: &str) {
        self.shared.topics.lock().remove(name);
    }

    /// Forgets the records before an offset.
    pub fn trim(&self, name: &str, partition: u32, start: u64) {
        let mut topics = self.shared.topics.lock();
        let log = &mut topics.get_mut(name).unwrap().partitions[partition as usize];
        log.start = Offset::new(start);
    }

    /// Decides about every partition of every produce request from now on.
    pub fn on_produce(&self, script: impl FnMut(&ProduceCall) -> Verdict + Send + 'static) {
        *self.shared.script.lock() = Some(Box::new(script));
    }

    /// The first produce requests meet these, later ones are appended.
    pub fn on_first_produces(&self, verdicts: Vec<Verdict>) {
        let mut verdicts = verdicts.into_iter();
        self.on_produce(move |_| verdicts.next().unwrap_or(Verdict::Append));
    }

    /// What a partition holds.
    pub fn records(&self, name: &str, partition: u32) -> Vec<Appended> {
        records(&self.shared.topics.lock()[name].partitions[partition as usize])
    }

    /// Partitions of produce requests so far.
    pub fn produce_calls(&self) -> usize {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// Requests of an API so far.
    pub fn requests(&self, api: ApiKey) -> usize {
        self.shared
            .requests
            .lock()
            .iter()
            .filter(|seen| **seen == api)
            .count()
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Ends every connection.
    pub fn hang_up(&self) {
        self.shared.hang_up.send_modify(|n| *n += 1);
    }

    /// Stops listening and ends every connection.
    pub async fn stop(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            let _ = accepting.await;
        }
        self.hang_up();
    }

    /// Listens again where it did before.
    pub async fn restart(&mut self) {
        let address = self.address();
        self.listen(&address).await;
    }

    /// From now on it belongs to another cluster.
    pub fn change_cluster(&self) {
        *self.shared.cluster.lock() = ClusterId::random();
    }

    /// From now on it no longer offers this API.
    pub fn drop_api(&self, api: ApiKey) {
        self.shared
            .apis
            .lock()
            .retain(|range| range.api != api.code());
    }

    /// From now on answers to fetches have one bit wrong.
    pub fn corrupt_fetches(&self, corrupt: bool) {
        *self.shared.corrupt_fetches.lock() = corrupt;
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
        self.hang_up();
    }
}

type Outbox = mpsc::UnboundedSender<Vec<Bytes>>;

async fn serve(shared: Arc<Shared>, socket: TcpStream) {
    let mut hang_up = shared.hang_up.subscribe();
    hang_up.borrow_and_update();
    socket.set_nodelay(true).unwrap();
    let (mut read, mut write) = socket.into_split();
    let (outbox, mut answers) = mpsc::unbounded_channel::<Vec<Bytes>>();
    let writing = tokio::spawn(async move {
        while let Some(parts) = answers.recv().await {
            for part in parts {
                if write.write_all(&part).await.is_err() {
                    return;
                }
            }
        }
    });
    let mut frames = FrameReader::new(64 << 20);
    let mut buffer = BytesMut::new();
    loop {
        while let Some(frame) = frames.next_frame(&mut buffer).unwrap() {
            if handle(&shared, Decoder::new(frame), &outbox).is_none() {
                // Answers given before are still written.
                drop(outbox);
                let _ = writing.await;
                // Read on, so that the answers are not lost to a reset.
                while read.read_buf(&mut buffer).await.is_ok_and(|n| n > 0) {
                    buffer.clear();
                }
                return;
            }
        }
        tokio::select! {
            read = read.read_buf(&mut buffer) => {
                if read.unwrap_or(0) == 0 {
                    return;
                }
            }
            _ = hang_up.changed() => {
                writing.abort();
                return;
            }
        }
    }
}

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
fn handle(shared: &Arc<Shared>, mut frame: Decoder, outbox: &Outbox) -> Option<()> {
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
    let cluster_id = *shared.cluster.lock();
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
        node_id: NodeId::new(NODE),
        broker_version: "fake".to_owned(),
        apis: shared.apis.lock().clone(),
        frame_bytes_max: 64 << 20,
        in_flight_bytes_max: 64 << 20,
        in_flight_requests_max: 1000,
        auth_mechanisms: Vec::new(),
    };
    reply.send(outbox, &answer);
}

fn metadata(shared: &Shared, request: &m::MetadataRequest) -> m::MetadataResponse {
    let topics = shared.topics.lock();
    let address = shared.address.lock().clone();
    let (host, port) = address.rsplit_once(':').unwrap();
    let names = request.topics.clone().unwrap_or_else(|| {
        let mut names: Vec<_> = topics.keys().cloned().collect();
        names.sort();
        names
    });
    let described = names.into_iter().map(|name| {
        let Some(topic) = topics.get(&name) else {
            let error = ErrorCode::UnknownTopicOrPartition;
            return m::TopicMetadata {
                error,
                name,
                topic_id: None,
                partitions: Vec::new(),
            };
        };
        let partitions = (0..topic.partitions.len()).map(|n| m::PartitionMetadata {
            error: ErrorCode::None,
            partition: PartitionId::new(u32::try_from(n).unwrap()),
            leader: Some(NodeId::new(NODE)),
            leader_epoch: LeaderEpoch::new(0),
            replicas: vec![NodeId::new(NODE)],
            isr: vec![NodeId::new(NODE)],
        });
        m::TopicMetadata {
            error: ErrorCode::None,
            name,
            topic_id: Some(topic.id),
            partitions: partitions.collect(),
        }
    });
    m::MetadataResponse {
        cluster_id: *shared.cluster.lock(),
        controller: None,
        brokers: vec![m::BrokerEndpoint {
            node_id: NodeId::new(NODE),
            host: host.to_owned(),
            port: port.parse().unwrap(),
            rack: None,
        }],
        topics: described.collect(),
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
    for topic in request.topics {
        let mut results = Vec::new();
        for partition in topic.partitions {
            let mut topics = shared.topics.lock();
            let Some(found) = topics.values_mut().find(|t| t.id == topic.topic_id) else {
                results.push(refusal(partition.partition, ErrorCode::UnknownTopicId));
                continue;
            };
            let call = ProduceCall {
                number: shared.calls.fetch_add(1, Ordering::SeqCst),
                partition: partition.partition,
                bytes: partition.records.len(),
            };
            let verdict = match &mut *shared.script.lock() {
                Some(script) => script(&call),
                None => Verdict::Append,
            };
            let log = &mut found.partitions[partition.partition.get() as usize];
            let mut refused = None;
            match verdict {
                Verdict::Append => {}
                Verdict::Refuse(code) => {
                    results.push(refusal(partition.partition, code));
                    continue;
                }
                Verdict::AppendAndRefuse(code) => refused = Some(code),
                Verdict::AppendAndHangUp => hang_up = true,
                Verdict::HangUp => return None,
                Verdict::AppendAndHold(told) => holds.push(told),
                Verdict::AppendAndForget => forget = true,
            }
            let base = log.append(&partition.records);
            results.push(match refused {
                Some(code) => refusal(partition.partition, code),
                None => m::ProducePartitionResult {
                    partition: partition.partition,
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
    shared.appended.notify_waiters();
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
            let appended = shared.appended.notified();
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
    let topics = shared.topics.lock();
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
                Some(log) => {
                    result.high_watermark = log.end;
                    result.last_stable = log.end;
                    result.log_start = log.start;
                    if partition.offset < log.start || partition.offset > log.end {
                        result.error = ErrorCode::OffsetOutOfRange;
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
    let topics = shared.topics.lock();
    let answer = request.topics.iter().map(|topic| {
        let found = topics.values().find(|t| t.id == topic.topic_id);
        let partitions = topic.partitions.iter().map(|asked| {
            let log = found.and_then(|t| t.partitions.get(asked.partition.get() as usize));
            let offset = log.map(|log| match asked.spec {
                OffsetSpec::Earliest => log.start,
                _ => log.end,
            });
            m::ListOffsetsPartitionResult {
                partition: asked.partition,
                error: if offset.is_some() {
                    ErrorCode::None
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
