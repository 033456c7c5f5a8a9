//! Why a request has no answer.

use std::sync::Arc;
use std::time::Duration;

use highwater_protocol::api_key::ApiKey;
use highwater_protocol::codec::DecodeError;
use highwater_protocol::error_code::{ErrorCode, Remedy};
use thiserror::Error;

use super::ConnectError;

/// Why one request to one broker was not answered with what was asked for.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// There was no connection to send it on.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection broke between request and answer.
    #[error("the connection to {address} was lost: {reason}")]
    ConnectionLost {
        /// The other end.
        address: Arc<str>,
        /// How.
        reason: Arc<str>,
        /// Whether the request, or part of it, had been handed to the network.
        sent: bool,
    },
    /// The answer did not come in time.
    #[error("{address} did not answer {api:?} within {} ms", after.as_millis())]
    TimedOut {
        /// The other end.
        address: Arc<str>,
        /// What was asked.
        api: ApiKey,
        /// How long it had.
        after: Duration,
    },
    /// The broker refused the request as a whole.
    #[error("{message} ({code})")]
    Refused {
        /// Why.
        code: ErrorCode,
        /// Why, in words.
        message: String,
    },
    /// The answer is not what its API says.
    #[error("{address} sent an answer to {api:?} that cannot be read: {source}")]
    MalformedAnswer {
        /// The other end.
        address: Arc<str>,
        /// What was asked.
        api: ApiKey,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// Client and broker have no version of this API in common.
    #[error("{address} speaks no version of {api:?} that this client knows")]
    NoCommonVersion {
        /// The other end.
        address: Arc<str>,
        /// The API.
        api: ApiKey,
    },
    /// The request is larger than the broker accepts; it was not sent.
    #[error("the request is {bytes} bytes; {address} accepts at most {bytes_max}")]
    TooLarge {
        /// The other end.
        address: Arc<str>,
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
}

impl RequestError {
    /// Whether the same request can succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_retriable(),
            Self::ConnectionLost { .. } | Self::TimedOut { .. } => true,
            Self::Refused { code, .. } => code.is_retriable(),
            Self::MalformedAnswer { .. } | Self::NoCommonVersion { .. } | Self::TooLarge { .. } => {
                false
            }
        }
    }

    /// Whether the broker may have done it all the same.
    #[must_use]
    pub fn may_have_committed(&self) -> bool {
        match self {
            Self::ConnectionLost { sent, .. } => *sent,
            Self::TimedOut { .. } | Self::MalformedAnswer { .. } => true,
            Self::Refused { code, .. } => leaves_doubt(*code),
            Self::Connect(_) | Self::NoCommonVersion { .. } | Self::TooLarge { .. } => false,
        }
    }

    /// A stable name for scripts and metrics; the broker's own where the broker refused.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Connect(error) => error.code(),
            Self::ConnectionLost { .. } => "ConnectionLost",
            Self::TimedOut { .. } => "TimedOut",
            Self::Refused { code, .. } => code.name(),
            Self::MalformedAnswer { .. } => "MalformedAnswer",
            Self::NoCommonVersion { .. } => "UnsupportedVersion",
            Self::TooLarge { .. } => "FrameTooLarge",
        }
    }

    /// The broker's code, where the broker refused.
    #[must_use]
    pub const fn broker_code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Connect(ConnectError::Refused { code, .. }) => Some(*code),
            _ => None,
        }
    }

    /// Whether fresh metadata may lead to a broker that can answer.
    pub(crate) fn wants_metadata(&self) -> bool {
        match self {
            Self::Connect(_) | Self::ConnectionLost { .. } | Self::TimedOut { .. } => true,
            Self::Refused { code, .. } => code.remedy() == Remedy::RefreshMetadata,
            _ => false,
        }
    }
}

/// Whether a refusal with this code leaves open if the change was made.
pub(crate) const fn leaves_doubt(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::RequestTimedOut
            | ErrorCode::NotEnoughReplicasAfterAppend
            | ErrorCode::Internal
            | ErrorCode::ShuttingDown
            | ErrorCode::PartitionOffline
            | ErrorCode::Unrecognized(_)
    )
}
