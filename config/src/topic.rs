//! The settings of a topic: one name each, for the broker's default and for a topic's own value.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{ConfigErrors, Fault};
use crate::origin::Origin;
use crate::refused;
use crate::relations;
use crate::setting::{Setting, Value};
use crate::suggest;
use crate::table::{Place, SETTINGS, find};

/// When a byte counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Durability {
    /// When the disk has it: an acknowledged record survives a power cut.
    Synced,
    /// When the kernel of every in-sync replica has it: survives the death of processes, and of all
    /// machines but one; written back to the disk in the background.
    Replicated,
}

/// What becomes of old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CleanupPolicy {
    /// Whole segments are deleted by age and by size.
    Delete,
}

/// Who chooses the compression of stored batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CompressionPolicy {
    /// The producer: batches are stored as they came.
    Producer,
}

/// What a record's timestamp means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimestampPolicy {
    /// The time that the producer gave it.
    Create,
}

/// The settings of a topic, all resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicConfig {
    /// `retention.ms`; `None`: no limit.
    pub retention_ms: Option<Duration>,
    /// `retention.bytes`, per partition; `None`: no limit.
    pub retention_bytes: Option<u64>,
    /// `segment.bytes`
    pub segment_bytes: u64,
    /// `segment.ms`
    pub segment_ms: Duration,
    /// `max.message.bytes`: the largest batch, header included.
    pub max_message_bytes: u32,
    /// `durability`
    pub durability: Durability,
    /// `flush.max.delay`: the longest that an unsynced byte waits with `durability = replicated`.
    pub flush_max_delay: Duration,
    /// `flush.bytes`: as many unsynced bytes start a sync with `durability = replicated`.
    pub flush_bytes: u64,
    /// `min.insync.replicas`
    pub min_insync_replicas: Option<u32>,
    /// `cleanup.policy`
    pub cleanup_policy: CleanupPolicy,
    /// `compression.type`
    pub compression: CompressionPolicy,
    /// `message.timestamp.type`
    pub timestamp: TimestampPolicy,
    /// `message.timestamp.before.max.ms`; `None`: no limit.
    pub timestamp_before_max: Option<Duration>,
    /// `message.timestamp.after.max.ms`; `None`: no limit.
    pub timestamp_after_max: Option<Duration>,
    /// `index.interval.bytes`
    pub index_interval_bytes: u32,
}

impl Default for TopicConfig {
    fn default() -> Self {
        // Placeholders, as in `BrokerConfig::default`.
        let mut config = Self {
            retention_ms: None,
            retention_bytes: None,
            segment_bytes: 0,
            segment_ms: Duration::ZERO,
            max_message_bytes: 0,
            durability: Durability::Synced,
            flush_max_delay: Duration::ZERO,
            flush_bytes: 0,
            min_insync_replicas: None,
            cleanup_policy: CleanupPolicy::Delete,
            compression: CompressionPolicy::Producer,
            timestamp: TimestampPolicy::Create,
            timestamp_before_max: None,
            timestamp_after_max: None,
            index_interval_bytes: 0,
        };
        for setting in topic_settings() {
            if let Place::Topic { put, .. } = setting.place {
                put(&mut config, setting.default_value());
            }
        }
        config
    }
}

impl TopicConfig {
    /// The value of a setting as it is written, or `None` if no topic setting has this name or alias.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<String> {
        let setting = find(key)?;
        match setting.place {
            Place::Topic { get, .. } => Some(setting.render(&get(self))),
            Place::Broker { .. } => None,
        }
    }
}

/// The settings that a topic can have, in the order in which they are documented.
pub fn topic_settings() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(|setting| setting.is_topic())
}

/// The values that a topic has of its own, checked one by one; by their canonical names.
///
/// Whether they fit together depends on the broker's defaults for the others:
/// [`TopicOverrides::resolve`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicOverrides {
    values: BTreeMap<&'static str, Value>,
}

/// A topic setting with its value in force: what a description of the topic shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSetting {
    /// Its name.
    pub key: &'static str,
    /// The value in force, as it would be written.
    pub value: String,
    /// Where that comes from.
    pub source: TopicSettingSource,
    /// What it means.
    pub doc: &'static str,
}

/// Where a topic's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicSettingSource {
    /// Built in.
    Default,
    /// The broker's configuration differs from what is built in.
    Broker,
    /// The topic has its own.
    Topic,
}

