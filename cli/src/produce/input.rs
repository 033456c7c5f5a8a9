//! The files, or stdin, as a stream of blocks of whole records, read on a thread of its own.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::blocks::{BlockError, BlockReader};
use crate::exit::{Exit, Failure};

/// Blocks that may be read ahead.
const BLOCKS_AHEAD: usize = 4;

/// What is read.
#[derive(Debug)]
pub(crate) struct Input {
    sources: Vec<Source>,
    bytes_total: Option<u64>,
}

#[derive(Debug)]
struct Source {
    /// For messages.
    name: String,
    file: File,
}

/// A block, and the name of what it is from.
#[derive(Debug)]
pub(crate) struct Block {
    /// Index into [`Names`].
    pub(crate) source: usize,
    /// Whole records.
    pub(crate) bytes: Bytes,
}

impl Input {
    /// Opens all files first: a name that is wrong is found before anything is sent.
    pub(crate) fn open(files: &[PathBuf]) -> Result<Self, Failure> {
        let stdin = [PathBuf::from("-")];
        let files = if files.is_empty() { &stdin[..] } else { files };
        let sources = files
            .iter()
            .map(|path| open_one(path))
            .collect::<Result<Vec<_>, _>>()?;
        let bytes_total = sources
            .iter()
            .map(|source| regular_file_bytes(&source.file))
            .sum();
        Ok(Self {
            sources,
            bytes_total,
        })
    }

    /// The bytes in all of them, if they are all regular files.
    pub(crate) fn bytes_total(&self) -> Option<u64> {
        self.bytes_total
    }

    /// Whether somebody types the records.
    pub(crate) fn is_terminal(&self) -> bool {
        self.sources.iter().any(|source| source.file.is_terminal())
    }

    /// What to call the sources in messages.
    pub(crate) fn names(&self) -> Vec<String> {
        self.sources
            .iter()
            .map(|source| source.name.clone())
            .collect()
    }

    /// Starts to read. The thread ends with the input, or when the receiver is dropped; blocked in a
    /// read it may outlive that, which is why it is a thread and not a task that somebody waits for.
    pub(crate) fn start(
        self,
        delimiter: Vec<u8>,
        record_bytes_max: usize,
    ) -> io::Result<mpsc::Receiver<Result<Block, Failure>>> {
        let (sender, receiver) = mpsc::channel(BLOCKS_AHEAD);
        std::thread::Builder::new()
            .name("hw-input".to_owned())
            .spawn(move || {
                for (number, source) in self.sources.into_iter().enumerate() {
                    let Source { name, file } = source;
                    let mut reader = BlockReader::new(file, delimiter.clone(), record_bytes_max);
                    loop {
                        let message = match reader.next_block() {
                            Ok(None) => break,
                            Ok(Some(bytes)) => Ok(Block {
                                source: number,
                                bytes,
                            }),
                            Err(error) => Err(read_failure(&name, &error)),
                        };
                        let failed = message.is_err();
                        if sender.blocking_send(message).is_err() || failed {
                            return;
                        }
                    }
                }
            })?;
        Ok(receiver)
    }
}

fn open_one(path: &Path) -> Result<Source, Failure> {
    if path == Path::new("-") {
        // Not through `Stdin`, whose buffer is small.
        let owned = io::stdin().as_fd().try_clone_to_owned();
        let owned = owned.map_err(|error| Failure::error(format!("cannot read stdin: {error}")))?;
        return Ok(Source {
            name: "stdin".to_owned(),
            file: File::from(owned),
        });
    }
    let name = path.display().to_string();
    let failure = |error: io::Error| {
        let exit = match error.kind() {
            io::ErrorKind::NotFound => Exit::NotFound,
            io::ErrorKind::PermissionDenied => Exit::Denied,
            _ => Exit::Error,
        };
        Failure::new(
            exit,
            "unreadable_input",
            format!("cannot read {name}: {error}"),
        )
    };
    let file = File::open(path).map_err(failure)?;
    if file.metadata().map_err(failure)?.is_dir() {
        return Err(Failure::new(
            Exit::Error,
            "unreadable_input",
            format!("{name} is a directory"),
        )
        .hint("name the files in it, as in DIR/*.log"));
    }
    Ok(Source { name, file })
}

fn regular_file_bytes(file: &File) -> Option<u64> {
    file.metadata()
        .ok()
        .filter(std::fs::Metadata::is_file)
        .map(|metadata| metadata.len())
}

fn read_failure(name: &str, error: &BlockError) -> Failure {
    let failure = Failure::new(
        Exit::Error,
        "unreadable_input",
        format!("cannot read {name}: {error}"),
    );
    match error {
        BlockError::Io(_) => failure,
        BlockError::RecordTooLong { .. } => failure.hint("-D names what ends a record"),
    }
}
