//! Settings in words: one of them for `config explain`, all of them for `config/highwater.toml`.

use crate::broker::BrokerConfig;
use crate::environment;
use crate::error::{ConfigErrors, Fault};
use crate::load::Loaded;
use crate::origin::Origin;
use crate::refused;
use crate::setting::{Kind, Setting};
use crate::suggest;
use crate::table::{Place, SETTINGS, find};

/// What there is to say about a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Its name.
    pub key: &'static str,
    /// What it means.
    pub doc: &'static str,
    /// What its values look like.
    pub values: String,
    /// Its default.
    pub default: &'static str,
    /// Its environment variable.
    pub variable: String,
    /// Other names that are accepted.
    pub aliases: &'static [&'static str],
    /// Whether a topic can have its own value.
    pub is_topic: bool,
    /// When a change takes effect.
    pub takes_effect: &'static str,
}

/// Explains a setting by its name, an alias, or its environment variable.
///
/// # Errors
/// If there is none: with the nearest name, or with what is known about it.
pub fn explain(name: &str) -> Result<Explanation, ConfigErrors> {
    let Some(setting) = find(name).or_else(|| environment::setting(name)) else {
        let (origin, key) = (Origin::Code, name.to_owned());
        return Err(ConfigErrors::one(match refused::reason(name) {
            Some(reason) => Fault::Refused {
                origin,
                key,
                reason,
            },
            None => Fault::Unknown {
                origin,
                key,
                suggestion: suggest::nearest(name, SETTINGS),
            },
        }));
    };
    Ok(Explanation {
        key: setting.key,
        doc: setting.doc,
        values: setting.describe_values(),
        default: setting.default,
        variable: environment::variable(setting),
        aliases: setting.aliases,
        is_topic: setting.is_topic(),
        takes_effect: setting.takes_effect(),
    })
}

impl BrokerConfig {
    /// The value of a setting as it would be written, or `None` if there is no such setting.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<String> {
        let setting = find(name)?;
        Some(setting.render(&match setting.place {
            Place::Broker { get, .. } => get(self),
            Place::Topic { get, .. } => get(&self.topic_defaults),
        }))
    }
}

impl Loaded {
    /// Every setting with its value and where that comes from, in the order of the documentation.
    #[must_use]
    pub fn values(&self) -> Vec<(&'static Setting, String, &Origin)> {
        let value = |setting: &Setting| self.config.value(setting.key).unwrap_or_default();
        SETTINGS
            .iter()
            .map(|setting| (setting, value(setting), self.origins.of(setting.key)))
            .collect()
    }
}

/// The text of `config/highwater.toml`: every setting with its default and what it means.
#[must_use]
pub fn reference_file() -> String {
    let mut text = String::from(HEAD);
    let mut section = "";
    for setting in SETTINGS {
        let of = section_of(setting);
        if of != section {
            section = of;
            text.push_str(&format!("\n# {:=<98}\n# {section}\n# {:=<98}\n", "", ""));
        }
        text.push('\n');
        for line in wrap(setting.doc, 98) {
            text.push_str(&format!("# {line}\n"));
        }
        text.push_str(&format!("# Values: {}.\n", setting.describe_values()));
        text.push_str(&format!("{} = {}\n", setting.key, toml_value(setting)));
    }
    text
}

const HEAD: &str = "\
# Highwater: every setting of a broker with its default. Loading this file changes nothing.
#
#   highwater broker --config highwater.toml
#
# What is set later overrides what is set earlier:
#   1. the defaults       2. this file       3. the environment       4. --set key=value
#   5. dedicated flags such as --listen and --data-dir
#
# The environment variable of a setting is HIGHWATER_, then its name in upper case with _ for each
# dot: retention.ms is HIGHWATER_RETENTION_MS. `highwater config explain KEY` tells all about one.
#
# Durations have units: 500ms, 30s, 10m, 12h, 7d, 1h30m. Sizes are bytes or have units: 64KiB, 1MiB
# (powers of 1024) or kB, MB (powers of 1000). Tables are another way to write the dots: [network]
# with threads = 4 in it is network.threads = 4. Unknown names are refused.
#
# This file is generated; change config/src/table.rs and run
#   HIGHWATER_TEST_BLESS=1 cargo test -p highwater-config
";

fn section_of(setting: &Setting) -> &'static str {
    if setting.is_topic() {
        return "Topics: the broker's defaults. A topic can have its own value under the same name.";
    }
    match setting.key.split('.').next() {
        Some("admin") => "Admin HTTP endpoint",
        Some("log") => "Logging",
        Some("network") => "Network",
        Some("storage") => "Storage",
        Some("num" | "default") => "New topics",
        _ => "The broker",
    }
}

fn toml_value(setting: &Setting) -> String {
    match setting.kind {
        Kind::Addresses => {
            let items: Vec<_> = setting
                .default
                .split(',')
                .filter(|item| !item.is_empty())
                .map(|item| format!("{item:?}"))
                .collect();
            format!("[{}]", items.join(", "))
        }
        Kind::Number { .. } if Some(setting.default) != setting.none => setting.default.to_owned(),
        _ => format!("{:?}", setting.default),
    }
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("never empty");
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
