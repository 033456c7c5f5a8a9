//! The client: seeds in, producers, readers and administration out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use highwater_protocol::api_key::Request;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{ClusterId, NodeId, TopicName};
use highwater_protocol::messages::MetadataResponse;
use tokio::time::Instant;

use crate::admin::Admin;
use crate::brokers::Brokers;
use crate::connection::Introduction;
use crate::error::{ConnectError, RequestError};
use crate::metadata::{LookupError, Metadata, Topic};
use crate::producer::ProducerBuilder;
use crate::reader::ReaderBuilder;
use crate::retry::Backoff;

/// A question is put to another broker when one does not answer for this long.
const QUESTION_PATIENCE: Duration = Duration::from_secs(3);
/// A broker that cannot be connected to within this time may have lost its leaderships.
const CONNECT_PATIENCE: Duration = Duration::from_millis(250);

/// A client of one cluster. Clones share its connections and its knowledge of the cluster.
///
/// ```no_run
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// use highwater_client::Client;
///
/// let client = Client::builder().seeds(["127.0.0.1:7171"]).client_name("billing").connect().await?;
/// println!("connected to cluster {}", client.cluster_id());
/// # Ok(()) }
/// ```
///
/// A client has no thread of its own: its tasks belong to the runtime in which it was connected. Dropping the last clone, with the last producer and reader, closes them.
#[derive(Clone)]
pub struct Client {
    core: Arc<ClientCore>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("cluster_id", &self.cluster_id())
            .finish_non_exhaustive()
    }
}

/// Makes a [`Client`]: see [`Client::builder`].
#[derive(Debug, Clone)]
#[must_use]
pub struct ClientBuilder {
    seeds: Vec<String>,
    client_name: String,
    connect_timeout: Duration,
    request_timeout: Duration,
    backoff: Backoff,
    cluster: Option<ClusterId>,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            seeds: Vec::new(),
            client_name: "highwater-client".to_owned(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            backoff: Backoff::default(),
            cluster: None,
        }
    }
}

impl ClientBuilder {
    /// Adds addresses, each `HOST:PORT`, of which the first that answers tells about the others.
    pub fn seeds<I>(mut self, seeds: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.seeds.extend(seeds.into_iter().map(Into::into));
        self
    }

    /// Adds one address.
    pub fn seed(self, seed: impl Into<String>) -> Self {
        self.seeds([seed])
    }

    /// What brokers call this client in their logs. Default: `highwater-client`.
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.client_name = name.into();
        self
    }

    /// How long one attempt to connect may take, handshake included. Default: 5 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long one request may wait for its answer. Default: 30 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How long to wait between attempts to connect and to ask. Default: 50 ms to 1 s.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Refuse any other cluster. Default: the cluster of the seed that answers first.
    pub fn expect_cluster(mut self, cluster: ClusterId) -> Self {
        self.cluster = Some(cluster);
        self
    }

    /// Connects to the first seed that answers.
    ///
    /// # Errors
    /// [`ConnectError`] of the first seed, when none answers.
    ///
    /// # Cancel safety
    /// Dropping the future gives up; nothing is left behind.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        if self.seeds.is_empty() {
            return Err(ConnectError::NoSeeds);
        }
        for address in &self.seeds {
            let port = address
                .rsplit_once(':')
                .filter(|(host, _)| !host.is_empty());
            if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
                return Err(ConnectError::InvalidAddress {
                    address: address.clone(),
                });
            }
        }
        let introduction = Introduction {
            client_name: self.client_name.into(),
            cluster_id: self.cluster,
            connect_timeout: self.connect_timeout,
        };
        let seeds = self.seeds.into_iter().map(Arc::from).collect();
        let core = ClientCore {
            brokers: Brokers::new(seeds, introduction, self.backoff),
            metadata: Metadata::default(),
            request_timeout: self.request_timeout,
            backoff: self.backoff,
            runtime: tokio::runtime::Handle::current(),
        };
        let connection = core.brokers.any(&[]).await?;
        let cluster_id = connection.cluster_id();
        debug_assert_eq!(core.brokers.cluster(), Some(cluster_id));
        Ok(Client {
            core: Arc::new(core),
        })
    }
}

impl Client {
    /// Starts to describe a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Connects to one address with the defaults.
    ///
    /// # Errors
    /// [`ConnectError`] when nobody answers there.
    ///
    /// # Cancel safety
    /// Dropping the future gives up; nothing is left behind.
    pub async fn connect(seed: impl Into<String>) -> Result<Self, ConnectError> {
        Self::builder().seed(seed).connect().await
    }

