//! Offsets and trimming: requests that go to the leaders of partitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_protocol::error_code::{ErrorCode, Remedy};
use highwater_protocol::ids::{NodeId, Offset, PartitionId, TopicName};
use highwater_protocol::messages as m;
use highwater_protocol::messages::OffsetSpec;
use tokio::time::Instant;

use super::{Admin, PartitionOffset, TrimmedPartition};
use crate::client::ClientCore;
use crate::error::{AdminError, RequestError};
use crate::metadata::{LookupError, Topic};

impl Admin {
    /// One offset of every partition of a topic.
    ///
    /// # Errors
    /// [`AdminError`] when there is no such topic or a partition does not answer.
    ///
    /// # Cancel safety
    /// Dropping the future only gives up the answer.
    pub async fn list_offsets(
        &self,
        topic: &str,
        spec: OffsetSpec,
    ) -> Result<Vec<PartitionOffset>, AdminError> {
        let partitions = self.describe_topic(topic).await?.partitions;
        let wanted: Vec<_> = partitions.iter().map(|p| (p.partition, spec)).collect();
        self.list_partition_offsets(topic, &wanted).await
    }

    /// Offsets of some partitions of a topic, in the order asked for.
    ///
    /// # Errors
    /// [`AdminError`] when there is no such topic or partition, or one does not answer.
    ///
    /// # Cancel safety
    /// Dropping the future only gives up the answer.
    pub async fn list_partition_offsets(
        &self,
        topic: &str,
        wanted: &[(PartitionId, OffsetSpec)],
    ) -> Result<Vec<PartitionOffset>, AdminError> {
        let name = topic_name(topic)?;
        self.core.list_offsets(&name, wanted).await
    }

    /// Trims the start of partitions: everything before the offset goes; `None`: everything that is
    /// committed. Partitions are trimmed each by itself, in the order asked for.
    ///
    /// # Errors
    /// [`AdminError`] of the first partition that fails; those before it are trimmed.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the answer; partitions may be trimmed all the same.
    pub async fn delete_records(
        &self,
        topic: &str,
        before: &[(PartitionId, Option<Offset>)],
    ) -> Result<Vec<TrimmedPartition>, AdminError> {
        let name = topic_name(topic)?;
        let mut trimmed = Vec::with_capacity(before.len());
        for (partition, before) in before {
            trimmed.push(self.core.trim(&name, *partition, *before).await?);
        }
        Ok(trimmed)
    }
}

fn topic_name(topic: &str) -> Result<TopicName, AdminError> {
    TopicName::new(topic)
        .map_err(|e| AdminError::refused(topic, ErrorCode::InvalidTopic, Some(e.to_string())))
}

fn lookup_failed(name: &TopicName, error: LookupError) -> AdminError {
    match error {
        LookupError::Unknown => {
            let message = format!("topic {name} does not exist");
            AdminError::refused(
                name.as_str(),
                ErrorCode::UnknownTopicOrPartition,
                Some(message),
            )
        }
        LookupError::Request(error) => error.into(),
    }
}

fn no_partition(topic: &Topic, partition: PartitionId) -> AdminError {
    let count = topic.partition_count();
    let message = format!(
        "topic {} has {count} partitions, no partition {partition}",
        topic.name
    );
    let subject = format!("{}/{partition}", topic.name);
    AdminError::refused(&subject, ErrorCode::UnknownTopicOrPartition, Some(message))
}

fn no_leader(topic: &Topic, partition: PartitionId) -> AdminError {
    let subject = format!("{}/{partition}", topic.name);
    AdminError::refused(
        &subject,
        ErrorCode::NotLeader,
        Some("it has no leader now".to_owned()),
    )
}

fn wants_metadata(error: &AdminError) -> bool {
    match error {
        AdminError::Refused { code, .. } => code.remedy() == Remedy::RefreshMetadata,
        AdminError::Request(error) => error.wants_metadata(),
        AdminError::Incomplete { .. } => false,
    }
}

impl ClientCore {
    /// Asks the leaders, again after a pause while that can help.
    pub(crate) async fn list_offsets(
        &self,
        name: &TopicName,
        wanted: &[(PartitionId, OffsetSpec)],
    ) -> Result<Vec<PartitionOffset>, AdminError> {
        let mut found = BTreeMap::new();
        let mut attempts = self.attempts(name).await?;
        while let Err(error) = self.list_missing(&attempts.topic, wanted, &mut found).await {
            self.prepare_next(name, &mut attempts, error).await?;
        }
        let in_order = wanted.iter().map(|(partition, _)| {
            let subject = || format!("{name}/{partition}");
            found
                .get(partition)
                .copied()
                .ok_or_else(|| AdminError::Incomplete { subject: subject() })
        });
        in_order.collect()
    }

    /// Asks for those offsets that are not found yet.
    async fn list_missing(
        &self,
        topic: &Topic,
        wanted: &[(PartitionId, OffsetSpec)],
        found: &mut BTreeMap<PartitionId, PartitionOffset>,
    ) -> Result<(), AdminError> {
        let open: Vec<_> = wanted
            .iter()
            .filter(|(partition, _)| !found.contains_key(partition))
            .copied()
            .collect();
        for (node, partitions) in by_leader(topic, &open)? {
            for offset in self.list_offsets_of(topic, node, partitions).await? {
                found.insert(offset.partition, offset);
            }
        }
        Ok(())
    }

