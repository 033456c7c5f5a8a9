//! The broker's settings, typed.

use std::path::PathBuf;
use std::time::Duration;

use highwater_protocol::ids::NodeId;

use crate::error::ConfigErrors;
use crate::table::{Place, SETTINGS};
use crate::topic::TopicConfig;

/// Everything a broker can be told. [`BrokerConfig::default`] holds the documented defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerConfig {
    /// `node.id`; `None`: the one kept in the data directory, chosen at the first start.
    pub node_id: Option<NodeId>,
    /// `cluster.seeds`: addresses of brokers of the cluster to join.
    pub seeds: Vec<String>,
    /// `rack`: where this broker stands.
    pub rack: Option<String>,
    /// `cluster.*`
    pub cluster: ClusterConfig,
    /// `replica.*`, `replication.*`
    pub replication: ReplicationConfig,
    /// `heal.*`, `balance.*`, `leader.balance.interval`
    pub healing: HealingConfig,
    /// `data.dir`
    pub data_dir: PathBuf,
    /// `listen`: where clients connect, `host:port`.
    pub listen: String,
    /// `advertised.listen`: the address that clients are told; `None`: the one listened on.
    pub advertised_listen: Option<String>,
    /// `shutdown.timeout`: how long an orderly shutdown may take.
    pub shutdown_timeout: Duration,
    /// `admin.*`
    pub admin: AdminConfig,
    /// `log.*`
    pub log: LogConfig,
    /// `network.*`
    pub network: NetworkConfig,
    /// `storage.*`
    pub storage: StorageConfig,
    /// What topics are created with when their creator does not say.
    pub new_topics: NewTopicConfig,
    /// Values of the topic settings where a topic has none of its own.
    pub topic_defaults: TopicConfig,
}

/// The admin HTTP endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// `admin.listen`; `None`: there is none.
    pub listen: Option<String>,
    /// `admin.connections.max`
    pub connections_max: usize,
    /// `admin.request.bytes.max`
    pub request_bytes_max: u64,
    /// `admin.request.timeout`
    pub request_timeout: Duration,
}

/// What the broker writes to its own log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `log.level`: a level, or a filter such as `info,highwater_storage=debug`.
    pub level: String,
    /// `log.format`
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Sockets, and the bounds on what clients may ask at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// `network.threads`; `None`: one per core.
    pub threads: Option<usize>,
    /// `network.accept.backlog`
    pub accept_backlog: u32,
    /// `network.frame.bytes.max`
    pub frame_bytes_max: u32,
    /// `network.in.flight.bytes.max`: of the whole broker.
    pub in_flight_bytes_max: u64,
    /// `network.connection.in.flight.bytes.max`
    pub connection_in_flight_bytes_max: u64,
    /// `network.connection.in.flight.requests.max`
    pub connection_in_flight_requests_max: u32,
    /// `network.connections.max`
    pub connections_max: usize,
    /// `network.connections.per.ip.max`
    pub connections_per_ip_max: usize,
    /// `network.idle.timeout`
    pub idle_timeout: Duration,
    /// `network.handshake.timeout`
    pub handshake_timeout: Duration,
}

/// The storage engine, as far as it is one for all topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageConfig {
    /// `storage.recovery.threads`; `None`: one per core.
    pub recovery_threads: Option<usize>,
    /// `storage.flush.threads`
    pub flush_threads: usize,
    /// `storage.mapped.segments.max`
    pub mapped_segments_max: usize,
    /// `storage.prefault.ahead.bytes`
    pub prefault_ahead_bytes: u64,
    /// `storage.min.free.bytes`
    pub min_free_bytes: u64,
    /// `storage.checkpoint.interval`
    pub checkpoint_interval: Duration,
    /// `storage.scrub.interval`; `None`: never.
    pub scrub_interval: Option<Duration>,
    /// `storage.scrub.rate`, in bytes a second.
    pub scrub_rate: u64,
    /// `storage.retention.check.interval`
    pub retention_check_interval: Duration,
}