    /// The cluster.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.core.brokers.cluster().expect("connect() learned it")
    }

    /// Starts to describe a producer.
    pub fn producer(&self) -> ProducerBuilder {
        ProducerBuilder::new(Arc::clone(&self.core))
    }

    /// Starts to describe a reader of a topic.
    pub fn reader(&self, topic: impl Into<String>) -> ReaderBuilder {
        ReaderBuilder::new(Arc::clone(&self.core), topic.into())
    }

    /// The administrative calls.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(Arc::clone(&self.core))
    }
}

/// What a client's parts share.
#[derive(Debug)]
pub(crate) struct ClientCore {
    pub(crate) brokers: Brokers,
    pub(crate) metadata: Metadata,
    pub(crate) request_timeout: Duration,
    pub(crate) backoff: Backoff,
    /// Carries the tasks that are started by calls from anywhere.
    pub(crate) runtime: tokio::runtime::Handle,
}

impl ClientCore {
    /// Asks one broker once.
    pub(crate) async fn ask<R: Request>(
        &self,
        node: NodeId,
        request: &R,
    ) -> Result<R::Response, RequestError> {
        self.ask_within(node, request, self.request_timeout).await
    }

    async fn ask_within<R: Request>(
        &self,
        node: NodeId,
        request: &R,
        timeout: Duration,
    ) -> Result<R::Response, RequestError> {
        let connection = self.brokers.connection(node).await?;
        connection.call(request, timeout).await
    }

    /// Connects to a broker. While that takes long, asks others whether the topic's leaders have
    /// moved, and tells of every answer.
    pub(crate) async fn connect_or_learn(
        &self,
        node: NodeId,
        name: &TopicName,
        told: impl Fn(),
    ) -> Result<(), ConnectError> {
        let connecting = self.brokers.connection(node);
        tokio::pin!(connecting);
        loop {
            if let Ok(result) = tokio::time::timeout(CONNECT_PATIENCE, &mut connecting).await {
                return result.map(|_| ());
            }
            if self.brokers.has_live() {
                let seen = self.metadata.topic(name.as_str()).map(|t| t.generation);
                tokio::select! {
                    result = &mut connecting => return result.map(|_| ()),
                    _ = self.refresh(name, seen) => told(),
                }
            }
        }
    }

    /// Asks any broker, and again after a pause while that can help and harm nothing, for at most
    /// one request timeout.
    pub(crate) async fn ask_any<R: Request>(
        &self,
        request: &R,
    ) -> Result<R::Response, RequestError> {
        self.ask_until(request, |_| false, Vec::new())
            .await
            .map(|(_, answer)| answer)
    }

