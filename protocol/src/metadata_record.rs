//! What the metadata log is made of: the value of each of its records.
//!
//! ```text
//! u16 kind · u16 version · body
//! ```
//!
//! The body is encoded as messages are. Kinds and versions are for ever: a log that was written once
//! stays readable. A field that is added later comes with a new version of its kind.

use bytes::Bytes;
use thiserror::Error;

use crate::codec::{ApiVersion, DecodeError, Decoder, Encoder, Wire};
use crate::ids::{
    BrokerEpoch, ClusterId, DirectoryId, IncarnationId, LeaderEpoch, NodeId, PartitionId,
    ProducerId, TopicId, TopicName,
};
use crate::messages::{ConfigChange, ConfigEntry};

/// Why bytes are not a metadata record that this build can apply.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MetadataRecordError {
    /// A kind from a newer build.
    #[error("metadata record of unknown kind {kind}: the log was written by a newer version")]
    UnknownKind {
        /// The kind.
        kind: u16,
    },
    /// A version from a newer build.
    #[error(
        "metadata record {name} has version {version}, this build reads up to {version_max}: \
         the log was written by a newer version"
    )]
    UnknownVersion {
        /// Name of the kind.
        name: &'static str,
        /// The version.
        version: u16,
        /// The highest that this build reads.
        version_max: u16,
    },
    /// The bytes are not the body.
    #[error("metadata record is damaged: {0}")]
    Damaged(#[from] DecodeError),
}

/// Number, name, version and fields of a kind.
#[cfg(test)]
pub(crate) type RecordLayout = (
    u16,
    &'static str,
    u16,
    &'static [(&'static str, &'static str)],
);

