//! From an address to a connection: TCP, then Hello.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use highwater_protocol::api_key::ApiKey;
use highwater_protocol::codec::{ApiVersion, Decoder};
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::frame::{decode_body, decode_response_header, encode_request};
use highwater_protocol::ids::{ClusterId, CorrelationId, NodeId};
use highwater_protocol::limits::FRAME_BYTES_MAX_LIMIT;
use highwater_protocol::messages::{ApiRange, HELLO_MAGIC, HelloRequest, HelloResponse};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::pending::PendingRequests;
use super::receiver::{ReceiveError, Receiver};
use super::write_queue::WriteQueue;
use super::{Connection, Inner, tasks};
use crate::error::ConnectError;

/// What the broker said about itself.
#[derive(Debug)]
pub(crate) struct Greeting {
    pub(crate) address: Arc<str>,
    pub(crate) cluster_id: ClusterId,
    pub(crate) node_id: NodeId,
    pub(crate) frame_bytes_max: usize,
    pub(crate) requests_max: usize,
    /// The highest version that both sides speak, per API that both know.
    versions: Vec<(ApiKey, ApiVersion)>,
}

impl Greeting {
    pub(crate) fn version_of(&self, api: ApiKey) -> Option<ApiVersion> {
        self.versions
            .iter()
            .find(|(key, _)| *key == api)
            .map(|(_, version)| *version)
    }
}

/// How to introduce ourselves.
#[derive(Debug, Clone)]
pub(crate) struct Introduction {
    pub(crate) client_name: Arc<str>,
    pub(crate) cluster_id: Option<ClusterId>,
    pub(crate) connect_timeout: Duration,
}

/// Connects and shakes hands. Must run inside of a tokio runtime, which then carries the
/// connection's two tasks.
///
/// Cancel safe: dropping the future closes the socket.
pub(crate) async fn open(
    address: &Arc<str>,
    introduction: &Introduction,
) -> Result<Connection, ConnectError> {
    let after = introduction.connect_timeout;
    timeout(after, connect(address, introduction))
        .await
        .unwrap_or_else(|_| {
            Err(ConnectError::TimedOut {
                address: Arc::clone(address),
                after,
            })
        })
}

async fn connect(
    address: &Arc<str>,
    introduction: &Introduction,
) -> Result<Connection, ConnectError> {
    let io = |source| ConnectError::Io {
        address: Arc::clone(address),
        source: Arc::new(source),
    };
    // The name is resolved anew at every attempt.
    let mut socket = TcpStream::connect(&**address).await.map_err(io)?;
    socket.set_nodelay(true).map_err(io)?;
    let version = ApiKey::Hello.versions().1;
    let hello = HelloRequest {
        node_id: None,
        magic: HELLO_MAGIC,
        client_name: introduction.client_name.to_string(),
        client_version: env!("CARGO_PKG_VERSION").to_owned(),
        cluster_id: introduction.cluster_id,
    };
    for part in encode_request(&hello, version, CorrelationId::ZERO) {
        socket.write_all(&part).await.map_err(io)?;
    }
    let mut receiver = Receiver::new(FRAME_BYTES_MAX_LIMIT as usize);
    let frame = receiver
        .next_frame(&mut socket, |_| ())
        .await
        .map_err(|error| match error {
            // A broker that is about to stop does this too, so it is worth another attempt.
            ReceiveError::Closed | ReceiveError::Cut => io(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                error.to_string(),
            )),
            ReceiveError::Io(error) => io(error),
            ReceiveError::TooLarge { .. } => ConnectError::NotHighwater {
                address: Arc::clone(address),
                reason: error.to_string(),
            },
        })?;
    let greeting = greet(address, introduction, Decoder::new(frame), version)?;
    let (read, write) = socket.into_split();
    static NEXT_ID: AtomicU64 = AtomicU64::new(1);
    let inner = Arc::new(Inner {
        id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        greeting,
        pending: PendingRequests::default(),
        writes: WriteQueue::new(write),
        wake: Notify::new(),
        received: AtomicU64::new(0),
    });
    tasks::spawn(&inner, read, receiver);
    Ok(Connection { inner })
}

/// Reads the answer to Hello.
fn greet(
    address: &Arc<str>,
    introduction: &Introduction,
    mut body: Decoder,
    version: ApiVersion,
) -> Result<Greeting, ConnectError> {
    let address = Arc::clone(address);
    let foreign = |reason: String| ConnectError::NotHighwater {
        address: Arc::clone(&address),
        reason,
    };
    let header = decode_response_header(&mut body).map_err(|e| foreign(e.to_string()))?;
    match header.error {
        ErrorCode::None => {}
        ErrorCode::WrongCluster => {
            let message = body
                .take_str()
                .map_err(|e| foreign(e.to_string()))?
                .to_owned();
            return Err(match introduction.cluster_id {
                Some(expected) => ConnectError::WrongCluster { address, expected },
                None => ConnectError::Refused {
                    address,
                    code: header.error,
                    message,
                },
            });
        }
        code => {
            let message = body
                .take_str()
                .map_err(|e| foreign(e.to_string()))?
                .to_owned();
            return Err(ConnectError::Refused {
                address,
                code,
                message,
            });
        }
    }
    let hello: HelloResponse = decode_body(body, version).map_err(|e| foreign(e.to_string()))?;
    if let Some(expected) = introduction.cluster_id
        && expected != hello.cluster_id
    {
        return Err(ConnectError::WrongCluster { address, expected });
    }
    if !hello.auth_mechanisms.is_empty() {
        let mechanisms = hello.auth_mechanisms;
        return Err(ConnectError::AuthenticationNeeded {
            address,
            mechanisms,
        });
    }
    Ok(Greeting {
        address,
        cluster_id: hello.cluster_id,
        node_id: hello.node_id,
        frame_bytes_max: hello.frame_bytes_max as usize,
        requests_max: (hello.in_flight_requests_max as usize).max(1),
        versions: hello.apis.iter().filter_map(common_version).collect(),
    })
}

fn common_version(theirs: &ApiRange) -> Option<(ApiKey, ApiVersion)> {
    let api = ApiKey::from_code(theirs.api)?;
    let (lowest, highest) = api.versions();
    let version = highest.0.min(theirs.version_max);
    (version >= lowest.0 && version >= theirs.version_min).then_some((api, ApiVersion(version)))
}
