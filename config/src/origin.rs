//! Where a value comes from.

use std::fmt;
use std::path::PathBuf;

/// Where a value comes from. Later ones override earlier ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
    /// The command line.
    Flag {
        /// The flag as it was written: `--set`, `--listen`…
        flag: String,
    },
    /// The topic's own configuration.
    Topic,
    /// Set in code, by a program that embeds the broker.
    Code,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
            Self::Flag { flag } => write!(f, "{flag}"),
            Self::Topic => f.write_str("topic configuration"),
            Self::Code => f.write_str("configuration"),
        }
    }
}
