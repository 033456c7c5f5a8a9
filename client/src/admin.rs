//! Administration: topics, their settings and offsets, and the cluster.

mod cluster;
mod cluster_types;
mod offsets;
mod topics;
mod types;

use std::sync::Arc;

use highwater_protocol::api_key::Request;
use highwater_protocol::error_code::ErrorCode;

use crate::client::ClientCore;
use crate::error::AdminError;

pub use cluster_types::{
    AbsentNode, BalanceStatus, BrokerDescription, ClusterDescription, Election, MoveReason,
    PartitionName, PartitionOutcome, PlannedMove, QuorumDescription, QuorumMember, ReplicaMove,
};
pub use highwater_protocol::messages::ConfigSource;
pub use types::{
    ConfigDescription, CreatedTopic, NewTopic, PartitionDescription, PartitionOffset,
    TopicDescription, TrimmedPartition,
};

/// The administrative calls of a [`Client`](crate::Client).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let broker = highwater_broker::EmbeddedBroker::start().await?;
/// use highwater_client::{Client, NewTopic};
///
/// let client = Client::connect(broker.address().to_string()).await?;
/// let admin = client.admin();
/// let topic = NewTopic::new("orders").partitions(3).config("retention.ms", "604800000");
/// admin.create_topic(topic.if_not_exists()).await?;
///
/// let topic = admin.describe_topic("orders").await?;
/// assert_eq!(topic.partitions.len(), 3);
/// # Ok(()) }
/// ```
///
/// Questions are asked again after a pause while that can help, for at most the client's request
/// timeout. Changes are tried again only where it is certain that they were not made.
#[derive(Debug, Clone)]
pub struct Admin {
    core: Arc<ClientCore>,
}

impl Admin {
    pub(crate) fn new(core: Arc<ClientCore>) -> Self {
        Self { core }
    }

    /// Asks any broker, which passes it on to the controller; again, for at most the request timeout,
    /// while that cannot be reached or is busy. `code` finds such a refusal in an answer.
    async fn ask<R: Request>(
        &self,
        request: &R,
        code: impl Fn(&R::Response) -> Option<ErrorCode>,
    ) -> Result<R::Response, AdminError> {
        let passing = |answer: &R::Response| {
            let code = code(answer);
            matches!(code, Some(ErrorCode::NotController | ErrorCode::Busy))
        };
        let (_, answer) = self.core.ask_until(request, passing, Vec::new()).await?;
        Ok(answer)
    }
}

/// The one result of a request about one topic.
fn only<T>(results: Vec<T>, subject: &str) -> Result<T, AdminError> {
    let incomplete = || AdminError::Incomplete {
        subject: subject.to_owned(),
    };
    results.into_iter().next().ok_or_else(incomplete)
}

fn check(subject: &str, error: ErrorCode, message: Option<String>) -> Result<(), AdminError> {
    match error {
        ErrorCode::None => Ok(()),
        code => Err(AdminError::refused(subject, code, message)),
    }
}
