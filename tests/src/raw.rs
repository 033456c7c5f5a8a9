//! A client of a few lines, straight on a socket: to say what our client crate would never say.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use highwater_protocol::api_key::Request;
use highwater_protocol::batch_builder::BatchBuilder;
use highwater_protocol::codec::{ApiVersion, Decoder};
use highwater_protocol::compression::Compression;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::frame::{
    decode_body, decode_error_message, decode_response_header, encode_request,
};
use highwater_protocol::ids::{
    ClusterId, CorrelationId, NodeId, Offset, PartitionId, Timestamp, TopicId,
};
use highwater_protocol::messages::{
    Acks, ConfigEntry, CreateTopicsRequest, FetchPartition, FetchRequest, FetchTopic, HELLO_MAGIC,
    HelloRequest, Isolation, MetadataRequest, NewTopic, ProducePartition, ProduceRequest,
    ProduceTopic,
};
use highwater_protocol::record::records_ref;
use highwater_protocol::record_batch::{Batches, verify_batch};

/// No answer of a healthy broker takes this long.
const TIMEOUT: Duration = Duration::from_secs(20);
const VERSION: ApiVersion = ApiVersion(1);

/// A blocking connection.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
    next: u32,
}

/// A request that failed as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The code.
    pub code: ErrorCode,
    /// The message.
    pub message: String,
}

