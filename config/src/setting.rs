//! One setting: its name, its kind, its bounds, its default, what it means.

use std::time::Duration;

use thiserror::Error;

use crate::address;
use crate::table::Place;
use crate::units::{UnitError, format_duration, format_size, parse_duration, parse_size};

/// A setting as the table holds it.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name, words separated by dots.
    pub key: &'static str,
    /// Names that other products have for it, accepted as well.
    pub aliases: &'static [&'static str],
    /// What its values look like.
    pub kind: Kind,
    /// The word for "no value" if there may be none, such as `unlimited`.
    pub none: Option<&'static str>,
    /// Its default as it is written.
    pub default: &'static str,
    /// What it means: whole sentences, the first on its own says the essence.
    pub doc: &'static str,
    /// Where its value is kept.
    pub(crate) place: Place,
}

/// What the values of a setting look like. Bounds are inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Number {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// A number of bytes.
    Size {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// A length of time.
    Duration {
        /// Shortest, in milliseconds.
        min_ms: u64,
        /// Longest, in milliseconds.
        max_ms: u64,
    },
    /// One of some words.
    Choice(&'static [Choice]),
    /// A short text.
    Text,
    /// A path.
    Path,
    /// `host:port`
    Address {
        /// Whether port 0, "any free one", makes sense.
        port_zero: bool,
    },
    /// A list of `host:port`.
    Addresses,
    /// A log level or a list of `target=level`.
    LogFilter,
}

/// One of the words that a setting can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The word.
    pub word: &'static str,
    /// How other products spell it, accepted as well.
    pub spellings: &'static [&'static str],
    /// Why it is refused, for a word that is known but does not work.
    pub refused: Option<&'static str>,
}

/// A value that was read and fits its setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    None,
    Number(u64),
    Duration(Duration),
    Text(String),
    List(Vec<String>),
}

/// Why a text is not a value of a setting. Reads on behind the text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ValueError {
    /// A duration or a size that cannot be read.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// Not a whole number.
    #[error("is not a whole number")]
    NotANumber,
    /// Outside of the bounds.
    #[error("is out of range; allowed is {min} to {max}")]
    OutOfRange {
        /// The lower bound as it would be written.
        min: String,
        /// The upper bound as it would be written.
        max: String,
    },
    /// Not one of the words.
    #[error("is not one of {allowed}")]
    NotAChoice {
        /// The words.
        allowed: String,
    },
    /// A word that is known but does not work.
    #[error("{0}")]
    Unsupported(&'static str),
    /// Nothing there.
    #[error("must not be empty")]
    Empty,
    /// Contains a control character.
    #[error("contains a control character")]
    ControlCharacter,
    /// Longer than a text of a setting may be.
    #[error("is {length} bytes long; the limit is {limit}")]
    TooLong {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// Not an address.
    #[error("is not an address: {0}")]
    Address(#[from] address::AddressError),
    /// A part of a log filter that cannot be read.
    #[error(
        "has the part {part:?}, which is neither a level (off, error, warn, info, debug, trace) nor `target=level`"
    )]
    LogFilter {
        /// The part.
        part: String,
    },
    /// A value of another kind, such as a list where a number belongs.
    #[error("is {found}; {expected} is expected")]
    WrongKind {
        /// What it is.
        found: &'static str,
        /// What it should be.
        expected: &'static str,
    },
}

/// Longest text that a setting can have.
const TEXT_BYTES_MAX: usize = highwater_protocol::limits::CONFIG_VALUE_BYTES_MAX;

impl Setting {
    /// Whether a topic can have its own value.
    #[must_use]
    pub fn is_topic(&self) -> bool {
        matches!(self.place, Place::Topic { .. })
    }

