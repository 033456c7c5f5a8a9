//! The APIs: one file each. A handler gets a decoded request and returns an answer, now or later.
//!
//! What need not wait is answered by the task that read it: a hand-over between threads costs more
//! than the work itself.

pub(crate) mod cluster;
mod configs;
pub(crate) mod controlled;
mod delete_records;
mod discover;
mod fetch;
mod hello;
mod init_producer_id;
mod list_offsets;
mod metadata;
mod produce;
mod replica_logs;
#[cfg(test)]
mod replication_tests;
mod sender;
mod storage_error;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use highwater_protocol::api_key::{ApiKey, Request};
use highwater_protocol::codec::{ApiVersion, Decoder, Wire};
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::frame::{
    RequestHeader, decode_body, decode_request_header, encode_error_response, encode_response,
};
use highwater_protocol::ids::{CorrelationId, NodeId};
use highwater_protocol::limits::REQUEST_ELEMENTS_MAX;
use highwater_protocol::messages as m;

use self::controlled::From;
use self::sender::OfBroker;
use crate::partitions::Refusal;
use crate::shared::Shared;

/// The slices of one response frame.
pub(crate) type Response = Vec<Bytes>;

/// How a request is answered.
pub(crate) enum Answer {
    /// With this.
    Now(Response),
    /// When the future is done, which holds about this many bytes until then.
    Later(Pin<Box<dyn Future<Output = Response> + Send>>, usize),
    /// Not at all (acks = 0).
    Never,
    /// With this, and then the connection is closed.
    Last(Response),
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Now(_) => "Now",
            Self::Later(..) => "Later",
            Self::Never => "Never",
            Self::Last(_) => "Last",
        })
    }
}

/// What a connection knows of its client.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    /// Our end of the connection: an address at which this client reaches this broker.
    pub(crate) local: Option<SocketAddr>,
    /// Set by Hello.
    pub(crate) client: Option<Client>,
}

impl Peer {
    /// Whether it is another broker.
    fn from(&self) -> From {
        match self.node_id() {
            Some(_) => From::Broker,
            None => From::Client,
        }
    }

    /// The broker that it is, if it is one.
    fn node_id(&self) -> Option<NodeId> {
        self.client.as_ref().and_then(|client| client.node_id)
    }
}

/// A client that said Hello.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) version: String,
    /// The broker that it is, if it is one.
    pub(crate) node_id: Option<NodeId>,
}

/// Makes the response frames of one request, and counts it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reply {
    api: ApiKey,
    version: ApiVersion,
    correlation: CorrelationId,
    received: Instant,
}

impl Reply {
    /// The response.
    pub(crate) fn ok<B: Wire>(&self, shared: &Shared, body: &B) -> Response {
        shared
            .metrics
            .request_answered(self.api, self.received.elapsed());
        encode_response(body, self.version, self.correlation)
    }

    /// The request as a whole failed.
    pub(crate) fn error(&self, shared: &Shared, code: ErrorCode, message: &str) -> Response {
        shared.metrics.request_failed(self.api, code);
        shared
            .metrics
            .request_answered(self.api, self.received.elapsed());
        encode_error_response(code, message, self.correlation)
    }
}

