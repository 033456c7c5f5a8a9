//! The logs of the fake broker.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use highwater_client::{ErrorCode, LeaderEpoch, Offset, TopicId};
use highwater_protocol::record::BatchRecords;
use highwater_protocol::record_batch::{BatchHeader, Batches, stamp, verify_batch};

use super::producers::{Judgement, Producers};

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
    pub(super) leader: Option<u32>,
    pub(super) epoch: u32,
    /// Where the log ends for readers, if not at its end.
    pub(super) visible: Option<Offset>,
    pub(super) producers: Producers,
}

/// All topics by name.
pub(super) type Topics = HashMap<String, Topic>;

impl Log {
    pub(super) fn led_by(node: u32) -> Self {
        Self {
            leader: Some(node),
            ..Self::default()
        }
    }

    pub(super) fn visible_end(&self) -> Offset {
        self.visible
            .map_or(self.end, |visible| visible.min(self.end))
    }

    /// Appends a batch, or recognizes it; where it is then, or why not.
    pub(super) fn append(&mut self, records: &[u8]) -> Result<Offset, ErrorCode> {
        let mut batches = Batches::new(records);
        let batch = batches.next().expect("the client sends a batch");
        let (_, bytes) = batch.expect("the client sends whole batches");
        assert!(batches.next().is_none(), "one batch per partition");
        let header = verify_batch(bytes).expect("the client sends valid batches");
        if let Judgement::Repeated(base) = self.producers.judge(&header)? {
            return Ok(base);
        }
        let base = self.end;
        self.producers.appended(&header, base);
        let mut bytes = BytesMut::from(bytes);
        stamp(&mut bytes, base, LeaderEpoch::new(self.epoch));
        let records = u64::from(header.last_offset_delta) + 1;
        self.end = base.checked_add(records).unwrap();
        self.batches.push(bytes.freeze());
        Ok(base)
    }

    /// Whole batches from the one that contains the offset on.
    pub(super) fn read(&self, from: Offset, bytes_max: usize) -> Bytes {
        let mut records = BytesMut::new();
        for batch in &self.batches {
            let header = BatchHeader::parse(batch).unwrap();
            if header.next_offset() <= from {
                continue;
            }
            if header.next_offset() > self.visible_end() {
                break;
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
