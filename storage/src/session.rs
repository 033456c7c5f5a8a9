//! How the last life of a broker on this directory ended, as far as the directory can prove it.
//!
//! A life begins when the broker has registered ([`Engine::begin_life`]): its broker epoch, the boot of
//! the operating system and the session of the engine are made durable in `broker-epoch`, before anything
//! is appended. The next start looks at what is left ([`Engine::session_evidence`]):
//!
//! - **Clean**: closed in order, and every log is exactly as it was then.
//! - **ProcessCrash**: the process died and the machine did not, so whatever was in the page cache is
//!   still there, and nothing that was acknowledged is lost. All of this must hold:
//!   the boot is the same; it is the same directory, not a copy of it; no file operation had failed;
//!   every log could be opened; the most that recovery cut from a log was one unfinished batch at its
//!   end (a kill cuts a large write in two); and everything recovered was then synced without error.
//! - **Unclean**: everything else.
//!
//! # Why the absence of a note proves little, and why it is enough
//!
//! After a failed sync the page cache may show bytes, with good checksums, that the disk never got, so a
//! scan cannot tell. The failure must therefore be remembered, on a disk that has just failed. The note
//! `dir-died` needs no sync for that: only a start in the *same boot* could take the failure for a process
//! crash, and that start sees every name that this process made, synced or not. If not even a name can be
//! made, `broker-epoch` is removed, which takes the proof away instead. A file system that allows neither
//! has become read-only or has shut down: then no engine can open the directory, since that writes to it,
//! before somebody has mounted it anew.
//!
//! Left over is one assumption, for the operator: within one boot the file system of the directory is not
//! taken away without an orderly unmount and brought back.
//!
//! A start that ends before it begins a life must not lose what it found, nor have it believed twice:
//! evidence that is good is written into `broker-epoch` again under the present session; evidence that is
//! not stays under the old session, and the next start finds a record that is not of the session before.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use highwater_protocol::ids::{BrokerEpoch, PartitionId, TopicId};
use parking_lot::Mutex;
use thiserror::Error;

use crate::disk::Disk;
use crate::engine::{Engine, OpenedLog};
use crate::error::{IoError, OpenError, StorageError};
use crate::identity::{ClosedLogs, DirId, Identity};
use crate::small_file::{self, Fields, Kind, SmallFileError};
use crate::{layout, parallel};

const KIND: Kind = *b"HWbe";
const VERSION: u16 = 1;

/// The best that can be proved of how the last life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifeEnd {
    /// Closed in order, everything on disk.
    Clean,
    /// The process died, the machine did not: what was in the page cache is still there.
    ProcessCrash,
    /// Everything may have happened to what was not synced.
    Unclean,
}

/// Why an end could not be proved to be better than it was reported.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Doubt {
    /// [`Engine::open_logs`] has not been called, so nothing is known.
    #[error("the logs were not opened yet")]
    NotOpened,
    /// No broker ever began a life here, or its record is unreadable.
    #[error("there is no record of a life in this directory")]
    NoLife,
    /// The record is of another directory: it was copied.
    #[error("the record of the last life belongs to another directory")]
    OtherDirectory,
    /// A start after that life had already found a bad end, or did not get as far as to know.
    #[error("there was a start since the last life whose findings are not known")]
    LifeNotLast,
    /// The operating system was started since.
    #[error("the machine was started since")]
    OtherBoot,
    /// A sync or another file operation had failed.
    #[error("a file operation had failed in the last life")]
    IoFailed,
    /// A log is not open.
    #[error("the log at {0} cannot be opened")]
    LogNotOpened(PathBuf),
    /// Recovery cut more than one unfinished batch from a log.
    #[error("more than one unfinished batch was cut from the log at {0}")]
    CutTooMuch(PathBuf),
    /// A log is missing, or is not as it was when the engine was closed.
    #[error("the logs are not as they were when they were closed")]
    NotAsClosed,
    /// What was recovered could not be made durable.
    #[error("what was recovered could not be synced")]
    NotSynced,
}

/// What a start can say of the life before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEvidence {
    /// How it ended.
    pub end: LifeEnd,
    /// The registration under which it ran; `None` when no life was ever begun here. It is for the
    /// controller to compare: a directory that was rolled back has an older one.
    pub last_broker_epoch: Option<BrokerEpoch>,
    /// Why the end is not better than that, when it is [`LifeEnd::Unclean`].
    pub doubt: Option<Doubt>,
}

/// Content of `broker-epoch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LifeRecord {
    directory: [u8; 16],
    session: [u8; 16],
    broker_epoch: u64,
    /// Zeros when it is not known.
    boot: [u8; 16],
    /// File system and number of the directory; zeros when they are not known.
    place: (u64, u64),
}

