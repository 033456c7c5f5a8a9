//! The one table of wire error codes.

use crate::codec::{ApiVersion, DecodeError, Decoder, Encoder, Wire};

/// What a client does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing is wrong.
    None,
    /// Try again after a backoff.
    BackOff,
    /// Refresh the metadata, then try again.
    RefreshMetadata,
    /// Tell the caller: trying again will not help.
    Fail,
}

macro_rules! error_codes {
    ($( $(#[$doc:meta])* $name:ident = $code:literal, $remedy:ident; )*) => {
        /// An error as it travels: a number with a fixed meaning, and a message beside it for people.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode { $( $(#[$doc])* $name, )*
            /// A code that this build does not know: from a newer peer. Not retriable.
            Unrecognized(u16),
        }

        impl ErrorCode {
            /// Every code that this build knows, in order.
            pub const ALL: &[Self] = &[$( Self::$name, )*];

            /// The number on the wire.
            #[must_use]
            pub const fn code(self) -> u16 {
                match self { $( Self::$name => $code, )* Self::Unrecognized(code) => code }
            }

            /// From the number on the wire.
            #[must_use]
            pub const fn from_code(code: u16) -> Self {
                match code { $( $code => Self::$name, )* other => Self::Unrecognized(other) }
            }

            /// Its name in the table of `docs/PROTOCOL.md`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$name => stringify!($name), )* Self::Unrecognized(_) => "Unrecognized" }
            }

            /// What a client should do about it.
            #[must_use]
            pub const fn remedy(self) -> Remedy {
                match self { $( Self::$name => Remedy::$remedy, )* Self::Unrecognized(_) => Remedy::Fail }
            }
        }
    };
}

error_codes! {
    /// Success.
    None = 0, None;
    /// A bug or an unexpected state in the broker; its log has the details.
    Internal = 1, Fail;
    /// The frame or the body is not what its API and version say.
    MalformedRequest = 2, Fail;
    /// No such API.
    UnknownApi = 3, Fail;
    /// The API exists, not in this version; Hello tells the range.
    UnsupportedVersion = 4, Fail;
    /// The frame is larger than the broker accepts.
    FrameTooLarge = 5, Fail;
    /// The first request of a connection was not Hello, or Hello came twice.
    HelloExpected = 6, Fail;
    /// The client expects another cluster.
    WrongCluster = 7, Fail;
    /// The broker is starting, stopping, or has too much in flight.
    Busy = 8, BackOff;
    /// The request's own time limit passed; a produce may still have been appended.
    RequestTimedOut = 9, BackOff;
    /// The broker is shutting down.
    ShuttingDown = 10, RefreshMetadata;
    /// A field has a value that makes no sense.
    InvalidRequest = 11, Fail;

    /// No such topic or partition here.
    UnknownTopicOrPartition = 20, RefreshMetadata;
    /// No topic has this id: it was deleted, perhaps created again under another id.
    UnknownTopicId = 21, RefreshMetadata;
    /// The name of a topic breaks the rules.
    InvalidTopic = 22, Fail;
    /// There is a topic of this name.
    TopicAlreadyExists = 23, Fail;
    /// Zero, too many, or fewer partitions than there are.
    InvalidPartitions = 24, Fail;
    /// More replicas than brokers, or none.
    InvalidReplicationFactor = 25, Fail;
    /// Unknown key, value out of range, or a setting that does not work yet.
    InvalidConfig = 26, Fail;

    /// This broker does not lead the partition.
    NotLeader = 40, RefreshMetadata;
    /// The request's leader epoch is older than the broker's.
    FencedLeaderEpoch = 41, RefreshMetadata;
    /// The request's leader epoch is newer than the broker's.
    UnknownLeaderEpoch = 42, BackOff;
    /// The offset is outside of log start ..= log end.
    OffsetOutOfRange = 43, Fail;
    /// The offset asked for is not known yet.
    OffsetNotAvailable = 44, BackOff;
    /// Fewer in-sync replicas than the topic demands; nothing was appended.
    NotEnoughReplicas = 45, BackOff;
    /// Appended, but then too few in-sync replicas; the records may still commit.
    NotEnoughReplicasAfterAppend = 46, BackOff;
    /// A follower has an epoch that its leader never heard of: one of the two was rolled back.
    EpochAhead = 47, Fail;

    /// This broker is not the active controller, or cannot reach it.
    NotController = 50, BackOff;
    /// The broker's registration is older than the controller's: it registers again.
    StaleBrokerEpoch = 51, Fail;
    /// Another process is registered under this node id and still alive.
    DuplicateBroker = 52, BackOff;
    /// No node has this id.
    UnknownNode = 53, Fail;
    /// The node may not join or register: its id is taken or was removed, or it belongs elsewhere.
    NodeRefused = 54, Fail;
    /// The partition's replicas or ISR changed since the sender looked.
    StalePartitionEpoch = 55, Fail;
    /// A replica that may not be in the ISR: fenced, shutting down, or registered anew.
    IneligibleReplica = 56, Fail;
    /// What is asked for cannot be done in the cluster's present state.
    PreconditionFailed = 57, Fail;

    /// A batch's checksum, lengths or counts contradict each other.
    CorruptBatch = 60, Fail;
    /// A batch is larger than the topic's `max.message.bytes`.
    BatchTooLarge = 61, Fail;
    /// The batch's compression codec is unknown.
    UnsupportedCompression = 62, Fail;
    /// A batch's timestamp is too far from the broker's clock.
    InvalidTimestamp = 63, Fail;
    /// The produce request has no records, or something that clients must not write.
    InvalidBatch = 64, Fail;
    /// The batch's sequence number does not follow the last one of its producer.
    OutOfOrderSequence = 65, Fail;
    /// The batch was appended before, so long ago that its offset is not known any more.
    DuplicateSequence = 66, Fail;
    /// A newer producer has taken over this producer id.
    InvalidProducerEpoch = 67, Fail;

    /// The partition's storage failed or is damaged: it is offline until it is repaired.
    PartitionOffline = 80, RefreshMetadata;
    /// The disk is full; nothing was appended. Goes on when space returns.
    DiskFull = 81, BackOff;

    /// The feature is not there in this version of the broker.
    Unsupported = 90, Fail;
}

impl ErrorCode {
    /// Whether the same request can succeed later.
    #[must_use]
    pub const fn is_retriable(self) -> bool {
        matches!(self.remedy(), Remedy::BackOff | Remedy::RefreshMetadata)
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unrecognized(code) => write!(f, "Unrecognized({code})"),
            known => f.write_str(known.name()),
        }
    }
}

impl Wire for ErrorCode {
    const SIZE_MIN: usize = 2;
    fn encode(&self, out: &mut Encoder, version: ApiVersion) {
        self.code().encode(out, version);
    }
    fn decode(input: &mut Decoder, version: ApiVersion) -> Result<Self, DecodeError> {
        u16::decode(input, version).map(Self::from_code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_round_trip() {
        let mut seen = std::collections::BTreeSet::new();
        for code in ErrorCode::ALL {
            assert!(seen.insert(code.code()), "{code} twice");
            assert_eq!(ErrorCode::from_code(code.code()), *code);
        }
        assert_eq!(ErrorCode::from_code(9999), ErrorCode::Unrecognized(9999));
        assert!(!ErrorCode::from_code(9999).is_retriable());
    }
}
