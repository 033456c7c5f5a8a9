//! What is noted while a cluster is used: one event for each thing that a client asked and was told.
//!
//! All times are of one monotonic clock. An operation may have taken effect at any moment from its
//! `invoke` on; one that is *ok* had taken effect by its `complete`, one that *failed* never does, and
//! of one that is *info* nothing is known: its effect may come at any time, or never.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::value::{Seen, ValueId};

/// A moment of a history, in ns since it began.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Moment(u64);

impl Moment {
    /// So many ns after the beginning.
    #[must_use]
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// In ns since the beginning.
    #[must_use]
    pub const fn ns(self) -> u64 {
        self.0
    }

    /// How long after an earlier moment; zero if it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// So much later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(ns))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}s", Duration::from_nanos(self.0).as_secs_f64())
    }
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It was done.
    Ok,
    /// It was not done and never will be.
    Fail,
    /// Nobody knows: a timeout, a lost connection.
    Info,
}

/// What a producer's acknowledgement means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AckLevel {
    /// Nothing: there is none.
    None,
    /// The leader has it.
    Leader,
    /// It is committed.
    All,
}

/// What the cluster has promised for this workload, so what may be asked of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Of the producers. Only `all` promises that acknowledged records stay.
    pub acks: AckLevel,
    /// Whether the producers are idempotent: then nothing is there twice, and in the order sent.
    pub idempotent: bool,
    /// For how long, in ms, a broker may show an end of a partition that others have moved on. 0:
    /// never, as leases promise where leaders change only because they fail. While a leader hands over
    /// in order, some ms are allowed.
    pub stale_ms_max: u64,
    /// How long after all faults are lifted every partition must be whole again, in ms.
    pub heal_ms_max: u64,
    /// Fewer acknowledged records than this prove nothing.
    pub acked_min: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            acks: AckLevel::All,
            idempotent: true,
            stale_ms_max: 0,
            heal_ms_max: 60_000,
            acked_min: 100,
        }
    }
}

/// What a history is of: its first line on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the format: [`Header::VERSION`].
    pub history: u32,
    /// The topic.
    pub topic: String,
    /// Its partitions.
    pub partitions: u32,
    /// What may be asked of it.
    pub rules: Rules,
    /// Kinds of faults that were asked for: a run in which one of them never happened shows nothing.
    #[serde(default)]
    pub faults_wanted: Vec<String>,
}

impl Header {
    /// The version that this crate writes and reads.
    pub const VERSION: u32 = 1;
}

/// Why a reader asked for records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// To follow the partition, poll after poll.
    Follow,
    /// To find out where it ends.
    Tail,
    /// To read all of it after the workload.
    Final,
}

/// Which end of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The first offset that is there.
    Earliest,
    /// The end for readers: the high watermark.
    Latest,
}

/// Part of the life of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It is there.
    Installed,
    /// It is lifted.
    Healed,
}

/// What was asked and what was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// A record was sent.
    Send {
        /// Where to.
        partition: u32,
        /// Its value.
        value: ValueId,
        /// Where it is, if that was told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offset: Option<u64>,
        /// Why it is not acknowledged.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// Records were read, or none.
    Poll {
        /// Of this partition.
        partition: u32,
        /// Why.
        purpose: Purpose,
        /// From here on.
        position: u64,
        /// Where the reader goes on.
        next: u64,
        /// Whether the reader chose the position itself instead of going on.
        #[serde(default, skip_serializing_if = "is_false")]
        seek: bool,
        /// The end for readers, as told with the records.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        high_watermark: Option<u64>,
        /// Of the leader that appended the records.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        leader_epoch: Option<u32>,
        /// Offsets and values.
        records: Vec<(u64, Seen)>,
    },
    /// An end of a partition was asked for.
    ListOffsets {
        /// The partition.
        partition: u32,
        /// Which end.
        bound: Bound,
        /// The answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offset: Option<u64>,
        /// Epoch of the leader that answered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        leader_epoch: Option<u32>,
    },
    /// Who has a partition was asked for.
    Describe {
        /// The partition.
        partition: u32,
        /// Who leads it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        leader: Option<u32>,
        /// Who shall have it.
        replicas: Vec<u32>,
        /// Who is in sync.
        isr: Vec<u32>,
    },
    /// Something was broken or mended.
    Fault {
        /// What: `kill`, `pause`.
        fault: String,
        /// To whom.
        target: String,
        /// Broken or mended.
        phase: Phase,
    },
    /// All faults are lifted: from its completion on, the cluster must heal.
    Settle,
    /// A partition was read from its first offset to its end; the records are in the polls of the same
    /// process.
    FinalRead {
        /// The partition.
        partition: u32,
        /// Its first offset.
        start: u64,
        /// Its high watermark when the reading began.
        end: u64,
    },
    /// The history is complete: every operation that was begun is in it.
    End,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// One operation of one process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Who asked.
    pub process: String,
    /// When.
    pub invoke: Moment,
    /// When the answer came.
    pub complete: Moment,
    /// How it ended.
    pub kind: Kind,
    /// What it was.
    pub op: Op,
}
