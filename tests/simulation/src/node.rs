//! A machine: its disk and clock, and the process that runs there now.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use highwater_coordination::broker_registry::BrokerRegistry;
use highwater_coordination::cluster_image::ClusterImage;
use highwater_coordination::controller::HeartbeatOutcome;
use highwater_coordination::partition_follower::Ask;
use highwater_protocol::ids::{BrokerEpoch, IncarnationId, LeaderEpoch, NodeId};
use highwater_protocol::messages::{
    AlterPartitionRequest, AlterPartitionResponse, BrokerHeartbeatRequest, BrokerHeartbeatResponse,
    IsrProposal, RegisterBrokerRequest, RegisterBrokerResponse,
};
use highwater_storage::sim_disk::SimDisk;
use highwater_storage::{Background, Engine, EngineOptions, Log, PartitionMeta};

use crate::clock::Clock;
use crate::message::Key;
use crate::quorum::Leadership;
use crate::replica::Replica;

/// Where a broker's logs are.
pub(crate) const DATA: &str = "/data";

/// See the module.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) disk: SimDisk,
    pub(crate) clock: Clock,
    /// How many processes there have been.
    pub(crate) life: u64,
    pub(crate) process: Option<Process>,
    /// The process stands still until then.
    pub(crate) paused_until: u64,
    /// The metadata that survives a restart.
    pub(crate) index: usize,
}

/// A replica on a broker, if it can be used.
#[derive(Debug)]
pub(crate) enum Hosted {
    Online(Replica),
    Offline,
}

/// A directory that was found at the start.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) meta: PartitionMeta,
    pub(crate) log: Option<Arc<Log>>,
}

/// What a broker wants of the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Serve,
    Stop,
}

/// A fetch that waits for its answer.
#[derive(Debug)]
pub(crate) struct Fetching {
    pub(crate) call: u64,
    pub(crate) asked: Vec<(Key, Ask)>,
}

/// Proposals that wait for their answer.
#[derive(Debug)]
pub(crate) struct Altering {
    pub(crate) call: u64,
    pub(crate) request: AlterPartitionRequest,
    pub(crate) sent: Vec<(Key, IsrProposal)>,
}

/// A heartbeat's answer that counts once the metadata is applied up to it.
#[derive(Debug)]
pub(crate) struct Renewal {
    pub(crate) sent_ms: u64,
    pub(crate) answer: BrokerHeartbeatResponse,
}

/// What waits for the controller's turn.
#[derive(Debug, Clone)]
pub(crate) enum Turn {
    Register {
        from: usize,
        life: u64,
        call: u64,
        request: RegisterBrokerRequest,
    },
    Heartbeat {
        from: usize,
        life: u64,
        call: u64,
        request: BrokerHeartbeatRequest,
        heard_ms: u64,
    },
    Alter {
        from: usize,
        life: u64,
        call: u64,
        request: AlterPartitionRequest,
    },
    Fence(NodeId),
    Operator(Operation),
}

/// What a turn came to.
#[derive(Debug)]
pub(crate) enum Reply {
    Registered(RegisterBrokerResponse),
    Heard(HeartbeatOutcome),
    Altered(AlterPartitionResponse),
    Fenced(bool),
    Nothing,
}

/// What an operator asks for.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Create {
        number: usize,
    },
    Move {
        key: Key,
        target: Option<Vec<NodeId>>,
    },
    Minimum {
        topic: String,
        isr_min: u16,
    },
    Elect {
        key: Key,
        node: NodeId,
    },
    Drain {
        node: NodeId,
        drain: bool,
    },
    Unclean {
        key: Key,
    },
}

/// A process that is, or believes to be, the controller.
#[derive(Debug)]
pub(crate) struct ControllerTerm {
    pub(crate) leadership: Leadership,
    pub(crate) registry: BrokerRegistry,
    pub(crate) turns: VecDeque<Turn>,
    /// Whose turn it is while its decision is made durable.
    pub(crate) busy: Option<(u64, Turn, Reply)>,
    /// It was replaced and does not know: the image that it still answers from.
    pub(crate) ended_at: Option<usize>,
    pub(crate) idle_since_ms: u64,
}

