//! Administration: topics, their settings and offsets, and the cluster.

mod offsets;
mod topics;
mod types;

use std::sync::Arc;

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::messages as m;

use crate::client::ClientCore;
use crate::error::AdminError;

pub use highwater_protocol::messages::ConfigSource;
pub use types::{
    BrokerDescription, ClusterDescription, ConfigDescription, CreatedTopic, NewTopic,
    PartitionDescription, PartitionOffset, TopicDescription, TrimmedPartition,
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

    /// The cluster and its brokers.
    ///
    /// # Errors
    /// [`AdminError`] when no broker answers.
    ///
    /// # Cancel safety
    /// Dropping the future only gives up the answer.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, AdminError> {
        let request = m::DescribeClusterRequest {
            include_fenced: true,
        };
        Ok(self.core.ask_any(&request).await?.into())
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
