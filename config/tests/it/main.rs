//! Loading configurations as a broker's start does, with everything that can be wrong with them.
#![allow(
    clippy::unwrap_used,
    reason = "a test that fails here has found something"
)]

mod layers;
mod refusals;
mod topics;

use std::ffi::OsString;
use std::path::Path;

use highwater_config::{ConfigErrors, LoadOptions, Loaded, load, load_text};

/// Loads the text of a file.
fn file(text: &str) -> Result<Loaded, ConfigErrors> {
    load_text(Path::new("test.toml"), text)
}

/// The messages of a text's faults.
fn faults(text: &str) -> Vec<String> {
    messages(&file(text).unwrap_err())
}

fn messages(errors: &ConfigErrors) -> Vec<String> {
    errors.faults().iter().map(ToString::to_string).collect()
}

fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs
        .iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

fn load_environment(pairs: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
    load(&LoadOptions {
        environment: environment(pairs),
        ..LoadOptions::default()
    })
}

fn load_sets(sets: &[&str]) -> Result<Loaded, ConfigErrors> {
    let sets = sets.iter().map(ToString::to_string).collect();
    load(&LoadOptions {
        sets,
        ..LoadOptions::default()
    })
}
