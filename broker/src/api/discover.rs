//! Discover: who is here, for brokers that look for their cluster.

use highwater_protocol::messages::{BrokerEndpoint, DiscoverRequest, DiscoverResponse};

use crate::shared::Shared;

pub(crate) fn handle(shared: &Shared, _request: &DiscoverRequest) -> DiscoverResponse {
    let image = &shared.quorum.applied().image;
    let controller = shared.quorum.leader().and_then(|node_id| {
        let broker = image.broker(node_id)?;
        Some(BrokerEndpoint {
            node_id,
            host: broker.host.clone(),
            port: broker.port,
            rack: broker.rack().map(str::to_owned),
        })
    });
    DiscoverResponse {
        incarnation: shared.incarnation,
        directory: shared.directory,
        cluster_id: Some(shared.cluster_id),
        node_id: Some(shared.node_id),
        controller,
    }
}
