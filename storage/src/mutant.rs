//! Rules that can be broken on purpose, to show that the tests notice.
//!
//! Only in builds with the feature `mutants`, which nothing but `tests/tests/mutants.rs` asks for; in any
//! other build [`is_on`] is `false` at compile time and nothing of this is left. With the feature, the
//! variable `HIGHWATER_MUTANT` names the one that is on in a process.

/// A rule of the storage engine, broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A sync covers the bytes of a segment and not its name: a power loss may take the file away
    /// after its records counted as durable.
    DirectoryNotSynced,
    /// A sync that failed is tried again. The kernel has marked the pages clean, so the second one
    /// succeeds, and records count as durable that the disk never got.
    FailedSyncRepeated,
    /// Recovery cuts a log at its first bad batch wherever it is, also where records had been durable.
    DamageCut,
    /// The scan after a crash takes a batch of an earlier epoch behind one of a later: records of two
    /// leaderships are mixed up, and the later epoch is forgotten.
    EpochMayFall,
    /// A snapshot of the producers keeps the last batch of each instead of the last five: a retry of
    /// an earlier one is not recognized after a restart.
    SnapshotKeepsOneBatch,
    /// A clean-shutdown marker is believed because it exists, whichever session wrote it.
    MarkerByExistence,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::DirectoryNotSynced,
        Self::FailedSyncRepeated,
        Self::DamageCut,
        Self::EpochMayFall,
        Self::SnapshotKeepsOneBatch,
        Self::MarkerByExistence,
    ];
}

/// Whether a rule is broken in this process.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn is_on(_mutant: Mutant) -> bool {
    false
}

/// Whether a rule is broken in this process.
#[cfg(feature = "mutants")]
pub(crate) fn is_on(mutant: Mutant) -> bool {
    static ON: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let on = ON.get_or_init(|| std::env::var("HIGHWATER_MUTANT").ok());
    on.as_ref().is_some_and(|on| *on == format!("{mutant:?}"))
}
