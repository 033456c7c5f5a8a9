//! Why an administrative call failed.

use highwater_protocol::error_code::ErrorCode;
use thiserror::Error;

use super::RequestError;
use super::request::leaves_doubt;

/// Why an administrative call failed.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The broker refused it for this topic or partition.
    #[error("{subject}: {message} ({code})")]
    Refused {
        /// The topic or partition concerned.
        subject: String,
        /// Why.
        code: ErrorCode,
        /// Why, in words.
        message: String,
    },
    /// The request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The answer lacks what was asked for: a fault of the broker.
    #[error("the broker's answer says nothing about {subject}")]
    Incomplete {
        /// The topic or partition concerned.
        subject: String,
    },
}

impl AdminError {
    pub(crate) fn refused(subject: &str, code: ErrorCode, message: Option<String>) -> Self {
        let message = message.unwrap_or_else(|| code.name().to_owned());
        Self::Refused {
            subject: subject.to_owned(),
            code,
            message,
        }
    }

    /// Whether the same call can succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Refused { code, .. } => code.is_retriable(),
            Self::Request(source) => source.is_retriable(),
            Self::Incomplete { .. } => false,
        }
    }

    /// Whether the broker may have done it all the same.
    #[must_use]
    pub fn may_have_committed(&self) -> bool {
        match self {
            Self::Refused { code, .. } => leaves_doubt(*code),
            Self::Request(source) => source.may_have_committed(),
            Self::Incomplete { .. } => true,
        }
    }

    /// A stable name for scripts and metrics; the broker's own where the broker refused.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused { code, .. } => code.name(),
            Self::Request(source) => source.code(),
            Self::Incomplete { .. } => "IncompleteAnswer",
        }
    }

    /// The broker's code, where the broker refused.
    #[must_use]
    pub const fn broker_code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Request(source) => source.broker_code(),
            Self::Incomplete { .. } => None,
        }
    }
}
