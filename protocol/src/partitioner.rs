//! Which partition a key belongs to: as Kafka's clients decide it, so that records of one key stay
//! together whoever writes them.

use crate::ids::PartitionId;

const SEED: u32 = 0x9747_b28c;
const MULTIPLIER: u32 = 0x5bd1_e995;
const SHIFT: u32 = 24;

/// The 32-bit MurmurHash2 of Kafka's Java client.
#[must_use]
pub fn murmur2(key: &[u8]) -> u32 {
    // Kafka's lengths are 32 bits wide too, so a cast that wraps is the same hash.
    let mut hash = SEED ^ (key.len() as u32);
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        k ^= k >> SHIFT;
        hash = hash.wrapping_mul(MULTIPLIER) ^ k.wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

/// The hash without its sign bit: Kafka's `toPositive`.
#[must_use]
pub const fn to_positive(hash: u32) -> u32 {
    hash & 0x7fff_ffff
}

/// The partition of a key in a topic of `partitions` partitions.
///
/// # Panics
/// When `partitions` is 0: every topic has at least one.
#[must_use]
pub fn partition_for_key(key: &[u8], partitions: u32) -> PartitionId {
    PartitionId::new(to_positive(murmur2(key)) % partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn hashes_as_kafka_does() {
        let cases: &[(&str, i32)] = &[
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), *hash, "{key}");
        }
    }

    #[test]
    fn partitions_are_in_range() {
        assert_eq!(partition_for_key(b"foobar", 1), PartitionId::ZERO);
        assert_eq!(
            partition_for_key(b"21", 6).get(),
            ((-973_932_308_i32) & 0x7fff_ffff) as u32 % 6
        );
        for key in 0_u32..1000 {
            assert!(partition_for_key(&key.to_be_bytes(), 7).get() < 7);
        }
    }
}