    /// As [`Self::ask_any`], and again also where the answer is that this was refused for the moment.
    /// Those in `last` are asked after the others. Returns who answered, too.
    pub(crate) async fn ask_until<R: Request>(
        &self,
        request: &R,
        refused: impl Fn(&R::Response) -> bool,
        last: Vec<NodeId>,
    ) -> Result<(NodeId, R::Response), RequestError> {
        let deadline = Instant::now() + self.request_timeout;
        let mut failures = 0;
        let mut avoid = last;
        loop {
            let attempt = async {
                let connection = self.brokers.any(&avoid).await?;
                let node = connection.node_id();
                if avoid.contains(&node) {
                    // Everyone had a turn.
                    avoid.clear();
                }
                avoid.push(node);
                let answer = connection.call(request, self.patience::<R>()).await?;
                Ok((node, answer))
            };
            let answer: Result<_, RequestError> = attempt.await;
            failures += 1;
            let pause = self.backoff.wait(failures);
            let over = Instant::now() + pause >= deadline;
            match answer {
                Ok((node, answer)) if over || !refused(&answer) => return Ok((node, answer)),
                Ok(_) => {}
                Err(error)
                    if over
                        || !error.is_retriable()
                        || error.may_have_committed() && !is_question::<R>() =>
                {
                    return Err(error);
                }
                Err(_) => {}
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// How long to wait for one broker. A question can go to another one when that is silent.
    fn patience<R: Request>(&self) -> Duration {
        if is_question::<R>() && self.brokers.has_several() {
            self.request_timeout
                .min(QUESTION_PATIENCE.max(self.request_timeout / 10))
        } else {
            self.request_timeout
        }
    }

    /// The topic, asked for if it is not known yet.
    pub(crate) async fn topic(&self, name: &TopicName) -> Result<Arc<Topic>, LookupError> {
        match self.metadata.topic(name.as_str()) {
            Some(topic) => Ok(topic),
            None => self.refresh(name, None).await,
        }
    }

    /// Asks for the topic anew, unless somebody has since generation `seen`.
    pub(crate) async fn refresh(
        &self,
        name: &TopicName,
        seen: Option<u64>,
    ) -> Result<Arc<Topic>, LookupError> {
        let asking = self.metadata.asking.lock().await;
        if let Some(topic) = self.metadata.topic(name.as_str())
            && seen.is_none_or(|seen| topic.generation > seen)
        {
            return Ok(topic);
        }
        let before = self.metadata.topic(name.as_str());
        let (node, _) = self
            .look_up_at(name.as_str(), self.brokers.asked_in_vain())
            .await?;
        let after = self.metadata.topic(name.as_str());
        let was_news = match (&before, &after) {
            (Some(before), Some(after)) => {
                before.id != after.id || before.partitions != after.partitions
            }
            _ => true,
        };
        self.brokers.note_answer(node, was_news);
        drop(asking);
        after.ok_or(LookupError::Unknown)
    }

    /// Asks for the topic and takes the answer over. Where a broker does not know the topic, the
    /// controller has the last word: one that was created a moment ago is not known everywhere.
    pub(crate) async fn look_up(&self, name: &str) -> Result<MetadataResponse, RequestError> {
        let (_, answer) = self.look_up_at(name, Vec::new()).await?;
        Ok(answer)
    }

    /// As [`Self::look_up`]; those in `last` are asked after the others. Returns who answered, too.
    async fn look_up_at(
        &self,
        name: &str,
        last: Vec<NodeId>,
    ) -> Result<(NodeId, MetadataResponse), RequestError> {
        let request = Metadata::request(name);
        let (node, mut answer) = self.ask_until(&request, |_| false, last).await?;
        let unknown = |answer: &MetadataResponse| {
            let mut topics = answer.topics.iter();
            topics.any(|topic| topic.error == ErrorCode::UnknownTopicOrPartition)
        };
        self.take_over_addresses(&answer);
        if let Some(controller) = answer.controller.filter(|controller| *controller != node)
            && unknown(&answer)
            && let Ok(last_word) = self
                .ask_within(controller, &request, QUESTION_PATIENCE)
                .await
        {
            answer = last_word;
        }
        self.take_over(&answer);
        Ok((node, answer))
    }

    /// Takes over metadata that was asked for elsewhere.
    pub(crate) fn take_over(&self, answer: &MetadataResponse) {
        self.take_over_addresses(answer);
        self.metadata.apply(answer);
    }

    fn take_over_addresses(&self, answer: &MetadataResponse) {
        self.brokers
            .set_addresses(answer.brokers.iter().map(|broker| {
                let address = if broker.host.contains(':') {
                    format!("[{}]:{}", broker.host, broker.port)
                } else {
                    format!("{}:{}", broker.host, broker.port)
                };
                (broker.node_id, Arc::from(address))
            }));
    }
}

/// Whether asking twice changes no more than asking once.
fn is_question<R: Request>() -> bool {
    use highwater_protocol::api_key::ApiKey;
    match R::API {
        ApiKey::Hello
        | ApiKey::Metadata
        | ApiKey::Fetch
        | ApiKey::ListOffsets
        | ApiKey::DescribeConfigs
        | ApiKey::DescribeCluster
        | ApiKey::DescribeQuorum
        | ApiKey::InitProducerId
        | ApiKey::Discover
        | ApiKey::ReplicaLogs => true,
        ApiKey::Produce
        | ApiKey::CreateTopics
        | ApiKey::DeleteTopics
        | ApiKey::CreatePartitions
        | ApiKey::DeleteRecords
        | ApiKey::AlterConfigs
        | ApiKey::AlterVoters
        | ApiKey::DrainNode
        | ApiKey::RemoveNode
        | ApiKey::MoveReplicas
        | ApiKey::ElectLeaders
        | ApiKey::Balance
        // Spoken between brokers only.
        | ApiKey::JoinCluster
        | ApiKey::RegisterBroker
        | ApiKey::BrokerHeartbeat
        | ApiKey::AlterPartition
        | ApiKey::AllocateProducerIds
        | ApiKey::RaftAppend
        | ApiKey::RaftVote
        | ApiKey::RaftSnapshot
        | ApiKey::RaftProbe => false,
    }
}