    async fn list_offsets_of(
        &self,
        topic: &Topic,
        node: NodeId,
        wanted: Vec<(PartitionId, OffsetSpec)>,
    ) -> Result<Vec<PartitionOffset>, AdminError> {
        let partitions = wanted
            .into_iter()
            .map(|(partition, spec)| m::ListOffsetsPartition {
                partition,
                leader_epoch: topic.leader(partition).map(|leader| leader.epoch),
                spec,
            });
        let request = m::ListOffsetsRequest {
            topics: vec![m::ListOffsetsTopic {
                topic_id: topic.id,
                partitions: partitions.collect(),
            }],
        };
        let answer = self.ask(node, &request).await?;
        let results = answer.topics.into_iter().flat_map(|topic| topic.partitions);
        results
            .map(|result| {
                let subject = format!("{}/{}", topic.name, result.partition);
                super::check(&subject, result.error, result.message)?;
                Ok(PartitionOffset {
                    partition: result.partition,
                    offset: result.offset,
                    timestamp: result.timestamp,
                    leader_epoch: result.leader_epoch,
                })
            })
            .collect()
    }

    async fn trim(
        &self,
        name: &TopicName,
        partition: PartitionId,
        before: Option<Offset>,
    ) -> Result<TrimmedPartition, AdminError> {
        let mut attempts = self.attempts(name).await?;
        // Trimming to the same offset twice is harmless, so it may be asked for again.
        loop {
            match self.trim_once(&attempts.topic, partition, before).await {
                Ok(trimmed) => return Ok(trimmed),
                Err(error) => self.prepare_next(name, &mut attempts, error).await?,
            }
        }
    }

    async fn trim_once(
        &self,
        topic: &Topic,
        partition: PartitionId,
        before: Option<Offset>,
    ) -> Result<TrimmedPartition, AdminError> {
        let leader = topic
            .leader(partition)
            .ok_or_else(|| no_partition(topic, partition))?;
        let node = leader.node.ok_or_else(|| no_leader(topic, partition))?;
        let request = m::DeleteRecordsRequest {
            topics: vec![m::DeleteRecordsTopic {
                topic_id: topic.id,
                partitions: vec![m::DeleteRecordsPartition { partition, before }],
            }],
        };
        let answer = self.ask(node, &request).await?;
        let subject = format!("{}/{partition}", topic.name);
        let results = answer
            .topics
            .into_iter()
            .flat_map(|topic| topic.partitions)
            .collect();
        let result = super::only(results, &subject)?;
        super::check(&subject, result.error, result.message)?;
        let log_start = result.log_start.ok_or(AdminError::Incomplete { subject })?;
        Ok(TrimmedPartition {
            partition,
            log_start,
        })
    }

    /// Begins to ask the leaders of a topic.
    //
    // Not a function that takes the attempt as an async closure: the compiler could not show that
    // its future is `Send`, so that callers could not spawn it.
    async fn attempts(&self, name: &TopicName) -> Result<Attempts, AdminError> {
        let deadline = Instant::now() + self.request_timeout;
        let topic = self.topic(name).await.map_err(|e| lookup_failed(name, e))?;
        Ok(Attempts {
            topic,
            deadline,
            failures: 0,
        })
    }

    /// After a failed attempt: pauses and gets fresh metadata where that can help, for at most one
    /// request timeout; otherwise returns the error.
    async fn prepare_next(
        &self,
        name: &TopicName,
        attempts: &mut Attempts,
        error: AdminError,
    ) -> Result<(), AdminError> {
        // A partition that stale metadata lacks, or a topic that was made anew: look once more.
        let fresh_helps = wants_metadata(&error);
        attempts.failures += 1;
        let failures = attempts.failures;
        let pause = self.backoff.wait(failures);
        if !error.is_retriable() || Instant::now() + pause >= attempts.deadline {
            return Err(error);
        }
        // A leader that does not know the topic's id yet, while metadata has it, lags behind.
        let unknown = error.broker_code() == Some(ErrorCode::UnknownTopicOrPartition);
        if unknown && failures > 1 {
            return Err(error);
        }
        if failures > 1 || !fresh_helps {
            tokio::time::sleep(pause).await;
        }
        if fresh_helps {
            let seen = Some(attempts.topic.generation);
            attempts.topic = self
                .refresh(name, seen)
                .await
                .map_err(|e| lookup_failed(name, e))?;
        }
        Ok(())
    }
}

/// A topic whose leaders are asked, and how often that failed.
struct Attempts {
    topic: Arc<Topic>,
    deadline: Instant,
    failures: u32,
}

type ByLeader = BTreeMap<NodeId, Vec<(PartitionId, OffsetSpec)>>;

fn by_leader(topic: &Topic, wanted: &[(PartitionId, OffsetSpec)]) -> Result<ByLeader, AdminError> {
    let mut leaders = ByLeader::new();
    for (partition, spec) in wanted {
        let leader = topic
            .leader(*partition)
            .ok_or_else(|| no_partition(topic, *partition))?;
        let node = leader.node.ok_or_else(|| no_leader(topic, *partition))?;
        leaders.entry(node).or_default().push((*partition, *spec));
    }
    Ok(leaders)
}

impl AdminError {
    /// The same as seen by somebody who only knows about requests.
    pub(crate) fn into_request_error(self) -> RequestError {
        match self {
            Self::Request(error) => error,
            Self::Refused {
                code,
                message,
                subject,
            } => RequestError::Refused {
                code,
                message: format!("{subject}: {message}"),
            },
            Self::Incomplete { .. } => {
                let message = self.to_string();
                RequestError::Refused {
                    code: ErrorCode::Internal,
                    message,
                }
            }
        }
    }
}
