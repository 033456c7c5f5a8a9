//! The table, the typed fields and `config/highwater.toml` agree.

use std::path::Path;

use crate::table::Place;
use crate::{BrokerConfig, SETTINGS, TopicConfig, explain, load_text, reference_file, variable};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/highwater.toml");

#[test]
fn the_file_is_what_the_table_says() {
    if std::env::var_os("HIGHWATER_TEST_BLESS").is_some() {
        std::fs::write(FILE, reference_file()).unwrap();
    }
    let text = std::fs::read_to_string(FILE).unwrap();
    assert!(
        text == reference_file(),
        "config/highwater.toml is out of date: HIGHWATER_TEST_BLESS=1 cargo test -p highwater-config"
    );
}

#[test]
fn the_file_loads_and_equals_the_defaults() {
    let text = std::fs::read_to_string(FILE).unwrap();
    let loaded = load_text(Path::new("highwater.toml"), &text).unwrap();
    assert_eq!(loaded.config, BrokerConfig::default());
    assert_eq!(loaded.warnings, Vec::<String>::new());
    for (setting, value, origin) in loaded.values() {
        assert!(
            origin.to_string().starts_with("highwater.toml:"),
            "{} is missing",
            setting.key
        );
        assert_eq!(value, setting.default, "{}", setting.key);
    }
}

#[test]
fn every_setting_in_the_file_has_a_comment_right_above() {
    let text = std::fs::read_to_string(FILE).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for setting in SETTINGS {
        let start = format!("{} = ", setting.key);
        let at = lines
            .iter()
            .position(|line| line.starts_with(&start))
            .unwrap();
        assert!(lines[at - 1].starts_with("# Values: "), "{}", setting.key);
        assert!(lines[at - 2].starts_with("# "), "{}", setting.key);
    }
}

#[test]
fn every_default_reads_fits_its_field_and_writes_back() {
    let mut config = BrokerConfig::default();
    for setting in SETTINGS {
        let value = setting.parse(setting.key, setting.default).unwrap();
        assert_eq!(setting.render(&value), setting.default, "{}", setting.key);
        let read = match setting.place {
            Place::Broker { put, get } => {
                put(&mut config, value.clone());
                get(&config)
            }
            Place::Topic { put, get } => {
                put(&mut config.topic_defaults, value.clone());
                get(&config.topic_defaults)
            }
        };
        assert_eq!(read, value, "{}", setting.key);
    }
    assert_eq!(config, BrokerConfig::default());
    assert_eq!(config.topic_defaults, TopicConfig::default());
    config.validate().unwrap();
}

/// A field that two settings share, or whose type cannot hold the bounds of its setting.
#[test]
fn every_setting_has_a_field_of_its_own_that_holds_its_bounds() {
    use crate::setting::{Kind, Value};
    for setting in SETTINGS {
        let bounds: Vec<Value> = match setting.kind {
            Kind::Number { min, max } | Kind::Size { min, max } => {
                vec![Value::Number(min), Value::Number(max)]
            }
            Kind::Duration { min_ms, max_ms } => [min_ms, max_ms]
                .map(|ms| Value::Duration(std::time::Duration::from_millis(ms)))
                .to_vec(),
            Kind::Choice(choices) => {
                let works = choices.iter().filter(|choice| choice.refused.is_none());
                works
                    .map(|choice| Value::Text(choice.word.to_owned()))
                    .collect()
            }
            Kind::Text | Kind::Path | Kind::Address { .. } | Kind::LogFilter => {
                vec![Value::Text("odd".to_owned())]
            }
            Kind::Addresses => vec![Value::List(vec!["odd:1".to_owned()])],
        };
        for value in bounds {
            let mut config = BrokerConfig::default();
            match setting.place {
                Place::Broker { put, .. } => put(&mut config, value.clone()),
                Place::Topic { put, .. } => put(&mut config.topic_defaults, value.clone()),
            }
            for other in SETTINGS {
                let now = config.value(other.key).unwrap();
                let expected = if other.key == setting.key {
                    setting.render(&value)
                } else {
                    other.default.to_owned()
                };
                assert_eq!(now, expected, "{} changed {}", setting.key, other.key);
            }
        }
    }
}

#[test]
fn names_are_words_joined_by_dots_and_none_begins_another() {
    let mut names = std::collections::BTreeSet::new();
    for setting in SETTINGS {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.';
        assert!(setting.key.chars().all(allowed), "{}", setting.key);
        for name in std::iter::once(&setting.key).chain(setting.aliases) {
            assert!(names.insert(*name), "{name} twice");
        }
        for other in SETTINGS {
            // TOML could not express both.
            assert!(
                !other.key.starts_with(&format!("{}.", setting.key)),
                "{}",
                setting.key
            );
        }
        assert!(
            setting.doc.ends_with('.') && setting.doc.is_ascii(),
            "{}",
            setting.key
        );
    }
}

#[test]
fn explain_knows_names_aliases_and_variables() {
    for setting in SETTINGS {
        for name in std::iter::once(&setting.key).chain(setting.aliases) {
            assert_eq!(explain(name).unwrap().key, setting.key);
        }
        assert_eq!(explain(&variable(setting)).unwrap().key, setting.key);
    }
    let explanation = explain("log.retention.ms").unwrap();
    assert_eq!(explanation.default, "7d");
    assert_eq!(explanation.variable, "HIGHWATER_RETENTION_MS");
    assert!(explanation.is_topic);
    assert_eq!(
        explain("retention.sm").unwrap_err().to_string(),
        "configuration: unknown setting `retention.sm`; did you mean `retention.ms`?"
    );
    assert!(
        explain("ssl.keystore.location")
            .unwrap_err()
            .to_string()
            .contains("not supported yet")
    );
}
