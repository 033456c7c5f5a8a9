//! What is sent.

use std::sync::Arc;

use bytes::Bytes;
use highwater_protocol::batch_builder::HeaderPair;
use highwater_protocol::ids::{PartitionId, Timestamp};

/// A record to send.
///
/// ```
/// use highwater_client::ProducerRecord;
///
/// let record = ProducerRecord::to("orders").key("customer 7").value("3 apples").header("v", "1");
/// # let _ = record;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct ProducerRecord {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: Option<PartitionId>,
    pub(crate) timestamp: Option<Timestamp>,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<(String, Option<Bytes>)>,
}

impl ProducerRecord {
    /// An empty record for a topic. An `Arc<str>` that is kept and cloned costs no allocation.
    pub fn to(topic: impl Into<Arc<str>>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            timestamp: None,
            key: None,
            value: None,
            headers: Vec::new(),
        }
    }

    /// Its key. Records of one key go to one partition, in order.
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Its value.
    pub fn value(mut self, value: impl Into<Bytes>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// One more header; the same name may come several times.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// The partition, instead of the one that the partitioner would pick.
    pub fn partition(mut self, partition: PartitionId) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Its timestamp. Default: now.
    pub fn timestamp(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    pub(crate) fn header_pairs(&self) -> Vec<HeaderPair<'_>> {
        self.headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
            .collect()
    }

    pub(crate) fn slices<'a>(&'a self, headers: &'a [HeaderPair<'a>]) -> RecordSlices<'a> {
        RecordSlices {
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers,
            timestamp: self.timestamp,
        }
    }
}

/// A borrowed record, for [`Producer::enqueue_many`](crate::Producer::enqueue_many): its bytes are
/// encoded straight into the batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecordSlices<'a> {
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: &'a [HeaderPair<'a>],
    /// Its timestamp; `None`: now.
    pub timestamp: Option<Timestamp>,
}

impl RecordSlices<'_> {
    /// What the record is counted as against the producer's buffer: no less than it takes encoded.
    #[inline]
    pub(crate) fn charge(&self) -> usize {
        let plain = self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len);
        let headers: usize = if self.headers.is_empty() {
            0
        } else {
            self.headers
                .iter()
                .map(|(k, v)| k.len() + v.map_or(0, <[u8]>::len) + 10)
                .sum()
        };
        plain + headers + RECORD_OVERHEAD_BYTES
    }
}

/// The most that lengths, deltas and attributes of one record take.
const RECORD_OVERHEAD_BYTES: usize = 36;

impl<'a> From<&'a [u8]> for RecordSlices<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self {
            value: Some(value),
            ..Self::default()
        }
    }
}

impl<'a> From<&'a str> for RecordSlices<'a> {
    fn from(value: &'a str) -> Self {
        value.as_bytes().into()
    }
}

impl<'a> From<&'a Bytes> for RecordSlices<'a> {
    fn from(value: &'a Bytes) -> Self {
        (&value[..]).into()
    }
}

impl<'a> From<&'a Vec<u8>> for RecordSlices<'a> {
    fn from(value: &'a Vec<u8>) -> Self {
        (&value[..]).into()
    }
}

impl<'a> From<(&'a [u8], &'a [u8])> for RecordSlices<'a> {
    fn from((key, value): (&'a [u8], &'a [u8])) -> Self {
        Self {
            key: Some(key),
            value: Some(value),
            ..Self::default()
        }
    }
}

impl<'a> From<(Option<&'a [u8]>, Option<&'a [u8]>)> for RecordSlices<'a> {
    fn from((key, value): (Option<&'a [u8]>, Option<&'a [u8]>)) -> Self {
        Self {
            key,
            value,
            ..Self::default()
        }
    }
}
