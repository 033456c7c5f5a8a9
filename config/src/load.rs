//! Puts a configuration together: defaults, then the file, the environment, `--set`, and flags.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::broker::BrokerConfig;
use crate::environment::{self, ENVIRONMENT_PREFIX};
use crate::error::{ConfigErrors, Fault};
use crate::file::{self, Raw};
use crate::origin::Origin;
use crate::refused;
use crate::relations;
use crate::setting::{Kind, Setting, Value, ValueError};
use crate::suggest;
use crate::table::{Place, SETTINGS, find};

/// Where a configuration comes from. Each layer overrides those before it.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The file, if there is one; it must exist.
    pub file: Option<PathBuf>,
    /// The environment; names that do not begin with [`ENVIRONMENT_PREFIX`] are skipped.
    pub environment: Vec<(OsString, OsString)>,
    /// The arguments of `--set`, `key=value` each. The last one of a key counts.
    pub sets: Vec<String>,
    /// Dedicated flags.
    pub flags: Vec<Flag>,
}

/// A dedicated flag of the command line that stands for a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// The flag as it was written, for messages: `--listen`.
    pub flag: &'static str,
    /// The setting.
    pub key: &'static str,
    /// Its values: several for a flag that may be repeated, such as `--seed`.
    pub values: Vec<String>,
}

impl LoadOptions {
    /// Options with the environment of this process.
    #[must_use]
    pub fn from_process(file: Option<PathBuf>) -> Self {
        Self {
            file,
            environment: std::env::vars_os().collect(),
            ..Self::default()
        }
    }

    /// Adds a dedicated flag, if it was given.
    #[must_use]
    pub fn flag(
        mut self,
        flag: &'static str,
        key: &'static str,
        value: Option<impl Into<String>>,
    ) -> Self {
        if let Some(value) = value {
            self.flags.push(Flag {
                flag,
                key,
                values: vec![value.into()],
            });
        }
        self
    }
}

/// A configuration that was put together.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub config: BrokerConfig,
    /// Where each comes from.
    pub origins: Origins,
    /// What is allowed but probably not meant, one sentence each.
    pub warnings: Vec<String>,
}

/// Where each value comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<&'static str, Origin>);

impl Origins {
    /// The origin of a setting's value, by its canonical name.
    #[must_use]
    pub fn of(&self, key: &str) -> &Origin {
        self.0.get(key).unwrap_or(&Origin::Default)
    }
}

/// Puts a configuration together and checks it.
///
/// # Errors
/// All faults of all layers, and those between values.
pub fn load(options: &LoadOptions) -> Result<Loaded, ConfigErrors> {
    let mut builder = Builder::default();
    if let Some(path) = &options.file {
        builder.file(path);
    }
    builder.environment(&options.environment);
    builder.sets(&options.sets);
    builder.flags(&options.flags);
    builder.finish()
}

/// As [`load`], with the text of a file in place of a file.
///
/// # Errors
/// As [`load`].
pub fn load_text(name: &Path, text: &str) -> Result<Loaded, ConfigErrors> {
    let mut builder = Builder::default();
    let entries = file::parse(name, text, &mut builder.faults);
    builder.entries(name, entries);
    builder.finish()
}

#[derive(Default)]
struct Builder {
    config: BrokerConfig,
    origins: Origins,
    faults: Vec<Fault>,
}

impl Builder {
    fn file(&mut self, path: &Path) {
        let entries = file::read(path, &mut self.faults);
        self.entries(path, entries);
    }

    fn entries(&mut self, path: &Path, entries: Vec<file::Entry>) {
        let mut seen = HashMap::new();
        for entry in entries {
            let origin = Origin::File {
                path: path.to_owned(),
                line: entry.line,
            };
            let Some(setting) = self.find(&entry.key, &origin) else {
                continue;
            };
            if seen.insert(setting.key, ()).is_some() {
                self.faults.push(Fault::Twice {
                    origin,
                    key: setting.key.to_owned(),
                });
                continue;
            }
            self.put(setting, &entry.key, entry.value, origin);
        }
    }

