//! Balance: moving replicas so that every node has its share; and what healing is doing.

use crate::codec::{wire_enum, wire_struct};
use crate::ids::{NodeId, PartitionId};

wire_enum! {
    /// What to do.
    pub enum BalanceAction {
        /// Show which moves would be made.
        Plan = 0,
        /// Make them.
        Run = 1,
        /// Show what is under way.
        Status = 2,
        /// Give up every move that balancing began.
        Cancel = 3,
    }
}

wire_enum! {
    /// Why a replica moves.
    pub enum MoveReason {
        /// An operator asked for it.
        Operator = 0,
        /// The nodes shall have their share.
        Balance = 1,
        /// A node is gone for too long.
        Heal = 2,
        /// A node is drained.
        Drain = 3,
    }
}

wire_struct! {
    /// Plans, runs, shows or cancels.
    pub struct BalanceRequest {
        /// What to do.
        pub action: BalanceAction;
    }
}

wire_struct! {
    /// The plan, or what is under way.
    pub struct BalanceResponse {
        /// The moves: planned ones for `Plan` and `Run`, those under way otherwise.
        pub moves: Vec<PlannedMove>;
        /// Moves that are to be made and wait for their turn.
        pub waiting: u32;
        /// Why nothing is moved at present, if so: safe mode, or a full disk.
        pub paused: Option<String>;
        /// Nodes that are gone and will be healed, with the time left until then.
        pub absent: Vec<AbsentNode>;
    }
}

wire_struct! {
    /// A move of one partition.
    pub struct PlannedMove {
        /// The topic.
        pub topic: String;
        /// The partition.
        pub partition: PartitionId;
        /// Replicas now.
        pub from: Vec<NodeId>;
        /// Replicas afterwards.
        pub to: Vec<NodeId>;
        /// Why.
        pub reason: MoveReason;
    }
}

wire_struct! {
    /// A node that is gone.
    pub struct AbsentNode {
        /// The node.
        pub node_id: NodeId;
        /// Its replicas.
        pub replicas: u32;
        /// Until they are rebuilt elsewhere, in ms; `None`: they will not be.
        pub heals_in_ms: Option<u64>;
    }
}