/// A broker's process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) life: u64,
    pub(crate) engine: Arc<Engine>,
    /// Its registration, once it has one.
    pub(crate) broker_epoch: Option<BrokerEpoch>,
    /// What was found at the start, until it is taken in.
    pub(crate) opened: Option<Vec<Opened>>,
    pub(crate) registering: Option<(u64, RegisterBrokerRequest)>,
    /// It is registered, and is in step with the metadata from there on.
    pub(crate) registered_at: Option<(BrokerEpoch, usize)>,
    /// The metadata that its replicas are in line with.
    pub(crate) index: usize,
    pub(crate) image: Arc<ClusterImage>,
    pub(crate) replicas: BTreeMap<Key, Hosted>,
    pub(crate) strays: Vec<PartitionMeta>,
    /// Replicas that cannot be used, and the leader epoch in which that was noticed.
    pub(crate) unused: BTreeMap<Key, LeaderEpoch>,
    pub(crate) lease_until_ms: u64,
    pub(crate) renewal: Option<Renewal>,
    pub(crate) wish: Wish,
    pub(crate) may_stop: bool,
    /// Another life was registered.
    pub(crate) is_over: bool,
    pub(crate) heartbeat: Option<(u64, u64)>,
    pub(crate) fetching: BTreeMap<usize, Fetching>,
    /// Partitions whose leader may have something to propose.
    pub(crate) proposals: BTreeSet<Key>,
    pub(crate) altering: Option<Altering>,
    pub(crate) is_disk_busy: bool,
    pub(crate) controller: Option<ControllerTerm>,
    /// The disk stops at this operation, and with it the machine.
    pub(crate) power_ends_at: Option<u64>,
}

impl Node {
    pub(crate) fn engine_options(&self) -> EngineOptions {
        EngineOptions {
            disk: Arc::new(self.disk.clone()),
            background: Background::Manual,
            allocation_bytes_min: 4096,
            allocation_bytes_max: 8192,
            producer_snapshot_bytes: 3000,
            mapped_segments_max: 4,
            ..EngineOptions::default()
        }
    }

    pub(crate) fn data() -> &'static Path {
        Path::new(DATA)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// The registered life, if its process runs.
    pub(crate) fn broker_epoch(&self) -> Option<BrokerEpoch> {
        self.process
            .as_ref()
            .and_then(|process| process.broker_epoch)
    }
}

impl Process {
    pub(crate) fn new(
        life: u64,
        engine: Arc<Engine>,
        index: usize,
        image: Arc<ClusterImage>,
    ) -> Self {
        Self {
            life,
            engine,
            broker_epoch: None,
            opened: None,
            registering: None,
            registered_at: None,
            index,
            image,
            replicas: BTreeMap::new(),
            strays: Vec::new(),
            unused: BTreeMap::new(),
            lease_until_ms: 0,
            renewal: None,
            wish: Wish::Serve,
            may_stop: false,
            is_over: false,
            heartbeat: None,
            fetching: BTreeMap::new(),
            proposals: BTreeSet::new(),
            altering: None,
            is_disk_busy: false,
            controller: None,
            power_ends_at: None,
        }
    }

    pub(crate) fn online(&mut self, key: Key) -> Option<&mut Replica> {
        match self.replicas.get_mut(&key) {
            Some(Hosted::Online(replica)) => Some(replica),
            Some(Hosted::Offline) | None => None,
        }
    }

    /// Replicas that cannot be used.
    pub(crate) fn offline(&self) -> Vec<Key> {
        let offline = self.replicas.iter().filter(|(_, hosted)| match hosted {
            Hosted::Online(replica) => replica.is_offline(),
            Hosted::Offline => true,
        });
        offline.map(|(key, _)| *key).collect()
    }
}

/// The id of a node by its number.
pub(crate) fn node_id(node: usize) -> NodeId {
    NodeId::new(node as u32 + 1)
}

/// The number of a node by its id.
pub(crate) fn number_of(node: NodeId) -> usize {
    node.get() as usize - 1
}

/// A life's own name.
pub(crate) fn incarnation(node: usize, life: u64) -> IncarnationId {
    IncarnationId::from_bytes(((node as u128 + 1) << 64 | u128::from(life)).to_be_bytes())
}
