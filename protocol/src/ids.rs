//! Newtypes for everything that must not be mixed up.
//!
//! Each is a number or an identifier with its own type, so that an offset never meets an epoch by
//! accident. "Missing" is `Option`; the `-1` that the record batch format uses for it exists only in
//! the codec of that format.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;
use uuid::Uuid;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name($inner);

        impl $name {
            /// Zero, the first value.
            pub const ZERO: Self = Self(0);

            /// Wraps the number.
            #[must_use]
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }

            /// The number itself.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

number_id! {
    /// Position of a record in a partition: 0 for the first record ever, then without gaps.
    ///
    /// At most `i64::MAX`, because the record batch stores it signed.
    Offset(u64)
}
number_id! {
    /// Counts the leaders of a partition; every batch carries the epoch of the leader that appended it.
    LeaderEpoch(u32)
}
number_id! {
    /// A broker of the cluster.
    NodeId(u32)
}
number_id! {
    /// A partition's number inside its topic, from 0.
    PartitionId(u32)
}
number_id! {
    /// Matches a response to its request on one connection; chosen by the client.
    CorrelationId(u32)
}
number_id! {
    /// Identity of an idempotent producer. At most `i64::MAX`.
    ProducerId(u64)
}
number_id! {
    /// Fences earlier incarnations of the same producer. At most `i16::MAX`.
    ProducerEpoch(u16)
}
number_id! {
    /// Number of a producer's record in one partition. At most `i32::MAX`, then it wraps to 0.
    Sequence(u32)
}
number_id! {
    /// Counts the registrations of a broker: a message from an earlier life of it is refused.
    BrokerEpoch(u64)
}

impl Offset {
    /// The largest offset that a record batch can carry.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// The offset `records` later, or `None` past [`Offset::MAX`].
    #[must_use]
    pub const fn checked_add(self, records: u64) -> Option<Self> {
        match self.0.checked_add(records) {
            Some(value) if value <= Self::MAX.0 => Some(Self(value)),
            _ => None,
        }
    }

    /// The offset of the next record.
    ///
    /// # Panics
    /// Past [`Offset::MAX`]: a broker would have to append a million records a second for 290,000 years.
    #[must_use]
    pub fn next(self) -> Self {
        self.checked_add(1)
            .expect("offset space is never exhausted")
    }

    /// How many records lie in `earlier..self`; 0 when `earlier` is not earlier.
    #[must_use]
    pub const fn records_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Milliseconds since the Unix epoch: data on a record, never used to decide about safety.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Wraps milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({} ms)", self.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// A new random id.
            #[must_use]
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            /// From its 16 bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// Its 16 bytes.
            #[must_use]
            pub const fn into_bytes(self) -> [u8; 16] {
                self.0.into_bytes()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id! {
    /// Identity of a topic. A topic that is deleted and created again has another one, so that it
    /// never meets its old data.
    TopicId
}
uuid_id! {
    /// Identity of a cluster, chosen at its first start.
    ClusterId
}

uuid_id! {
    /// Identity of a data directory, chosen when it was created: a broker that comes back with another
    /// one has lost its data.
    DirectoryId
}

uuid_id! {
    /// One life of a broker process, drawn at its start: tells a retry from a second process.
    IncarnationId
}

/// A valid topic name: 1 to 249 of `a-z A-Z 0-9 . _ -`, and neither `.` nor `..`.
///
/// The rule is Kafka's, so that names survive a migration, and it keeps names safe as file names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

/// Why a text is not a topic name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TopicNameError {
    /// The empty text.
    #[error("a topic name must not be empty")]
    Empty,
    /// Longer than [`TopicName::LENGTH_MAX`].
    #[error("topic name is {length} characters long; the limit is 249")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// `.` or `..`
    #[error("a topic must not be named \".\" or \"..\"")]
    Dots,
    /// A character outside of the set.
    #[error("topic name {name:?} contains {character:?}; allowed are a-z A-Z 0-9 . _ -")]
    Character {
        /// The refused name.
        name: String,
        /// Its first refused character.
        character: char,
    },
}

impl TopicName {
    /// The longest name, in bytes.
    pub const LENGTH_MAX: usize = 249;

    /// Checks the name.
    ///
    /// # Errors
    /// [`TopicNameError`] says which rule it breaks.
    pub fn new(name: &str) -> Result<Self, TopicNameError> {
        if name.is_empty() {
            return Err(TopicNameError::Empty);
        }
        if name.len() > Self::LENGTH_MAX {
            return Err(TopicNameError::TooLong { length: name.len() });
        }
        if name == "." || name == ".." {
            return Err(TopicNameError::Dots);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if let Some(character) = name.chars().find(|c| !allowed(*c)) {
            return Err(TopicNameError::Character {
                name: name.to_owned(),
                character,
            });
        }
        Ok(Self(Arc::from(name)))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicName({:?})", &*self.0)
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for TopicName {
    type Err = TopicNameError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl std::borrow::Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_the_rule() {
        for good in ["a", "orders", "Orders_2-x.y", "...", &"x".repeat(249)] {
            assert_eq!(TopicName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a b", "a/b", "ä", "a\0", &"x".repeat(250)] {
            assert!(TopicName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn offsets_stop_at_the_signed_limit() {
        assert_eq!(Offset::MAX.checked_add(0), Some(Offset::MAX));
        assert_eq!(Offset::MAX.checked_add(1), None);
        assert_eq!(Offset::new(u64::MAX).checked_add(1), None);
        assert_eq!(Offset::new(3).records_since(Offset::new(5)), 0);
    }
}
