//! A topic's settings on this broker: its own values over the broker's defaults, and what they mean
//! for its logs.

use std::collections::BTreeMap;

use highwater_config::{
    BrokerConfig, ConfigErrors, Durability as ConfiguredDurability, TopicConfig, TopicOverrides,
    TopicSetting,
};
use highwater_protocol::messages::{ConfigChange, ConfigEntry};
use highwater_storage::{Durability, LogOptions};
use thiserror::Error;

/// Why settings of a topic are refused.
#[derive(Debug, Error)]
pub(crate) enum TopicSettingsError {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error(
        "min.insync.replicas is {isr_min}, but the topic has {replicas} replicas: \
         nothing could ever be committed"
    )]
    MoreInSyncThanReplicas { isr_min: u32, replicas: u16 },
}

/// Replicas of a topic by default, where there are enough brokers.
const REPLICAS_AUTO_MAX: usize = 3;

/// What a topic without a value of its own gets when it is created, and keeps. The leader acknowledges by it,
/// and the controller judges by it what a crash may have cost: two brokers with other defaults, or one
/// whose default was changed since, must not come to different answers.
const WRITTEN_DOWN: &str = "durability";

/// The broker's defaults, and how a topic's own values go over them.
#[derive(Debug)]
pub(crate) struct TopicSettings {
    defaults: TopicConfig,
    partitions: u32,
    replicas: Option<u32>,
}

impl TopicSettings {
    pub(crate) fn new(config: &BrokerConfig) -> Self {
        Self {
            defaults: config.topic_defaults.clone(),
            partitions: config.new_topics.partitions,
            replicas: config.new_topics.replicas,
        }
    }

    pub(crate) fn partitions_default(&self) -> u32 {
        self.partitions
    }

    /// Replicas of a topic whose creator does not say how many, in a cluster of so many brokers.
    pub(crate) fn replicas_default(&self, brokers: usize) -> u16 {
        let auto = brokers.clamp(1, REPLICAS_AUTO_MAX);
        self.replicas.map_or(auto as u16, |number| {
            u16::try_from(number).unwrap_or(u16::MAX)
        })
    }

    /// Checks the values of a new topic.
    pub(crate) fn check_new(
        &self,
        entries: &[ConfigEntry],
    ) -> Result<TopicConfig, TopicSettingsError> {
        let pairs = entries.iter().map(|entry| (&entry.key, &entry.value));
        Ok(TopicOverrides::parse(pairs)?.resolve(&self.defaults)?)
    }

    /// Gives a new topic, whose values were checked, what is written down with each.
    pub(crate) fn write_down(&self, entries: &mut Vec<ConfigEntry>) {
        if entries.iter().all(|entry| entry.key != WRITTEN_DOWN)
            && let Some(value) = self.default_to_write_down()
        {
            entries.push(ConfigEntry {
                key: WRITTEN_DOWN.to_owned(),
                value,
            });
        }
    }

    /// A value that is taken back becomes the default of now, written down again.
    pub(crate) fn write_down_changes(&self, changes: &mut [ConfigChange]) {
        for change in changes {
            if change.key == WRITTEN_DOWN && change.value.is_none() {
                change.value = self.default_to_write_down();
            }
        }
    }

    fn default_to_write_down(&self) -> Option<String> {
        let settings = TopicOverrides::default().describe(&self.defaults);
        let mut settings = settings.into_iter();
        settings
            .find(|setting| setting.key == WRITTEN_DOWN)
            .map(|setting| setting.value)
    }

    /// Checks changes to a topic's values.
    pub(crate) fn check_changes(
        &self,
        own: &BTreeMap<String, String>,
        changes: &[ConfigChange],
    ) -> Result<TopicConfig, TopicSettingsError> {
        let mut overrides = overrides(own)?;
        for change in changes {
            overrides.change(&change.key, change.value.as_deref())?;
        }
        Ok(overrides.resolve(&self.defaults)?)
    }

    /// Fewest in-sync replicas of a topic.
    pub(crate) fn isr_min(&self, config: &TopicConfig, replicas: u16) -> u16 {
        let auto = if replicas >= 3 { 2 } else { 1 };
        config
            .min_insync_replicas
            .map_or(auto, |number| u16::try_from(number).unwrap_or(u16::MAX))
    }

    pub(crate) fn check_replicas(
        &self,
        config: &TopicConfig,
        replicas: u16,
    ) -> Result<(), TopicSettingsError> {
        match config.min_insync_replicas {
            Some(isr_min) if isr_min > u32::from(replicas) => {
                Err(TopicSettingsError::MoreInSyncThanReplicas { isr_min, replicas })
            }
            _ => Ok(()),
        }
    }

    /// The settings in force for a topic that exists. Values that this version no longer accepts are
    /// an error; the caller decides what to serve then.
    pub(crate) fn in_force(
        &self,
        own: &BTreeMap<String, String>,
    ) -> Result<TopicConfig, TopicSettingsError> {
        Ok(overrides(own)?.apply(&self.defaults))
    }

    pub(crate) fn broker_defaults(&self) -> &TopicConfig {
        &self.defaults
    }

    /// All settings of a topic with where each comes from.
    pub(crate) fn describe(
        &self,
        own: &BTreeMap<String, String>,
    ) -> Result<Vec<TopicSetting>, TopicSettingsError> {
        Ok(overrides(own)?.describe(&self.defaults))
    }

    /// What the settings mean for a log.
    pub(crate) fn log_options(&self, config: &TopicConfig) -> LogOptions {
        let millis =
            |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        LogOptions {
            segment_bytes: config.segment_bytes,
            segment_ms: millis(config.segment_ms),
            index_interval_bytes: config.index_interval_bytes,
            retention_ms: config.retention_ms.map(millis),
            retention_bytes: config.retention_bytes,
            durability: match config.durability {
                ConfiguredDurability::Synced => Durability::Synced,
                ConfiguredDurability::Replicated => Durability::Replicated,
            },
            flush_interval_ms: u64::try_from(millis(config.flush_max_delay)).unwrap_or(u64::MAX),
            flush_bytes: config.flush_bytes,
        }
    }
}

fn overrides(own: &BTreeMap<String, String>) -> Result<TopicOverrides, ConfigErrors> {
    TopicOverrides::parse(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(durability: ConfiguredDurability) -> TopicSettings {
        let mut config = BrokerConfig::default();
        config.topic_defaults.durability = durability;
        TopicSettings::new(&config)
    }

    fn own(entries: &[ConfigEntry]) -> BTreeMap<String, String> {
        let pairs = entries
            .iter()
            .map(|entry| (entry.key.clone(), entry.value.clone()));
        pairs.collect()
    }

    #[test]
    fn a_new_topic_keeps_the_durability_it_was_created_with() {
        let then = settings(ConfiguredDurability::Synced);
        let now = settings(ConfiguredDurability::Replicated);
        let mut entries = Vec::new();
        then.write_down(&mut entries);
        let config = now.in_force(&own(&entries)).unwrap();
        assert_eq!(config.durability, ConfiguredDurability::Synced);
        // Its own value stays.
        now.write_down(&mut entries);
        assert_eq!(entries.len(), 1);
        // Taken back, it is the default of whoever decides that.
        let mut changes = vec![ConfigChange {
            key: "durability".to_owned(),
            value: None,
        }];
        now.write_down_changes(&mut changes);
        let config = then.check_changes(&own(&entries), &changes).unwrap();
        assert_eq!(config.durability, ConfiguredDurability::Replicated);
    }
}
