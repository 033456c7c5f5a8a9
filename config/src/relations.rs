//! What must hold between settings, and what is allowed but probably not meant.

use std::path::Path;

use crate::address;
use crate::broker::BrokerConfig;
use crate::error::{ConfigErrors, Fault};
use crate::origin::Origin;
use crate::setting::{Setting, Value, ValueError};
use crate::table::{Place, SETTINGS};
use crate::topic::{Durability, TopicConfig};
use crate::units::{format_duration, format_size};

/// Room in a frame for everything around the largest batch: header, topic name, partition.
const FRAME_OVERHEAD_BYTES: u64 = 64 << 10;

/// Ranges and relations of a configuration that was put together in code.
pub(crate) fn check_all(config: &BrokerConfig) -> Result<(), ConfigErrors> {
    let mut faults = Vec::new();
    for setting in SETTINGS {
        let value = match setting.place {
            Place::Broker { get, .. } => get(config),
            Place::Topic { get, .. } => get(&config.topic_defaults),
        };
        if let Err(problem) = check_value(setting, &value) {
            faults.push(Fault::BadValue {
                origin: Origin::Code,
                key: setting.key.to_owned(),
                value: setting.render(&value),
                problem,
            });
        }
    }
    broker(config, &mut faults);
    ConfigErrors::check(faults)
}

/// A value passes if it would have been read from a text, or is a path that no text can be.
fn check_value(setting: &Setting, value: &Value) -> Result<(), ValueError> {
    match value {
        Value::Text(_) | Value::List(_) => setting
            .parse(setting.key, &setting.render(value))
            .map(|_| ()),
        Value::None | Value::Number(_) | Value::Duration(_) => setting.check_range(value),
    }
}

/// Relations of the whole configuration.
pub(crate) fn broker(config: &BrokerConfig, faults: &mut Vec<Fault>) {
    topic(&config.topic_defaults, faults);
    let network = &config.network;
    let frame_max = u64::from(network.frame_bytes_max);
    let batch_max = u64::from(config.topic_defaults.max_message_bytes);
    let mut relation = |keys, problem| faults.push(Fault::Relation { keys, problem });

    if batch_max + FRAME_OVERHEAD_BYTES > frame_max {
        relation(
            &["max.message.bytes", "network.frame.bytes.max"],
            format!(
                "a batch of {} does not fit into a frame of {}; the frame needs {} more than the batch",
                format_size(batch_max),
                format_size(frame_max),
                format_size(FRAME_OVERHEAD_BYTES),
            ),
        );
    }
    if network.connection_in_flight_bytes_max < frame_max {
        relation(
            &[
                "network.connection.in.flight.bytes.max",
                "network.frame.bytes.max",
            ],
            format!(
                "a connection that may have {} in flight can never send a frame of {}",
                format_size(network.connection_in_flight_bytes_max),
                format_size(frame_max),
            ),
        );
    }
    if network.in_flight_bytes_max < network.connection_in_flight_bytes_max {
        relation(
            &[
                "network.in.flight.bytes.max",
                "network.connection.in.flight.bytes.max",
            ],
            format!(
                "the whole broker ({}) must be allowed at least what one connection is ({})",
                format_size(network.in_flight_bytes_max),
                format_size(network.connection_in_flight_bytes_max),
            ),
        );
    }
    if network.connections_per_ip_max > network.connections_max {
        relation(
            &["network.connections.per.ip.max", "network.connections.max"],
            format!(
                "one address is allowed more connections ({}) than all together ({})",
                network.connections_per_ip_max, network.connections_max,
            ),
        );
    }
    if network.handshake_timeout > network.idle_timeout {
        relation(
            &["network.handshake.timeout", "network.idle.timeout"],
            format!(
                "a handshake ({}) may not take longer than a connection may be idle ({})",
                format_duration(network.handshake_timeout),
                format_duration(network.idle_timeout),
            ),
        );
    }
    if config.admin.listen.as_ref() == Some(&config.listen) && !config.listen.ends_with(":0") {
        relation(
            &["admin.listen", "listen"],
            format!("both listen on {}", config.listen),
        );
    }
    let cluster = &config.cluster;
    if cluster.heartbeat_interval * 3 > cluster.session_timeout {
        relation(
            &["cluster.heartbeat.interval", "cluster.session.timeout"],
            format!(
                "with a heartbeat every {} a session of {} ends before three of them were missed",
                format_duration(cluster.heartbeat_interval),
                format_duration(cluster.session_timeout),
            ),
        );
    }
    let replication = &config.replication;
    if replication.fetch_wait_max * 2 > replication.lag_time_max {
        relation(
            &["replica.fetch.wait.max", "replica.lag.time.max"],
            format!(
                "a follower that is answered every {} cannot show within {} that it is in sync",
                format_duration(replication.fetch_wait_max),
                format_duration(replication.lag_time_max),
            ),
        );
    }
    if let (Some(min), Some(replicas)) = (
        config.topic_defaults.min_insync_replicas,
        config.new_topics.replicas,
    ) && min > replicas
    {
        relation(
            &["min.insync.replicas", "default.replication.factor"],
            format!("with {replicas} replicas there are never {min} in sync"),
        );
    }
    if let Some(address) = &config.advertised_listen
        && is_wildcard(address)
    {
        relation(
            &["advertised.listen"],
            format!("{address} is a wildcard, no client can connect to it"),
        );
    }
}

