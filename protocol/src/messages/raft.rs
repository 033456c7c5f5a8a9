//! The messages of Raft, by which the voters of the metadata quorum agree.
//!
//! Every request names the node that it is meant for: a message that reaches another node, because an
//! address was given to a new process, must not be taken for one of its own.

use bytes::Bytes;

use crate::codec::{wire_enum, wire_struct};
use crate::ids::NodeId;

wire_struct! {
    /// Names an entry of the metadata log.
    pub struct RaftLogId {
        /// Term of the leader that appended it.
        pub term: u64;
        /// That leader.
        pub node: NodeId;
        /// Position in the log.
        pub index: u64;
    }
}

wire_struct! {
    /// Whom a node has voted for, or follows.
    pub struct RaftBallot {
        /// The term.
        pub term: u64;
        /// The candidate or leader.
        pub node: NodeId;
        /// A quorum has granted it: the node is leader.
        pub committed: bool;
    }
}

wire_enum! {
    /// What an entry holds.
    pub enum RaftEntryKind {
        /// Nothing: the first entry of a leader.
        Blank = 0,
        /// Metadata records.
        Records = 1,
        /// Another set of voters and learners.
        Membership = 2,
    }
}

wire_struct! {
    /// An entry of the metadata log.
    pub struct RaftEntry {
        /// Its name.
        pub id: RaftLogId;
        /// What it holds.
        pub kind: RaftEntryKind;
        /// A [`RaftRecords`] or a [`RaftMembership`], encoded.
        pub body: Bytes;
    }
}

wire_struct! {
    /// The records of one entry: all of them apply, or none.
    pub struct RaftRecords {
        /// The term in which they were decided. In an entry of another term they do not count: the
        /// state that they were decided on may not be the state that they meet.
        pub decided_in: u64;
        /// The records, each encoded.
        pub records: Vec<Bytes>;
    }
}

wire_struct! {
    /// Who votes and who only learns.
    pub struct RaftMembership {
        /// One set of voters, or two while the set changes.
        pub configs: Vec<RaftVoters>;
        /// Every node with its address.
        pub nodes: Vec<RaftNode>;
    }
}

wire_struct! {
    /// One set of voters.
    pub struct RaftVoters {
        /// The voters.
        pub voters: Vec<NodeId>;
    }
}

wire_struct! {
    /// A node and where it was when it joined.
    pub struct RaftNode {
        /// The node.
        pub node_id: NodeId;
        /// Host.
        pub host: String;
        /// Port.
        pub port: u16;
    }
}

wire_struct! {
    /// Entries, or none: then it is the leader's heartbeat.
    pub struct RaftAppendRequest {
        /// For whom.
        pub target: NodeId;
        /// The leader.
        pub ballot: RaftBallot;
        /// The entry before the first.
        pub previous: Option<RaftLogId>;
        /// The entries.
        pub entries: Vec<RaftEntry>;
        /// Everything up to this is committed.
        pub commit: Option<RaftLogId>;
    }
}

wire_enum! {
    /// What became of entries.
    pub enum RaftAppendOutcome {
        /// All are stored.
        Success = 0,
        /// Those up to `matched` are stored.
        Partial = 1,
        /// The entry before the first is another one here.
        Conflict = 2,
        /// A newer leader or candidate is known here.
        HigherBallot = 3,
    }
}

wire_struct! {
    /// What became of entries.
    pub struct RaftAppendResponse {
        /// What.
        pub outcome: RaftAppendOutcome;
        /// With `Partial`: the last that is stored.
        pub matched: Option<RaftLogId>;
        /// With `HigherBallot`: which.
        pub ballot: Option<RaftBallot>;
    }
}

wire_struct! {
    /// A candidate asks for a vote.
    pub struct RaftVoteRequest {
        /// For whom.
        pub target: NodeId;
        /// The candidate.
        pub ballot: RaftBallot;
        /// Its last entry.
        pub last: Option<RaftLogId>;
    }
}

wire_struct! {
    /// A vote.
    pub struct RaftVoteResponse {
        /// Whom the voter has voted for now.
        pub ballot: RaftBallot;
        /// Whether the candidate has the vote.
        pub granted: bool;
        /// The voter's last entry.
        pub last: Option<RaftLogId>;
    }
}

wire_struct! {
    /// A part of a snapshot.
    pub struct RaftSnapshotRequest {
        /// For whom.
        pub target: NodeId;
        /// The leader.
        pub ballot: RaftBallot;
        /// Names the snapshot.
        pub snapshot_id: String;
        /// The last entry that it contains.
        pub last: Option<RaftLogId>;
        /// The entry that set `membership`.
        pub membership_id: Option<RaftLogId>;
        /// The membership then.
        pub membership: RaftMembership;
        /// Where `data` begins in the snapshot.
        pub offset: u64;
        /// The part.
        pub data: Bytes;
        /// It is the last part.
        pub done: bool;
    }
}

wire_struct! {
    /// The part arrived.
    pub struct RaftSnapshotResponse {
        /// Whom the receiver follows; a higher one than the sender's ends the transfer.
        pub ballot: RaftBallot;
    }
}

wire_struct! {
    /// A voter that hears nothing of a leader asks around before it stands for election.
    pub struct RaftProbeRequest {
        /// For whom.
        pub target: NodeId;
        /// Who asks.
        pub from: NodeId;
    }
}

wire_struct! {
    /// What a voter knows.
    pub struct RaftProbeResponse {
        /// Its term.
        pub term: u64;
        /// The leader that it has heard of within an election timeout.
        pub leader: Option<NodeId>;
    }
}
