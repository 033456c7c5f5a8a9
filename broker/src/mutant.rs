//! Rules that can be broken on purpose, to show that the tests notice.
//!
//! Only in builds with the feature `mutants`, which nothing but `tests/tests/mutants.rs` asks for; in any
//! other build [`is_on`] is `false` at compile time and nothing of this is left. With the feature, the
//! variable `HIGHWATER_MUTANT` names the one that is on in a process.

/// A rule of the broker, broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The retry of a batch is acknowledged because its leader has it, although the first attempt is
    /// not committed and may still be lost.
    DuplicateNotAwaited,
    /// A directory of a partition that the metadata does not mention is deleted at a start: lost
    /// metadata takes the data along.
    StrayDeleted,
    /// What other nodes of the quorum send goes to openraft as it comes, which stops over what makes no
    /// sense.
    PeersBelieved,
    /// Whoever says Hello as a broker speaks for any other: a stranger's fetch commits records in the
    /// name of a follower.
    SenderNotChecked,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::DuplicateNotAwaited,
        Self::StrayDeleted,
        Self::PeersBelieved,
        Self::SenderNotChecked,
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
