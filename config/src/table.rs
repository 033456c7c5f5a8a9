//! The one table of settings. Parsing, validation, `explain` and `config/highwater.toml` all derive
//! from it; a setting that is not here does not exist.

use highwater_protocol::limits::{
    BATCH_BYTES_MAX_LIMIT, FRAME_BYTES_MAX_LIMIT, PARTITIONS_PER_TOPIC_MAX,
};

use crate::broker::BrokerConfig;
use crate::field::Field;
use crate::setting::{Choice, Kind, Setting, Value};
use crate::topic::TopicConfig;

/// Where a setting's value is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// In the broker's configuration.
    Broker {
        put: fn(&mut BrokerConfig, Value),
        get: fn(&BrokerConfig) -> Value,
    },
    /// In a topic's, and in the broker's as the default of all topics.
    Topic {
        put: fn(&mut TopicConfig, Value),
        get: fn(&TopicConfig) -> Value,
    },
}

/// The setting of this name or alias.
#[must_use]
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS
        .iter()
        .find(|setting| setting.key == name || setting.aliases.contains(&name))
}

macro_rules! place {
    (broker $($field:ident).+) => {
        Place::Broker {
            put: |config, value| config.$($field).+ = Field::from_value(value),
            get: |config| config.$($field).+.to_value(),
        }
    };
    (topic $($field:ident).+) => {
        Place::Topic {
            put: |config, value| config.$($field).+ = Field::from_value(value),
            get: |config| config.$($field).+.to_value(),
        }
    };
}

macro_rules! none_word {
    () => {
        None
    };
    ($word:literal) => {
        Some($word)
    };
}

macro_rules! settings {
    ($(
        $key:literal => $owner:ident $($field:ident).+, $kind:expr, $default:literal
        $(, none $none:literal)? $(, aliases [$($alias:literal),*])?;
        $doc:literal
    )*) => {
        &[$( Setting {
            key: $key,
            aliases: &[$($($alias),*)?],
            kind: $kind,
            none: none_word!($($none)?),
            default: $default,
            doc: $doc,
            place: place!($owner $($field).+),
        }, )*]
    };
}

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 365 * DAY;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

const fn number(min: u64, max: u64) -> Kind {
    Kind::Number { min, max }
}

const fn size(min: u64, max: u64) -> Kind {
    Kind::Size { min, max }
}

const fn time(min_ms: u64, max_ms: u64) -> Kind {
    Kind::Duration { min_ms, max_ms }
}

const fn word(word: &'static str, spellings: &'static [&'static str]) -> Choice {
    Choice {
        word,
        spellings,
        refused: None,
    }
}

const fn not_yet(
    word: &'static str,
    spellings: &'static [&'static str],
    why: &'static str,
) -> Choice {
    Choice {
        word,
        spellings,
        refused: Some(why),
    }
}

const COMPACTION: &str = "is not supported yet: there is no compaction; use `delete`";
const RECOMPRESSION: &str = "is not supported yet: batches are stored as they came; use `producer`";

const LOG_FORMATS: &[Choice] = &[word("text", &[]), word("json", &[])];
const SWITCH: &[Choice] = &[word("on", &["true"]), word("off", &["false"])];
const DURABILITIES: &[Choice] = &[word("synced", &[]), word("replicated", &[])];
const CLEANUP_POLICIES: &[Choice] = &[
    word("delete", &[]),
    not_yet(
        "compact",
        &["compact,delete", "delete,compact", "[compact,delete]"],
        COMPACTION,
    ),
];
const COMPRESSIONS: &[Choice] = &[
    word("producer", &[]),
    not_yet("none", &["uncompressed"], RECOMPRESSION),
    not_yet("gzip", &[], RECOMPRESSION),
    not_yet("snappy", &[], RECOMPRESSION),
    not_yet("lz4", &[], RECOMPRESSION),
    not_yet("zstd", &[], RECOMPRESSION),
];
const TIMESTAMPS: &[Choice] = &[
    word("create", &["CreateTime"]),
    not_yet(
        "log-append",
        &["LogAppendTime"],
        "is not supported yet: timestamps are the producer's; use `create`",
    ),
];

