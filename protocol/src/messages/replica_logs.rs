//! ReplicaLogs: how far the logs of replicas go, asked by the controller before an unclean election.

use crate::codec::wire_struct;
use crate::error_code::ErrorCode;
use crate::ids::{BrokerEpoch, LeaderEpoch, Offset, PartitionId, TopicId};

use super::PartitionsOfTopic;

wire_struct! {
    /// Asks about logs.
    pub struct ReplicaLogsRequest {
        /// Which.
        pub topics: Vec<PartitionsOfTopic>;
    }
}

wire_struct! {
    /// How far they go.
    pub struct ReplicaLogsResponse {
        /// The registration of the broker that answers.
        pub broker_epoch: BrokerEpoch;
        /// In the order of the request.
        pub logs: Vec<ReplicaLog>;
    }
}

wire_struct! {
    /// How far a log goes.
    pub struct ReplicaLog {
        /// The topic.
        pub topic_id: TopicId;
        /// The partition.
        pub partition: PartitionId;
        /// Success, or why there is nothing to say.
        pub error: ErrorCode;
        /// Epoch of the last batch.
        pub last_epoch: Option<LeaderEpoch>;
        /// End of the log.
        pub end: Offset;
        /// Everything below is committed, as far as this replica knows.
        pub high_watermark: Offset;
    }
}
