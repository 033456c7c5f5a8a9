//! A record as the printers see it, wherever it came from.

use highwater_protocol::ids::{Offset, PartitionId, Timestamp};

/// A record and where it is from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordView<'a> {
    /// The topic.
    pub(crate) topic: &'a str,
    /// The partition.
    pub(crate) partition: PartitionId,
    /// The offset.
    pub(crate) offset: Offset,
    /// The producer's time.
    pub(crate) timestamp: Timestamp,
    /// The key, if it has one.
    pub(crate) key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub(crate) value: Option<&'a [u8]>,
    /// The headers in order; a name may come twice.
    pub(crate) headers: &'a [(&'a str, Option<&'a [u8]>)],
}
