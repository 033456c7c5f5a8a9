//! The table, the typed fields and `config/highwater.toml` agree.

use std::path::Path;

use crate::table::Place;
use crate::{
    BrokerConfig, SETTINGS, TopicConfig, explain, load_text, reference_document, reference_file,
    variable,
};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/highwater.toml");
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/CONFIG.md");

#[test]
fn the_files_are_what_the_table_says() {
    for (path, expected) in [(FILE, reference_file()), (DOCUMENT, reference_document())] {
        if std::env::var_os("HIGHWATER_TEST_BLESS").is_some() {
            std::fs::write(path, &expected).unwrap();
        }
        assert!(
            std::fs::read_to_string(path).unwrap() == expected,
            "{path} is out of date: HIGHWATER_TEST_BLESS=1 cargo test -p highwater-config"
        );
    }
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

/// Odd texts for every setting: refused, or accepted as something that is written and read back as
/// the same.
#[test]
fn whatever_is_accepted_reads_back_as_the_same() {
    let odd = [
        "",
        " ",
        "0",
        "1",
        "-1",
        "00",
        "1_0",
        "_1",
        "1_",
        "0x1",
        "1e3",
        "1.",
        ".1",
        "1.5",
        "+1",
        "~",
        "NaN",
        "18446744073709551615",
        "18446744073709551616",
        "4294967296",
        "2147483648",
        "1s",
        "1 s",
        "1h30m",
        "1.5h",
        "90m",
        "0s",
        "1w",
        "1000000000d",
        "1KiB",
        "1.5MiB",
        "1 GB",
        "0.1KiB",
        "16777216TiB",
        "unlimited",
        "UNLIMITED",
        "auto",
        "none",
        "off",
        "a:1",
        "a:0",
        "[::1]:7",
        "PLAINTEXT://a:1",
        "plaintext://",
        "a:1,b:2",
        ",",
        ",,a:1,",
        "ä",
        "\u{202e}",
        "\0",
        "\n",
        "'",
        "\"",
        "a=b",
        "info",
        "info,a=b",
        "a::b=TRACE",
        "text",
        "producer",
        "Delete",
        "compact",
        "🦀:1",
        "x\u{7f}",
    ];
    for setting in SETTINGS {
        for text in odd {
            for name in std::iter::once(&setting.key).chain(setting.aliases) {
                let Ok(value) = setting.parse(name, text) else {
                    continue;
                };
                let written = setting.render(&value);
                let again = setting.parse(setting.key, &written);
                assert_eq!(
                    again,
                    Ok(value.clone()),
                    "{name} = {text:?} was written {written:?}"
                );
                setting.check_range(&value).unwrap();
                let mut config = BrokerConfig::default();
                match setting.place {
                    Place::Broker { put, .. } => put(&mut config, value),
                    Place::Topic { put, .. } => put(&mut config.topic_defaults, value),
                }
                let _ = config.validate();
            }
        }
    }
}

/// A file with some bytes changed is refused or accepted, and never worse.
#[test]
fn damaged_files_do_no_harm() {
    let text = reference_file().into_bytes();
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = |below: usize| {
        // Xorshift: any sequence does, the same one each time.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    for _ in 0..100 {
        let mut damaged = text.clone();
        for _ in 0..=next(8) {
            let at = next(damaged.len());
            damaged[at] = b"\n\"'[]{}=.,#\\0x-\x00\xff"[next(17)];
        }
        let damaged = String::from_utf8_lossy(&damaged);
        if let Err(errors) = load_text(Path::new("x"), &damaged) {
            assert!(!errors.faults().is_empty() && !errors.to_string().is_empty());
        }
    }
}
