//! DescribeCluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use highwater_coordination::quorum_members::Members;
use highwater_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};

use super::controlled::From;
use super::metadata::reachable_host;
use crate::controller::describe_cluster;
use crate::partitions::Refusal;
use crate::shared::Shared;

/// How long the controller may take to say what only it knows: when brokers were last heard of, and how
/// full they are.
const CONTROLLER_TIMEOUT: Duration = Duration::from_secs(2);

/// The controller knows most; what this broker knows is told when there is none.
pub(crate) async fn handle(
    shared: Arc<Shared>,
    local: Option<SocketAddr>,
    from: From,
    request: DescribeClusterRequest,
) -> Result<DescribeClusterResponse, Refusal> {
    if from == From::Broker {
        return shared.controller_client.here(request).await;
    }
    let asked = shared
        .controller_client
        .call(request.clone(), CONTROLLER_TIMEOUT)
        .await;
    let mut response = match asked {
        Ok(response) => response,
        Err(_) => {
            let applied = shared.quorum.applied();
            let (voters, learners) = shared.quorum.members();
            let members = Members { voters, learners };
            let mut described = describe_cluster(&applied.image, &members, None, 0, &request);
            described.controller = None;
            described
        }
    };
    for broker in &mut response.brokers {
        let endpoint = &mut broker.endpoint;
        endpoint.host = reachable_host(&shared, local, endpoint.node_id, &endpoint.host);
    }
    Ok(response)
}
