//! Values that tell who sent them and whether they are still what was sent.
//!
//! ```text
//! PRODUCER:NUMBER:PADDING:CRC      for example 3:1742:3:1742:3:17:5f0c21aa
//! ```
//! The padding repeats `PRODUCER:NUMBER:`; the CRC-32C, eight hex digits, is of everything before it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Bits of a [`ValueId`] that number the values of one producer.
const NUMBER_BITS: u32 = 44;

/// Length of the checksum and the colon before it.
const CRC_BYTES: usize = 9;

/// Which value: the producer that sent it, and which of its values. Eight bytes, `PRODUCER:NUMBER` as
/// text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ValueId(u64);

/// A text that names no value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is no PRODUCER:NUMBER")]
pub struct ValueIdError {
    text: String,
}

impl ValueId {
    /// Most producers of a history.
    pub const PRODUCERS_MAX: u32 = 1 << (64 - NUMBER_BITS);

    /// The value with this number, counted from 0 for each producer; `None` when a producer or number
    /// is too large to be told apart.
    #[must_use]
    pub fn new(producer: u32, number: u64) -> Option<Self> {
        let fits = producer < Self::PRODUCERS_MAX && number < 1 << NUMBER_BITS;
        fits.then_some(Self(u64::from(producer) << NUMBER_BITS | number))
    }

    /// Who sent it.
    #[must_use]
    pub fn producer(self) -> u32 {
        u32::try_from(self.0 >> NUMBER_BITS).unwrap_or(u32::MAX)
    }

    /// Which of the producer's values it is. A producer sends them in this order.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0 & ((1 << NUMBER_BITS) - 1)
    }

    /// The bytes to send, `bytes` long or, where that is too short, as short as possible.
    #[must_use]
    pub fn encode(self, bytes: usize) -> Vec<u8> {
        let head = format!("{self}:");
        let body = bytes.saturating_sub(CRC_BYTES).max(head.len() - 1);
        let mut value: Vec<u8> = head.bytes().cycle().take(body).collect();
        let crc = crc32c::crc32c(&value);
        value.extend_from_slice(format!(":{crc:08x}").as_bytes());
        value
    }
}

impl fmt::Display for ValueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.producer(), self.number())
    }
}

impl FromStr for ValueId {
    type Err = ValueIdError;

    fn from_str(text: &str) -> Result<Self, ValueIdError> {
        let parse = || {
            let (producer, number) = text.split_once(':')?;
            Self::new(producer.parse().ok()?, number.parse().ok()?)
        };
        parse().ok_or_else(|| ValueIdError {
            text: text.chars().take(64).collect(),
        })
    }
}

impl From<ValueId> for String {
    fn from(id: ValueId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for ValueId {
    type Error = ValueIdError;

    fn try_from(text: String) -> Result<Self, ValueIdError> {
        text.parse()
    }
}

/// What a reader found as the value of a record. As text the id, or `!` and the beginning of what is no
/// value of ours, in hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Seen {
    /// A value, every byte as it was sent.
    Value(ValueId),
    /// Something else.
    Damaged(String),
}

impl Seen {
    /// Judges the bytes of a record.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        Self::sound(bytes).map_or_else(
            || {
                let start = bytes.iter().take(32);
                Self::Damaged(start.map(|byte| format!("{byte:02x}")).collect())
            },
            Self::Value,
        )
    }

    fn sound(bytes: &[u8]) -> Option<ValueId> {
        let (body, crc) = bytes.split_at_checked(bytes.len().checked_sub(CRC_BYTES)?)?;
        let crc = std::str::from_utf8(crc.strip_prefix(b":")?).ok()?;
        if u32::from_str_radix(crc, 16).ok()? != crc32c::crc32c(body) {
            return None;
        }
        let text = std::str::from_utf8(body).ok()?;
        let mut parts = text.splitn(3, ':');
        let producer = parts.next()?.parse().ok()?;
        let number = parts.next()?.parse().ok()?;
        ValueId::new(producer, number).filter(|id| id.encode(bytes.len()) == bytes)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(id) => id.fmt(f),
            Self::Damaged(hex) => write!(f, "!{hex}"),
        }
    }
}

impl From<Seen> for String {
    fn from(seen: Seen) -> Self {
        seen.to_string()
    }
}

impl TryFrom<String> for Seen {
    type Error = ValueIdError;

    fn try_from(text: String) -> Result<Self, ValueIdError> {
        match text.strip_prefix('!') {
            Some(hex) => Ok(Self::Damaged(hex.to_owned())),
            None => text.parse().map(Self::Value),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // In a test, a panic is the report.
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_value_that_is_cut_or_changed_is_damaged() {
        let id = ValueId::new(3, 1742).unwrap();
        let bytes = id.encode(60);
        assert_eq!(bytes.len(), 60);
        assert_eq!(Seen::decode(&bytes), Seen::Value(id));
        assert!(matches!(Seen::decode(&bytes[..59]), Seen::Damaged(_)));
        assert!(matches!(Seen::decode(b""), Seen::Damaged(_)));
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(
                matches!(Seen::decode(&other), Seen::Damaged(_)),
                "byte {at}"
            );
        }
    }

    #[test]
    fn ids_out_of_range_are_refused() {
        assert_eq!(ValueId::new(ValueId::PRODUCERS_MAX, 0), None);
        assert_eq!(ValueId::new(0, 1 << NUMBER_BITS), None);
        for text in ["", ":", "1", "1:", "x:1", "1:99999999999999999999", "-1:2"] {
            assert!(text.parse::<ValueId>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn values_and_their_texts_come_back(
            producer in 0..ValueId::PRODUCERS_MAX, number in 0u64..1 << NUMBER_BITS, bytes in 0usize..300,
        ) {
            let id = ValueId::new(producer, number).unwrap();
            prop_assert_eq!((id.producer(), id.number()), (producer, number));
            prop_assert_eq!(Seen::decode(&id.encode(bytes)), Seen::Value(id));
            prop_assert_eq!(id.to_string().parse::<ValueId>().unwrap(), id);
            let seen = Seen::Value(id);
            prop_assert_eq!(Seen::try_from(String::from(seen.clone())).unwrap(), seen);
        }

        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(matches!(Seen::decode(&bytes), Seen::Damaged(_)));
        }
    }
}
