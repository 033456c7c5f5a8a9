//! Reads a TOML file into names and values, each with its line.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::error::Fault;
use crate::origin::Origin;

/// Largest configuration file; more is not a configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A value before anyone looked at its setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Raw {
    /// As text: what environment and flags give, and TOML's strings and numbers.
    Text(String),
    /// TOML's arrays.
    List(Vec<String>),
    /// What no setting can be, by its name.
    Other(&'static str),
}

/// A setting of the file.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: Raw,
    pub(crate) line: usize,
}

/// Reads the file. Tables are only a way to write names: `[network]` with `threads = 4` in it is
/// `network.threads = 4`.
pub(crate) fn read(path: &Path, faults: &mut Vec<Fault>) -> Vec<Entry> {
    let unreadable = |problem: String| Fault::Unreadable {
        path: path.to_owned(),
        problem,
    };
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            faults.push(unreadable("it is a directory".to_owned()));
            return Vec::new();
        }
        Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
            faults.push(unreadable("it is larger than 1MiB".to_owned()));
            return Vec::new();
        }
        Ok(_) => {}
        Err(error) => {
            faults.push(unreadable(error.to_string()));
            return Vec::new();
        }
    }
    match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => parse(path, &text, faults),
        Ok(Err(_)) => {
            faults.push(unreadable("it is not UTF-8".to_owned()));
            Vec::new()
        }
        Err(error) => {
            faults.push(unreadable(error.to_string()));
            Vec::new()
        }
    }
}

/// As [`read`], of a text.
pub(crate) fn parse(path: &Path, text: &str, faults: &mut Vec<Fault>) -> Vec<Entry> {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        let origin = Origin::File {
            path: path.to_owned(),
            line: line_of(text, at),
        };
        let problem = error.message().trim().replace('\n', "; ");
        faults.push(Fault::Syntax { origin, problem });
    }
    let mut entries = Vec::new();
    flatten("", table.get_ref(), text, &mut entries);
    // The parser sorts by name; people read from top to bottom.
    entries.sort_by_key(|entry| entry.line);
    entries
}

fn flatten(prefix: &str, table: &DeTable<'_>, text: &str, entries: &mut Vec<Entry>) {
    for (name, value) in table {
        let key = if prefix.is_empty() {
            name.get_ref().to_string()
        } else {
            format!("{prefix}.{}", name.get_ref())
        };
        let line = line_of(text, name.span().start);
        match value.get_ref() {
            DeValue::Table(inner) => flatten(&key, inner, text, entries),
            DeValue::Array(items) => {
                let items: Option<Vec<_>> =
                    items.iter().map(|item| scalar(item.get_ref())).collect();
                let value = items.map_or(Raw::Other("a list of lists or tables"), Raw::List);
                entries.push(Entry { key, value, line });
            }
            DeValue::Datetime(_) => {
                entries.push(Entry {
                    key,
                    value: Raw::Other("a date"),
                    line,
                });
            }
            other => {
                let value = scalar(other).map_or(Raw::Other("not a value"), Raw::Text);
                entries.push(Entry { key, value, line });
            }
        }
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        // `0x10` and the like stay as they were written: no setting reads them.
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}
