//! Topics and their settings.

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::messages as m;

use super::{Admin, ConfigDescription, CreatedTopic, NewTopic, TopicDescription, check, only};
use crate::error::AdminError;

impl Admin {
    /// Creates a topic.
    ///
    /// # Errors
    /// [`AdminError`]; see its `may_have_committed` when no answer came.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the answer; the topic may be created all the same.
    pub async fn create_topic(&self, topic: NewTopic) -> Result<CreatedTopic, AdminError> {
        let name = topic.name.clone();
        let if_not_exists = topic.if_not_exists;
        let request = m::CreateTopicsRequest {
            topics: vec![m::NewTopic {
                name: topic.name,
                partitions: topic.partitions,
                replicas: topic.replicas,
                configs: topic.configs,
            }],
            validate_only: topic.validate_only,
        };
        let result = only(
            self.ask(&request, |a| a.topics.first().map(|t| t.error))
                .await?
                .topics,
            &name,
        )?;
        if result.error == ErrorCode::TopicAlreadyExists && if_not_exists {
            let there = self.describe_topic(&name).await?;
            let replicas = there.partitions.first().map_or(0, |p| p.replicas.len());
            return Ok(CreatedTopic {
                name,
                topic_id: Some(there.topic_id),
                partitions: u32::try_from(there.partitions.len()).unwrap_or(u32::MAX),
                replicas: u16::try_from(replicas).unwrap_or(u16::MAX),
                created: false,
            });
        }
        check(&name, result.error, result.message)?;
        Ok(CreatedTopic {
            name,
            topic_id: result.topic_id,
            partitions: result.partitions,
            replicas: result.replicas,
            created: true,
        })
    }

    /// Deletes a topic with all of its records.
    ///
    /// # Errors
    /// [`AdminError`]; see its `may_have_committed` when no answer came.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the answer; the topic may be deleted all the same.
    pub async fn delete_topic(&self, name: &str) -> Result<(), AdminError> {
        let request = m::DeleteTopicsRequest {
            topics: vec![name.to_owned()],
        };
        let result = only(
            self.ask(&request, |a| a.topics.first().map(|t| t.error))
                .await?
                .topics,
            name,
        )?;
        check(name, result.error, result.message)
    }

    /// Gives a topic more partitions, `total` in all.
    ///
    /// # Errors
    /// [`AdminError`]; see its `may_have_committed` when no answer came.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the answer; the partitions may be added all the same.
    pub async fn add_partitions(&self, name: &str, total: u32) -> Result<(), AdminError> {
        let topics = vec![m::MorePartitions {
            name: name.to_owned(),
            total,
        }];
        let request = m::CreatePartitionsRequest {
            topics,
            validate_only: false,
        };
        let result = only(
            self.ask(&request, |a| a.topics.first().map(|t| t.error))
                .await?
                .topics,
            name,
        )?;
        check(name, result.error, result.message)
    }

    /// All topics, sorted by name.
    ///
    /// # Errors
    /// [`AdminError`] when no broker answers.
    ///
    /// # Cancel safety
    /// Dropping the future only gives up the answer.
    pub async fn list_topics(&self) -> Result<Vec<TopicDescription>, AdminError> {
        let answer = self
            .core
            .ask_any(&m::MetadataRequest { topics: None })
            .await?;
        self.core.take_over(&answer);
        Ok(answer
            .topics
            .into_iter()
            .filter_map(TopicDescription::new)
            .collect())
    }

    /// A topic and its partitions.
    ///
    /// # Errors
    /// [`AdminError`] when there is no such topic or no broker answers.
    ///
    /// # Cancel safety
    /// Dropping the future only gives up the answer.
    pub async fn describe_topic(&self, name: &str) -> Result<TopicDescription, AdminError> {
        let answer = self.core.look_up(name).await?;
        let topic = only(answer.topics, name)?;
        let message = (topic.error == ErrorCode::UnknownTopicOrPartition)
            .then(|| format!("topic {name} does not exist"));
        check(name, topic.error, message)?;
        let incomplete = || AdminError::Incomplete {
            subject: name.to_owned(),
        };
        TopicDescription::new(topic).ok_or_else(incomplete)
    }

    /// The settings of a topic, sorted by name: all, or only those asked for.
    ///
    /// # Errors
    /// [`AdminError`] when there is no such topic or setting, or no broker answers.
    ///
    /// # Cancel safety
    /// Dropping the future only gives up the answer.
    pub async fn describe_configs(
        &self,
        name: &str,
        keys: Option<&[&str]>,
    ) -> Result<Vec<ConfigDescription>, AdminError> {
        let request = m::DescribeConfigsRequest {
            topics: vec![name.to_owned()],
            keys: keys.map(|keys| keys.iter().map(|key| (*key).to_owned()).collect()),
        };
        let topic = only(self.core.ask_any(&request).await?.topics, name)?;
        check(name, topic.error, topic.message)?;
        Ok(topic.configs)
    }

    /// Changes settings of a topic, all of them or none; `None` goes back to the broker's default.
    ///
    /// # Errors
    /// [`AdminError`]; see its `may_have_committed` when no answer came.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the answer; the settings may change all the same.
    pub async fn alter_configs<I, K, V>(&self, name: &str, changes: I) -> Result<(), AdminError>
    where
        I: IntoIterator<Item = (K, Option<V>)>,
        K: Into<String>,
        V: Into<String>,
    {
        let changes = changes.into_iter();
        self.alter(
            name,
            changes
                .map(|(k, v)| (k.into(), v.map(Into::into)))
                .collect(),
            false,
        )
        .await
    }

    /// Checks changes as [`Self::alter_configs`] would, without making them.
    ///
    /// # Errors
    /// [`AdminError`] that the change would meet.
    ///
    /// # Cancel safety
    /// Dropping the future only gives up the answer.
    pub async fn validate_configs<I, K, V>(&self, name: &str, changes: I) -> Result<(), AdminError>
    where
        I: IntoIterator<Item = (K, Option<V>)>,
        K: Into<String>,
        V: Into<String>,
    {
        let changes = changes.into_iter();
        self.alter(
            name,
            changes
                .map(|(k, v)| (k.into(), v.map(Into::into)))
                .collect(),
            true,
        )
        .await
    }

    async fn alter(
        &self,
        name: &str,
        changes: Vec<(String, Option<String>)>,
        validate_only: bool,
    ) -> Result<(), AdminError> {
        let changes = changes
            .into_iter()
            .map(|(key, value)| m::ConfigChange { key, value });
        let topics = vec![m::TopicConfigChanges {
            name: name.to_owned(),
            changes: changes.collect(),
        }];
        let request = m::AlterConfigsRequest {
            topics,
            validate_only,
        };
        let result = only(
            self.ask(&request, |a| a.topics.first().map(|t| t.error))
                .await?
                .topics,
            name,
        )?;
        check(name, result.error, result.message)
    }
}
