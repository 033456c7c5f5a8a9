//! The APIs and the versions of each that this build speaks.

use std::fmt;

use crate::codec::{ApiVersion, Wire};
use crate::messages as m;

/// A request's body: ties an API to its response.
pub trait Request: Wire + fmt::Debug + PartialEq {
    /// Which API it belongs to.
    const API: ApiKey;
    /// What answers it.
    type Response: Wire + fmt::Debug + PartialEq;
}

/// Something to do with the types of an API that is known only by its number.
pub(crate) trait ApiVisitor {
    /// What comes out.
    type Output;
    /// Does it.
    fn visit<R: Request>(self) -> Self::Output;
}

macro_rules! apis {
    ($( $(#[$doc:meta])* $name:ident = $key:literal, versions $min:literal ..= $max:literal, $request:ty => $response:ty; )*) => {
        /// What a request asks for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ApiKey { $( $(#[$doc])* $name, )* }

        impl ApiKey {
            /// Every API, in the order of its number.
            pub const ALL: &[Self] = &[$( Self::$name, )*];

            /// The number on the wire.
            #[must_use]
            pub const fn code(self) -> u16 {
                match self { $( Self::$name => $key, )* }
            }

            /// From the number on the wire.
            #[must_use]
            pub const fn from_code(code: u16) -> Option<Self> {
                match code { $( $key => Some(Self::$name), )* _ => None }
            }

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$name => stringify!($name), )* }
            }

            /// Lowest and highest version that this build speaks.
            #[must_use]
            pub const fn versions(self) -> (ApiVersion, ApiVersion) {
                match self { $( Self::$name => (ApiVersion($min), ApiVersion($max)), )* }
            }

            /// Calls the visitor with the types of this API.
            pub(crate) fn visit<V: ApiVisitor>(self, visitor: V) -> V::Output {
                match self { $( Self::$name => visitor.visit::<$request>(), )* }
            }

            /// Calls the visitor with the types of this API.
            #[cfg(test)]
            pub(crate) fn visit_sampled<V: crate::sample::SampledVisitor>(self, visitor: V) {
                match self { $( Self::$name => visitor.visit::<$request>(), )* }
            }
        }

        impl fmt::Display for ApiKey {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        $( impl Request for $request {
            const API: ApiKey = ApiKey::$name;
            type Response = $response;
        } )*
    };
}

apis! {
    /// First request of a connection: who are you, what do you speak.
    Hello = 0, versions 1..=1, m::HelloRequest => m::HelloResponse;
    /// Topics, partitions, leaders, brokers.
    Metadata = 1, versions 1..=1, m::MetadataRequest => m::MetadataResponse;
    /// Append record batches.
    Produce = 2, versions 1..=1, m::ProduceRequest => m::ProduceResponse;
    /// Read record batches, waiting for them if asked to.
    Fetch = 3, versions 1..=1, m::FetchRequest => m::FetchResponse;
    /// Offsets by position or by timestamp.
    ListOffsets = 4, versions 1..=1, m::ListOffsetsRequest => m::ListOffsetsResponse;
    /// Create topics.
    CreateTopics = 5, versions 1..=1, m::CreateTopicsRequest => m::CreateTopicsResponse;
    /// Delete topics.
    DeleteTopics = 6, versions 1..=1, m::DeleteTopicsRequest => m::DeleteTopicsResponse;
    /// Give topics more partitions.
    CreatePartitions = 7, versions 1..=1, m::CreatePartitionsRequest => m::CreatePartitionsResponse;
    /// Trim the start of partitions.
    DeleteRecords = 8, versions 1..=1, m::DeleteRecordsRequest => m::DeleteRecordsResponse;
    /// Settings of topics.
    DescribeConfigs = 9, versions 1..=1, m::DescribeConfigsRequest => m::DescribeConfigsResponse;
    /// Change settings of topics.
    AlterConfigs = 10, versions 1..=1, m::AlterConfigsRequest => m::AlterConfigsResponse;
    /// The cluster and its brokers.
    DescribeCluster = 11, versions 1..=1, m::DescribeClusterRequest => m::DescribeClusterResponse;
    /// A producer id, for sequence numbers that make retries harmless.
    InitProducerId = 12, versions 1..=1, m::InitProducerIdRequest => m::InitProducerIdResponse;

    /// Who is there: between brokers that form or look for a cluster. Allowed before Hello.
    Discover = 40, versions 1..=1, m::DiscoverRequest => m::DiscoverResponse;
    /// A new node asks to become part of the cluster.
    JoinCluster = 41, versions 1..=1, m::JoinClusterRequest => m::JoinClusterResponse;
    /// A broker starts a life.
    RegisterBroker = 42, versions 1..=1, m::RegisterBrokerRequest => m::RegisterBrokerResponse;
    /// A broker is alive, and renews its lease.
    BrokerHeartbeat = 43, versions 1..=1, m::BrokerHeartbeatRequest => m::BrokerHeartbeatResponse;
    /// A leader proposes other in-sync replicas.
    AlterPartition = 44, versions 1..=1, m::AlterPartitionRequest => m::AlterPartitionResponse;
    /// A broker asks for producer ids to give out.
    AllocateProducerIds = 45, versions 1..=1, m::AllocateProducerIdsRequest => m::AllocateProducerIdsResponse;
    /// Raft: entries of the metadata log, or a heartbeat of its leader.
    RaftAppend = 46, versions 1..=1, m::RaftAppendRequest => m::RaftAppendResponse;
    /// Raft: a candidate asks for a vote.
    RaftVote = 47, versions 1..=1, m::RaftVoteRequest => m::RaftVoteResponse;
    /// Raft: a part of a snapshot of the metadata.
    RaftSnapshot = 48, versions 1..=1, m::RaftSnapshotRequest => m::RaftSnapshotResponse;
    /// Raft: which leader a voter knows, asked before an election, without any vote.
    RaftProbe = 49, versions 1..=1, m::RaftProbeRequest => m::RaftProbeResponse;
    /// How far the logs of replicas go, before an unclean election.
    ReplicaLogs = 50, versions 1..=1, m::ReplicaLogsRequest => m::ReplicaLogsResponse;

    /// The metadata quorum: voters, learners, how far each is.
    DescribeQuorum = 60, versions 1..=1, m::DescribeQuorumRequest => m::DescribeQuorumResponse;
    /// Changes who votes in the metadata quorum.
    AlterVoters = 61, versions 1..=1, m::AlterVotersRequest => m::AlterVotersResponse;
    /// Moves everything off a node, or ends that.
    DrainNode = 62, versions 1..=1, m::DrainNodeRequest => m::DrainNodeResponse;
    /// Takes a node out of the cluster for ever.
    RemoveNode = 63, versions 1..=1, m::RemoveNodeRequest => m::RemoveNodeResponse;
    /// Moves replicas of partitions to other nodes, or gives that up.
    MoveReplicas = 64, versions 1..=1, m::MoveReplicasRequest => m::MoveReplicasResponse;
    /// Elects leaders of partitions.
    ElectLeaders = 65, versions 1..=1, m::ElectLeadersRequest => m::ElectLeadersResponse;
    /// Plans, runs, shows or cancels balancing; shows healing.
    Balance = 66, versions 1..=1, m::BalanceRequest => m::BalanceResponse;
}