impl TopicOverrides {
    /// Reads `key`, `value` pairs as a client sends them.
    ///
    /// # Errors
    /// All faults: unknown names with a suggestion, bad values, names given twice, and settings that
    /// do not work yet.
    pub fn parse<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<Self, ConfigErrors>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let mut overrides = Self::default();
        let mut faults = Vec::new();
        for (key, value) in pairs {
            match parse_one(key.as_ref(), value.as_ref()) {
                Ok((setting, value)) => {
                    if overrides.values.insert(setting.key, value).is_some() {
                        faults.push(Fault::Twice {
                            origin: Origin::Topic,
                            key: setting.key.to_owned(),
                        });
                    }
                }
                Err(errors) => faults.extend(errors.into_faults()),
            }
        }
        ConfigErrors::check(faults)?;
        Ok(overrides)
    }

    /// Sets one value, or takes it back so that the broker's default holds again.
    ///
    /// # Errors
    /// The fault, if the name or the value is wrong.
    pub fn change(&mut self, key: &str, value: Option<&str>) -> Result<(), ConfigErrors> {
        match value {
            Some(value) => {
                let (setting, value) = parse_one(key, value)?;
                self.values.insert(setting.key, value);
            }
            None => {
                let setting = find_topic_setting(key)?;
                self.values.remove(setting.key);
            }
        }
        Ok(())
    }

    /// Whether the topic has no value of its own.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Names and values as they are written, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        self.values.iter().filter_map(|(key, value)| {
            let setting = find(key)?;
            Some((*key, setting.render(value)))
        })
    }

    /// The topic's settings: its own values over the broker's defaults.
    ///
    /// # Errors
    /// Faults between values, such as a segment that is smaller than the largest batch.
    pub fn resolve(&self, defaults: &TopicConfig) -> Result<TopicConfig, ConfigErrors> {
        let config = self.apply(defaults);
        let mut faults = Vec::new();
        relations::topic(&config, &mut faults);
        ConfigErrors::check(faults)?;
        Ok(config)
    }

    /// As [`Self::resolve`] without looking at faults between values: for a topic that exists
    /// already, which must be served even if the broker's defaults have changed under it.
    #[must_use]
    pub fn apply(&self, defaults: &TopicConfig) -> TopicConfig {
        let mut config = defaults.clone();
        for (key, value) in &self.values {
            if let Some(Place::Topic { put, .. }) = find(key).map(|setting| setting.place) {
                put(&mut config, value.clone());
            }
        }
        config
    }

    /// Every topic setting with the value in force and where it comes from.
    #[must_use]
    pub fn describe(&self, defaults: &TopicConfig) -> Vec<TopicSetting> {
        let config = self.apply(defaults);
        let mut described = Vec::new();
        for setting in topic_settings() {
            let Place::Topic { get, .. } = setting.place else {
                continue;
            };
            let source = if self.values.contains_key(setting.key) {
                TopicSettingSource::Topic
            } else if get(defaults) == setting.default_value() {
                TopicSettingSource::Default
            } else {
                TopicSettingSource::Broker
            };
            described.push(TopicSetting {
                key: setting.key,
                value: setting.render(&get(&config)),
                source,
                doc: setting.doc,
            });
        }
        described
    }
}

fn parse_one(key: &str, text: &str) -> Result<(&'static Setting, Value), ConfigErrors> {
    let setting = find_topic_setting(key)?;
    let value = setting.parse(key, text).map_err(|problem| {
        ConfigErrors::one(Fault::BadValue {
            origin: Origin::Topic,
            key: setting.key.to_owned(),
            value: text.to_owned(),
            problem,
        })
    })?;
    Ok((setting, value))
}

fn find_topic_setting(key: &str) -> Result<&'static Setting, ConfigErrors> {
    let (found, origin, key) = (find(key), Origin::Topic, key.to_owned());
    Err(ConfigErrors::one(match (found, refused::reason(&key)) {
        (Some(setting), _) if setting.is_topic() => return Ok(setting),
        (Some(_), _) => Fault::NotATopicSetting { origin, key },
        (None, Some(reason)) => Fault::Refused {
            origin,
            key,
            reason,
        },
        (None, None) => {
            let suggestion = suggest::nearest(&key, topic_settings());
            Fault::Unknown {
                origin,
                key,
                suggestion,
            }
        }
    }))
}
