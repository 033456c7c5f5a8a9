//! The client of Highwater: an async library to produce, read and administer.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let broker = highwater_broker::EmbeddedBroker::start().await?;
//! # let address = broker.address().to_string();
//! use std::time::Duration;
//! use highwater_client::{Client, NewTopic, ProducerRecord, Until};
//!
//! let client = Client::builder().seeds([address]).client_name("example").connect().await?;
//! client.admin().create_topic(NewTopic::new("greetings").partitions(1)).await?;
//!
//! let producer = client.producer().build();
//! let ack = producer.send(ProducerRecord::to("greetings").key("en").value("hello")).await?;
//! assert_eq!(ack.offset.map(|offset| offset.get()), Some(0));
//! producer.close(Duration::from_secs(5)).await?;
//!
//! let mut reader = client.reader("greetings").until(Until::End).build().await?;
//! while let Some(record) = reader.next().await? {
//!     assert_eq!(record.value.as_deref(), Some(&b"hello"[..]));
//! }
//! # Ok(()) }
//! ```
//!
//! - [`Client`] is cheap to clone; it owns one TCP connection per broker, made when first needed and
//!   made anew, with backoff, when lost. Requests of all its parts share it, and answers come in any
//!   order. Every request has a deadline. Any one broker of the cluster suffices to begin with.
//! - [`Producer`] batches, compresses and retries; each record is appended once and in order, however
//!   often it had to be sent and whoever leads its partition. Its buffer is bounded by bytes. `send` for one record, `enqueue` for acknowledgements as futures,
//!   `enqueue_many` for bulk.
//! - [`Reader`] reads chosen partitions from an offset, a time, the beginning or the end, fetching
//!   ahead; batches and records are slices of the receive buffer.
//! - [`Admin`] creates, describes, configures and deletes topics, lists offsets, trims, and looks
//!   after the cluster: its quorum, its nodes, where replicas and leaders are.
//!
//! # What to rely on
//!
//! **Acknowledged means written**, as far as the acknowledgement level and the topic's durability
//! say, once and in the order in which the records of its partition were enqueued. A record whose
//! acknowledgement is an error may still be in the log where the error's `may_have_committed` says
//! so.
//!
//! **Leaders change.** Producers and readers find out who leads and follow within their delivery and
//! retry timeouts; a broker that is gone keeps nobody from using the others. A reader never goes back
//! and never skips because of it.
//!
//! **Errors** are one enum per operation, with `is_retriable`, `may_have_committed`, a stable `code`
//! for scripts and metrics, and the broker's own code where it refused.
//!
//! **Cancel safety** is stated on every async function. Unless it says otherwise, dropping a future
//! loses neither records nor buffer space nor order.
//!
//! **Runtime.** Any tokio runtime, current-thread or multi-thread, with I/O and time enabled. The
//! library starts tasks but no threads, and no `Drop` blocks. Large compressed batches are unpacked
//! on the runtime's blocking pool.
#![forbid(unsafe_code)]

mod admin;
mod brokers;
mod client;
mod connection;
mod error;
mod metadata;
mod producer;
mod reader;
mod retry;

pub use admin::{
    AbsentNode, Admin, BalanceStatus, BrokerDescription, ClusterDescription, ConfigDescription,
    ConfigSource, CreatedTopic, Election, MoveReason, NewTopic, PartitionDescription,
    PartitionName, PartitionOffset, PartitionOutcome, PlannedMove, QuorumDescription, QuorumMember,
    ReplicaMove, TopicDescription, TrimmedPartition,
};
pub use client::{Client, ClientBuilder};
pub use error::{
    AdminError, CloseError, ConnectError, PartlyEnqueued, ReadError, Rejected, RequestError,
    SendError, Undelivered,
};
pub use producer::{
    Ack, AckRange, BatchAck, KeyHashPartitioner, Partitioner, PendingAck, PendingBatch, Producer,
    ProducerBuilder, ProducerRecord, RecordSlices, Settled,
};
pub use reader::{OutOfRange, ReadBatch, ReadRecord, Reader, ReaderBuilder, Records, Start, Until};
pub use retry::Backoff;

pub use highwater_protocol::compression::Compression;
pub use highwater_protocol::error_code::ErrorCode;
pub use highwater_protocol::ids::{
    BrokerEpoch, ClusterId, LeaderEpoch, NodeId, Offset, PartitionId, Timestamp, TopicId, TopicName,
};
pub use highwater_protocol::messages::{Acks, OffsetSpec};
pub use highwater_protocol::record::{Headers, Record, RecordRef};
