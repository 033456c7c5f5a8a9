//! Why there is no connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{ClusterId, NodeId};
use thiserror::Error;

/// Why a connection to a broker could not be made.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The builder was given no seed address.
    #[error("no seed address given")]
    NoSeeds,
    /// Neither a name nor an address with a port.
    #[error("{address:?} is not HOST:PORT")]
    InvalidAddress {
        /// What was given.
        address: String,
    },
    /// The network refused.
    #[error("cannot connect to {address}: {source}")]
    Io {
        /// Where to.
        address: Arc<str>,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Nobody answered in time.
    #[error("no connection to {address} within {} ms", after.as_millis())]
    TimedOut {
        /// Where to.
        address: Arc<str>,
        /// The connect timeout.
        after: Duration,
    },
    /// Something listens there, but it does not speak our protocol.
    #[error("{address} does not speak the Highwater protocol: {reason}")]
    NotHighwater {
        /// Where to.
        address: Arc<str>,
        /// What was wrong with its answer.
        reason: String,
    },
    /// The broker refused the handshake.
    #[error("{address} refused the connection: {message} ({code})")]
    Refused {
        /// Where to.
        address: Arc<str>,
        /// Why.
        code: ErrorCode,
        /// Why, in words.
        message: String,
    },
    /// A broker of another cluster than the one that this client belongs to.
    #[error("{address} belongs to another cluster than {expected}")]
    WrongCluster {
        /// Where to.
        address: Arc<str>,
        /// The cluster that was expected.
        expected: ClusterId,
    },
    /// The broker wants authentication that this client cannot give.
    #[error("{address} demands authentication by one of {mechanisms:?}, which this client lacks")]
    AuthenticationNeeded {
        /// Where to.
        address: Arc<str>,
        /// What it offers.
        mechanisms: Vec<String>,
    },
    /// The metadata names a broker without an address, or one that is gone.
    #[error("no address is known for broker {node_id}")]
    UnknownBroker {
        /// The broker.
        node_id: NodeId,
    },
}

impl ConnectError {
    /// Whether trying again later can help.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Io { .. } | Self::TimedOut { .. } | Self::UnknownBroker { .. } => true,
            Self::Refused { code, .. } => code.is_retriable(),
            Self::NoSeeds
            | Self::InvalidAddress { .. }
            | Self::NotHighwater { .. }
            | Self::WrongCluster { .. }
            | Self::AuthenticationNeeded { .. } => false,
        }
    }

    /// Never: nothing was asked for yet.
    #[must_use]
    pub const fn may_have_committed(&self) -> bool {
        false
    }

    /// A stable name for scripts and metrics; the broker's own where the broker refused.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSeeds => "NoSeeds",
            Self::InvalidAddress { .. } => "InvalidAddress",
            Self::Io { .. } => "ConnectFailed",
            Self::TimedOut { .. } => "ConnectTimedOut",
            Self::NotHighwater { .. } => "NotHighwater",
            Self::Refused { code, .. } => code.name(),
            Self::WrongCluster { .. } => "WrongCluster",
            Self::AuthenticationNeeded { .. } => "AuthenticationNeeded",
            Self::UnknownBroker { .. } => "UnknownBroker",
        }
    }
}