/// Decodes a frame and hands it to its handler.
pub(crate) fn dispatch(
    shared: &Arc<Shared>,
    peer: &mut Peer,
    frame: Bytes,
    received: Instant,
) -> Answer {
    let mut input = Decoder::new(frame).limit_elements(REQUEST_ELEMENTS_MAX);
    let Ok(header) = decode_request_header(&mut input) else {
        // Without a correlation id there is nobody to answer to but the connection itself.
        let message = "a request starts with api, version and correlation id";
        return Answer::Last(encode_error_response(
            ErrorCode::MalformedRequest,
            message,
            CorrelationId::ZERO,
        ));
    };
    let RequestHeader {
        api: api_code,
        version,
        correlation,
    } = header;
    let may_be_first = [ApiKey::Hello.code(), ApiKey::Discover.code()];
    if peer.client.is_none() && !may_be_first.contains(&api_code) {
        let message = "the first request of a connection is Hello";
        return Answer::Last(encode_error_response(
            ErrorCode::HelloExpected,
            message,
            correlation,
        ));
    }
    let Some(api) = ApiKey::from_code(api_code) else {
        let message = format!("there is no API {api_code}");
        return Answer::Now(encode_error_response(
            ErrorCode::UnknownApi,
            &message,
            correlation,
        ));
    };
    let (lowest, highest) = api.versions();
    if version < lowest || version > highest {
        let message = format!(
            "{} is spoken in versions {} to {}, not {}",
            api.name(),
            lowest.0,
            highest.0,
            version.0
        );
        let answer = encode_error_response(ErrorCode::UnsupportedVersion, &message, correlation);
        return Answer::Now(answer);
    }
    let call = Call {
        reply: Reply {
            api,
            version,
            correlation,
            received,
        },
        input,
    };
    let (from, sender) = (peer.from(), peer.node_id());
    if is_for_clients(api)
        && let Err(refusal) = shared.check_serves_clients()
    {
        return Answer::Now(call.reply.error(shared, refusal.code, &refusal.message));
    }
    match api {
        ApiKey::Hello => call.decoded(shared, |request, reply| {
            hello::handle(shared, peer, &request, reply)
        }),
        ApiKey::Metadata => call.now(shared, |request| metadata::handle(shared, peer, &request)),
        ApiKey::Produce => call.decoded(shared, |request, reply| {
            produce::handle(shared, &request, reply)
        }),
        ApiKey::Fetch => call.decoded(shared, |request, reply| {
            fetch::handle(shared, sender, request, reply)
        }),
        ApiKey::ListOffsets => call.blocking(shared, list_offsets::handle),
        ApiKey::DeleteRecords => call.blocking(shared, delete_records::handle),
        ApiKey::DescribeConfigs => call.now(shared, |request| configs::describe(shared, &request)),
        ApiKey::InitProducerId => call.later(shared, init_producer_id::handle),
        ApiKey::Discover => call.now(shared, |request| Ok(discover::handle(shared, &request))),
        ApiKey::RaftAppend => call.of_broker(shared, sender, |shared, request| async move {
            shared.quorum.on_append(request).await
        }),
        ApiKey::RaftVote => call.of_broker(shared, sender, |shared, request| async move {
            shared.quorum.on_vote(request).await
        }),
        ApiKey::RaftSnapshot => call.of_broker(shared, sender, |shared, request| async move {
            shared.quorum.on_snapshot(request).await
        }),
        ApiKey::RaftProbe => call.of_broker(shared, sender, |shared, request| async move {
            shared.quorum.on_probe(request).await
        }),
        ApiKey::ReplicaLogs => {
            call.now(shared, |request| Ok(replica_logs::handle(shared, &request)))
        }
        ApiKey::DescribeCluster => {
            let local = peer.local;
            call.later(shared, |shared, request| {
                cluster::handle(shared, local, from, request)
            })
        }
        ApiKey::CreateTopics => call.later(shared, |shared, request| {
            controlled::create_topics(shared, request, from)
        }),
        ApiKey::DeleteTopics => call.later(shared, |shared, request| {
            controlled::delete_topics(shared, request, from)
        }),
        ApiKey::CreatePartitions => call.later(shared, |shared, request| {
            controlled::create_partitions(shared, request, from)
        }),
        ApiKey::AlterConfigs => call.later(shared, |shared, request| {
            controlled::alter_configs(shared, request, from)
        }),
        ApiKey::JoinCluster => call.later(shared, |shared, request: m::JoinClusterRequest| {
            controlled::pass_on(shared, request, from)
        }),
        ApiKey::RegisterBroker => call.of_broker(
            shared,
            sender,
            move |shared, request: m::RegisterBrokerRequest| {
                controlled::pass_on(shared, request, from)
            },
        ),
        ApiKey::BrokerHeartbeat => call.of_broker(
            shared,
            sender,
            move |shared, request: m::BrokerHeartbeatRequest| {
                controlled::pass_on(shared, request, from)
            },
        ),
        ApiKey::AlterPartition => call.of_broker(
            shared,
            sender,
            move |shared, request: m::AlterPartitionRequest| {
                controlled::pass_on(shared, request, from)
            },
        ),
        ApiKey::AllocateProducerIds => call.of_broker(
            shared,
            sender,
            move |shared, request: m::AllocateProducerIdsRequest| {
                controlled::pass_on(shared, request, from)
            },
        ),
        ApiKey::DescribeQuorum => call
            .later(shared, |shared, request: m::DescribeQuorumRequest| {
                controlled::pass_on(shared, request, from)
            }),
        ApiKey::AlterVoters => call.later(shared, |shared, request: m::AlterVotersRequest| {
            controlled::pass_on(shared, request, from)
        }),
        ApiKey::DrainNode => call.later(shared, |shared, request: m::DrainNodeRequest| {
            controlled::pass_on(shared, request, from)
        }),
        ApiKey::RemoveNode => call.later(shared, |shared, request: m::RemoveNodeRequest| {
            controlled::pass_on(shared, request, from)
        }),
        ApiKey::MoveReplicas => call.later(shared, |shared, request: m::MoveReplicasRequest| {
            controlled::pass_on(shared, request, from)
        }),
        ApiKey::ElectLeaders => call.later(shared, |shared, request: m::ElectLeadersRequest| {
            controlled::pass_on(shared, request, from)
        }),
        ApiKey::Balance => call.later(shared, |shared, request: m::BalanceRequest| {
            controlled::pass_on(shared, request, from)
        }),
    }
}