/// Every setting, in the order in which they are documented.
pub static SETTINGS: &[Setting] = settings! {
    "node.id" => broker node_id, number(0, 2_147_483_647), "auto", none "auto", aliases ["broker.id"];
    "Number of this broker in the cluster. With auto it is chosen at the first start and kept in the data directory; a number that contradicts the data directory is refused."

    "cluster.seeds" => broker seeds, Kind::Addresses, "";
    "Addresses of brokers of the cluster to form or to join, the same list on every broker. Empty: this broker is a cluster of its own. At the very first start, when all seeds are reachable and none belongs to a cluster, the first of the list forms one and the others join it; later it is enough that one seed answers."

    "cluster.voters" => broker cluster.voters, number(1, 9), "3";
    "How many brokers vote in the metadata quorum, as long as there are so many. The cluster grows and shrinks the set by itself, always to an odd number: with 3, one voter may fail; with 5, two."

    "cluster.heartbeat.interval" => broker cluster.heartbeat_interval, time(20, MINUTE), "500ms",
        aliases ["broker.heartbeat.interval.ms"];
    "How often a broker tells the controller that it lives. At most a third of `cluster.session.timeout`."

    "cluster.session.timeout" => broker cluster.session_timeout, time(200, HOUR), "6s",
        aliases ["broker.session.timeout.ms"];
    "How long the controller waits for a broker's heartbeat before it fences it and elects other leaders. A broker that cannot reach the controller stops serving a little earlier."

    "cluster.election.timeout" => broker cluster.election_timeout, time(50, MINUTE), "1s",
        aliases ["controller.quorum.election.timeout.ms"];
    "How long voters of the metadata quorum wait for their leader before they elect another. The leader is heard of five times as often."

    "rack" => broker rack, Kind::Text, "none", none "none", aliases ["broker.rack"];
    "Where this broker stands, such as a rack or an availability zone. Replicas of a partition are spread over as many as there are."

    "data.dir" => broker data_dir, Kind::Path, "./highwater-data", aliases ["log.dirs", "log.dir"];
    "Directory of everything that the broker keeps. Created if missing; locked while the broker runs; must not be shared between brokers."

    "listen" => broker listen, Kind::Address { port_zero: true }, "127.0.0.1:7171", aliases ["listeners"];
    "Address on which clients connect. The default admits only this machine, since there is no authentication yet; 0.0.0.0:7171 admits everyone who can reach the port. Port 0 takes any free one."

    "advertised.listen" => broker advertised_listen, Kind::Address { port_zero: false }, "auto",
        none "auto", aliases ["advertised.listeners"];
    "Address that clients are told to connect to, where it differs from `listen` (containers, port forwarding). With auto it is the address listened on, and where that is a wildcard such as 0.0.0.0, the address on which the client reached the broker."

    "shutdown.timeout" => broker shutdown_timeout, time(0, HOUR), "30s";
    "How long requests in flight may take to finish after SIGTERM or SIGINT. What is left then is cut off; logs are flushed and marked clean in any case."

    "admin.listen" => broker admin.listen, Kind::Address { port_zero: true }, "127.0.0.1:7180", none "off";
    "Address of the admin HTTP endpoint: health, metrics, topics. It has no authentication, so keep it private; off opens none."

    "admin.connections.max" => broker admin.connections_max, number(1, 100_000), "64";
    "Most connections of the admin endpoint at a time. More wait until one is free."

    "admin.request.bytes.max" => broker admin.request_bytes_max, size(KIB, 64 * MIB), "1MiB";
    "Largest body of an admin request."

    "admin.request.timeout" => broker admin.request_timeout, time(100, HOUR), "30s";
    "How long an admin request may take, from its first byte to its answer, and how long an idle connection is kept."

    "log.level" => broker log.level, Kind::LogFilter, "info";
    "What the broker logs: off, error, warn, info, debug or trace, or a list such as info,highwater_storage=debug."

    "log.format" => broker log.format, Kind::Choice(LOG_FORMATS), "text";
    "How it logs: text for people, json with one object a line for machines."

    "network.threads" => broker network.threads, number(1, 1024), "auto", none "auto",
        aliases ["num.network.threads"];
    "Threads that serve connections. With auto one per core."

    "network.accept.backlog" => broker network.accept_backlog, number(1, 65_535), "4096",
        aliases ["socket.listen.backlog.size"];
    "Connections that the kernel keeps waiting to be accepted. It caps this at net.core.somaxconn."

    "network.frame.bytes.max" => broker network.frame_bytes_max,
        size(64 * KIB, FRAME_BYTES_MAX_LIMIT as u64), "64MiB", aliases ["socket.request.max.bytes"];
    "Largest request. A connection that announces a larger one is closed before anything is reserved for it. Must exceed `max.message.bytes` by 64KiB at least."

    "network.in.flight.bytes.max" => broker network.in_flight_bytes_max, size(MIB, TIB), "256MiB",
        aliases ["queued.max.request.bytes"];
    "Request bytes that the whole broker holds at a time. Beyond it connections are not read until requests are answered: this bounds memory, whatever clients do."

    "network.connection.in.flight.bytes.max" => broker network.connection_in_flight_bytes_max,
        size(64 * KIB, TIB), "64MiB";
    "Request bytes that one connection may have in flight. At least `network.frame.bytes.max`, at most `network.in.flight.bytes.max`."

    "network.connection.in.flight.requests.max" => broker network.connection_in_flight_requests_max,
        number(1, 1_000_000), "1024";
    "Requests that one connection may have in flight. More are not read until some are answered."

    "network.connections.max" => broker network.connections_max, number(1, 1_000_000), "20000",
        aliases ["max.connections"];
    "Most connections at a time; more are closed at once. Each needs a file descriptor: see `ulimit -n`."

    "network.connections.per.ip.max" => broker network.connections_per_ip_max, number(1, 1_000_000),
        "12000", aliases ["max.connections.per.ip"];
    "Most connections from one address at a time. High enough that 10,000 clients behind one address, such as load generators on this machine, are served; lower it where clients are not trusted."

    "network.idle.timeout" => broker network.idle_timeout, time(SECOND, 30 * DAY), "10m",
        aliases ["connections.max.idle.ms"];
    "A connection without a request for this long is closed; clients connect again when they need to."

    "network.handshake.timeout" => broker network.handshake_timeout, time(100, HOUR), "10s";
    "How long a new connection may take to say Hello. Keeps connections that never say anything from holding a place."

    "storage.recovery.threads" => broker storage.recovery_threads, number(1, 1024), "auto", none "auto",
        aliases ["num.recovery.threads.per.data.dir"];
    "Threads that open and check partitions at start. With auto one per core."

    "storage.flush.threads" => broker storage.flush_threads, number(1, 256), "2";
    "Threads that sync partitions to the disk. Each syncs one partition at a time, for all who wait for it."

    "storage.mapped.segments.max" => broker storage.mapped_segments_max, number(64, 1_000_000), "16384";
    "Segment files that are mapped into memory at a time; older ones are unmapped and mapped again when they are read. Keep it under the kernel's vm.max_map_count, 65530 by default."

    "storage.prefault.ahead.bytes" => broker storage.prefault_ahead_bytes, size(64 * KIB, GIB), "16MiB";
    "How far ahead of the end of a partition that is written to memory is made ready, so that appending never waits for it. Costs about as much memory per partition in use."

    "storage.min.free.bytes" => broker storage.min_free_bytes, size(0, 1024 * TIB), "1GiB",
        aliases ["storage_min_free_bytes"];
    "Free space on the disk below which produce requests are refused with DiskFull, which clients retry. Reads, deletions and retention go on, and so do produce requests when space returns. 0 uses the disk to its end."

    "storage.checkpoint.interval" => broker storage.checkpoint_interval, time(100, HOUR), "5s",
        aliases ["log.flush.offset.checkpoint.interval.ms"];
    "How often it is noted how far each partition is safely on the disk. After a crash only what lies behind the note is checked."

    "storage.retention.check.interval" => broker storage.retention_check_interval, time(100, DAY), "1m",
        aliases ["log.retention.check.interval.ms"];
    "How often partitions are searched for segments that `retention.ms` or `retention.bytes` lets go."

    "storage.scrub.interval" => broker storage.scrub_interval, time(SECOND, 10 * YEAR), "7d", none "off";
    "How often every finished segment is read and compared with its checksum, in the background. A segment that is damaged takes its replica offline, which is then rebuilt from the others."

    "storage.scrub.rate" => broker storage.scrub_rate, size(64 * KIB, TIB), "32MiB";
    "How many bytes a second scrubbing reads at most."

    "replica.lag.time.max" => broker replication.lag_time_max, time(200, HOUR), "10s",
        aliases ["replica.lag.time.max.ms"];
    "How long a follower may be behind its leader before it is no longer in sync."

    "replica.fetch.wait.max" => broker replication.fetch_wait_max, time(10, MINUTE), "500ms",
        aliases ["replica.fetch.wait.max.ms"];
    "How long a leader holds a follower's fetch when there is nothing new. At most half of `replica.lag.time.max`."

    "replica.fetch.bytes.max" => broker replication.fetch_bytes_max, size(64 * KIB, GIB), "8MiB",
        aliases ["replica.fetch.response.max.bytes"];
    "How many bytes a follower asks for at a time."

    "replication.catchup.rate" => broker replication.catchup_rate, size(64 * KIB, TIB), "128MiB", none "unlimited",
        aliases ["follower.replication.throttled.rate"];
    "How many bytes a second a broker fetches at most for replicas that are not in sync, so that a broker that comes back does not starve producers. Replicas in sync are never held up."

    "heal.after" => broker healing.after, time(100, YEAR), "10m", none "never";
    "How long a broker may be gone before its replicas are rebuilt on others. A broker that comes back in time goes on with what it has."

    "heal.moves.max" => broker healing.moves_max, number(1, 10_000), "20";
    "How many partitions are rebuilt or moved at a time."

    "heal.disk.max.percent" => broker healing.disk_percent_max, number(1, 100), "85";
    "No replica is rebuilt on or moved to a broker whose disk is fuller than this, and none to one that would become so."

    "balance.on.node.add" => broker healing.balance_on_add, Kind::Choice(SWITCH), "on";
    "Whether a broker that joins gets its share of replicas by itself. Without it, `highwater balance run` does it."

    "leader.balance.interval" => broker healing.leader_balance_interval, time(100, YEAR), "1m", none "off",
        aliases ["leader.imbalance.check.interval.seconds"];
    "How often leaderships are given back to the first replica of each partition, where that is in sync and has been back for a while."

    "num.partitions" => broker new_topics.partitions, number(1, PARTITIONS_PER_TOPIC_MAX as u64), "1";
    "Partitions of a topic whose creator does not say how many. With 1 all of a topic's records are in one order; more can be added later, fewer is not possible."

    "default.replication.factor" => broker new_topics.replicas, number(1, 32), "auto", none "auto";
    "Replicas of a topic whose creator does not say how many. auto: 3, or as many as there are brokers if they are fewer."

    "durability" => topic durability, Kind::Choice(DURABILITIES), "synced";
    "When a record counts as written. synced: when the disk has it, so that an acknowledged record survives a power cut; many waiting requests share one sync. replicated: when the memory of every in-sync replica has it, which survives the death of the process, not that of a machine that has the only replica; the disk follows as `flush.max.delay` and `flush.bytes` say."

    "flush.max.delay" => topic flush_max_delay, time(1, HOUR), "100ms";
    "With `durability = replicated`: the longest time until appended records are synced to the disk."

    "flush.bytes" => topic flush_bytes, size(4 * KIB, TIB), "64MiB";
    "With `durability = replicated`: as many bytes that are not synced start a sync before `flush.max.delay` is over."

    "min.insync.replicas" => topic min_insync_replicas, number(1, 32), "auto", none "auto";
    "Replicas that must be in sync for a produce request with acks=all to be accepted, and for anything to become readable. auto: 2 for a topic with three or more replicas, else 1. The controller decides it when a topic is created or changed; it is one value for the whole cluster."

    "retention.ms" => topic retention_ms, time(1, 1000 * YEAR), "7d", none "unlimited",
        aliases ["log.retention.ms"];
    "How long records are kept. Segments are deleted whole, once their newest record is older than this."

    "retention.bytes" => topic retention_bytes, size(0, 1024 * TIB), "unlimited", none "unlimited",
        aliases ["log.retention.bytes"];
    "How many bytes of each partition are kept. The oldest segments are deleted while the rest still has this much."

    "segment.bytes" => topic segment_bytes, size(64 * KIB, 2 * GIB - KIB), "256MiB",
        aliases ["log.segment.bytes"];
    "Size of a segment file. Address space is taken for it whole, disk space only step by step as the segment grows. At least `max.message.bytes`."

    "segment.ms" => topic segment_ms, time(1, 1000 * YEAR), "7d", aliases ["log.roll.ms"];
    "Age at which a segment is closed even if it is not full, so that retention can reach its records."

    "index.interval.bytes" => topic index_interval_bytes, size(256, 16 * MIB), "4KiB",
        aliases ["log.index.interval.bytes"];
    "Bytes of log between two entries of the offset and time indexes. Less finds a record with less scanning and makes larger indexes."

    "max.message.bytes" => topic max_message_bytes, size(KIB, BATCH_BYTES_MAX_LIMIT as u64), "2MiB",
        aliases ["message.max.bytes"];
    "Largest record batch, header included and as compressed. The default leaves room for header and framing of a batch that was filled with 1 MiB of record values."

    "cleanup.policy" => topic cleanup_policy, Kind::Choice(CLEANUP_POLICIES), "delete",
        aliases ["log.cleanup.policy"];
    "What becomes of old records. delete: segments are deleted by age and size. Compaction is not supported yet."

    "compression.type" => topic compression, Kind::Choice(COMPRESSIONS), "producer";
    "Compression of stored batches. producer: as the producer compressed them. Compressing them anew is not supported yet."

    "message.timestamp.type" => topic timestamp, Kind::Choice(TIMESTAMPS), "create",
        aliases ["log.message.timestamp.type"];
    "What a record's timestamp is. create: what the producer set. The time of the append is not supported yet."

    "message.timestamp.before.max.ms" => topic timestamp_before_max, time(0, 1000 * YEAR), "unlimited",
        none "unlimited", aliases ["log.message.timestamp.before.max.ms"];
    "How far a record's timestamp may lie before the broker's clock. A batch that is older is refused."

    "message.timestamp.after.max.ms" => topic timestamp_after_max, time(0, 1000 * YEAR), "1h",
        none "unlimited", aliases ["log.message.timestamp.after.max.ms"];
    "How far a record's timestamp may lie after the broker's clock. A batch from further ahead is refused, since it would keep its segment from expiring."
};
