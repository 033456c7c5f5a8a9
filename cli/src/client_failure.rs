//! What errors of the client mean for whoever typed the command: exit status, line and hint.

use std::borrow::Cow;

use highwater_client::{AdminError, ConnectError, ReadError, RequestError, SendError};
use highwater_protocol::error_code::ErrorCode;

use crate::exit::{Exit, Failure};

const START_ONE: &str = "is a broker running there? start one with `highwater broker`, or name another with -b HOST:PORT";

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let failure = Self {
            code: error.code().into(),
            ..Self::error(error.to_string())
        };
        match &error {
            ConnectError::Io { .. } => failure.hint(START_ONE),
            ConnectError::TimedOut { .. } => failure.exit(Exit::Timeout).hint(START_ONE),
            ConnectError::NotHighwater { .. } => {
                failure.hint("clients use the port of `listen` (7171), not the admin port (7180)")
            }
            ConnectError::InvalidAddress { .. } | ConnectError::NoSeeds => failure
                .exit(Exit::Usage)
                .hint("an address is HOST:PORT, as in -b 127.0.0.1:7171"),
            ConnectError::AuthenticationNeeded { .. } => failure.exit(Exit::Denied),
            ConnectError::Refused { code, .. } => failure.of_broker(*code),
            _ => failure,
        }
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        let code = error.code();
        let failure = match error {
            RequestError::Connect(error) => return error.into(),
            RequestError::TimedOut { .. } => Self::error(error.to_string())
                .exit(Exit::Timeout)
                .hint("the broker may be busy: try again, or with a larger --timeout"),
            RequestError::Refused { code, .. } => Self::error(error.to_string()).of_broker(code),
            _ => Self::error(error.to_string()),
        };
        Self {
            code: code.into(),
            ..failure
        }
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        let code = error.code();
        let failure = match error {
            AdminError::Request(error) => return error.into(),
            AdminError::Refused {
                ref subject,
                code,
                ref message,
            } => {
                // The broker's words usually name the topic already.
                let text = if message.contains(subject.as_str()) {
                    message.clone()
                } else {
                    format!("{subject}: {message}")
                };
                Self::error(text).of_broker(code)
            }
            _ => Self::error(error.to_string()),
        };
        Self {
            code: code.into(),
            ..failure
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let (code, broker_code) = (error.code(), error.broker_code());
        let text = error.to_string();
        let failure = match error {
            ReadError::Request { source, .. } => Self {
                message: text,
                ..source.into()
            },
            ReadError::Stalled { last, .. } => {
                let last = Self::from(*last);
                let exit = if last.exit == Exit::Error {
                    Exit::Timeout
                } else {
                    last.exit
                };
                Self {
                    message: text,
                    exit,
                    ..last
                }
            }
            ReadError::UnknownTopic { .. } | ReadError::UnknownPartition { .. } => {
                Self::error(text).exit(Exit::NotFound).hint(LIST_TOPICS)
            }
            ReadError::InvalidTopic(_) => Self::error(text).exit(Exit::Usage),
            ReadError::CorruptBatch { .. } | ReadError::UnreadableBatch { .. } => Self::error(text)
                .hint("`highwater log verify DIR` on the broker's machine tells the extent"),
            _ => broker_code.map_or_else(
                || Self::error(text.clone()),
                |code| Self::error(text.clone()).of_broker(code),
            ),
        };
        Self {
            code: code.into(),
            ..failure
        }
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        let (code, broker_code) = (error.code(), error.broker_code());
        let text = error.to_string();
        let failure = match error {
            SendError::Request { source, .. }
            | SendError::Metadata { source, .. }
            | SendError::NoProducerId { source, .. } => Self {
                message: text,
                ..source.into()
            },
            SendError::UnknownTopic { topic } => Self::error(text)
                .exit(Exit::NotFound)
                .hint(format!("create it with `highwater topic create {topic}`")),
            SendError::UnknownPartition { .. } => Self::error(text).exit(Exit::NotFound),
            SendError::InvalidTopic(_) => Self::error(text).exit(Exit::Usage),
            SendError::DeliveryTimedOut { .. } => Self::error(text)
                .exit(Exit::Timeout)
                .hint("the broker may be busy: try again, or with a larger --timeout"),
            SendError::RecordTooLarge { .. } => {
                Self::error(text).hint("the topic's limit is `max.message.bytes`")
            }
            _ => broker_code.map_or_else(
                || Self::error(text.clone()),
                |code| Self::error(text.clone()).of_broker(code),
            ),
        };
        Self {
            code: code.into(),
            ..failure
        }
    }
}

impl Failure {
    /// What an error of bench or demo comes to: if a client error is its cause, its status and advice.
    pub(crate) fn from_chain(error: &anyhow::Error) -> Self {
        let text = format!("{error:#}");
        let cause = error.chain().find_map(of_client);
        cause.map_or_else(
            || Self::error(text.clone()),
            |cause| Self {
                message: text.clone(),
                ..cause
            },
        )
    }
}