/// What waits until this broker serves clients. Brokers are answered before that, because this one needs
/// them to get there, and so are administrators, who may be needed for that as well.
fn is_for_clients(api: ApiKey) -> bool {
    matches!(
        api,
        ApiKey::Metadata
            | ApiKey::Produce
            | ApiKey::ListOffsets
            | ApiKey::CreateTopics
            | ApiKey::DeleteTopics
            | ApiKey::CreatePartitions
            | ApiKey::DeleteRecords
            | ApiKey::DescribeConfigs
            | ApiKey::AlterConfigs
            | ApiKey::InitProducerId
    )
}

struct Call {
    reply: Reply,
    input: Decoder,
}

impl Call {
    fn decoded<R: Request>(
        self,
        shared: &Shared,
        handle: impl FnOnce(R, Reply) -> Answer,
    ) -> Answer {
        match decode_body::<R>(self.input, self.reply.version) {
            Ok(request) => handle(request, self.reply),
            Err(error) => {
                let message = format!("{}: {error}", self.reply.api.name());
                let code = ErrorCode::MalformedRequest;
                Answer::Now(self.reply.error(shared, code, &message))
            }
        }
    }

    /// For handlers that neither wait nor touch the disk.
    fn now<R: Request>(
        self,
        shared: &Shared,
        handle: impl FnOnce(R) -> Result<R::Response, Refusal>,
    ) -> Answer {
        self.decoded(shared, |request, reply| {
            Answer::Now(match handle(request) {
                Ok(response) => reply.ok(shared, &response),
                Err(Refusal { code, message }) => reply.error(shared, code, &message),
            })
        })
    }

    /// For handlers that touch the disk: they run on a thread that may block.
    fn blocking<R>(self, shared: &Arc<Shared>, handle: fn(&Shared, R) -> R::Response) -> Answer
    where
        R: Request + Send + 'static,
        R::Response: Send + 'static,
    {
        // Strings and lists, decoded: a small multiple of what they were on the wire.
        let held = self.input.remaining().saturating_mul(4);
        self.decoded(shared, |request, reply| {
            let shared = Arc::clone(shared);
            let answer = async move {
                let worker = Arc::clone(&shared);
                let work = tokio::task::spawn_blocking(move || handle(&worker, request));
                match work.await {
                    Ok(response) => reply.ok(&shared, &response),
                    Err(error) => {
                        tracing::error!(api = reply.api.name(), %error, "request handler failed");
                        let message = "the broker's log has the details";
                        reply.error(&shared, ErrorCode::Internal, message)
                    }
                }
            };
            Answer::Later(Box::pin(answer), held)
        })
    }

    /// As [`Self::later`], for what a broker says of itself.
    fn of_broker<R, F>(
        self,
        shared: &Arc<Shared>,
        sender: Option<NodeId>,
        handle: impl FnOnce(Arc<Shared>, R) -> F + Send + 'static,
    ) -> Answer
    where
        R: OfBroker + Send + 'static,
        F: Future<Output = Result<R::Response, Refusal>> + Send + 'static,
        R::Response: Send,
    {
        self.later(shared, move |shared, request: R| async move {
            sender::check(sender, request.broker())?;
            handle(shared, request).await
        })
    }

    /// For handlers that wait for other brokers or for the disk.
    fn later<R, F>(self, shared: &Arc<Shared>, handle: impl FnOnce(Arc<Shared>, R) -> F) -> Answer
    where
        R: Request,
        F: Future<Output = Result<R::Response, Refusal>> + Send + 'static,
        R::Response: Send,
    {
        // Decoded: a small multiple of what it was on the wire.
        let held = self.input.remaining().saturating_mul(4);
        self.decoded(shared, |request, reply| {
            let work = handle(Arc::clone(shared), request);
            let shared = Arc::clone(shared);
            let answer = async move {
                match work.await {
                    Ok(response) => reply.ok(&shared, &response),
                    Err(Refusal { code, message }) => reply.error(&shared, code, &message),
                }
            };
            Answer::Later(Box::pin(answer), held)
        })
    }
}
