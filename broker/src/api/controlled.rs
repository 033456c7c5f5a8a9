//! Requests that the active controller answers, whichever broker they reach.
//!
//! What another broker has passed on is answered here or not at all: two brokers that take each other for
//! the controller must not send a request to and fro.
//!
//! Whoever is told of a change finds it on the broker that told: the answer waits until this broker has
//! heard of it as well.

use std::sync::Arc;
use std::time::Duration;

use highwater_coordination::cluster_image::ClusterImage;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, ConfigChange, CreatePartitionsRequest,
    CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse,
};

use crate::controller_client::ControllerRequest;
use crate::partitions::Refusal;
use crate::shared::Shared;

/// How long a change may wait for the controller and its quorum.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long this broker may take to hear of a change that was made.
const HEAR_TIMEOUT: Duration = Duration::from_secs(10);

/// Whom a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// A client or an administrator.
    Client,
    /// A broker: it is about that broker, or passed on.
    Broker,
}

/// Has the controller answer a request.
pub(crate) async fn pass_on<R: ControllerRequest>(
    shared: Arc<Shared>,
    request: R,
    from: From,
) -> Result<R::Response, Refusal>
where
    R::Response: Send,
{
    match from {
        From::Broker => shared.controller_client.here(request).await,
        From::Client => shared.controller_client.call(request, CHANGE_TIMEOUT).await,
    }
}

/// Creates topics.
pub(crate) async fn create_topics(
    shared: Arc<Shared>,
    request: CreateTopicsRequest,
    from: From,
) -> Result<CreateTopicsResponse, Refusal> {
    let response = pass_on(Arc::clone(&shared), request, from).await?;
    let created: Vec<_> = response
        .topics
        .iter()
        .filter_map(|topic| topic.topic_id)
        .collect();
    heard(&shared, |image| {
        created.iter().all(|id| image.topic_by_id(*id).is_some())
    })
    .await;
    Ok(response)
}

/// Deletes topics.
pub(crate) async fn delete_topics(
    shared: Arc<Shared>,
    request: DeleteTopicsRequest,
    from: From,
) -> Result<DeleteTopicsResponse, Refusal> {
    // By id: a topic of the same name may be there again before this broker hears of it.
    let image = shared.metadata.image();
    let ids: Vec<_> = request
        .topics
        .iter()
        .map(|name| image.topic(name).map(|topic| topic.id))
        .collect();
    let response = pass_on(Arc::clone(&shared), request, from).await?;
    let deleted: Vec<_> = response
        .topics
        .iter()
        .zip(ids)
        .filter(|(result, _)| result.error == ErrorCode::None)
        .filter_map(|(_, id)| id)
        .collect();
    heard(&shared, |image| {
        deleted.iter().all(|id| image.topic_by_id(*id).is_none())
    })
    .await;
    Ok(response)
}

/// Gives topics more partitions.
pub(crate) async fn create_partitions(
    shared: Arc<Shared>,
    request: CreatePartitionsRequest,
    from: From,
) -> Result<CreatePartitionsResponse, Refusal> {
    let wanted = request.topics.clone();
    let validate_only = request.validate_only;
    let response = pass_on(Arc::clone(&shared), request, from).await?;
    let grown: Vec<_> = response
        .topics
        .iter()
        .zip(wanted)
        .filter(|(result, _)| result.error == ErrorCode::None && !validate_only)
        .map(|(_, wanted)| wanted)
        .collect();
    heard(&shared, |image| {
        grown.iter().all(|wanted| {
            image
                .topic(&wanted.name)
                .is_none_or(|topic| topic.partitions.len() >= wanted.total as usize)
        })
    })
    .await;
    Ok(response)
}

/// Changes settings of topics.
pub(crate) async fn alter_configs(
    shared: Arc<Shared>,
    request: AlterConfigsRequest,
    from: From,
) -> Result<AlterConfigsResponse, Refusal> {
    let wanted = request.topics.clone();
    let validate_only = request.validate_only;
    let response = pass_on(Arc::clone(&shared), request, from).await?;
    let changed: Vec<_> = response
        .topics
        .iter()
        .zip(wanted)
        .filter(|(result, _)| result.error == ErrorCode::None && !validate_only)
        .map(|(_, wanted)| wanted)
        .collect();
    heard(&shared, |image| {
        changed.iter().all(|wanted| {
            image.topic(&wanted.name).is_none_or(|topic| {
                let is_so =
                    |change: &ConfigChange| topic.configs.get(&change.key) == change.value.as_ref();
                wanted.changes.iter().all(is_so)
            })
        })
    })
    .await;
    Ok(response)
}

/// Waits until this broker has heard of a change. When that takes too long the change is made all the
/// same, and the client's next request waits for it.
async fn heard(shared: &Shared, wanted: impl Fn(&ClusterImage) -> bool) {
    if !shared.metadata.wait_for(wanted, HEAR_TIMEOUT).await {
        tracing::warn!("this broker has not heard of a change of the metadata in time");
    }
}
