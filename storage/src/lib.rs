//! Bytes on disk: the logs of a broker, in memory-mapped segment files.
//!
//! Synchronous, without network and without a clock: times are passed in. It knows offsets, batches
//! and files; it does not know brokers, replicas or protocols. `docs/STORAGE.md` has the formats to
//! the byte and the rules with the tests that hold them.
//!
//! - `engine` a data directory with its logs; `background` its threads; `identity` who it is,
//!   `session` how its last life ended, `set_aside` logs that are kept and not used
//! - `log` one partition; `append` and `room` for it, `read`, `flush`, `trim`, `restart` the other
//!   operations on it; `retention` what to delete, as a pure function
//! - `segment` one file of batches; `tail` how it grows; `map` its memory, with all `unsafe`
//! - `offset_index`, `time_index`, `seal`, `checkpoint`, `epoch_checkpoint`, `producer_snapshot`,
//!   `partition_meta` the other files; `small_file` how small ones are replaced, `durable_file` that
//!   for others; `layout` names
//! - `producer_state` idempotent producers, as a pure state machine; `producer_tracking` keeps it with a
//!   log
//! - `recovery` opening after a crash, `scan` verifying batches, `verify` and `scrub` later
//! - `fuzzing` what must hold of any bytes in these files
//! - `disk` the seam to the file system, `sim_disk` one that loses power; `mutant` rules broken on purpose

mod append;
mod background;
pub mod checkpoint;
pub mod disk;
pub mod durable_file;
mod engine;
mod epoch_checkpoint;
mod error;
mod flush;
pub mod fuzzing;
mod identity;
pub mod layout;
mod log;
pub mod map;
pub mod mutant;
mod offset_index;
mod options;
mod parallel;
mod partition_meta;
mod producer_snapshot;
pub mod producer_state;
mod producer_tracking;
mod read;
mod recovery;
mod restart;
pub mod retention;
mod room;
mod scan;
mod scrub;
mod seal;
mod segment;
mod session;
mod set_aside;
pub mod sim_disk;
mod small_file;
mod stats;
mod tail;
mod time_index;
mod trim;
mod verify;

pub use append::Appended;
pub use background::DurableCallback;
pub use engine::{Engine, OpenResult, OpenedLog, RecoveryProgress};
pub use epoch_checkpoint::{EpochCache, EpochEnd};
pub use error::{
    AppendError, Damage, DamageKind, IoError, OfflineReason, OpenError, ReadError, StorageError,
};
pub use log::{Log, LogHealth};
pub use options::{Background, Durability, EngineOptions, LogOptions};
pub use partition_meta::PartitionMeta;
pub use producer_state::SequenceError;
pub use producer_tracking::IdempotentAppend;
pub use read::ReadSlice;
pub use recovery::RecoveryReport;
pub use scrub::{ScrubNext, ScrubRound, ScrubStep, SealedSegment, SegmentKey, SegmentScrub};
pub use seal::Seal;
pub use session::{Doubt, LifeEnd, SessionEvidence};
pub use small_file::SmallFileError;
pub use stats::{EngineStats, SYNC_LATENCY_BOUNDS_US};
pub use trim::RetentionOutcome;

#[cfg(test)]
mod model_tests;