impl LifeRecord {
    fn of(disk: &dyn Disk, dir: &Path, identity: &Identity, epoch: BrokerEpoch) -> Self {
        Self {
            directory: identity.dir.into_bytes(),
            session: identity.session,
            broker_epoch: epoch.get(),
            boot: disk.boot().unwrap_or_default(),
            place: disk.place(dir).unwrap_or_default(),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(72);
        payload.extend_from_slice(&self.directory);
        payload.extend_from_slice(&self.session);
        payload.extend_from_slice(&self.broker_epoch.to_le_bytes());
        payload.extend_from_slice(&self.boot);
        payload.extend_from_slice(&self.place.0.to_le_bytes());
        payload.extend_from_slice(&self.place.1.to_le_bytes());
        small_file::wrap(KIND, VERSION, &payload)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, SmallFileError> {
        let mut fields = Fields::new(small_file::unwrap(KIND, VERSION, bytes)?);
        let record = Self {
            directory: fields.bytes16()?,
            session: fields.bytes16()?,
            broker_epoch: fields.u64()?,
            boot: fields.bytes16()?,
            place: (fields.u64()?, fields.u64()?),
        };
        fields.finish()?;
        Ok(record)
    }

    fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, IoError> {
        let path = dir.join(layout::BROKER_EPOCH);
        let Some(bytes) = small_file::read_all(disk, &path)? else {
            return Ok(None);
        };
        match Self::decode(&bytes) {
            Ok(record) => Ok(Some(record)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the record of the last life is unreadable");
                Ok(None)
            }
        }
    }

    fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<(), IoError> {
        small_file::replace(disk, &dir.join(layout::BROKER_EPOCH), &self.encode())
    }
}

/// What was found before the logs were opened, and since.
#[derive(Debug)]
pub(crate) struct LastLife {
    record: Option<LifeRecord>,
    /// The session before the present one.
    session: Option<[u8; 16]>,
    io_failed: bool,
    findings: Mutex<Findings>,
}

#[derive(Debug, Default)]
struct Findings {
    opened: bool,
    /// Some log was not as it was when it was closed.
    not_as_closed: bool,
    doubt: Option<Doubt>,
    evidence: Option<SessionEvidence>,
}

impl LastLife {
    /// Looks at what the last life left, before anything is changed.
    pub(crate) fn find(disk: &dyn Disk, dir: &Path) -> Result<Self, IoError> {
        let note = dir.join(layout::DIR_DIED);
        Ok(Self {
            record: LifeRecord::read(disk, dir)?,
            session: None,
            io_failed: small_file::read_all(disk, &note)?.is_some(),
            findings: Mutex::new(Findings::default()),
        })
    }

    /// The session that was the present one until now.
    pub(crate) fn set_session(&mut self, old: Option<&Identity>) {
        self.session = old.map(|old| old.session);
    }

    /// Takes note of what opening the logs found.
    pub(crate) fn on_opened(
        &self,
        disk: &dyn Disk,
        opened: &[OpenedLog],
        closed: Option<&ClosedLogs>,
    ) {
        let mut findings = self.findings.lock();
        findings.opened = true;
        let mut present = BTreeSet::new();
        for log in opened {
            if let Some(meta) = &log.meta {
                present.insert((meta.topic_id, meta.partition));
            }
            let doubt = match &log.result {
                Ok((_, report)) => {
                    findings.not_as_closed |= !report.clean;
                    if report.was_poisoned {
                        Some(Doubt::IoFailed)
                    } else {
                        report
                            .cut_beyond_one_batch
                            .then(|| Doubt::CutTooMuch(log.path.clone()))
                    }
                }
                // Left as it is, whatever it holds.
                Err(OpenError::Unknown { .. }) => None,
                Err(OpenError::PartitionMeta { .. }) if is_unborn(disk, &log.path) => None,
                Err(_) => Some(Doubt::LogNotOpened(log.path.clone())),
            };
            if findings.doubt.is_none() {
                findings.doubt = doubt;
            }
        }
        let missing = |key: &(TopicId, PartitionId)| !present.contains(key);
        findings.not_as_closed |= closed.is_some_and(|closed| closed.logs.keys().any(missing));
    }
}

/// Whether a directory is what a kill in the middle of creating a log leaves.
fn is_unborn(disk: &dyn Disk, dir: &Path) -> bool {
    disk.list(dir)
        .is_ok_and(|entries| entries.iter().all(|entry| layout::is_leftover(&entry.name)))
}

/// Remembers, as well as a failing disk allows, that a file operation failed: see the module's head.
/// Once per engine.
pub(crate) fn note_io_failure(
    disk: &dyn Disk,
    dir: &Path,
    noted: &AtomicBool,
    error: &dyn Display,
) {
    if noted.swap(true, Ordering::AcqRel) {
        return;
    }
    let note = dir.join(layout::DIR_DIED);
    match disk.create(&note) {
        Ok(file) => {
            // That it exists is what counts, synced or not.
            let _ = file.write_all_at(format!("{error}\n").as_bytes(), 0);
            let _ = file.sync_data();
            let _ = disk.sync_dir(dir);
        }
        Err(cannot) => {
            let proof = dir.join(layout::BROKER_EPOCH);
            let removed = disk.remove_file(&proof);
            tracing::error!(
                path = %note.display(), error = %cannot, proof_removed = removed.is_ok(),
                "cannot leave a note that the directory failed"
            );
        }
    }
}

impl Engine {
    /// How the life of the broker before this start ended. Call it after the last [`Engine::open_logs`]
    /// of the start: the first answer stays. A log that is not opened is taken for one that is not
    /// used.
    ///
    /// Syncs what recovery found, when a process crash is to be proved: may take as long as that.
    pub fn session_evidence(&self) -> SessionEvidence {
        let life = &self.last_life;
        let mut findings = life.findings.lock();
        if let Some(evidence) = &findings.evidence {
            return evidence.clone();
        }
        let (end, doubt) = match self.weigh(&findings) {
            Ok(end) => (end, None),
            Err(doubt) => (LifeEnd::Unclean, Some(doubt)),
        };
        let identity = &self.identity;
        let record = life
            .record
            .filter(|record| record.directory == identity.dir.into_bytes());
        let evidence = SessionEvidence {
            end,
            last_broker_epoch: record.map(|record| BrokerEpoch::new(record.broker_epoch)),
            doubt,
        };
        if !findings.opened {
            return evidence;
        }
        if let Some(record) = record.filter(|_| end != LifeEnd::Unclean) {
            // Nothing was appended since: what holds of the last life holds of this session too.
            let epoch = BrokerEpoch::new(record.broker_epoch);
            let carried = LifeRecord::of(self.disk(), self.dir(), identity, epoch);
            if let Err(error) = carried.write(self.disk(), self.dir()) {
                tracing::warn!(%error, "cannot keep what is known of the last life for another start");
            }
        }
        findings.evidence = Some(evidence.clone());
        evidence
    }

    fn weigh(&self, findings: &Findings) -> Result<LifeEnd, Doubt> {
        let life = &self.last_life;
        if !findings.opened {
            return Err(Doubt::NotOpened);
        }
        let as_closed = self.was_clean() && !findings.not_as_closed;
        let Some(record) = life.record else {
            // Never begun, so nothing was appended under any registration.
            return if as_closed {
                Ok(LifeEnd::Clean)
            } else {
                Err(Doubt::NoLife)
            };
        };
        if record.directory != self.identity.dir.into_bytes() {
            return Err(Doubt::OtherDirectory);
        }
        if Some(record.session) != life.session {
            return Err(Doubt::LifeNotLast);
        }
        if life.io_failed {
            return Err(Doubt::IoFailed);
        }
        if let Some(doubt) = &findings.doubt {
            return Err(doubt.clone());
        }
        if self.was_clean() {
            return if as_closed {
                Ok(LifeEnd::Clean)
            } else {
                Err(Doubt::NotAsClosed)
            };
        }
        if record.boot == [0; 16] || self.disk().boot() != Some(record.boot) {
            return Err(Doubt::OtherBoot);
        }
        if record.place == (0, 0) || self.disk().place(self.dir()) != Some(record.place) {
            return Err(Doubt::OtherDirectory);
        }
        let unsynced: Vec<_> = self
            .logs()
            .into_iter()
            .filter(|log| log.durable_end() < log.end())
            .collect();
        let synced = parallel::for_each(self.shared.log_threads(), &unsynced, |log| {
            log.flush().is_ok()
        });
        if synced.contains(&false) || self.has_failed() {
            return Err(Doubt::NotSynced);
        }
        Ok(LifeEnd::ProcessCrash)
    }

    /// Begins the life of a broker under its registration. Durable when this returns; only then may
    /// the broker append anything or lead.
    ///
    /// # Errors
    /// The disk is full or failing: the life has not begun.
    pub fn begin_life(&self, broker_epoch: BrokerEpoch) -> Result<(), StorageError> {
        // Asked late, it would find what this life does.
        self.session_evidence();
        let disk = self.disk();
        LifeRecord::of(disk, self.dir(), &self.identity, broker_epoch).write(disk, self.dir())?;
        if !self.has_failed() {
            // The old failure was reported, and the logs have been checked since.
            let note = self.dir().join(layout::DIR_DIED);
            crate::trim::remove_if_there(disk, &note)?;
            disk.sync_dir(self.dir())
                .map_err(IoError::on("sync", self.dir()))?;
        }
        Ok(())
    }

    /// Whether a sync, or another file operation that leaves the state of the disk unknown, has failed
    /// in this session. It stays so: the directory is not to be trusted before the next start.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.shared.io_failed.load(Ordering::Acquire)
    }

    /// Identity of the directory.
    #[must_use]
    pub const fn dir_id(&self) -> highwater_protocol::ids::DirectoryId {
        highwater_protocol::ids::DirectoryId::from_bytes(DirId::into_bytes(self.identity.dir))
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
