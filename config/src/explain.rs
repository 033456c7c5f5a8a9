//! One setting in words: for `config explain`, and with its value for `config check`.

use crate::broker::BrokerConfig;
use crate::environment;
use crate::error::{ConfigErrors, Fault};
use crate::load::Loaded;
use crate::origin::Origin;
use crate::refused;
use crate::setting::Setting;
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
