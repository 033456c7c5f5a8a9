//! ListOffsets: find offsets by position or time.

use crate::codec::{ApiVersion, DecodeError, Decoder, Encoder, Wire, wire_struct};
use crate::error_code::ErrorCode;
use crate::ids::{LeaderEpoch, Offset, PartitionId, Timestamp, TopicId};

/// Which offset is wanted. On the wire: a kind byte, then for `At` the timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// 0: the first that the partition still has.
    Earliest,
    /// 1: the end for consumers, the high watermark.
    Latest,
    /// 2: the end for consumers of committed transactions, the last stable offset.
    LastStable,
    /// 3: the end of the leader's log, committed or not.
    LogEnd,
    /// 4: the record with the largest timestamp.
    MaxTimestamp,
    /// 5: the first record at or after this time.
    At(Timestamp),
}

impl Wire for OffsetSpec {
    const SIZE_MIN: usize = 1;

    fn encode(&self, out: &mut Encoder, version: ApiVersion) {
        let kind: u8 = match self {
            Self::Earliest => 0,
            Self::Latest => 1,
            Self::LastStable => 2,
            Self::LogEnd => 3,
            Self::MaxTimestamp => 4,
            Self::At(_) => 5,
        };
        kind.encode(out, version);
        if let Self::At(time) = self {
            time.encode(out, version);
        }
    }

    fn decode(input: &mut Decoder, version: ApiVersion) -> Result<Self, DecodeError> {
        Ok(match u8::decode(input, version)? {
            0 => Self::Earliest,
            1 => Self::Latest,
            2 => Self::LastStable,
            3 => Self::LogEnd,
            4 => Self::MaxTimestamp,
            5 => Self::At(Timestamp::decode(input, version)?),
            other => {
                return Err(DecodeError::Invalid {
                    what: "OffsetSpec",
                    value: other.into(),
                });
            }
        })
    }
}

#[cfg(test)]
impl crate::sample::Sample for OffsetSpec {
    fn sample(source: &mut crate::sample::Source) -> Self {
        let at = Self::At(crate::sample::Sample::sample(source));
        *source.one_of(&[
            Self::Earliest,
            Self::Latest,
            Self::LastStable,
            Self::LogEnd,
            Self::MaxTimestamp,
            at,
        ])
    }
}

wire_struct! {
    /// Asks for offsets.
    pub struct ListOffsetsRequest {
        /// By topic.
        pub topics: Vec<ListOffsetsTopic>;
    }
}

wire_struct! {
    /// Asks in one topic.
    pub struct ListOffsetsTopic {
        /// The topic.
        pub topic_id: TopicId;
        /// By partition.
        pub partitions: Vec<ListOffsetsPartition>;
    }
}

wire_struct! {
    /// Asks in one partition.
    pub struct ListOffsetsPartition {
        /// The partition.
        pub partition: PartitionId;
        /// The leader epoch that the client knows, checked when given.
        pub leader_epoch: Option<LeaderEpoch>;
        /// Which offset.
        pub spec: OffsetSpec;
    }
}

wire_struct! {
    /// The offsets.
    pub struct ListOffsetsResponse {
        /// In the order of the request.
        pub topics: Vec<ListOffsetsTopicResult>;
    }
}

wire_struct! {
    /// One topic's offsets.
    pub struct ListOffsetsTopicResult {
        /// The topic.
        pub topic_id: TopicId;
        /// In the order of the request.
        pub partitions: Vec<ListOffsetsPartitionResult>;
    }
}

wire_struct! {
    /// One partition's offset.
    pub struct ListOffsetsPartitionResult {
        /// The partition.
        pub partition: PartitionId;
        /// Success or why not.
        pub error: ErrorCode;
        /// The error in words.
        pub message: Option<String>;
        /// The offset; `None` on error, and where no record is at or after the time asked for.
        pub offset: Option<Offset>;
        /// Timestamp of the record there, for `MaxTimestamp` and `At`.
        pub timestamp: Option<Timestamp>;
        /// The partition's leader epoch.
        pub leader_epoch: LeaderEpoch;
    }
}
