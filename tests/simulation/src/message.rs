//! What goes over the network.

use bytes::Bytes;
use highwater_coordination::partition_leader::FollowerFetch;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{Offset, PartitionId, TopicId};
use highwater_protocol::messages::{
    Acks, AlterPartitionRequest, AlterPartitionResponse, BrokerHeartbeatRequest,
    BrokerHeartbeatResponse, FetchPartitionResult, RegisterBrokerRequest, RegisterBrokerResponse,
};

/// A partition.
pub(crate) type Key = (TopicId, PartitionId);

/// Clients have addresses from here on, brokers those below.
pub(crate) const CLIENTS: usize = 100;

/// A message on its way.
#[derive(Debug, Clone)]
pub(crate) struct Envelope {
    pub(crate) from: usize,
    /// The life of the process that sent it.
    pub(crate) from_life: u64,
    pub(crate) to: usize,
    /// An answer is for the life that asked; a request is for whoever is there.
    pub(crate) to_life: Option<u64>,
    /// Which call it belongs to.
    pub(crate) call: u64,
    pub(crate) body: Message,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    Fetch {
        wants: Vec<(Key, FollowerFetch)>,
    },
    Fetched {
        results: Vec<(Key, FetchPartitionResult)>,
    },
    Register(RegisterBrokerRequest),
    Registered(Result<RegisterBrokerResponse, ErrorCode>),
    Heartbeat(BrokerHeartbeatRequest),
    Heard(Result<BrokerHeartbeatResponse, ErrorCode>),
    Alter(AlterPartitionRequest),
    Altered(Result<AlterPartitionResponse, ErrorCode>),
    Produce {
        key: Key,
        acks: Acks,
        batch: Bytes,
    },
    Produced(Result<Option<Offset>, ErrorCode>),
    Read {
        key: Key,
        offset: Offset,
    },
    /// Records, and the end that was told.
    Records(Result<(Bytes, Offset), ErrorCode>),
}

impl Message {
    /// For the trace.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Fetch { wants } if wants.iter().any(|(_, fetch)| fetch.is_report) => "report",
            Self::Fetch { .. } => "fetch",
            Self::Fetched { .. } => "fetched",
            Self::Register(_) => "register",
            Self::Registered(_) => "registered",
            Self::Heartbeat(_) => "heartbeat",
            Self::Heard(_) => "heard",
            Self::Alter(_) => "alter",
            Self::Altered(_) => "altered",
            Self::Produce { .. } => "produce",
            Self::Produced(_) => "produced",
            Self::Read { .. } => "read",
            Self::Records(_) => "records",
        }
    }
}
