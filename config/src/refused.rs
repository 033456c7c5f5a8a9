//! Settings of other products that are recognised so that they can be refused with an answer,
//! instead of being ignored or called unknown.

const COMPACTION: &str = "compaction is not supported yet; remove the setting";
const UNCLEAN: &str = "no election loses committed records by itself; when it must be, an operator asks for \
    one of the partitions that need it";
const FETCHERS: &str =
    "a broker has one fetcher for each broker that it follows; remove the setting";
const THROTTLED: &str = "every replica that catches up is held to `replication.catchup.rate`";
const FOLLOWER_READS: &str = "consumers read from leaders only; remove the setting";
const REPLICA_TIMES: &str =
    "time limits between brokers follow from `cluster.session.timeout`; remove the setting";
const SECURITY: &str = "TLS and authentication are not supported yet; listen on a loopback address or a private network";
const TIERED: &str = "tiered storage is not supported yet; remove the setting";
const CONSENSUS: &str =
    "every broker keeps the metadata; `cluster.seeds` and `cluster.voters` say who votes";
const ELECTIONS: &str =
    "time limits of the quorum follow from `cluster.election.timeout`; remove the setting";
const HANDOVER: &str =
    "a broker that stops hands its leaderships over by itself, within `shutdown.timeout`";
const GROUPS: &str = "consumer groups are not supported yet; remove the setting";
const TRANSACTIONS: &str = "transactions are not supported yet; remove the setting";
const FLUSH: &str =
    "use `durability`, and with `durability = replicated` `flush.max.delay` and `flush.bytes`";
const RETENTION_UNIT: &str = "use `retention.ms`, which takes units: `retention.ms = \"7d\"`";
const ROLL_UNIT: &str = "use `segment.ms`, which takes units: `segment.ms = \"7d\"`";
const AUTO_CREATE: &str =
    "topics are never created by mistyping them; use `highwater topic create`";
const RECOMPRESSION: &str =
    "batches are stored as the producer compressed them; set the level there";

