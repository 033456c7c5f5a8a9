//! The logs of the fake broker.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use highwater_client::{LeaderEpoch, Offset, TopicId};
use highwater_protocol::record::BatchRecords;
use highwater_protocol::record_batch::{BatchHeader, Batches, stamp, verify_batch};

/// A topic.
pub(super) struct Topic {
    pub(super) id: TopicId,
    pub(super) partitions: Vec<Log>,
}

/// A partition.
#[derive(Default)]
pub(super) struct Log {
    pub(super) start: Offset,
    pub(super) end: Offset,
    /// Whole batches, stamped.
    pub(super) batches: Vec<Bytes>,
}

/// All topics by name.
pub(super) type Topics = HashMap<String, Topic>;

impl Log {
    pub(super) fn append(&mut self, records: &[u8]) -> Offset {
        let base = self.end;
        for batch in Batches::new(records) {
            let (_, bytes) = batch.expect("the client sends whole batches");
            let header = verify_batch(bytes).expect("the client sends valid batches");
            let mut bytes = BytesMut::from(bytes);
            stamp(&mut bytes, self.end, LeaderEpoch::new(0));
            self.end = self
                .end
                .checked_add(u64::from(header.last_offset_delta) + 1)
                .unwrap();
            self.batches.push(bytes.freeze());
        }
        base
    }

    /// Whole batches from the one that contains the offset on.
    pub(super) fn read(&self, from: Offset, bytes_max: usize) -> Bytes {
        let mut records = BytesMut::new();
        for batch in &self.batches {
            let header = BatchHeader::parse(batch).unwrap();
            if header.next_offset() <= from {
                continue;
            }
            if !records.is_empty() && records.len() + batch.len() > bytes_max {
                break;
            }
            records.extend_from_slice(batch);
        }
        records.freeze()
    }
}

/// A record as it lies in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    pub offset: u64,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
    /// Which batch of the partition it is in.
    pub batch: usize,
}

/// Decodes a log.
pub(super) fn records(log: &Log) -> Vec<Appended> {
    let mut all = Vec::new();
    for (batch, bytes) in log.batches.iter().enumerate() {
        let records = BatchRecords::open(bytes.clone(), Default::default()).unwrap();
        for record in &records {
            let record = record.unwrap();
            all.push(Appended {
                offset: record.offset.get(),
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.unwrap_or_default().to_vec(),
                batch,
            });
        }
    }
    all
}

/// The values as text.
pub fn values(records: &[Appended]) -> Vec<String> {
    records
        .iter()
        .map(|r| String::from_utf8_lossy(&r.value).into_owned())
        .collect()
}
