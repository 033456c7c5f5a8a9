//! Random values of every message, for tests: derived from the same list of fields as its encoding.

use bytes::Bytes;

use crate::api_key::Request;
use crate::error_code::ErrorCode;
use crate::ids::{
    BrokerEpoch, ClusterId, DirectoryId, IncarnationId, LeaderEpoch, NodeId, Offset, PartitionId,
    ProducerEpoch, ProducerId, Timestamp, TopicId, TopicName,
};

/// A reproducible source of random numbers (splitmix64).
#[derive(Debug)]
pub(crate) struct Source(u64);

impl Source {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) const fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(crate) fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// A type with random values.
pub(crate) trait Sample: Sized {
    fn sample(source: &mut Source) -> Self;
}

/// Something to do with every API's types and their random values.
pub(crate) trait SampledVisitor {
    fn visit<R: Request<Response: Sample> + Sample>(self);
}

macro_rules! sample_integer {
    ($($ty:ty),*) => {$(
        impl Sample for $ty {
            fn sample(source: &mut Source) -> Self {
                let bits = source.next();
                *source.one_of(&[0, 1, Self::MAX, Self::MIN, bits as Self])
            }
        }
    )*};
}
sample_integer!(u8, u16, u32, u64, i64);

macro_rules! sample_with {
    ($($ty:ty: |$source:ident| $value:expr;)*) => {$(
        impl Sample for $ty {
            fn sample($source: &mut Source) -> Self {
                $value
            }
        }
    )*};
}
sample_with! {
    bool: |source| source.below(2) == 1;
    LeaderEpoch: |source| Self::new(u32::sample(source));
    NodeId: |source| Self::new(u32::sample(source));
    PartitionId: |source| Self::new(u32::sample(source));
    BrokerEpoch: |source| Self::new(u64::sample(source));
    Offset: |source| Self::new(u64::sample(source).min(Self::MAX.get()));
    Timestamp: |source| Self::from_millis(i64::sample(source));
    TopicId: |source| Self::from_bytes(u128::from(source.next()).to_be_bytes());
    ProducerId: |source| Self::new(u64::sample(source));
    ProducerEpoch: |source| Self::new(u16::sample(source));
    DirectoryId: |source| Self::from_bytes(u128::from(source.next()).to_be_bytes());
    IncarnationId: |source| Self::from_bytes(u128::from(source.next()).to_be_bytes());
    ClusterId: |source| Self::from_bytes(u128::from(source.next()).to_be_bytes());
    ErrorCode: |source| Self::from_code(source.below(120) as u16);
    TopicName: |source| Self::new(["a", "orders", "x.y_z-0"][source.below(3)]).unwrap();
    String: |source| (*source.one_of(&["", "a", "grüße", "\0", "retention.ms", "🦀"])).to_owned();
}

impl Sample for Bytes {
    fn sample(source: &mut Source) -> Self {
        // Around the size from which on encoders share instead of copying.
        let length = *source.one_of(&[0, 1, 100, 2047, 2048, 5000]);
        let first = source.next() as u8;
        (0..length).map(|at| first.wrapping_add(at as u8)).collect()
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(source: &mut Source) -> Self {
        bool::sample(source).then(|| T::sample(source))
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(source: &mut Source) -> Self {
        (0..source.below(4)).map(|_| T::sample(source)).collect()
    }
}
