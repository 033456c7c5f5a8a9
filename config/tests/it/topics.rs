//! A topic's own settings over the broker's defaults.

use std::time::Duration;

use highwater_config::{
    Durability, TopicConfig, TopicOverrides, TopicSettingSource, topic_settings,
};

use super::*;

fn refused(pairs: &[(&str, &str)]) -> Vec<String> {
    messages(&TopicOverrides::parse(pairs.iter().copied()).unwrap_err())
}

#[test]
fn a_topic_overrides_what_it_names() {
    let overrides = TopicOverrides::parse([
        ("retention.ms", "unlimited"),
        ("log.segment.bytes", "16MiB"),
        ("durability", "replicated"),
    ])
    .unwrap();
    let config = overrides.resolve(&TopicConfig::default()).unwrap();
    assert_eq!(config.retention_ms, None);
    assert_eq!(config.segment_bytes, 16 << 20);
    assert_eq!(config.durability, Durability::Replicated);
    assert_eq!(config.segment_ms, TopicConfig::default().segment_ms);
    let written: Vec<_> = overrides.iter().collect();
    assert_eq!(
        written,
        [
            ("durability", "replicated".to_owned()),
            ("retention.ms", "unlimited".to_owned()),
            ("segment.bytes", "16MiB".to_owned()),
        ]
    );
    assert_eq!(TopicOverrides::parse(written).unwrap(), overrides);
}

#[test]
fn all_faults_of_a_topic_are_reported_at_once() {
    assert_eq!(
        refused(&[
            ("retention.sm", "1d"),
            ("cleanup.policy", "compact"),
            ("min.cleanable.dirty.ratio", "0.5"),
            ("segment.bytes", "huge"),
            ("network.threads", "2"),
            ("segment.ms", "1d"),
            ("log.roll.ms", "2d"),
        ]),
        [
            "topic configuration: unknown setting `retention.sm`; did you mean `retention.ms`?",
            "topic configuration: `cleanup.policy`: \"compact\" is not supported yet: there is no compaction; use `delete`",
            "topic configuration: `min.cleanable.dirty.ratio`: compaction is not supported yet; remove the setting",
            "topic configuration: `segment.bytes`: \"huge\" is not a size such as `4096`, `64KiB`, `1MiB` or `2GiB`",
            "topic configuration: `network.threads` is a setting of the broker, a topic cannot have its own",
            "topic configuration: `segment.ms` is given twice, perhaps once under another name",
        ]
    );
}

#[test]
fn a_suggestion_for_a_topic_is_a_setting_of_topics() {
    assert_eq!(
        refused(&[("rack2", "x")]),
        ["topic configuration: unknown setting `rack2`"]
    );
}

#[test]
fn values_that_do_not_fit_the_defaults_are_refused_but_can_be_lived_with() {
    let overrides = TopicOverrides::parse([("segment.bytes", "1MiB")]).unwrap();
    let defaults = TopicConfig::default();
    assert!(
        overrides
            .resolve(&defaults)
            .unwrap_err()
            .to_string()
            .contains("segment of 1MiB")
    );
    assert_eq!(overrides.apply(&defaults).segment_bytes, 1 << 20);
}

#[test]
fn values_change_one_by_one() {
    let mut overrides = TopicOverrides::default();
    assert!(overrides.is_empty());
    overrides.change("retention.ms", Some("1h")).unwrap();
    overrides.change("log.retention.ms", Some("2h")).unwrap();
    let config = overrides.resolve(&TopicConfig::default()).unwrap();
    assert_eq!(config.retention_ms, Some(Duration::from_secs(7200)));
    assert!(overrides.change("retention.ms", Some("never")).is_err());
    assert!(overrides.change("retention.sm", None).is_err());
    assert_eq!(overrides.iter().count(), 1);
    overrides.change("log.retention.ms", None).unwrap();
    assert!(overrides.is_empty());
    overrides.change("retention.ms", None).unwrap();
}

#[test]
fn a_description_names_every_setting_with_its_source() {
    let broker = load_sets(&["retention.ms=1d"])
        .unwrap()
        .config
        .topic_defaults;
    let overrides = TopicOverrides::parse([("segment.ms", "1h")]).unwrap();
    let described = overrides.describe(&broker);
    assert_eq!(described.len(), topic_settings().count());
    let of = |key| described.iter().find(|setting| setting.key == key).unwrap();
    assert_eq!(
        (of("segment.ms").value.as_str(), of("segment.ms").source),
        ("1h", TopicSettingSource::Topic)
    );
    assert_eq!(
        (of("retention.ms").value.as_str(), of("retention.ms").source),
        ("1d", TopicSettingSource::Broker)
    );
    assert_eq!(of("durability").source, TopicSettingSource::Default);
    assert_eq!(broker.value("retention.ms").as_deref(), Some("1d"));
    assert_eq!(broker.value("listen"), None);
}
