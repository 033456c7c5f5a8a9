//! Reading records of chosen partitions.

mod batch;
mod builder;
mod fetch;
mod state;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use highwater_protocol::ids::{Offset, PartitionId, TopicName};
use highwater_protocol::record::{BatchRecords, Record, RecordError, RecordIter};
use highwater_protocol::record_batch::verify_batch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use self::batch::Frame;
use self::fetch::ReaderCore;
use self::state::Next;
use crate::error::ReadError;

pub use batch::{ReadBatch, ReadRecord, Records};
pub use builder::{OutOfRange, ReaderBuilder, Start, Until};

/// Compressed batches from this size on are unpacked on the runtime's blocking threads, so that
/// nothing else waits meanwhile; smaller ones take less time than handing them over.
const UNPACK_APART_BYTES: usize = 64 << 10;

/// Reads the records of one topic's partitions, in order within each partition.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let broker = highwater_broker::EmbeddedBroker::start().await?;
/// use highwater_client::{Client, NewTopic, Start, Until};
///
/// let client = Client::connect(broker.address().to_string()).await?;
/// # client.admin().create_topic(NewTopic::new("orders").partitions(1)).await?;
/// # client.producer().build().enqueue_many("orders", None, ["a", "b"]).await?.await?;
/// let mut reader =
///     client.reader("orders").start(Start::Beginning).until(Until::End).build().await?;
/// let mut seen = 0;
/// while let Some(batch) = reader.next_batch().await? {
///     for record in &batch {
///         let record = record?;
///         println!("{} {:?}", record.offset, record.value);
///         seen += 1;
///     }
/// }
/// assert_eq!(seen, 2);
/// # Ok(()) }
/// ```
///
/// **Prefetching.** The next fetch is under way while the current batch is handled, up to
/// [`ReaderBuilder::prefetch_bytes`] ahead.
///
/// **No copies.** Batches and their records are slices of the buffer that the network filled. The
/// buffer is used again when all slices of it are gone: copy what is to be kept for long.
///
/// **Errors.** After a retriable error, calling again goes on where the reader stopped. A damaged
/// batch or an offset that is out of range is reported at every call until [`Reader::seek`] says
/// where to go on.
pub struct Reader {
    core: Arc<ReaderCore>,
    /// A batch that is being unpacked apart.
    unpacking: Option<Unpacking>,
    /// The batch that `next` is in the middle of.
    current: Option<Current>,
}

struct Unpacking {
    frame: Frame,
    task: JoinHandle<Result<BatchRecords, RecordError>>,
}

struct Current {
    partition: PartitionId,
    base_offset: Offset,
    from: Offset,
    until: Option<Offset>,
    records: RecordIter,
    /// Where `next` goes on.
    position: Offset,
    end: Offset,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("topic", self.topic())
            .field("positions", &self.positions())
            .finish_non_exhaustive()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.core.close();
    }
}

