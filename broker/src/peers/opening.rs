//! Opening a connection to another broker: TCP, then Hello, then no doubt about who is there.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use highwater_protocol::api_key::{ApiKey, Request};
use highwater_protocol::codec::{ApiVersion, Decoder};
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::frame::{
    FrameReader, LENGTH_BYTES, decode_body, decode_error_message, decode_response_header,
    encode_request,
};
use highwater_protocol::ids::{ClusterId, CorrelationId, NodeId};
use highwater_protocol::messages::{HELLO_MAGIC, HelloRequest, HelloResponse};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::error::PeerError;

/// A connection that cannot be opened in this time is given up: a node that is up answers at once.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// The kernel gives a connection up when what was sent is not acknowledged for this long.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);

/// A quiet connection is probed after this long.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);

/// Whom a connection must lead to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) me: NodeId,
    pub(super) cluster: ClusterId,
    pub(super) node: NodeId,
}

/// An open connection to the right broker.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) stream: TcpStream,
    /// Bytes that arrived behind the answer to Hello.
    pub(super) received: BytesMut,
    pub(super) limits: Limits,
}

/// What the other broker takes.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    pub(super) frame_bytes_max: u32,
    pub(super) requests_max: usize,
    versions: BTreeMap<u16, (u16, u16)>,
}

impl Limits {
    fn from_hello(hello: &HelloResponse) -> Self {
        Self {
            frame_bytes_max: hello.frame_bytes_max,
            requests_max: hello.in_flight_requests_max as usize,
            versions: hello
                .apis
                .iter()
                .map(|range| (range.api, (range.version_min, range.version_max)))
                .collect(),
        }
    }

    /// The highest version that both ends speak.
    pub(super) fn version(&self, api: ApiKey) -> Result<ApiVersion, PeerError> {
        let (lowest, highest) = api.versions();
        let common = self
            .versions
            .get(&api.code())
            .map(|(min, max)| ((*min).max(lowest.0), (*max).min(highest.0)))
            .filter(|(min, max)| min <= max);
        match common {
            Some((_, version)) => Ok(ApiVersion(version)),
            None => Err(PeerError::Refused {
                code: ErrorCode::UnsupportedVersion,
                message: format!("the other broker speaks no version of {api} that this one does"),
            }),
        }
    }
}

/// Connects and makes sure that it is the wanted node of the wanted cluster: a message of Raft or of
/// replication that reaches another node breaks what they guarantee.
pub(super) async fn open(
    address: &str,
    wanted: Wanted,
    frame_bytes_max: u32,
) -> Result<Opened, PeerError> {
    let timed_out = || PeerError::Unreachable {
        address: address.to_owned(),
        reason: format!("no connection within {} ms", OPEN_TIMEOUT.as_millis()),
    };
    tokio::time::timeout(OPEN_TIMEOUT, async {
        let mut stream = connect(address).await?;
        let hello = HelloRequest {
            magic: HELLO_MAGIC,
            client_name: format!("broker {}", wanted.me),
            client_version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster_id: Some(wanted.cluster),
            node_id: Some(wanted.me),
        };
        let mut received = BytesMut::new();
        let hello = exchange(address, &mut stream, &mut received, &hello, frame_bytes_max)
            .await
            .map_err(|error| not_welcome(address, error))?;
        if hello.cluster_id != wanted.cluster || hello.node_id != wanted.node {
            return Err(PeerError::WrongPeer {
                address: address.to_owned(),
                found: format!("node {} of cluster {}", hello.node_id, hello.cluster_id),
                expected: format!("node {} of cluster {}", wanted.node, wanted.cluster),
            });
        }
        Ok(Opened {
            stream,
            received,
            limits: Limits::from_hello(&hello),
        })
    })
    .await
    .unwrap_or_else(|_| Err(timed_out()))
}

/// One request on a connection of its own, to whoever is at the address.
pub(super) async fn ask<R: Request>(
    address: &str,
    request: &R,
    frame_bytes_max: u32,
) -> Result<R::Response, PeerError> {
    let mut stream = connect(address).await?;
    let mut received = BytesMut::new();
    // Discover is what comes before one knows any cluster, so it needs no Hello.
    if R::API != ApiKey::Discover {
        let hello = HelloRequest {
            magic: HELLO_MAGIC,
            client_name: "broker".to_owned(),
            client_version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster_id: None,
            node_id: None,
        };
        exchange(address, &mut stream, &mut received, &hello, frame_bytes_max)
            .await
            .map_err(|error| not_welcome(address, error))?;
    }
    exchange(
        address,
        &mut stream,
        &mut received,
        request,
        frame_bytes_max,
    )
    .await
}

/// An error before the first request of the caller: nothing of it was carried out.
fn not_welcome(address: &str, error: PeerError) -> PeerError {
    match error {
        PeerError::WrongPeer { .. } | PeerError::Unreachable { .. } => error,
        other => PeerError::Unreachable {
            address: address.to_owned(),
            reason: other.to_string(),
        },
    }
}

async fn connect(address: &str) -> Result<TcpStream, PeerError> {
    let unreachable = |error: std::io::Error| PeerError::Unreachable {
        address: address.to_owned(),
        reason: error.to_string(),
    };
    let stream = TcpStream::connect(address).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let socket = SockRef::from(&stream);
    // Best effort: deadlines of calls notice a dead peer as well, only later.
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX));
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER));
    Ok(stream)
}

/// Sends one request and waits for its answer, on a connection where nothing else is in flight.
async fn exchange<R: Request>(
    address: &str,
    stream: &mut TcpStream,
    received: &mut BytesMut,
    request: &R,
    frame_bytes_max: u32,
) -> Result<R::Response, PeerError> {
    let lost = |reason: String| PeerError::Lost {
        address: address.to_owned(),
        reason,
    };
    let (_, version) = R::API.versions();
    for slice in encode_request(request, version, CorrelationId::ZERO) {
        stream
            .write_all(&slice)
            .await
            .map_err(|error| lost(error.to_string()))?;
    }
    let mut frames = FrameReader::new(frame_bytes_max);
    let frame = loop {
        match frames.next_frame(received) {
            Ok(Some(frame)) => break frame,
            Ok(None) => {}
            Err(error) => return Err(lost(error.to_string())),
        }
        received.reserve(frames.needed().clamp(LENGTH_BYTES, 64 << 10));
        match stream.read_buf(received).await {
            Ok(0) => return Err(lost("the other end closed it".to_owned())),
            Ok(_) => {}
            Err(error) => return Err(lost(error.to_string())),
        }
    };
    let (correlation, answer) = split_answer(address, frame)?;
    if correlation != CorrelationId::ZERO {
        return Err(lost("it answers what was not asked".to_owned()));
    }
    decode_body(answer?, version).map_err(|source| PeerError::Malformed {
        address: address.to_owned(),
        source,
    })
}

/// Which request a frame answers, and the body of the answer or why there is none.
///
/// # Errors
/// [`PeerError::Malformed`] when the frame is not an answer at all: the connection is of no use.
pub(super) fn split_answer(
    address: &str,
    frame: Bytes,
) -> Result<(CorrelationId, Result<Decoder, PeerError>), PeerError> {
    let malformed = |source| PeerError::Malformed {
        address: address.to_owned(),
        source,
    };
    let mut input = Decoder::new(frame);
    let header = decode_response_header(&mut input).map_err(malformed)?;
    let answer = match header.error {
        ErrorCode::None => Ok(input),
        code => Err(PeerError::Refused {
            code,
            message: decode_error_message(input).map_err(malformed)?,
        }),
    };
    Ok((header.correlation, answer))
}
