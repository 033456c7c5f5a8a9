//! One error type per family of operations, with the numbers that explain each.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_protocol::ids::{LeaderEpoch, Offset};
use highwater_protocol::record_batch::BatchError;
use thiserror::Error;

use crate::producer_state::SequenceError;

/// An input or output operation that failed, and on what.
#[derive(Debug, Error)]
#[error("cannot {action} {path}: {source}")]
pub struct IoError {
    /// What was being done, as a verb: "sync", "create".
    pub action: &'static str,
    /// On which file or directory.
    pub path: PathBuf,
    /// The answer of the operating system.
    #[source]
    pub source: io::Error,
}

impl IoError {
    /// Wraps an error of the operating system; made to be used with `map_err`.
    pub(crate) fn on<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// Whether the disk, or the quota on it, is full. Goes away when space is made.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        is_disk_full(&self.source)
    }
}

impl IoError {
    /// Whether the process or the machine was short of something while a file was being opened: the
    /// operation was not tried, so nothing is known to have failed.
    pub(crate) fn is_shortage(&self) -> bool {
        matches!(
            self.source.raw_os_error(),
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)
        )
    }
}

/// Whether the answer means that there is no space left.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// Why a log takes no more appends until it is opened again.
#[derive(Debug, Error)]
pub enum OfflineReason {
    /// A sync failed. What it should have made durable may be lost although it can still be read;
    /// a second sync would report success and prove nothing, so none is tried.
    #[error("a sync failed and is never retried: {0}")]
    SyncFailed(#[source] IoError),
    /// The files are in a state that this process cannot repair by itself.
    #[error("an operation failed half-way: {0}")]
    Io(#[source] IoError),
    /// Damage was found in what had been durable.
    #[error("{0}")]
    Damaged(#[source] Damage),
    /// The log was deleted.
    #[error("the log was deleted")]
    Deleted,
    /// The log was set aside; another one takes its place.
    #[error("the log was set aside")]
    SetAside,
    /// The engine was closed.
    #[error("the storage engine was closed")]
    Closed,
}

/// Bytes that had been durable are not what they were. Nothing is cut or deleted because of it.
#[derive(Debug, Error)]
#[error("damaged below the recovery point {recovery_point}: {file} at byte {position}: {kind}")]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub position: u64,
    /// The offset expected at that position.
    pub offset: Offset,
    /// Everything before this offset had been synced.
    pub recovery_point: Offset,
    /// What is wrong.
    #[source]
    pub kind: DamageKind,
}

/// What is wrong with a batch or a file.
#[derive(Debug, Error)]
pub enum DamageKind {
    /// The batch does not verify.
    #[error("{0}")]
    Batch(#[source] BatchError),
    /// The batch carries another offset than the one that follows from its predecessor.
    #[error("the batch has base offset {found} where {expected} follows")]
    OffsetGap {
        /// Next offset after the batch before.
        expected: Offset,
        /// Base offset of the batch found.
        found: Offset,
    },
    /// The batch is of an older leader epoch than its predecessor.
    #[error("the batch has leader epoch {found} after {previous}")]
    EpochWentBack {
        /// Epoch of the batch before.
        previous: LeaderEpoch,
        /// Epoch of the batch found.
        found: LeaderEpoch,
    },
    /// The batch carries no leader epoch.
    #[error("the batch has no leader epoch")]
    EpochMissing,
    /// The file ends before the bytes that it must hold.
    #[error("the file has {found} bytes where {expected} had been synced")]
    FileTooShort {
        /// Bytes it must have.
        expected: u64,
        /// Bytes it has.
        found: u64,
    },
    /// A segment that must exist does not.
    #[error("the segment that holds offset {expected} is missing")]
    SegmentMissing {
        /// First missing offset.
        expected: Offset,
    },
    /// The checksum of the whole file is another one than when it was sealed.
    #[error("the file has checksum {found:08x} where {expected:08x} was sealed")]
    SealChecksum {
        /// As sealed.
        expected: u32,
        /// As found.
        found: u32,
    },
    /// A small file without which the log cannot be understood is not valid.
    #[error("{0}")]
    SmallFile(#[source] crate::small_file::SmallFileError),
    /// The bytes cannot be read from the disk.
    #[error("unreadable: {0}")]
    Unreadable(#[source] io::Error),
}

/// Failure of an append. Nothing of the call was appended.
#[derive(Debug, Error)]
pub enum AppendError {
    /// No space is left on the disk. Retriable: appends succeed again when space is made.
    #[error("disk full: {path} needs {bytes} more bytes")]
    DiskFull {
        /// The file that could not grow.
        path: PathBuf,
        /// How many bytes were asked for.
        bytes: u64,
    },
    /// The log is offline until it is opened again.
    #[error("the log is offline: {reason}")]
    Offline {
        /// Why.
        reason: Arc<OfflineReason>,
    },
    /// The bytes are not whole, valid batches.
    #[error("not a sequence of whole record batches: {0}")]
    Batch(#[from] BatchError),
    /// There is no batch in the call.
    #[error("there is no batch to append")]
    Empty,
    /// A replicated batch does not start where the log ends.
    #[error("the batch starts at offset {found} but the log ends at {expected}")]
    NotContiguous {
        /// End of the log, or of the batch before.
        expected: Offset,
        /// Base offset of the batch.
        found: Offset,
    },
    /// The batch is of an older leader epoch than the last one in the log.
    #[error("the batch has leader epoch {found} but the log is at {latest}")]
    EpochWentBack {
        /// Latest epoch of the log.
        latest: LeaderEpoch,
        /// Epoch of the batch.
        found: LeaderEpoch,
    },
    /// A replicated batch without leader epoch.
    #[error("the batch has no leader epoch")]
    EpochMissing,
    /// More bytes in one call than a segment can ever hold.
    #[error("{bytes} bytes in one append are more than the {bytes_max} that fit in a segment")]
    TooLarge {
        /// Size of the call.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The space of offsets is used up.
    #[error("the log has no more offsets")]
    OffsetsExhausted,
    /// The sequence numbers of an idempotent producer say that it must not be appended.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// A file operation failed; the log stays as it was.
    #[error(transparent)]
    Io(IoError),
}

impl AppendError {
    /// Whether the same append may succeed later without anybody repairing the log.
    #[must_use]
    pub const fn is_retriable(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }
}

/// Failure of a read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The offset is not in the log.
    #[error("offset {requested} is outside of the log, which holds {start}..{end}")]
    OutOfRange {
        /// As asked for.
        requested: Offset,
        /// First offset of the log.
        start: Offset,
        /// End of the log, exclusive.
        end: Offset,
    },
    /// The log is offline.
    #[error("the log is offline: {0}")]
    Offline(Arc<OfflineReason>),
    /// The disk did not give the bytes.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The bytes on the disk are not what was written.
    #[error(transparent)]
    Damaged(#[from] Damage),
}

/// Failure of an operation on a log or on the data directory.
#[derive(Debug, Error)]
pub enum StorageError {
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The log is offline.
    #[error("the log is offline: {0}")]
    Offline(Arc<OfflineReason>),
    /// A log of this partition exists already.
    #[error("a log exists already at {path}")]
    AlreadyExists {
        /// Its directory.
        path: PathBuf,
    },
    /// There is no log of this partition.
    #[error("there is no log at {path}")]
    NotFound {
        /// Where it would be.
        path: PathBuf,
    },
    /// The offset is not in the log.
    #[error("offset {requested} is outside of the log, which holds {start}..{end}")]
    OutOfRange {
        /// As asked for.
        requested: Offset,
        /// First offset of the log.
        start: Offset,
        /// End of the log, exclusive.
        end: Offset,
    },
    /// An epoch older than the latest one.
    #[error("leader epoch {found} is older than {latest}, the latest of the log")]
    EpochWentBack {
        /// Latest epoch of the log.
        latest: LeaderEpoch,
        /// The refused one.
        found: LeaderEpoch,
    },
}

impl StorageError {
    /// Whether the disk is full: the operation may be repeated when space was made.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io(error) if error.is_disk_full())
    }
}

/// Why a data directory or one log in it could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process works on the directory.
    #[error("{path} is in use by another process")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// What had been durable is damaged. The files were left as they are.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The caller does not know this partition. Its files were left as they are.
    #[error("{path} belongs to no known partition; it was left as it is")]
    Unknown {
        /// The directory.
        path: PathBuf,
    },
    /// The file that names the partition is missing or unreadable.
    #[error("{path}: {reason}")]
    PartitionMeta {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The directory was written by a newer version, or is none of ours.
    #[error("{path}: {reason}")]
    Identity {
        /// The file that identifies the directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}