/// Whole names, and prefixes that end in a dot.
const REFUSED: &[(&str, &str)] = &[
    ("min.cleanable.dirty.ratio", COMPACTION),
    ("delete.retention.ms", COMPACTION),
    ("min.compaction.lag.ms", COMPACTION),
    ("max.compaction.lag.ms", COMPACTION),
    ("log.cleaner.", COMPACTION),
    ("flush.messages", FLUSH),
    ("flush.ms", FLUSH),
    ("log.flush.interval.messages", FLUSH),
    ("log.flush.interval.ms", FLUSH),
    ("log.flush.scheduler.interval.ms", FLUSH),
    ("log.retention.hours", RETENTION_UNIT),
    ("log.retention.minutes", RETENTION_UNIT),
    ("log.roll.hours", ROLL_UNIT),
    (
        "segment.jitter.ms",
        "segments roll by size and by `segment.ms`; there is no jitter",
    ),
    (
        "log.roll.jitter.",
        "segments roll by size and by `segment.ms`; there is no jitter",
    ),
    (
        "segment.index.bytes",
        "indexes are sized by themselves; remove the setting",
    ),
    (
        "log.index.size.max.bytes",
        "indexes are sized by themselves; remove the setting",
    ),
    (
        "preallocate",
        "segments are always allocated ahead; remove the setting",
    ),
    (
        "log.preallocate",
        "segments are always allocated ahead; remove the setting",
    ),
    (
        "message.downconversion.enable",
        "there is one record format; remove the setting",
    ),
    (
        "message.format.version",
        "there is one record format; remove the setting",
    ),
    ("compression.gzip.level", RECOMPRESSION),
    ("compression.lz4.level", RECOMPRESSION),
    ("compression.zstd.level", RECOMPRESSION),
    ("auto.create.topics.enable", AUTO_CREATE),
    (
        "delete.topic.enable",
        "topics can always be deleted; remove the setting",
    ),
    ("unclean.leader.election.enable", UNCLEAN),
    ("num.replica.fetchers", FETCHERS),
    ("leader.replication.throttled.replicas", THROTTLED),
    ("leader.replication.throttled.rate", THROTTLED),
    ("follower.replication.throttled.replicas", THROTTLED),
    (
        "replica.alter.log.dirs.",
        "a broker has one data directory; remove the setting",
    ),
    (
        "replica.fetch.max.bytes",
        "use `replica.fetch.bytes.max`, which counts all partitions of a fetch together",
    ),
    (
        "replica.fetch.min.bytes",
        "a follower is answered as soon as there is anything; remove the setting",
    ),
    ("replica.fetch.backoff.ms", REPLICA_TIMES),
    ("replica.socket.timeout.ms", REPLICA_TIMES),
    (
        "replica.socket.receive.buffer.bytes",
        "the operating system tunes socket buffers; remove the setting",
    ),
    (
        "replica.high.watermark.checkpoint.interval.ms",
        "use `storage.checkpoint.interval`",
    ),
    ("replica.selector.class", FOLLOWER_READS),
    ("controlled.shutdown.", HANDOVER),
    (
        "auto.leader.rebalance.enable",
        "use `leader.balance.interval`, which can be `off`",
    ),
    (
        "leader.imbalance.per.broker.percentage",
        "use `leader.balance.interval`; every leadership is given back",
    ),
    ("controller.quorum.voters", CONSENSUS),
    ("controller.quorum.bootstrap.servers", CONSENSUS),
    ("controller.quorum.auto.join.enable", CONSENSUS),
    ("controller.quorum.fetch.timeout.ms", ELECTIONS),
    ("controller.quorum.request.timeout.ms", ELECTIONS),
    ("controller.quorum.retry.backoff.ms", ELECTIONS),
    ("controller.quorum.election.backoff.max.ms", ELECTIONS),
    (
        "controller.listener.names",
        "brokers and clients use the same listener: `listen`",
    ),
    ("process.roles", CONSENSUS),
    ("zookeeper.", CONSENSUS),
    ("metadata.log.", CONSENSUS),
    ("listener.security.protocol.map", SECURITY),
    ("inter.broker.listener.name", SECURITY),
    ("security.", SECURITY),
    ("sasl.", SECURITY),
    ("ssl.", SECURITY),
    ("authorizer.class.name", SECURITY),
    ("super.users", SECURITY),
    ("remote.storage.", TIERED),
    ("remote.log.", TIERED),
    ("local.retention.ms", TIERED),
    ("local.retention.bytes", TIERED),
    ("log.local.retention.", TIERED),
    ("group.", GROUPS),
    ("offsets.", GROUPS),
    ("transaction.", TRANSACTIONS),
    ("transactional.id.expiration.ms", TRANSACTIONS),
    (
        "num.io.threads",
        "requests are handled by the threads of `network.threads`",
    ),
    (
        "background.threads",
        "background work sizes itself; remove the setting",
    ),
    (
        "queued.max.requests",
        "what is in flight is bounded in bytes: `network.in.flight.bytes.max`",
    ),
    (
        "socket.send.buffer.bytes",
        "the operating system tunes socket buffers; remove the setting",
    ),
    (
        "socket.receive.buffer.bytes",
        "the operating system tunes socket buffers; remove the setting",
    ),
    (
        "metric.reporters",
        "metrics are at `/metrics` of the admin endpoint; see `admin.listen`",
    ),
    ("quota.", "quotas are not supported yet; remove the setting"),
];

/// What to say about a name that is none of ours but is known.
pub(crate) fn reason(key: &str) -> Option<&'static str> {
    let matches = |name: &str| key == name || (name.ends_with('.') && key.starts_with(name));
    REFUSED
        .iter()
        .find(|(name, _)| matches(name))
        .map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{SETTINGS, find};

    #[test]
    fn nothing_that_works_is_refused() {
        for setting in SETTINGS {
            for name in std::iter::once(&setting.key).chain(setting.aliases) {
                assert_eq!(reason(name), None, "{name}");
            }
        }
        for (name, _) in REFUSED {
            assert!(find(name).is_none(), "{name}");
        }
    }

    #[test]
    fn prefixes_end_at_a_dot() {
        assert!(reason("ssl.keystore.location").is_some());
        assert!(reason("sslx").is_none());
        assert!(reason("flush.messages.more").is_none());
    }
}
