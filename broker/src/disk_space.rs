//! How full the disk of the data directory is, as housekeeping last saw it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Free and total space.
#[derive(Debug, Default)]
pub(crate) struct DiskSpace {
    free: AtomicU64,
    total: AtomicU64,
    is_low: AtomicBool,
}

impl DiskSpace {
    /// Takes note of a look at the disk. Returns whether it was low at the last one.
    pub(crate) fn note(&self, free: u64, total: u64, is_low: bool) -> bool {
        self.free.store(free, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        self.is_low.swap(is_low, Ordering::Relaxed)
    }

    /// Less is free than `storage.min.free.bytes`.
    pub(crate) fn is_low(&self) -> bool {
        self.is_low.load(Ordering::Relaxed)
    }

    /// Free bytes; 0 before the first look.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// Size in bytes; 0 before the first look.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}
