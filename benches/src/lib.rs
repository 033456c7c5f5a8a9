//! What the micro-benchmarks share: batches as producers make them.
//!
//! `cargo bench -p highwater-benches` runs them all, `--bench append` one file of them. They show
//! what one step costs by itself; `highwater bench` measures the whole.
#![forbid(unsafe_code)]

use bytes::Bytes;
use highwater_protocol::batch_builder::BatchBuilder;
use highwater_protocol::compression::Compression;
use highwater_protocol::ids::Timestamp;

/// Sizes of the values that are measured: small events and larger ones.
pub const VALUE_BYTES: [usize; 2] = [100, 1024];

/// Bytes of a full batch.
pub const BATCH_BYTES: usize = 1 << 20;

/// When the records were made; only differences are stored.
pub const TIME: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// A value of this length, neither constant nor random.
#[must_use]
pub fn value(length: usize) -> Vec<u8> {
    let text = b"the quick brown fox jumps over the lazy dog 0123456789 ";
    text.iter().copied().cycle().take(length).collect()
}

/// A batch of about `batch_bytes` with values of `value_bytes`.
#[must_use]
pub fn batch(compression: Compression, value_bytes: usize, batch_bytes: usize) -> Bytes {
    let value = value(value_bytes);
    let mut builder = BatchBuilder::new(compression, None);
    while builder.is_empty() || builder.len_bytes() + value_bytes < batch_bytes {
        builder.push(TIME, None, Some(&value), &[]);
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use highwater_protocol::compression::Compression;
    use highwater_protocol::record_batch::verify_batch;

    use super::{BATCH_BYTES, VALUE_BYTES, batch};

    #[test]
    fn the_batches_that_are_measured_are_valid() {
        for value_bytes in VALUE_BYTES {
            let batch = batch(Compression::None, value_bytes, BATCH_BYTES);
            assert!(verify_batch(&batch).is_ok());
            assert!(batch.len() > BATCH_BYTES / 2 && batch.len() < BATCH_BYTES + 100);
        }
    }
}