    fn environment(&mut self, variables: &[(OsString, OsString)]) {
        // In the order of their names: that of the environment is nobody's intention.
        let mut ours: Vec<_> = variables
            .iter()
            .filter_map(|(name, value)| Some((name.to_str()?, value)))
            .filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX))
            .collect();
        ours.sort_unstable();
        for (variable, value) in ours {
            let Some(setting) = environment::setting(variable) else {
                if !environment::is_foreign(variable) {
                    let key = &variable[ENVIRONMENT_PREFIX.len()..];
                    let suggestion = suggest::nearest(key, SETTINGS).and_then(|name| find(&name));
                    self.faults.push(Fault::UnknownVariable {
                        variable: variable.to_owned(),
                        suggestion: suggestion.map(environment::variable),
                    });
                }
                continue;
            };
            match value.to_str() {
                Some(text) => {
                    let origin = Origin::Environment {
                        variable: variable.to_owned(),
                    };
                    self.put(setting, setting.key, Raw::Text(text.to_owned()), origin);
                }
                None => self.faults.push(Fault::NotText {
                    variable: variable.to_owned(),
                }),
            }
        }
    }

    fn sets(&mut self, sets: &[String]) {
        for argument in sets {
            let flag = "--set".to_owned();
            let Some((key, value)) = argument.split_once('=') else {
                self.faults.push(Fault::NotAnAssignment {
                    flag,
                    argument: argument.clone(),
                });
                continue;
            };
            let (key, origin) = (key.trim(), Origin::Flag { flag });
            if let Some(setting) = self.find(key, &origin) {
                self.put(setting, key, Raw::Text(value.to_owned()), origin);
            }
        }
    }

    fn flags(&mut self, flags: &[Flag]) {
        for Flag { flag, key, values } in flags {
            let origin = Origin::Flag {
                flag: (*flag).to_owned(),
            };
            let Some(setting) = self.find(key, &origin) else {
                continue;
            };
            let raw = match (setting.kind, values.as_slice()) {
                (Kind::Addresses, values) => Raw::List(values.to_vec()),
                (_, [.., value]) => Raw::Text(value.clone()),
                (_, []) => continue,
            };
            self.put(setting, key, raw, origin);
        }
    }

    fn find(&mut self, key: &str, origin: &Origin) -> Option<&'static Setting> {
        let found = find(key);
        if found.is_none() {
            let origin = origin.clone();
            let key = key.to_owned();
            self.faults.push(match refused::reason(&key) {
                Some(reason) => Fault::Refused {
                    origin,
                    key,
                    reason,
                },
                None => {
                    let suggestion = suggest::nearest(&key, SETTINGS);
                    Fault::Unknown {
                        origin,
                        key,
                        suggestion,
                    }
                }
            });
        }
        found
    }

    fn put(&mut self, setting: &'static Setting, key: &str, raw: Raw, origin: Origin) {
        match read_value(setting, key, &raw) {
            Ok(value) => {
                match setting.place {
                    Place::Broker { put, .. } => put(&mut self.config, value),
                    Place::Topic { put, .. } => put(&mut self.config.topic_defaults, value),
                }
                self.origins.0.insert(setting.key, origin);
            }
            Err(problem) => self.faults.push(Fault::BadValue {
                origin,
                key: key.to_owned(),
                value: match raw {
                    Raw::Text(text) => text,
                    Raw::List(items) => items.join(","),
                    Raw::Other(what) => what.to_owned(),
                },
                problem,
            }),
        }
    }

    fn finish(mut self) -> Result<Loaded, ConfigErrors> {
        let mut relations = Vec::new();
        relations::broker(&self.config, &mut relations);
        // Where a value could not be read, its default stands in; what that contradicts says nothing.
        let unread: Vec<_> = self
            .faults
            .iter()
            .filter_map(|fault| match fault {
                Fault::BadValue { key, .. } => find(key).map(|setting| setting.key),
                _ => None,
            })
            .collect();
        relations.retain(|fault| match fault {
            Fault::Relation { keys, .. } => !keys.iter().any(|key| unread.contains(key)),
            _ => true,
        });
        self.faults.extend(relations);
        ConfigErrors::check(self.faults)?;
        let warnings = relations::warnings(&self.config);
        Ok(Loaded {
            config: self.config,
            origins: self.origins,
            warnings,
        })
    }
}

fn read_value(setting: &Setting, key: &str, raw: &Raw) -> Result<Value, ValueError> {
    match raw {
        Raw::Text(text) => setting.parse(key, text),
        Raw::List(items) if setting.kind == Kind::Addresses => setting.parse(key, &items.join(",")),
        // Kafka's `cleanup.policy` is a list; one that has one item means the item.
        Raw::List(items) => match items.as_slice() {
            [item] => setting.parse(key, item),
            _ => Err(ValueError::WrongKind {
                found: "a list",
                expected: "one value",
            }),
        },
        Raw::Other(what) => Err(ValueError::WrongKind {
            found: what,
            expected: "one value",
        }),
    }
}