/// The metadata quorum and the sessions of brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// `cluster.voters`
    pub voters: usize,
    /// `cluster.heartbeat.interval`
    pub heartbeat_interval: Duration,
    /// `cluster.session.timeout`
    pub session_timeout: Duration,
    /// `cluster.election.timeout`
    pub election_timeout: Duration,
}

/// Replication of partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicationConfig {
    /// `replica.lag.time.max`
    pub lag_time_max: Duration,
    /// `replica.fetch.wait.max`
    pub fetch_wait_max: Duration,
    /// `replica.fetch.bytes.max`
    pub fetch_bytes_max: u32,
    /// `replication.catchup.rate`, in bytes a second.
    pub catchup_rate: Option<u64>,
}

/// What the cluster repairs and balances by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealingConfig {
    /// `heal.after`; `None`: never.
    pub after: Option<Duration>,
    /// `heal.moves.max`
    pub moves_max: usize,
    /// `heal.disk.max.percent`
    pub disk_percent_max: u32,
    /// `balance.on.node.add`
    pub balance_on_add: Switch,
    /// `leader.balance.interval`; `None`: never.
    pub leader_balance_interval: Option<Duration>,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// It is done.
    On,
    /// It is not.
    Off,
}

/// What a topic is created with when its creator does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopicConfig {
    /// `num.partitions`
    pub partitions: u32,
    /// `default.replication.factor`; `None`: 3, or as many as there are brokers.
    pub replicas: Option<u32>,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        // Placeholders: the table below is the only place that knows the defaults, and a test
        // asserts that it sets every field.
        let mut config = Self {
            node_id: None,
            seeds: Vec::new(),
            rack: None,
            cluster: ClusterConfig {
                voters: 0,
                heartbeat_interval: Duration::ZERO,
                session_timeout: Duration::ZERO,
                election_timeout: Duration::ZERO,
            },
            replication: ReplicationConfig {
                lag_time_max: Duration::ZERO,
                fetch_wait_max: Duration::ZERO,
                fetch_bytes_max: 0,
                catchup_rate: None,
            },
            healing: HealingConfig {
                after: None,
                moves_max: 0,
                disk_percent_max: 0,
                balance_on_add: Switch::Off,
                leader_balance_interval: None,
            },
            data_dir: PathBuf::new(),
            listen: String::new(),
            advertised_listen: None,
            shutdown_timeout: Duration::ZERO,
            admin: AdminConfig {
                listen: None,
                connections_max: 0,
                request_bytes_max: 0,
                request_timeout: Duration::ZERO,
            },
            log: LogConfig {
                level: String::new(),
                format: LogFormat::Text,
            },
            network: NetworkConfig {
                threads: None,
                accept_backlog: 0,
                frame_bytes_max: 0,
                in_flight_bytes_max: 0,
                connection_in_flight_bytes_max: 0,
                connection_in_flight_requests_max: 0,
                connections_max: 0,
                connections_per_ip_max: 0,
                idle_timeout: Duration::ZERO,
                handshake_timeout: Duration::ZERO,
            },
            storage: StorageConfig {
                recovery_threads: None,
                flush_threads: 0,
                mapped_segments_max: 0,
                prefault_ahead_bytes: 0,
                min_free_bytes: 0,
                checkpoint_interval: Duration::ZERO,
                scrub_interval: None,
                scrub_rate: 0,
                retention_check_interval: Duration::ZERO,
            },
            new_topics: NewTopicConfig {
                partitions: 0,
                replicas: None,
            },
            topic_defaults: TopicConfig::default(),
        };
        for setting in SETTINGS {
            if let Place::Broker { put, .. } = setting.place {
                put(&mut config, setting.default_value());
            }
        }
        config
    }
}

impl BrokerConfig {
    /// Checks every value against its range and against the others: for configurations that were
    /// put together in code. [`load`](crate::load) has done it already.
    ///
    /// # Errors
    /// All faults there are, not only the first.
    pub fn validate(&self) -> Result<(), ConfigErrors> {
        crate::relations::check_all(self)
    }
}