/// Relations of a topic's resolved settings.
pub(crate) fn topic(config: &TopicConfig, faults: &mut Vec<Fault>) {
    let batch_max = u64::from(config.max_message_bytes);
    if batch_max > config.segment_bytes {
        faults.push(Fault::Relation {
            keys: &["max.message.bytes", "segment.bytes"],
            problem: format!(
                "a batch of {} does not fit into a segment of {}",
                format_size(batch_max),
                format_size(config.segment_bytes),
            ),
        });
    }
}

/// What is allowed but probably not meant, one sentence each.
pub(crate) fn warnings(config: &BrokerConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    let topic = &config.topic_defaults;
    if !is_loopback(&config.listen) {
        warnings.push(format!(
            "`listen` is {}: there is no authentication yet, everyone who can reach the port can read and write",
            config.listen
        ));
    }
    if let Some(admin) = &config.admin.listen
        && !is_loopback(admin)
    {
        warnings.push(format!(
            "`admin.listen` is {admin}: it has no authentication, everyone who can reach the port can delete topics"
        ));
    }
    if topic.durability == Durability::Replicated {
        let lone_broker = config.seeds.is_empty() && config.new_topics.replicas.is_none();
        let lost = format_duration(topic.flush_max_delay);
        if lone_broker || config.new_topics.replicas == Some(1) {
            warnings.push(format!(
                "`durability` is replicated and there is one replica: a power cut can lose acknowledged records of the last {lost}"
            ));
        } else if topic.min_insync_replicas == Some(1) {
            warnings.push(format!(
                "`durability` is replicated and `min.insync.replicas` is 1: while a leader is alone, a power cut can lose acknowledged records of the last {lost}"
            ));
        }
    }
    if let Some(retention) = topic.retention_ms
        && topic.segment_ms > retention
    {
        warnings.push(format!(
            "`segment.ms` ({}) is longer than `retention.ms` ({}): records of a segment that is written slowly stay longer than asked for",
            format_duration(topic.segment_ms),
            format_duration(retention),
        ));
    }
    if let Some(retention) = topic.retention_bytes
        && retention < topic.segment_bytes
    {
        warnings.push(format!(
            "`retention.bytes` ({}) is smaller than `segment.bytes` ({}): a partition keeps its whole last segment",
            format_size(retention),
            format_size(topic.segment_bytes),
        ));
    }
    if is_temporary(&config.data_dir) {
        warnings.push(format!(
            "`data.dir` is {}: it does not survive a reboot",
            config.data_dir.display()
        ));
    }
    if config.storage.mapped_segments_max > 60_000 {
        warnings.push(format!(
            "`storage.mapped.segments.max` is {}: check the kernel's vm.max_map_count, 65530 by default",
            config.storage.mapped_segments_max
        ));
    }
    warnings
}

fn is_loopback(address: &str) -> bool {
    let host = address::host(address);
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn is_wildcard(address: &str) -> bool {
    address::host(address)
        .parse::<std::net::IpAddr>()
        .is_ok_and(|address| address.is_unspecified())
}

fn is_temporary(path: &Path) -> bool {
    path.starts_with("/tmp") || path.starts_with("/dev/shm") || path.starts_with("/run")
}