impl RawClient {
    /// Connects, without saying Hello.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self { stream, next: 1 })
    }

    /// Connects and says Hello.
    ///
    /// # Panics
    /// When the broker refuses it.
    #[must_use]
    pub fn hello(address: SocketAddr) -> Self {
        Self::try_hello(address).expect("the broker accepts connections")
    }

    /// As [`Self::hello`], for brokers that may be gone.
    ///
    /// # Errors
    /// Those of the socket.
    ///
    /// # Panics
    /// When the broker is there and refuses it.
    pub fn try_hello(address: SocketAddr) -> io::Result<Self> {
        let mut client = Self::connect(address)?;
        client
            .try_call(&hello(None, None))?
            .expect("the broker answers Hello");
        Ok(client)
    }

    /// Connects and says that it is a broker of a cluster.
    ///
    /// # Errors
    /// [`Refused`] when it is not welcome.
    ///
    /// # Panics
    /// When the broker does not answer.
    pub fn hello_as(
        address: SocketAddr,
        node_id: NodeId,
        cluster_id: Option<ClusterId>,
    ) -> Result<Self, Refused> {
        let mut client = Self::connect(address).expect("the broker accepts connections");
        client.call(&hello(Some(node_id), cluster_id))?;
        Ok(client)
    }

    /// The socket.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Sends a request and waits for its response.
    ///
    /// # Errors
    /// [`Refused`] when the request as a whole failed.
    ///
    /// # Panics
    /// When the broker closes the connection or answers something that is no response.
    pub fn call<R: Request>(&mut self, request: &R) -> Result<R::Response, Refused> {
        self.try_call(request).expect("the broker answers")
    }

    /// As [`Self::call`], for brokers that may be gone.
    ///
    /// # Errors
    /// Outside: the connection failed, and nobody knows whether the request was carried out. Inside:
    /// the request as a whole was refused.
    ///
    /// # Panics
    /// When the broker answers something that is no response.
    pub fn try_call<R: Request>(
        &mut self,
        request: &R,
    ) -> io::Result<Result<R::Response, Refused>> {
        let correlation = self.try_send(request)?;
        self.answer::<R>(correlation)
    }

    /// Waits for the response to a request that was sent.
    ///
    /// # Errors
    /// As [`Self::try_call`].
    ///
    /// # Panics
    /// When the broker answers something that is no response to it.
    pub fn answer<R: Request>(
        &mut self,
        correlation: CorrelationId,
    ) -> io::Result<Result<R::Response, Refused>> {
        let (header, body) = self.receive()?;
        assert_eq!(header.0, correlation, "the response is to this request");
        Ok(match header.1 {
            ErrorCode::None => Ok(decode_body(body, VERSION).expect("the response decodes")),
            code => {
                let message = decode_error_message(body).expect("the error message decodes");
                Err(Refused { code, message })
            }
        })
    }

    /// Sends a request without waiting.
    ///
    /// # Panics
    /// When the socket fails.
    pub fn send<R: Request>(&mut self, request: &R) -> CorrelationId {
        self.try_send(request).expect("the broker reads")
    }

    fn try_send<R: Request>(&mut self, request: &R) -> io::Result<CorrelationId> {
        let correlation = CorrelationId::new(self.next);
        self.next += 1;
        for slice in encode_request(request, VERSION, correlation) {
            self.stream.write_all(&slice)?;
        }
        Ok(correlation)
    }

    /// Appends batches and waits for the acknowledgement: the base offset, or the partition's error.
    ///
    /// # Errors
    /// The connection failed: the batches may be in the log or not.
    ///
    /// # Panics
    /// When the request as a whole is refused.
    pub fn produce(
        &mut self,
        topic_id: TopicId,
        partition: PartitionId,
        acks: Acks,
        records: Bytes,
    ) -> io::Result<Result<Offset, Refused>> {
        let partitions = vec![ProducePartition {
            partition,
            leader_epoch: None,
            records,
        }];
        let request = ProduceRequest {
            acks,
            timeout_ms: 10_000,
            topics: vec![ProduceTopic {
                topic_id,
                partitions,
            }],
        };
        let response = match self.try_call(&request)? {
            Ok(response) => response,
            Err(refused) => return Ok(Err(refused)),
        };
        let result = response
            .topics
            .into_iter()
            .next()
            .and_then(|t| t.partitions.into_iter().next());
        let result = result.expect("one partition was asked for");
        Ok(match (result.error, result.base_offset) {
            (ErrorCode::None, Some(offset)) => Ok(offset),
            (code, _) => Err(Refused {
                code,
                message: result.message.unwrap_or_default(),
            }),
        })
    }

    /// Reads batches from `offset` on, without waiting for any: the bytes and the high watermark.
    ///
    /// # Panics
    /// When the broker does not answer.
    pub fn fetch(
        &mut self,
        topic_id: TopicId,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<(Bytes, Offset), Refused> {
        let request = fetch_request(topic_id, partition, offset, 0);
        let response = self.call(&request)?;
        let result = response
            .topics
            .into_iter()
            .next()
            .and_then(|t| t.partitions.into_iter().next());
        let result = result.expect("one partition was asked for");
        match result.error {
            ErrorCode::None => Ok((result.records, result.high_watermark)),
            code => Err(Refused {
                code,
                message: result.message.unwrap_or_default(),
            }),
        }
    }

    /// Asks for records from the start of the partition on, for as long as there are none, and does
    /// not wait for the answer.
    pub fn long_poll(
        &mut self,
        topic_id: TopicId,
        partition: PartitionId,
        wait_ms_max: u32,
    ) -> CorrelationId {
        self.send(&fetch_request(
            topic_id,
            partition,
            Offset::ZERO,
            wait_ms_max,
        ))
    }

    /// Every record of a partition from `offset` to the high watermark: offset and value.
    ///
    /// # Panics
    /// When the broker does not answer, or what it answers is damaged.
    pub fn read_all(
        &mut self,
        topic_id: TopicId,
        partition: PartitionId,
        offset: Offset,
    ) -> Vec<(Offset, Vec<u8>)> {
        let mut position = offset;
        let mut found = Vec::new();
        loop {
            let (bytes, high_watermark) = self
                .fetch(topic_id, partition, position)
                .expect("the partition can be read");
            for batch in Batches::new(&bytes) {
                let (header, batch) = batch.expect("whole batches");
                verify_batch(batch).expect("batches verify");
                for record in records_ref(batch).expect("uncompressed batches") {
                    let record = record.expect("records decode");
                    if record.offset >= position {
                        found.push((record.offset, record.value.unwrap_or_default().to_vec()));
                    }
                }
                position = header.next_offset();
            }
            if position >= high_watermark {
                return found;
            }
            assert!(!bytes.is_empty(), "there is more below the high watermark");
        }
    }

    /// Receives one response: correlation id and error, and the rest.
    ///
    /// # Errors
    /// Those of the socket, also that it was closed.
    pub fn receive(&mut self) -> io::Result<((CorrelationId, ErrorCode), Decoder)> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame)?;
        let mut input = Decoder::new(Bytes::from(frame));
        let header = decode_response_header(&mut input)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(((header.correlation, header.error), input))
    }

    /// Waits until the broker closes the connection; returns what it said before.
    ///
    /// # Panics
    /// When it does not within the time limit.
    pub fn until_closed(&mut self) -> Vec<u8> {
        let mut said = Vec::new();
        match self.stream.read_to_end(&mut said) {
            Ok(_) => said,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => said,
            Err(error) => panic!("the broker did not close the connection: {error}"),
        }
    }

    /// Creates a topic and returns its id.
    ///
    /// # Panics
    /// When the broker refuses it.
    pub fn create_topic(&mut self, name: &str, partitions: u32) -> TopicId {
        self.create_topic_with(name, partitions, &[])
    }

    /// Creates a topic with settings and returns its id.
    ///
    /// # Panics
    /// When the broker refuses it.
    pub fn create_topic_with(
        &mut self,
        name: &str,
        partitions: u32,
        configs: &[(&str, &str)],
    ) -> TopicId {
        let configs = configs.iter().map(|(key, value)| ConfigEntry {
            key: (*key).to_owned(),
            value: (*value).to_owned(),
        });
        let topic = NewTopic {
            name: name.to_owned(),
            partitions: Some(partitions),
            replicas: Some(1),
            configs: configs.collect(),
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            validate_only: false,
        };
        let response = self.call(&request).expect("the broker creates topics");
        let result = &response.topics[0];
        assert_eq!(result.error, ErrorCode::None, "{:?}", result.message);
        result.topic_id.expect("a created topic has an id")
    }

    /// Asks for metadata: the cheapest sign of life.
    ///
    /// # Panics
    /// When the broker does not answer.
    pub fn assert_served(&mut self) {
        self.call(&MetadataRequest {
            topics: Some(Vec::new()),
        })
        .expect("the broker serves");
    }
}

