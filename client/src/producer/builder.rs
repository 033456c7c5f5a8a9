//! Describing a producer.

use std::sync::Arc;
use std::time::Duration;

use highwater_protocol::compression::Compression;
use highwater_protocol::limits::{BATCH_BYTES_MAX_DEFAULT, BATCH_BYTES_MAX_LIMIT};
use highwater_protocol::messages::Acks;

use super::Producer;
use super::partitioner::{KeyHashPartitioner, Partitioner};
use crate::client::ClientCore;
use crate::retry::Backoff;

/// Makes a [`Producer`]: see [`Client::producer`](crate::Client::producer).
#[derive(Debug, Clone)]
#[must_use]
pub struct ProducerBuilder {
    pub(super) client: Arc<ClientCore>,
    pub(super) acks: Acks,
    pub(super) linger: Duration,
    pub(super) batch_bytes: usize,
    pub(super) batch_records: u32,
    pub(super) compression: Compression,
    pub(super) compression_level: Option<i32>,
    pub(super) buffer_bytes: usize,
    pub(super) delivery_timeout: Duration,
    pub(super) idempotent: bool,
    pub(super) retry_in_doubt: bool,
    pub(super) max_in_flight: usize,
    pub(super) partitioner: Arc<dyn Partitioner>,
    pub(super) backoff: Backoff,
}

impl ProducerBuilder {
    pub(crate) fn new(client: Arc<ClientCore>) -> Self {
        Self {
            backoff: client.backoff,
            client,
            acks: Acks::All,
            linger: Duration::ZERO,
            batch_bytes: BATCH_BYTES_MAX_DEFAULT as usize,
            batch_records: 1_000_000,
            compression: Compression::None,
            compression_level: None,
            buffer_bytes: 32 << 20,
            delivery_timeout: Duration::from_secs(120),
            idempotent: true,
            retry_in_doubt: true,
            max_in_flight: 5,
            partitioner: Arc::new(KeyHashPartitioner),
        }
    }

    /// When a record counts as delivered. Default: [`Acks::All`].
    pub fn acks(mut self, acks: Acks) -> Self {
        self.acks = acks;
        self
    }

    /// How long records may wait for others to share a batch with. An idle partition does not wait:
    /// its first record is sent at once. Default: zero, where records gather only while an earlier
    /// request of their partition is unanswered.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// When a batch is full, in bytes before compression. Larger than the topic's
    /// `max.message.bytes` makes the broker refuse full batches. Default: 1 MiB.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes.clamp(1, BATCH_BYTES_MAX_LIMIT as usize);
        self
    }

    /// When a batch is full, in records. Default: 1,000,000.
    pub fn batch_records(mut self, records: u32) -> Self {
        self.batch_records = records.max(1);
        self
    }

    /// How batches are compressed. Compression runs in the task that fills a batch or, for the rest,
    /// in the connection's. Default: not at all.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// How hard gzip (0 to 9) and zstd (-7 to 22) try. Default: the codec's own.
    pub fn compression_level(mut self, level: i32) -> Self {
        self.compression_level = Some(level);
        self
    }

    /// Most bytes of records that are not yet acknowledged; when they are reached, sending waits.
    /// One partition takes at most half of it, so that one that is stuck does not stop all. Default:
    /// 32 MiB.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = bytes.clamp(1 << 10, u32::MAX as usize);
        self
    }

    /// How long a record may take from being batched to being acknowledged, all retries included.
    /// Default: 2 minutes.
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.delivery_timeout = timeout;
        self
    }

    /// Whether the brokers append every record once and in order however often it is sent: batches
    /// carry a producer id from the cluster and numbers. With [`Acks::None`], where nothing is
    /// retried, there is no such thing. A cluster without producer ids makes an idempotent producer
    /// fail; it never goes on without. Default: yes.
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = idempotent;
        self
    }

    /// Whether to try again when the outcome of an attempt is unknown, as after a lost connection.
    /// Without [`Self::idempotent`], yes may store records twice. No reports the error, whose
    /// `may_have_committed` is true, and leaves it to the caller to find out, while records that
    /// were enqueued later go on. Default: yes.
    pub fn retry_in_doubt(mut self, retry: bool) -> Self {
        self.retry_in_doubt = retry;
        self
    }

    /// Most requests in flight to one broker. An idempotent producer has at most 5 batches of each
    /// partition in flight all the same. Without [`Self::idempotent`] and with more than one, a batch
    /// that the broker refuses for the moment while it takes a later one that was already on its way
    /// fails with [`SendError::Overtaken`](crate::SendError::Overtaken) instead of landing out of
    /// order; with one that cannot happen, but the connection idles while it waits. Default: 5.
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.max_in_flight = requests.max(1);
        self
    }

    /// Which partition a record goes to that does not name one. Default: [`KeyHashPartitioner`].
    pub fn partitioner(mut self, partitioner: impl Partitioner) -> Self {
        self.partitioner = Arc::new(partitioner);
        self
    }

    /// How long to wait between attempts. Default: the client's.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Makes the producer.
    #[must_use]
    pub fn build(self) -> Producer {
        Producer::start(self)
    }
}
