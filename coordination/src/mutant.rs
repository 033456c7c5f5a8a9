//! Rules that can be broken on purpose, to show that the tests notice.
//!
//! Only in builds with the feature `mutants`, which nothing but the test of the simulation asks for; in
//! any other build [`is_on`] is `false` at compile time and nothing of this is left. With the feature,
//! [`switch_on`] breaks one of them in the whole process.

/// A rule of replication, broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The high watermark waits for the in-sync replicas that are decided, and not for those of a
    /// proposal that is not resolved.
    CommittedIsrOnly,
    /// Who is past the high watermark joins the ISR, though the high watermark of a new leader may be
    /// behind the true one, which lies at the start of its epoch at most.
    JoinsBelowEpochStart,
    /// A follower that was not heard of in this leader epoch is taken to have what it had to have in
    /// the last.
    UnseenCounts,
    /// The controller takes a replica in on the proof of an earlier life.
    BrokerEpochIgnored,
    /// The high watermark moves while fewer are in sync than `min.insync.replicas`.
    CommitsBelowMinimum,
    /// A replica that may have lost records stays eligible.
    LostStaysEligible,
    /// A follower believes the high watermark of a leader from whose log its own parts.
    WatermarkBeforeDivergence,
    /// A follower that has got no record in a leader epoch does not tell the last epoch of its log.
    LastEpochForgotten,
    /// A follower whose log parts from the leader's cuts it at its high watermark.
    CutAtWatermark,
    /// With `synced`, what a follower has in memory counts.
    MemoryCountsAsDisk,
    /// A proposal of which nobody knows what became is given up.
    RollBackWhenUnknown,
    /// `min.insync.replicas` changes and the eligible replicas stay as they were.
    MinimumKeepsEligible,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::CommittedIsrOnly,
        Self::JoinsBelowEpochStart,
        Self::UnseenCounts,
        Self::BrokerEpochIgnored,
        Self::CommitsBelowMinimum,
        Self::LostStaysEligible,
        Self::WatermarkBeforeDivergence,
        Self::LastEpochForgotten,
        Self::CutAtWatermark,
        Self::MemoryCountsAsDisk,
        Self::RollBackWhenUnknown,
        Self::MinimumKeepsEligible,
    ];
}

/// Whether a rule is broken in this process.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn is_on(_mutant: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
static ON: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(usize::MAX);

/// Whether a rule is broken in this process.
#[cfg(feature = "mutants")]
pub(crate) fn is_on(mutant: Mutant) -> bool {
    ON.load(std::sync::atomic::Ordering::Relaxed) == mutant as usize
}

/// Breaks this rule in the whole process from now on and no other; with `None`, none.
#[cfg(feature = "mutants")]
pub fn switch_on(mutant: Option<Mutant>) {
    let number = mutant.map_or(usize::MAX, |mutant| mutant as usize);
    ON.store(number, std::sync::atomic::Ordering::Relaxed);
}