fn hello(node_id: Option<NodeId>, cluster_id: Option<ClusterId>) -> HelloRequest {
    HelloRequest {
        node_id,
        magic: HELLO_MAGIC,
        client_name: "raw test client".to_owned(),
        client_version: "0".to_owned(),
        cluster_id,
    }
}

/// A batch of these values, stamped with the time of this machine.
///
/// # Panics
/// When the clock of this machine is before 1970.
pub fn batch_of<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Bytes {
    let now = std::time::UNIX_EPOCH
        .elapsed()
        .expect("a clock after 1970")
        .as_millis();
    let now =
        Timestamp::from_millis(i64::try_from(now).expect("a clock before the year 292,000,000"));
    let mut builder = BatchBuilder::new(Compression::None, None);
    for value in values {
        builder.push(now, None, Some(value), &[]);
    }
    builder.build()
}

/// A request for what there is, or for one byte at least if it may wait.
fn fetch_request(
    topic_id: TopicId,
    partition: PartitionId,
    offset: Offset,
    wait_ms_max: u32,
) -> FetchRequest {
    let partitions = vec![FetchPartition {
        partition,
        leader_epoch: None,
        offset,
        last_epoch: None,
        durable_end: None,
        log_start: None,
        bytes_max: 8 << 20,
    }];
    FetchRequest {
        replica: None,
        wait_ms_max,
        bytes_min: u32::from(wait_ms_max > 0),
        bytes_max: 8 << 20,
        isolation: Isolation::ReadUncommitted,
        topics: vec![FetchTopic {
            topic_id,
            partitions,
        }],
    }
}