macro_rules! metadata_records {
    ($(
        $(#[$doc:meta])*
        $name:ident = $kind:literal, version $version:literal {
            $( $(#[$field_doc:meta])* $field:ident: $ty:ty, )*
        }
    )*) => {
        /// A change of the cluster's metadata.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum MetadataRecord {
            $( $(#[$doc])* $name { $( $(#[$field_doc])* $field: $ty, )* }, )*
        }

        impl MetadataRecord {
            /// Number and name of every kind.
            pub const KINDS: &[(u16, &'static str)] = &[$( ($kind, stringify!($name)), )*];

            /// Number, name, version and fields of every kind, for the test of the documentation.
            #[cfg(test)]
            pub(crate) const LAYOUTS: &[RecordLayout] = &[$(
                ($kind, stringify!($name), $version, &[$( (stringify!($field), stringify!($ty)), )*]),
            )*];

            /// The record as the value of a log record.
            #[must_use]
            pub fn encode(&self) -> Bytes {
                let mut out = Encoder::new();
                match self {
                    $( Self::$name { $( $field, )* } => {
                        let version = ApiVersion($version);
                        u16::encode(&$kind, &mut out, version);
                        u16::encode(&$version, &mut out, version);
                        $( $field.encode(&mut out, version); )*
                    } )*
                }
                out.into_bytes()
            }

            /// From the value of a log record.
            ///
            /// # Errors
            /// [`MetadataRecordError`] when it is damaged, or from a newer build.
            pub fn decode(value: Bytes) -> Result<Self, MetadataRecordError> {
                let mut input = Decoder::new(value);
                let kind = u16::decode(&mut input, ApiVersion(1))?;
                let version = u16::decode(&mut input, ApiVersion(1))?;
                let record = match kind {
                    $( $kind => {
                        if !(1..=$version).contains(&version) {
                            return Err(MetadataRecordError::UnknownVersion {
                                name: stringify!($name),
                                version,
                                version_max: $version,
                            });
                        }
                        Self::$name {
                            $( $field: <$ty>::decode(&mut input, ApiVersion(version))?, )*
                        }
                    } )*
                    _ => return Err(MetadataRecordError::UnknownKind { kind }),
                };
                input.finish()?;
                Ok(record)
            }
        }
    };
}

metadata_records! {
    /// A topic came to be, with all of its partitions.
    TopicCreated = 1, version 1 {
        /// Its id.
        id: TopicId,
        /// Its name.
        name: TopicName,
        /// Number of partitions.
        partitions: u32,
        /// Replicas of each.
        replicas: u16,
        /// Fewest in-sync replicas for anything to commit: one value for the whole cluster, whatever
        /// the settings of single brokers say (KAFKA-16540).
        isr_min: u16,
        /// Settings that differ from the broker's.
        configs: Vec<ConfigEntry>,
    }
    /// A topic is gone.
    TopicDeleted = 2, version 1 {
        /// Its id.
        id: TopicId,
    }
    /// A topic has more partitions.
    PartitionsAdded = 3, version 1 {
        /// Its id.
        id: TopicId,
        /// How many it has now, in all.
        total: u32,
    }
    /// Settings of a topic are different.
    TopicConfigChanged = 4, version 1 {
        /// Its id.
        id: TopicId,
        /// Fewest in-sync replicas from now on.
        isr_min: u16,
        /// What changed.
        changes: Vec<ConfigChange>,
    }
    /// A broker started a life, and tells where it listens. It is fenced until it is ready.
    BrokerRegistered = 5, version 1 {
        /// The broker.
        node_id: NodeId,
        /// Its registration.
        broker_epoch: BrokerEpoch,
        /// Its data directory.
        directory: DirectoryId,
        /// This life.
        incarnation: IncarnationId,
        /// Host name or address that clients and brokers connect to.
        host: String,
        /// TCP port.
        port: u16,
        /// Failure domain.
        rack: Option<String>,
        /// Version of its software.
        version: String,
    }
    /// A partition has another leader, other replicas or other in-sync replicas. The record holds the
    /// whole state, so that applying it twice is harmless.
    PartitionChanged = 6, version 1 {
        /// The topic.
        topic_id: TopicId,
        /// The partition.
        partition: PartitionId,
        /// Counts every change of the partition.
        partition_epoch: u32,
        /// Who leads it, if anyone.
        leader: Option<NodeId>,
        /// Epoch of that leader.
        leader_epoch: LeaderEpoch,
        /// Its leader came from an unclean election and has not yet been joined by others.
        recovering: bool,
        /// All replicas, the preferred leader first.
        replicas: Vec<NodeId>,
        /// In-sync replicas.
        isr: Vec<NodeId>,
        /// Eligible leader replicas (KIP-966): not in sync, and yet with everything that is committed.
        elr: Vec<NodeId>,
        /// Replicas that were eligible before their brokers may have lost data.
        last_known_elr: Vec<NodeId>,
        /// Replicas that a move adds.
        adding: Vec<NodeId>,
        /// Replicas that a move removes.
        removing: Vec<NodeId>,
    }
    /// The cluster came to be: the first record.
    ClusterCreated = 7, version 1 {
        /// Its id.
        cluster_id: ClusterId,
    }
    /// A node is part of the cluster, and has its id for ever.
    NodeJoined = 8, version 1 {
        /// The node.
        node_id: NodeId,
        /// Its data directory.
        directory: DirectoryId,
        /// Host at which the other brokers reach it.
        host: String,
        /// Port at which the other brokers reach it.
        port: u16,
    }
    /// A node is no longer part of the cluster; its id is never given out again.
    NodeRemoved = 9, version 1 {
        /// The node.
        node_id: NodeId,
    }
    /// A broker may lead or may not, is drained or stops.
    BrokerChanged = 10, version 1 {
        /// The broker.
        node_id: NodeId,
        /// The registration that this is about.
        broker_epoch: BrokerEpoch,
        /// Kept from leading and from being in sync.
        fenced: bool,
        /// Stops in order.
        shutting_down: bool,
        /// Everything is moved off it.
        draining: bool,
    }
    /// Producer ids below `next` were given out.
    ProducerIdsAllocated = 11, version 1 {
        /// The first id that was not.
        next: ProducerId,
    }
}

#[cfg(test)]
#[path = "metadata_record_tests.rs"]
mod tests;
