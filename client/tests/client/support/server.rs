//! The fake broker's network side.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use highwater_client::{ClusterId, ErrorCode, Offset, PartitionId, TopicId};
use highwater_protocol::api_key::ApiKey;
use highwater_protocol::codec::Decoder;
use highwater_protocol::frame::FrameReader;
use highwater_protocol::messages as m;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::answers::handle;
use super::log::{Appended, Log, Topic, records};
use super::world::World;

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
    /// Hangs up, and appends after so many more calls: a request that sat in a lost connection.
    HangUpAndAppendLate(usize),
    /// Appends, and answers when the other half is told or dropped.
    AppendAndHold(oneshot::Receiver<()>),
    /// Appends and never answers.
    AppendAndForget,
}

/// Releases a held answer when told or dropped.
pub type Held = oneshot::Sender<()>;

pub(super) type Script = Box<dyn FnMut(&ProduceCall) -> Verdict + Send>;

pub(super) struct Shared {
    pub(super) world: Arc<World>,
    pub(super) node: u32,
    pub(super) requests: Mutex<Vec<ApiKey>>,
    connections: AtomicUsize,
    address: Mutex<String>,
    pub(super) apis: Mutex<Vec<m::ApiRange>>,
    hang_up: watch::Sender<u64>,
    pub(super) corrupt_fetches: Mutex<bool>,
    /// Requests are neither read nor answered.
    frozen: Mutex<bool>,
    /// Topics that it has not heard of yet.
    pub(super) unheard: Mutex<HashSet<String>>,
    /// The leader and epoch that metadata names, where it is behind the times.
    pub(super) stale_metadata: Mutex<Option<(Option<u32>, u32)>>,
}

/// A broker in memory on a free port of the loopback interface.
pub struct FakeBroker {
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl FakeBroker {
    /// The only broker of a cluster.
    pub async fn start() -> Self {
        Self::start_in(Arc::default(), 1).await
    }

    /// Brokers 1 to `count` of one cluster. They share the logs, so whoever leads has everything.
    pub async fn cluster(count: u32) -> Vec<Self> {
        let world = Arc::<World>::default();
        let mut brokers = Vec::new();
        for node in 1..=count {
            brokers.push(Self::start_in(Arc::clone(&world), node).await);
        }
        brokers
    }

    async fn start_in(world: Arc<World>, node: u32) -> Self {
        let all = ApiKey::ALL.iter().map(|api| {
            let (low, high) = api.versions();
            m::ApiRange {
                api: api.code(),
                version_min: low.0,
                version_max: high.0,
            }
        });
        let shared = Arc::new(Shared {
            world,
            node,
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            address: Mutex::default(),
            apis: Mutex::new(all.collect()),
            hang_up: watch::Sender::new(0),
            corrupt_fetches: Mutex::new(false),
            frozen: Mutex::new(false),
            unheard: Mutex::default(),
            stale_metadata: Mutex::default(),
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
        let address = listener.local_addr().unwrap().to_string();
        *self.shared.address.lock() = address.clone();
        let mut live = self.shared.world.live.lock();
        live.insert(self.shared.node, address);
        drop(live);
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
        let partitions = (0..partitions).map(|_| Log::led_by(1)).collect();
        self.shared
            .world
            .topics
            .lock()
            .insert(name.to_owned(), Topic { id, partitions });
        id
    }

    pub fn add_partition(&self, name: &str) {
        self.shared
            .world
            .topics
            .lock()
            .get_mut(name)
            .unwrap()
            .partitions
            .push(Log::led_by(1));
    }

    pub fn delete_topic(&self, name: &str) {
        self.shared.world.topics.lock().remove(name);
    }

    /// Forgets the records before an offset.
    pub fn trim(&self, name: &str, partition: u32, start: u64) {
        let mut topics = self.shared.world.topics.lock();
        let log = &mut topics.get_mut(name).unwrap().partitions[partition as usize];
        log.start = Offset::new(start);
    }

    /// Decides about every partition of every produce request from now on.
    pub fn on_produce(&self, script: impl FnMut(&ProduceCall) -> Verdict + Send + 'static) {
        *self.shared.world.script.lock() = Some(Box::new(script));
    }

    /// The first produce requests meet these, later ones are appended.
    pub fn on_first_produces(&self, verdicts: Vec<Verdict>) {
        let mut verdicts = verdicts.into_iter();
        self.on_produce(move |_| verdicts.next().unwrap_or(Verdict::Append));
    }

    /// What a partition holds.
    pub fn records(&self, name: &str, partition: u32) -> Vec<Appended> {
        records(&self.shared.world.topics.lock()[name].partitions[partition as usize])
    }

    /// Partitions of produce requests so far.
    pub fn produce_calls(&self) -> usize {
        self.shared.world.calls.load(Ordering::SeqCst)
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
        self.shared.world.live.lock().remove(&self.shared.node);
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
        *self.shared.world.cluster.lock() = ClusterId::random();
    }

    /// From now on it no longer offers this API.
    pub fn drop_api(&self, api: ApiKey) {
        self.shared
            .apis
            .lock()
            .retain(|range| range.api != api.code());
    }

    /// Makes this broker know nothing of a topic, or learn of it.
    pub fn lag_behind(&self, name: &str, lag: bool) {
        let mut unheard = self.shared.unheard.lock();
        if lag {
            unheard.insert(name.to_owned());
        } else {
            unheard.remove(name);
        }
    }

    /// Keeps its connections and does nothing any more, or goes on.
    pub fn freeze(&self, frozen: bool) {
        *self.shared.frozen.lock() = frozen;
    }

    /// Refuses the next changes of topics.
    pub fn refuse_changes(&self, code: ErrorCode, times: usize) {
        *self.shared.world.refuse_changes.lock() = vec![code; times];
    }

    /// Makes another broker, or nobody, lead a partition.
    pub fn lead(&self, name: &str, partition: u32, leader: Option<u32>) {
        let mut topics = self.shared.world.topics.lock();
        let log = &mut topics.get_mut(name).unwrap().partitions[partition as usize];
        log.leader = leader;
        log.epoch += 1;
        drop(topics);
        self.shared.world.appended.notify_waiters();
    }

    /// Answers metadata requests of this broker with another leader and epoch than there are.
    pub fn stale_metadata(&self, stale: Option<(Option<u32>, u32)>) {
        *self.shared.stale_metadata.lock() = stale;
    }

    /// Readers see no more than this of a partition, as after a change of leaders.
    pub fn limit_visible(&self, name: &str, partition: u32, end: Option<u64>) {
        let mut topics = self.shared.world.topics.lock();
        let log = &mut topics.get_mut(name).unwrap().partitions[partition as usize];
        log.visible = end.map(Offset::new);
        drop(topics);
        self.shared.world.appended.notify_waiters();
    }

    /// Refuses fetches beyond the end with this instead of `OffsetOutOfRange`.
    pub fn refuse_beyond_end(&self, code: ErrorCode) {
        *self.shared.world.beyond_end.lock() = Some(code);
    }

    /// Refuses the next requests for producer ids.
    pub fn refuse_producer_ids(&self, code: ErrorCode, times: usize) {
        *self.shared.world.refuse_ids.lock() = vec![code; times];
    }

    /// Forgets what it knows of producers, as when all their data is deleted.
    pub fn forget_producers(&self) {
        for topic in self.shared.world.topics.lock().values_mut() {
            for log in &mut topic.partitions {
                log.producers = Default::default();
            }
        }
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
            while *shared.frozen.lock() {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
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