    /// When a change takes effect, for people.
    #[must_use]
    pub const fn takes_effect(&self) -> &'static str {
        match self.place {
            Place::Broker { .. } => "at the next start of the broker",
            Place::Topic { .. } => {
                "for a topic's own value at once, for the broker's default at its next start"
            }
        }
    }

    /// What its values look like, for people.
    #[must_use]
    pub fn describe_values(&self) -> String {
        let values = match self.kind {
            Kind::Number { min, max } => format!("number, {min} to {max}"),
            Kind::Size { min, max } => {
                format!("size, {} to {}", format_size(min), format_size(max))
            }
            Kind::Duration { min_ms, max_ms } => format!(
                "duration, {} to {}",
                format_duration(Duration::from_millis(min_ms)),
                format_duration(Duration::from_millis(max_ms))
            ),
            Kind::Choice(choices) => format!("one of {}", words(choices)),
            Kind::Text => "text".to_owned(),
            Kind::Path => "path".to_owned(),
            Kind::Address { .. } => "host:port".to_owned(),
            Kind::Addresses => "list of host:port".to_owned(),
            Kind::LogFilter => {
                "off, error, warn, info, debug, trace, or a list of target=level".to_owned()
            }
        };
        match self.none {
            Some(none) => format!("{values}; or {none}"),
            None => values,
        }
    }

    /// Reads a value. `key` is the name under which it was given, which may be an alias: the value of
    /// a name in `ms` may be a bare number, since the name is its unit.
    pub(crate) fn parse(&self, key: &str, text: &str) -> Result<Value, ValueError> {
        let text = if self.kind == Kind::Path {
            text
        } else {
            text.trim()
        };
        if text.len() > TEXT_BYTES_MAX {
            return Err(ValueError::TooLong {
                length: text.len(),
                limit: TEXT_BYTES_MAX,
            });
        }
        if text.chars().any(char::is_control) {
            return Err(ValueError::ControlCharacter);
        }
        if let Some(none) = self.none {
            // Kafka spells "no limit" as -1.
            if text.eq_ignore_ascii_case(none) || (none == "unlimited" && text == "-1") {
                return Ok(Value::None);
            }
        }
        let value = match self.kind {
            Kind::Number { .. } => Value::Number(parse_number(text)?),
            Kind::Size { .. } => Value::Number(parse_size(text)?),
            Kind::Duration { .. } => Value::Duration(parse_time(key, text)?),
            Kind::Choice(choices) => Value::Text(parse_choice(choices, text)?.to_owned()),
            Kind::Text | Kind::Path => {
                if text.is_empty() {
                    return Err(ValueError::Empty);
                }
                Value::Text(text.to_owned())
            }
            Kind::Address { port_zero } => Value::Text(address::parse(text, port_zero)?),
            Kind::Addresses => {
                let items = text
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty());
                let parsed: Result<Vec<_>, _> =
                    items.map(|item| address::parse(item, false)).collect();
                Value::List(parsed?)
            }
            Kind::LogFilter => Value::Text(parse_log_filter(text)?),
        };
        self.check_range(&value)?;
        Ok(value)
    }

    /// Whether a value that has the right kind lies within the bounds.
    pub(crate) fn check_range(&self, value: &Value) -> Result<(), ValueError> {
        let fits = match (self.kind, value) {
            (Kind::Number { min, max } | Kind::Size { min, max }, Value::Number(number)) => {
                (min..=max).contains(number)
            }
            (Kind::Duration { min_ms, max_ms }, Value::Duration(duration)) => {
                (u128::from(min_ms)..=u128::from(max_ms)).contains(&duration.as_millis())
            }
            _ => true,
        };
        if fits {
            return Ok(());
        }
        let (min, max) = match self.kind {
            Kind::Size { min, max } => (format_size(min), format_size(max)),
            Kind::Number { min, max } => (min.to_string(), max.to_string()),
            Kind::Duration { min_ms, max_ms } => (
                format_duration(Duration::from_millis(min_ms)),
                format_duration(Duration::from_millis(max_ms)),
            ),
            _ => (String::new(), String::new()),
        };
        Err(ValueError::OutOfRange { min, max })
    }

    /// Writes a value so that it reads back as the same.
    pub(crate) fn render(&self, value: &Value) -> String {
        match value {
            Value::None => self.none.unwrap_or_default().to_owned(),
            Value::Number(number) => match self.kind {
                Kind::Size { .. } => format_size(*number),
                _ => number.to_string(),
            },
            Value::Duration(duration) => format_duration(*duration),
            Value::Text(text) => text.clone(),
            Value::List(items) => items.join(","),
        }
    }

    /// The default, read.
    pub(crate) fn default_value(&self) -> Value {
        self.parse(self.key, self.default)
            .expect("a test reads the default of every setting")
    }
}

fn parse_number(text: &str) -> Result<u64, ValueError> {
    text.replace('_', "")
        .parse()
        .map_err(|_| ValueError::NotANumber)
}

fn parse_time(key: &str, text: &str) -> Result<Duration, ValueError> {
    let named_ms = key.ends_with(".ms");
    if named_ms && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'_') {
        return parse_number(text)
            .map(Duration::from_millis)
            .map_err(|_| ValueError::Unit(UnitError::TooLarge));
    }
    Ok(parse_duration(text)?)
}

fn parse_choice(choices: &[Choice], text: &str) -> Result<&'static str, ValueError> {
    let meant = |choice: &&Choice| {
        choice.word.eq_ignore_ascii_case(text)
            || choice
                .spellings
                .iter()
                .any(|spelling| spelling.eq_ignore_ascii_case(text))
    };
    match choices.iter().find(meant) {
        Some(Choice {
            refused: Some(reason),
            ..
        }) => Err(ValueError::Unsupported(reason)),
        Some(choice) => Ok(choice.word),
        None => Err(ValueError::NotAChoice {
            allowed: words(choices),
        }),
    }
}

fn words(choices: &[Choice]) -> String {
    let allowed = choices.iter().filter(|choice| choice.refused.is_none());
    allowed
        .map(|choice| choice.word)
        .collect::<Vec<_>>()
        .join(", ")
}

fn parse_log_filter(text: &str) -> Result<String, ValueError> {
    let is_level = |word: &str| {
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        levels.iter().any(|level| level.eq_ignore_ascii_case(word))
    };
    let is_target = |target: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-');
        !target.is_empty() && target.chars().all(allowed)
    };
    if text.is_empty() {
        return Err(ValueError::Empty);
    }
    for part in text.split(',') {
        let good = match part.trim().split_once('=') {
            Some((target, level)) => is_target(target) && is_level(level),
            None => is_level(part.trim()),
        };
        if !good {
            return Err(ValueError::LogFilter {
                part: part.trim().to_owned(),
            });
        }
    }
    Ok(text.to_owned())
}
