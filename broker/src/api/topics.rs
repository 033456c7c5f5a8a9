//! CreateTopics, DeleteTopics, CreatePartitions.

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, NewTopicResult, TopicResult,
};

use crate::controller::{ChangeError, TopicRequest};
use crate::shared::Shared;

pub(crate) fn create(shared: &Shared, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let validate_only = request.validate_only;
    let results = request.topics.into_iter().map(|topic| {
        let asked = TopicRequest {
            name: topic.name,
            partitions: topic.partitions,
            replicas: topic.replicas,
            configs: topic.configs,
        };
        match shared.controller.create_topic(&asked, validate_only) {
            Ok(created) => NewTopicResult {
                name: asked.name,
                error: ErrorCode::None,
                message: None,
                topic_id: (!validate_only).then_some(created.id),
                partitions: created.partitions,
                replicas: created.replicas,
            },
            Err(error) => NewTopicResult {
                name: asked.name,
                error: error.code(),
                message: Some(error.to_string()),
                topic_id: None,
                partitions: 0,
                replicas: 0,
            },
        }
    });
    CreateTopicsResponse {
        topics: results.collect(),
    }
}

pub(crate) fn delete(shared: &Shared, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let results = request.topics.into_iter().map(|name| {
        let outcome = shared.controller.delete_topic(&name);
        result(name, outcome)
    });
    DeleteTopicsResponse {
        topics: results.collect(),
    }
}

pub(crate) fn add_partitions(
    shared: &Shared,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let validate_only = request.validate_only;
    let results = request.topics.into_iter().map(|topic| {
        let outcome = shared
            .controller
            .add_partitions(&topic.name, topic.total, validate_only);
        result(topic.name, outcome)
    });
    CreatePartitionsResponse {
        topics: results.collect(),
    }
}

pub(super) fn result(name: String, outcome: Result<(), ChangeError>) -> TopicResult {
    match outcome {
        Ok(()) => TopicResult {
            name,
            error: ErrorCode::None,
            message: None,
        },
        Err(error) => TopicResult {
            name,
            error: error.code(),
            message: Some(error.to_string()),
        },
    }
}
