//! What a reader hands out.

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use highwater_protocol::ids::{Offset, PartitionId, Timestamp, TopicName};
use highwater_protocol::record::{BatchRecords, Record, RecordIter, RecordRef, RecordRefs};
use highwater_protocol::record_batch::BatchHeader;

use crate::error::ReadError;

/// A batch as it came, cut out of an answer.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) partition: PartitionId,
    pub(super) header: BatchHeader,
    pub(super) bytes: Bytes,
    /// Records before this one were not asked for.
    pub(super) from: Offset,
    /// Nor were those from here on.
    pub(super) until: Option<Offset>,
    pub(super) high_watermark: Offset,
}

/// A record batch of one partition. Its records are slices of the receive buffer.
#[derive(Debug, Clone)]
pub struct ReadBatch {
    topic: TopicName,
    partition: PartitionId,
    records: BatchRecords,
    raw: Bytes,
    from: Offset,
    until: Option<Offset>,
    high_watermark: Offset,
}

impl ReadBatch {
    pub(super) fn new(topic: TopicName, frame: Frame, records: BatchRecords) -> Self {
        Self {
            topic,
            partition: frame.partition,
            records,
            raw: frame.bytes,
            from: frame.from,
            until: frame.until,
            high_watermark: frame.high_watermark,
        }
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// The batch's header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        self.records.header()
    }

    /// Offset of the batch's first record; it may lie before what was asked for.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        self.header().base_offset
    }

    /// The offset after the batch, or where the reader was told to stop.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        let next = self.header().next_offset();
        self.until.map_or(next, |until| next.min(until))
    }

    /// The largest timestamp of its records.
    #[must_use]
    pub fn max_timestamp(&self) -> Timestamp {
        self.header().max_timestamp
    }

    /// The end of the partition for readers when the batch was fetched.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The batch as it is stored, header included.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The records that were asked for, borrowed. This is the fast way: a few ns each.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        Records {
            batch: self,
            rest: self.records.iter(),
            done: false,
        }
    }

    /// The records that were asked for, as slices that outlive the batch and keep its memory.
    ///
    /// # Errors
    /// [`ReadError::UnreadableBatch`] when one of them is damaged.
    pub fn to_records(&self) -> Result<Vec<Record>, ReadError> {
        let data = self.records.data();
        self.records()
            .map(|record| record.map(|record| record.to_owned_in(data)))
            .collect()
    }

    pub(super) fn from(&self) -> Offset {
        self.from
    }

    pub(super) fn until(&self) -> Option<Offset> {
        self.until
    }

    pub(super) fn into_records(self) -> RecordIter {
        self.records.into_iter()
    }
}

impl<'a> IntoIterator for &'a ReadBatch {
    type Item = Result<RecordRef<'a>, ReadError>;
    type IntoIter = Records<'a>;
    fn into_iter(self) -> Records<'a> {
        self.records()
    }
}

/// Walks over the records of a [`ReadBatch`], without those that were not asked for.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    batch: &'a ReadBatch,
    rest: RecordRefs<'a>,
    done: bool,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordRef<'a>, ReadError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        for record in self.rest.by_ref() {
            match record {
                Ok(record) if record.offset < self.batch.from => {}
                Ok(record) if self.batch.until.is_some_and(|until| record.offset >= until) => break,
                Ok(record) => return Some(Ok(record)),
                Err(source) => {
                    self.done = true;
                    return Some(Err(ReadError::UnreadableBatch {
                        topic: self.batch.topic.clone(),
                        partition: self.batch.partition,
                        offset: self.batch.base_offset(),
                        source: Arc::new(source),
                    }));
                }
            }
        }
        self.done = true;
        None
    }
}

impl std::iter::FusedIterator for Records<'_> {}

/// A record with the partition that it is from; dereferences to the [`Record`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRecord {
    /// The partition.
    pub partition: PartitionId,
    /// The record: its bytes are slices of the receive buffer.
    pub record: Record,
}

impl Deref for ReadRecord {
    type Target = Record;
    fn deref(&self) -> &Record {
        &self.record
    }
}
