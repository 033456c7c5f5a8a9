//! A history on disk: JSON lines, the [`Header`] first, then one [`Event`] a line in the order in which
//! they were completed. About 130 bytes a record sent and 25 a record read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::event::{Event, Header};
use crate::history::{History, HistoryError};

/// Longest line: more is no history of ours.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// Why a history cannot be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// The system said no.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With this file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A line is no event.
    #[error("{} line {line}: {source}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A line is far too long.
    #[error("{} line {line} is longer than {LINE_BYTES_MAX} bytes", path.display())]
    LongLine {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
    },
    /// An event cannot be of this history.
    #[error("{} line {line}: {source}", path.display())]
    Event {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What is wrong with it.
        source: HistoryError,
    },
    /// The file is of another version of the format, or of none.
    #[error("{} is a history of version {found}; this program reads {}", path.display(), Header::VERSION)]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

/// Writes a history.
#[derive(Debug)]
pub struct HistoryWriter {
    path: PathBuf,
    file: BufWriter<File>,
}

impl HistoryWriter {
    /// Begins a file; one that is there is replaced.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn create(path: &Path, header: &Header) -> Result<Self, FileError> {
        let file = File::create(path).map_err(|source| FileError::Io {
            action: "create",
            path: path.to_owned(),
            source,
        })?;
        let mut writer = Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(1 << 18, file),
        };
        writer.line(header)?;
        Ok(writer)
    }

    /// Adds an event.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn write(&mut self, event: &Event) -> Result<(), FileError> {
        self.line(event)
    }

    /// Gives everything to the system.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn flush(&mut self) -> Result<(), FileError> {
        self.file.flush().map_err(|source| FileError::Io {
            action: "write",
            path: self.path.clone(),
            source,
        })
    }

    fn line(&mut self, value: &impl serde::Serialize) -> Result<(), FileError> {
        let written = serde_json::to_writer(&mut self.file, value)
            .map_err(io::Error::from)
            .and_then(|()| self.file.write_all(b"\n"));
        written.map_err(|source| FileError::Io {
            action: "write",
            path: self.path.clone(),
            source,
        })
    }
}

/// Reads a history. A last line that is torn off is left out: the history then lacks its end, which the
/// verdict says.
///
/// # Errors
/// [`FileError`] when it cannot be read or is none.
pub fn read_history(path: &Path) -> Result<History, FileError> {
    let io = |action| {
        move |source| FileError::Io {
            action,
            path: path.to_owned(),
            source,
        }
    };
    let mut file = BufReader::with_capacity(1 << 18, File::open(path).map_err(io("open"))?);
    let mut history: Option<History> = None;
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        let mut bounded = (&mut file).take(LINE_BYTES_MAX);
        let read = bounded.read_until(b'\n', &mut text).map_err(io("read"))?;
        if read as u64 == LINE_BYTES_MAX {
            let path = path.to_owned();
            return Err(FileError::LongLine { path, line });
        }
        let is_torn = text.last() != Some(&b'\n');
        if read == 0 || (is_torn && history.is_some()) {
            break;
        }
        let wrong = |source| FileError::Line {
            path: path.to_owned(),
            line,
            source,
        };
        if let Some(history) = &mut history {
            let event: Event = serde_json::from_slice(&text).map_err(wrong)?;
            history.add(event).map_err(|source| FileError::Event {
                path: path.to_owned(),
                line,
                source,
            })?;
        } else {
            let header: Header = serde_json::from_slice(&text).map_err(wrong)?;
            if header.history != Header::VERSION {
                return Err(FileError::Version {
                    path: path.to_owned(),
                    found: header.history,
                });
            }
            let new = History::new(header).map_err(|source| FileError::Event {
                path: path.to_owned(),
                line,
                source,
            })?;
            history = Some(new);
        }
    }
    history.ok_or_else(|| FileError::Line {
        path: path.to_owned(),
        line: 1,
        source: serde::de::Error::custom("the file is empty"),
    })
}
