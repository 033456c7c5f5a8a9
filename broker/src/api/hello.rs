//! Hello: the handshake.

use highwater_protocol::api_key::ApiKey;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::messages::{ApiRange, HELLO_MAGIC, HelloRequest, HelloResponse};

use super::{Answer, Client, Peer, Reply};
use crate::shared::Shared;

/// Longer names and versions of clients are cut: they go into logs.
const NAME_BYTES_MAX: usize = 256;

pub(crate) fn handle(
    shared: &Shared,
    peer: &mut Peer,
    request: &HelloRequest,
    reply: Reply,
) -> Answer {
    if peer.client.is_some() {
        let message = "Hello comes once on a connection";
        return Answer::Last(reply.error(shared, ErrorCode::HelloExpected, message));
    }
    if request.magic != HELLO_MAGIC {
        let message = "this is a Highwater broker, and the client does not speak its protocol";
        return Answer::Last(reply.error(shared, ErrorCode::MalformedRequest, message));
    }
    if let Some(expected) = request.cluster_id.filter(|id| *id != shared.cluster_id) {
        let message = format!(
            "this broker is of cluster {}, not {expected}",
            shared.cluster_id
        );
        return Answer::Last(reply.error(shared, ErrorCode::WrongCluster, &message));
    }
    if request.node_id.is_some() && request.cluster_id.is_none() {
        let message = "a broker says of which cluster it is";
        return Answer::Last(reply.error(shared, ErrorCode::WrongCluster, message));
    }
    peer.client = Some(Client {
        name: cut(&request.client_name).to_owned(),
        version: cut(&request.client_version).to_owned(),
        node_id: request.node_id,
    });
    let network = &shared.config.network;
    let response = HelloResponse {
        cluster_id: shared.cluster_id,
        node_id: shared.node_id,
        broker_version: env!("CARGO_PKG_VERSION").to_owned(),
        apis: ApiKey::ALL.iter().map(|api| api_range(*api)).collect(),
        frame_bytes_max: network.frame_bytes_max,
        in_flight_bytes_max: u32::try_from(network.connection_in_flight_bytes_max)
            .unwrap_or(u32::MAX),
        in_flight_requests_max: network.connection_in_flight_requests_max,
        auth_mechanisms: Vec::new(),
    };
    Answer::Now(reply.ok(shared, &response))
}

fn api_range(api: ApiKey) -> ApiRange {
    let (lowest, highest) = api.versions();
    ApiRange {
        api: api.code(),
        version_min: lowest.0,
        version_max: highest.0,
    }
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(NAME_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
