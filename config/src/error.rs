//! What can be wrong with a configuration. Always reported all at once.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use crate::origin::Origin;
use crate::setting::ValueError;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    /// No setting has this name.
    #[error("{origin}: unknown setting `{}`{}", shown(key), did_you_mean(suggestion.as_deref()))]
    Unknown {
        /// Where it was found.
        origin: Origin,
        /// The name.
        key: String,
        /// The nearest name that exists.
        suggestion: Option<String>,
    },
    /// A variable that begins like ours and is none of ours.
    #[error("unknown environment variable {}{}", shown(variable), did_you_mean(suggestion.as_deref()))]
    UnknownVariable {
        /// Its name.
        variable: String,
        /// The nearest name that exists.
        suggestion: Option<String>,
    },
    /// A variable whose value is not UTF-8.
    #[error("environment variable {variable} is not UTF-8")]
    NotText {
        /// Its name.
        variable: String,
    },
    /// The name exists elsewhere, or means something that is not there yet.
    #[error("{origin}: `{}`: {reason}", shown(key))]
    Refused {
        /// Where it was found.
        origin: Origin,
        /// The name.
        key: String,
        /// What to do about it.
        reason: &'static str,
    },
    /// A setting of the broker where only those of topics are allowed.
    #[error("{origin}: `{key}` is a setting of the broker, a topic cannot have its own")]
    NotATopicSetting {
        /// Where it was found.
        origin: Origin,
        /// The name.
        key: String,
    },
    /// The value cannot be read, or is out of range.
    #[error("{origin}: `{key}`: \"{}\" {problem}", shown(value))]
    BadValue {
        /// Where it was found.
        origin: Origin,
        /// The setting.
        key: String,
        /// The value as written.
        value: String,
        /// What is wrong with it.
        problem: ValueError,
    },
    /// The same setting twice in one place, perhaps once by an alias.
    #[error("{origin}: `{key}` is given twice, perhaps once under another name")]
    Twice {
        /// The second place.
        origin: Origin,
        /// The setting.
        key: String,
    },
    /// Values that do not fit together.
    #[error("{}: {problem}", list(keys))]
    Relation {
        /// The settings concerned.
        keys: &'static [&'static str],
        /// What is wrong between them.
        problem: String,
    },
    /// The file cannot be read.
    #[error("cannot read {}: {problem}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// The file is not TOML.
    #[error("{origin}: {problem}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// What is wrong.
        problem: String,
    },
    /// A `--set` without `=`.
    #[error("{flag}: \"{}\" is not `key=value`", shown(argument))]
    NotAnAssignment {
        /// The flag.
        flag: String,
        /// Its argument.
        argument: String,
    },
}

/// Everything that is wrong: never empty.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct ConfigErrors {
    faults: Vec<Fault>,
}

impl ConfigErrors {
    /// `Err` if there are faults.
    pub(crate) fn check(faults: Vec<Fault>) -> Result<(), Self> {
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Self { faults })
        }
    }

    pub(crate) fn one(fault: Fault) -> Self {
        Self {
            faults: vec![fault],
        }
    }

    pub(crate) fn into_faults(self) -> Vec<Fault> {
        self.faults
    }

    /// The faults, in the order in which they were found.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.faults.as_slice() {
            [fault] => write!(f, "{fault}"),
            faults => {
                write!(f, "{} faults in the configuration:", faults.len())?;
                faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
            }
        }
    }
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// Text that came from outside, fit for a terminal and a log line: no control characters, no length.
fn shown(text: &str) -> String {
    const CHARACTERS_MAX: usize = 120;
    let mut shown: String = text
        .chars()
        .take(CHARACTERS_MAX)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(CHARACTERS_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}

fn list(keys: &[&str]) -> String {
    keys.iter()
        .map(|key| format!("`{key}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
