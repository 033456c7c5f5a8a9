//! What several tests of the storage crate need.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(dead_code, reason = "each test uses its own part")]

use highwater_protocol::batch_builder::BatchBuilder;
use highwater_protocol::compression::Compression;
use highwater_protocol::ids::{LeaderEpoch, Offset, PartitionId, Timestamp, TopicId, TopicName};
use highwater_protocol::record_batch::Batches;
use highwater_storage::PartitionMeta;

/// A batch of `records` records of about `bytes` bytes each, all at one time.
pub(crate) fn batch(records: usize, bytes: usize, timestamp_ms: i64, tag: u64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None, None);
    for n in 0..records {
        let mut value = format!("{tag}/{n}/").into_bytes();
        value.resize(bytes.max(value.len()), b'.');
        builder.push(
            Timestamp::from_millis(timestamp_ms),
            None,
            Some(&value),
            &[],
        );
    }
    builder.build().to_vec()
}

/// A partition.
pub(crate) fn meta(partition: u32) -> PartitionMeta {
    PartitionMeta {
        topic_id: TopicId::from_bytes([7; 16]),
        topic: TopicName::new("topic").unwrap(),
        partition: PartitionId::new(partition),
    }
}

/// An offset.
pub(crate) fn at(offset: u64) -> Offset {
    Offset::new(offset)
}

/// An epoch.
pub(crate) fn epoch(epoch: u32) -> LeaderEpoch {
    LeaderEpoch::new(epoch)
}

/// A time.
pub(crate) fn ms(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// Base and next offset of each batch in the bytes.
pub(crate) fn ranges(bytes: &[u8]) -> Vec<(u64, u64)> {
    Batches::new(bytes)
        .map(|batch| {
            let (header, _) = batch.unwrap();
            (header.base_offset.get(), header.next_offset().get())
        })
        .collect()
}