impl Reader {
    fn new(core: Arc<ReaderCore>) -> Self {
        core.pump();
        Self {
            core,
            unpacking: None,
            current: None,
        }
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &TopicName {
        &self.core.topic
    }

    /// The next batch of any of the partitions, as soon as there is one; `None` when every partition
    /// has reached what [`ReaderBuilder::until`] asked for.
    ///
    /// A batch that [`Reader::next`] is in the middle of is left behind: use one or the other.
    ///
    /// # Errors
    /// [`ReadError`]. Failures that may pass are retried with backoff; only when they last longer
    /// than the retry timeout they are reported, as `Stalled`.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the next call returns the same batch.
    pub async fn next_batch(&mut self) -> Result<Option<ReadBatch>, ReadError> {
        self.current = None;
        loop {
            if self.unpacking.is_some() {
                return self.unpacked().await.map(Some);
            }
            // Made before looking, so that what arrives in between is not missed.
            let core = Arc::clone(&self.core);
            let arrived = core.arrived.notified();
            match self.core.next(Instant::now())? {
                Next::Frame(frame) => {
                    if let Some(batch) = self.open(frame)? {
                        return Ok(Some(batch));
                    }
                }
                Next::Done => return Ok(None),
                Next::Wait(Some(until)) => {
                    tokio::select! {
                        () = arrived => {}
                        () = sleep_until(until) => {}
                    }
                }
                Next::Wait(None) => arrived.await,
            }
        }
    }

    /// The next record of any of the partitions; `None` when every partition has reached what
    /// [`ReaderBuilder::until`] asked for.
    ///
    /// # Errors
    /// As [`Reader::next_batch`].
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the next call returns the same record.
    pub async fn next(&mut self) -> Result<Option<ReadRecord>, ReadError> {
        loop {
            if let Some(record) = self.next_of_current()? {
                return Ok(Some(record));
            }
            let Some(batch) = self.next_batch().await? else {
                return Ok(None);
            };
            self.current = Some(Current {
                partition: batch.partition(),
                base_offset: batch.base_offset(),
                from: batch.from(),
                until: batch.until(),
                position: batch.from(),
                end: batch.next_offset(),
                records: batch.into_records(),
            });
        }
    }

    fn next_of_current(&mut self) -> Result<Option<ReadRecord>, ReadError> {
        let Some(current) = &mut self.current else {
            return Ok(None);
        };
        for record in current.records.by_ref() {
            let record: Record = match record {
                Ok(record) => record,
                Err(source) => {
                    let (partition, offset) = (current.partition, current.base_offset);
                    let go_on = current.position;
                    self.current = None;
                    // The position stays in front of the damage.
                    self.core.rewind(partition, go_on);
                    return Err(self.core.unreadable(partition, offset, source));
                }
            };
            if record.offset < current.from {
                continue;
            }
            if current.until.is_some_and(|until| record.offset >= until) {
                break;
            }
            current.position = record.offset.next();
            return Ok(Some(ReadRecord {
                partition: current.partition,
                record,
            }));
        }
        self.current = None;
        Ok(None)
    }

    /// Checks and opens a batch; `None` where that happens apart.
    fn open(&mut self, frame: Frame) -> Result<Option<ReadBatch>, ReadError> {
        if self.core.options.check_crcs
            && let Err(source) = verify_batch(&frame.bytes)
        {
            self.core.rewind(frame.partition, frame.from);
            return Err(ReadError::CorruptBatch {
                topic: self.core.topic.clone(),
                partition: frame.partition,
                offset: frame.header.base_offset,
                source,
            });
        }
        let limits = self.core.options.limits;
        let packed = frame.header.compression != highwater_protocol::compression::Compression::None;
        if packed && frame.bytes.len() >= UNPACK_APART_BYTES {
            let bytes: Bytes = frame.bytes.clone();
            let task = tokio::task::spawn_blocking(move || BatchRecords::open(bytes, limits));
            self.unpacking = Some(Unpacking { frame, task });
            return Ok(None);
        }
        let records = BatchRecords::open(frame.bytes.clone(), limits);
        self.finish(frame, records).map(Some)
    }

    async fn unpacked(&mut self) -> Result<ReadBatch, ReadError> {
        let unpacking = self.unpacking.as_mut().expect("checked by the caller");
        let records = match (&mut unpacking.task).await {
            Ok(records) => records,
            // The task panicked or was torn down: once more, here.
            Err(_) => BatchRecords::open(unpacking.frame.bytes.clone(), self.core.options.limits),
        };
        let unpacking = self.unpacking.take().expect("still there");
        self.finish(unpacking.frame, records)
    }

    fn finish(
        &self,
        frame: Frame,
        records: Result<BatchRecords, RecordError>,
    ) -> Result<ReadBatch, ReadError> {
        match records {
            Ok(records) => Ok(ReadBatch::new(self.core.topic.clone(), frame, records)),
            Err(source) => {
                self.core.rewind(frame.partition, frame.from);
                Err(self
                    .core
                    .unreadable(frame.partition, frame.header.base_offset, source))
            }
        }
    }

    /// The offset that comes next, per partition.
    #[must_use]
    pub fn positions(&self) -> BTreeMap<PartitionId, Offset> {
        let mut positions = self.core.positions();
        if let Some(unpacking) = &self.unpacking {
            positions.insert(unpacking.frame.partition, unpacking.frame.from);
        }
        if let Some(current) = &self.current
            && current.position < current.end
        {
            positions.insert(current.partition, current.position);
        }
        positions
    }

    /// The end of each partition for readers, as of the last answer.
    #[must_use]
    pub fn high_watermarks(&self) -> BTreeMap<PartitionId, Offset> {
        self.core.high_watermarks()
    }

    /// Whether everything that the broker had at its last answer has been handed out.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        let positions = self.positions();
        let ends = self.high_watermarks();
        positions
            .iter()
            .all(|(p, position)| ends.get(p).is_some_and(|end| position >= end))
    }

    /// Goes on at another offset of a partition. What was prefetched of it is dropped.
    ///
    /// # Errors
    /// [`ReadError::UnknownPartition`] when the reader does not read that partition.
    pub fn seek(&mut self, partition: PartitionId, offset: Offset) -> Result<(), ReadError> {
        if self
            .unpacking
            .as_ref()
            .is_some_and(|u| u.frame.partition == partition)
        {
            self.unpacking = None;
        }
        if self
            .current
            .as_ref()
            .is_some_and(|current| current.partition == partition)
        {
            self.current = None;
        }
        self.core.seek(partition, offset)
    }

    /// Hands out nothing more of these partitions until they are resumed. What was prefetched of
    /// them is dropped, so that it does not take the others' room, and fetched again later.
    ///
    /// A batch that is being unpacked, or that [`Reader::next`] is in the middle of, still comes.
    pub fn pause(&mut self, partitions: impl IntoIterator<Item = PartitionId>) {
        self.core.set_paused(partitions, true);
    }

    /// Goes on with these partitions.
    pub fn resume(&mut self, partitions: impl IntoIterator<Item = PartitionId>) {
        self.core.set_paused(partitions, false);
    }
}