fn of_client(cause: &(dyn std::error::Error + 'static)) -> Option<Failure> {
    fn known<E: std::error::Error + Clone + Into<Failure> + 'static>(
        cause: &(dyn std::error::Error + 'static),
    ) -> Option<Failure> {
        cause.downcast_ref::<E>().cloned().map(Into::into)
    }
    known::<ConnectError>(cause)
        .or_else(|| known::<AdminError>(cause))
        .or_else(|| known::<SendError>(cause))
        .or_else(|| known::<ReadError>(cause))
        .or_else(|| known::<RequestError>(cause))
}

const LIST_TOPICS: &str = "`highwater topic list` shows the topics there are";

impl Failure {
    /// With another status.
    fn exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// Code, status and hint for a refusal by the broker.
    fn of_broker(self, code: ErrorCode) -> Self {
        let (exit, hint) = meaning(code);
        Self {
            exit,
            hint: self.hint.or_else(|| hint.map(str::to_owned)),
            code: Cow::Borrowed(code.name()),
            ..self
        }
    }
}

fn meaning(code: ErrorCode) -> (Exit, Option<&'static str>) {
    match code {
        ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId => {
            (Exit::NotFound, Some(LIST_TOPICS))
        }
        ErrorCode::UnknownNode => (
            Exit::NotFound,
            Some("`highwater node list` shows the nodes there are"),
        ),
        ErrorCode::RequestTimedOut => (Exit::Timeout, None),
        ErrorCode::NotController => (
            Exit::Error,
            Some("the cluster has no controller: `highwater cluster quorum` tells who is missing"),
        ),
        ErrorCode::NotEnoughReplicas => (
            Exit::Error,
            Some("`highwater partition list --only at-min-isr` shows where replicas are missing"),
        ),
        ErrorCode::InvalidReplicationFactor => (
            Exit::Error,
            Some("each copy of a partition needs a broker of its own: `highwater node list`"),
        ),
        ErrorCode::InvalidConfig => (
            Exit::Error,
            Some("`highwater config explain` lists the settings"),
        ),
        ErrorCode::TopicAlreadyExists => {
            (Exit::Error, Some("`--if-not-exists` makes that no error"))
        }
        ErrorCode::DiskFull => (
            Exit::Error,
            Some("free space on the broker's disk; it then goes on by itself"),
        ),
        ErrorCode::PartitionOffline => (
            Exit::Error,
            Some("the broker's log says why; `highwater log verify` tells the extent of damage"),
        ),
        ErrorCode::Busy | ErrorCode::ShuttingDown => (Exit::Error, Some("try again in a moment")),
        ErrorCode::BatchTooLarge => (
            Exit::Error,
            Some("the topic's limit is `max.message.bytes`"),
        ),
        _ => (Exit::Error, None),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_broker_comes_with_advice() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let failure = Failure::from(ConnectError::Io {
            address: Arc::from("127.0.0.1:7171"),
            source: Arc::new(refused),
        });
        assert_eq!(
            (failure.exit, failure.code.as_ref()),
            (Exit::Error, "ConnectFailed")
        );
        assert!(failure.hint.unwrap().contains("highwater broker"));
    }

    #[test]
    fn the_client_s_advice_survives_context() {
        let error = ConnectError::TimedOut {
            address: Arc::from("h:1"),
            after: Duration::from_secs(1),
        };
        let failure = Failure::from_chain(&anyhow::Error::from(error).context("cannot measure"));
        assert_eq!(
            (failure.exit, failure.code.as_ref()),
            (Exit::Timeout, "ConnectTimedOut")
        );
        assert!(
            failure.message.starts_with("cannot measure: no connection"),
            "{failure}"
        );
        assert!(failure.hint.is_some());
        let other = Failure::from_chain(&anyhow::anyhow!("other"));
        assert_eq!((other.exit, other.message.as_str()), (Exit::Error, "other"));
    }

    #[test]
    fn refusals_get_their_own_status() {
        let refused = |code: ErrorCode| {
            Failure::from(AdminError::Refused {
                subject: "orders".to_owned(),
                code,
                message: "no".to_owned(),
            })
        };
        let unknown = refused(ErrorCode::UnknownTopicOrPartition);
        assert_eq!(
            (unknown.exit, unknown.code.as_ref()),
            (Exit::NotFound, "UnknownTopicOrPartition")
        );
        assert_eq!(unknown.message, "orders: no");
        assert_eq!(refused(ErrorCode::RequestTimedOut).exit, Exit::Timeout);
        assert_eq!(refused(ErrorCode::InvalidConfig).exit, Exit::Error);
    }

    #[test]
    fn a_stalled_reader_is_a_timeout_with_the_last_cause_s_advice() {
        let connect = ConnectError::TimedOut {
            address: Arc::from("h:1"),
            after: Duration::from_secs(1),
        };
        let failure = Failure::from(ReadError::Stalled {
            topic: "t".parse().unwrap(),
            after: Duration::from_secs(5),
            last: Box::new(ReadError::Request {
                topic: "t".parse().unwrap(),
                source: connect.into(),
            }),
        });
        assert_eq!(
            (failure.exit, failure.code.as_ref()),
            (Exit::Timeout, "ReadStalled")
        );
        assert!(failure.hint.is_some());
    }
}
