//! Where clients note what they asked and were told.

use std::time::Instant;

use parking_lot::Mutex;

use crate::event::{Event, Kind, Moment, Op};
use crate::file::{FileError, HistoryWriter};
use crate::history::{History, HistoryError};

/// Gathers events of many tasks, in memory and, if asked for, on disk.
#[derive(Debug)]
pub struct Recorder {
    began: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    history: History,
    writer: Option<HistoryWriter>,
    file_error: Option<FileError>,
    event_error: Option<HistoryError>,
}

impl Recorder {
    /// Begins a history now.
    #[must_use]
    pub fn new(history: History, writer: Option<HistoryWriter>) -> Self {
        Self {
            began: Instant::now(),
            inner: Mutex::new(Inner {
                history,
                writer,
                file_error: None,
                event_error: None,
            }),
        }
    }

    /// The time of this history.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment::from_ns(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Notes an operation that is complete now.
    pub fn record(&self, process: impl Into<String>, invoke: Moment, kind: Kind, op: Op) {
        let mut inner = self.inner.lock();
        let event = Event {
            process: process.into(),
            invoke,
            // Under the lock, so that events are on disk in the order of their completion.
            complete: self.now(),
            kind,
            op,
        };
        if let Some(writer) = &mut inner.writer
            && let Err(error) = writer.write(&event)
        {
            // What is missing from now on would only mislead.
            inner.writer = None;
            inner.file_error = Some(error);
        }
        if let Err(error) = inner.history.add(event) {
            inner.event_error.get_or_insert(error);
        }
    }

    /// Looks at the history so far. Nothing is noted meanwhile.
    pub fn look<T>(&self, look: impl FnOnce(&History) -> T) -> T {
        look(&self.inner.lock().history)
    }

    /// Writes what is not on disk yet, and says what went wrong so far.
    ///
    /// # Errors
    /// The first thing that could not be written or cannot be part of the history.
    pub fn flush(&self) -> Result<(), RecordError> {
        let mut inner = self.inner.lock();
        if let Some(error) = inner.file_error.take() {
            return Err(error.into());
        }
        if let Some(error) = inner.event_error.take() {
            return Err(error.into());
        }
        if let Some(writer) = &mut inner.writer {
            writer.flush()?;
        }
        Ok(())
    }
}

/// What went wrong with noting events.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// On disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// An event that cannot be.
    #[error(transparent)]
    Event(#[from] HistoryError),
}
