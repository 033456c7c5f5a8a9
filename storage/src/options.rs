//! What a caller may choose. Plain data: the broker converts its settings into these once.

use std::sync::Arc;

use crate::disk::{Disk, FsDisk};

/// When a byte counts as written on this replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When a sync of the file covered it. Syncs are shared by all who wait (group commit).
    #[default]
    Synced,
    /// When it lies in the page cache. It is synced in the background every
    /// [`LogOptions::flush_interval_ms`] or [`LogOptions::flush_bytes`].
    Replicated,
}

/// Options of one log. All of them can be changed while it is open ([`crate::Log::set_options`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// A segment is closed and the next one begun when it would grow past this.
    pub segment_bytes: u64,
    /// A segment is closed when its first batch was appended this long ago.
    pub segment_ms: i64,
    /// Bytes of batches between two entries of the offset index.
    pub index_interval_bytes: u32,
    /// Segments whose newest record is older than this are deleted; `None` keeps them for ever.
    pub retention_ms: Option<i64>,
    /// The oldest segments are deleted while the rest is at least this large; `None` keeps all.
    pub retention_bytes: Option<u64>,
    /// When a byte counts as written.
    pub durability: Durability,
    /// Nothing stays unsynced longer than about this, in either mode.
    pub flush_interval_ms: u64,
    /// A background sync is asked for when this many bytes are unsynced, in either mode. It also
    /// bounds what a start after a crash has to scan.
    pub flush_bytes: u64,
}

impl LogOptions {
    /// Smallest segment, in bytes.
    pub const SEGMENT_BYTES_MIN: u64 = 4096;
    /// Largest segment: positions in a file are 32 bits wide and half of that is kept in reserve
    /// for one large append.
    pub const SEGMENT_BYTES_MAX: u64 = 1 << 31;

    /// The segment size inside of its bounds.
    pub(crate) fn segment_bytes_bounded(&self) -> u64 {
        self.segment_bytes
            .clamp(Self::SEGMENT_BYTES_MIN, Self::SEGMENT_BYTES_MAX)
    }
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 256 << 20,
            segment_ms: 7 * 24 * 3600 * 1000,
            index_interval_bytes: 4096,
            retention_ms: Some(7 * 24 * 3600 * 1000),
            retention_bytes: None,
            durability: Durability::Synced,
            flush_interval_ms: 1000,
            flush_bytes: 64 << 20,
        }
    }
}

/// Whether the engine starts threads of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Background {
    /// Threads prepare space, sync, seal and delete.
    #[default]
    Threads,
    /// Nothing happens by itself: [`crate::Engine::run_pending`] does what the threads would do.
    /// For tests that must be able to replay a run.
    Manual,
}

/// Options of the engine of one data directory.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Where files live.
    pub disk: Arc<dyn Disk>,
    /// Threads or none.
    pub background: Background,
    /// How many logs may be synced at the same time.
    pub flush_threads: usize,
    /// How many logs are opened, created or closed at the same time; 0 lets the engine choose.
    pub recovery_threads: usize,
    /// How many sealed segments stay mapped at most. Readers keep what they use beyond that.
    pub mapped_segments_max: usize,
    /// How far ahead of the tail of a busy log pages are made present.
    pub prefault_ahead_bytes: u64,
    /// The first piece of disk space that a segment takes.
    pub allocation_bytes_min: u64,
    /// Space is taken in pieces that double up to this.
    pub allocation_bytes_max: u64,
    /// What is known of producers is saved when this many bytes were appended since the last time,
    /// and whenever a segment is finished.
    pub producer_snapshot_bytes: u64,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            disk: Arc::new(FsDisk),
            background: Background::Threads,
            flush_threads: 4,
            recovery_threads: 0,
            mapped_segments_max: 8192,
            prefault_ahead_bytes: 8 << 20,
            allocation_bytes_min: 64 << 10,
            allocation_bytes_max: 64 << 20,
            producer_snapshot_bytes: 64 << 20,
        }
    }
}
