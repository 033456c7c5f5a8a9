//! Errors as JSON: `{"error": {"code", "message", "hint"}}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use highwater_protocol::error_code::ErrorCode;
use serde::Serialize;

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AdminError {
    status: StatusCode,
    code: &'static str,
    message: String,
    hint: Option<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    code: &'a str,
    message: &'a str,
    hint: Option<&'a str>,
}

impl AdminError {
    /// What the broker says about it, under the same code as on the wire.
    pub(crate) fn of_broker(code: ErrorCode, message: impl Into<String>) -> Self {
        let hint = match code {
            ErrorCode::InvalidConfig => {
                Some("`highwater config explain KEY` tells what is allowed")
            }
            ErrorCode::TopicAlreadyExists => {
                Some("choose another name, or delete the topic with its records first")
            }
            ErrorCode::NotController => {
                Some("the metadata quorum needs a majority of its voters; try again")
            }
            ErrorCode::DiskFull => Some("free space on the disk and try again"),
            _ => None,
        };
        Self {
            status: status(code),
            code: code.name(),
            message: message.into(),
            hint: hint.map(str::to_owned),
        }
    }

    /// About HTTP rather than the broker.
    pub(super) fn of_http(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            hint: None,
        }
    }

    /// Adds what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Codes of newer brokers and those that no admin request meets are the broker's fault.
fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::MalformedRequest
        | ErrorCode::InvalidRequest
        | ErrorCode::InvalidTopic
        | ErrorCode::InvalidPartitions
        | ErrorCode::InvalidReplicationFactor
        | ErrorCode::InvalidConfig => StatusCode::BAD_REQUEST,
        ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId => StatusCode::NOT_FOUND,
        ErrorCode::TopicAlreadyExists => StatusCode::CONFLICT,
        ErrorCode::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorCode::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
        ErrorCode::Busy
        | ErrorCode::ShuttingDown
        | ErrorCode::PartitionOffline
        | ErrorCode::NotController => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::RequestTimedOut => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        let (code, message) = (self.code, self.message.as_str());
        let error = Inner {
            code,
            message,
            hint: self.hint.as_deref(),
        };
        (self.status, Json(Body { error })).into_response()
    }
}
