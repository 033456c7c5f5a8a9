//! Who a data directory is, and whether it was closed in order.
//!
//! `data-dir` holds the identity of the directory and a fresh session number per start.
//! `clean-shutdown` is written by an orderly close and names both, and what each log looked like.
//! It is believed only when both fit, so that a marker that came with a copied or restored
//! directory proves nothing; and it is removed, durably, before anything is written again.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use highwater_protocol::ids::{Offset, PartitionId, TopicId};
use uuid::Uuid;

use crate::disk::Disk;
use crate::error::{IoError, OpenError};
use crate::layout;
use crate::mutant::{Mutant, is_on};
use crate::small_file::{self, Fields, Kind, SmallFileError};

const IDENTITY_KIND: Kind = *b"HWid";
const MARKER_KIND: Kind = *b"HWcm";
const VERSION: u16 = 1;

/// Identity of a data directory, chosen when it was created.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct DirId(Uuid);

impl DirId {
    pub(crate) fn random() -> Self {
        Self(Uuid::new_v4())
    }

    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Its 16 bytes.
    #[must_use]
    pub(crate) const fn into_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }
}

impl fmt::Debug for DirId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DirId({})", self.0)
    }
}

impl fmt::Display for DirId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Content of `data-dir`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) dir: DirId,
    /// New at each start.
    pub(crate) session: [u8; 16],
}

impl Identity {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let payload = [self.dir.into_bytes(), self.session].concat();
        small_file::wrap(IDENTITY_KIND, VERSION, &payload)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, SmallFileError> {
        let mut fields = Fields::new(small_file::unwrap(IDENTITY_KIND, VERSION, bytes)?);
        let identity = Self {
            dir: DirId::from_bytes(fields.bytes16()?),
            session: fields.bytes16()?,
        };
        fields.finish()?;
        Ok(identity)
    }
}

/// What a log looked like when it was closed in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClosedLog {
    pub(crate) log_start: Offset,
    pub(crate) end: Offset,
    /// Segment in which the log ends, and its size.
    pub(crate) last_segment: Offset,
    pub(crate) last_segment_bytes: u64,
}

/// Content of `clean-shutdown`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ClosedLogs {
    pub(crate) logs: HashMap<(TopicId, PartitionId), ClosedLog>,
}

impl ClosedLogs {
    pub(crate) fn encode(&self, identity: &Identity) -> Vec<u8> {
        let mut payload = Vec::with_capacity(36 + self.logs.len() * 52);
        payload.extend_from_slice(&identity.dir.into_bytes());
        payload.extend_from_slice(&identity.session);
        let count = u32::try_from(self.logs.len()).expect("partitions fit 32 bits");
        payload.extend_from_slice(&count.to_le_bytes());
        for ((topic, partition), log) in &self.logs {
            payload.extend_from_slice(&topic.into_bytes());
            payload.extend_from_slice(&partition.get().to_le_bytes());
            for number in [
                log.log_start.get(),
                log.end.get(),
                log.last_segment.get(),
                log.last_segment_bytes,
            ] {
                payload.extend_from_slice(&number.to_le_bytes());
            }
        }
        small_file::wrap(MARKER_KIND, VERSION, &payload)
    }

    /// Reads a marker; only one of this directory and session is valid.
    pub(crate) fn decode(bytes: &[u8], identity: &Identity) -> Result<Self, SmallFileError> {
        let mut fields = Fields::new(small_file::unwrap(MARKER_KIND, VERSION, bytes)?);
        let (directory, session) = (fields.bytes16()?, fields.bytes16()?);
        let is_ours = directory == identity.dir.into_bytes() && session == identity.session;
        if !is_ours && !is_on(Mutant::MarkerByExistence) {
            return Err(SmallFileError::Content);
        }
        let mut logs = HashMap::new();
        for _ in 0..fields.u32()? {
            let topic = TopicId::from_bytes(fields.bytes16()?);
            let partition = PartitionId::new(fields.u32()?);
            let log = ClosedLog {
                log_start: Offset::new(fields.u64()?),
                end: Offset::new(fields.u64()?),
                last_segment: Offset::new(fields.u64()?),
                last_segment_bytes: fields.u64()?,
            };
            logs.insert((topic, partition), log);
        }
        fields.finish()?;
        Ok(Self { logs })
    }
}

/// A session that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Begun {
    pub(crate) identity: Identity,
    /// As it was in the session before; `None` in a new directory.
    pub(crate) before: Option<Identity>,
    /// What the logs were when the session before was closed in order.
    pub(crate) closed: Option<ClosedLogs>,
}

/// Begins a session: reads the identity (or makes one), believes and removes the marker, and makes
/// the new session durable.
pub(crate) fn begin_session(disk: &dyn Disk, dir: &Path) -> Result<Begun, OpenError> {
    let identity_path = dir.join(layout::IDENTITY);
    let marker_path = dir.join(layout::CLEAN_SHUTDOWN);
    let old = match small_file::read_all(disk, &identity_path)? {
        None => None,
        Some(bytes) => Some(
            Identity::decode(&bytes).map_err(|error| OpenError::Identity {
                path: identity_path.clone(),
                reason: error.to_string(),
            })?,
        ),
    };
    let marker = small_file::read_all(disk, &marker_path)?;
    let closed = match (&old, &marker) {
        (Some(old), Some(bytes)) => match ClosedLogs::decode(bytes, old) {
            Ok(closed) => Some(closed),
            Err(error) => {
                tracing::warn!(path = %marker_path.display(), %error, "clean-shutdown marker is not believed");
                None
            }
        },
        _ => None,
    };
    if marker.is_some() {
        disk.remove_file(&marker_path)
            .map_err(IoError::on("remove", &marker_path))?;
    }
    let identity = Identity {
        dir: old.map_or_else(DirId::random, |old| old.dir),
        session: DirId::random().into_bytes(),
    };
    // The sync of the directory in here also makes the removal of the marker durable.
    small_file::replace(disk, &identity_path, &identity.encode())?;
    Ok(Begun {
        identity,
        before: old,
        closed,
    })
}

/// Writes the marker of an orderly close.
pub(crate) fn mark_clean(
    disk: &dyn Disk,
    dir: &Path,
    identity: &Identity,
    closed: &ClosedLogs,
) -> Result<(), IoError> {
    small_file::replace(
        disk,
        &dir.join(layout::CLEAN_SHUTDOWN),
        &closed.encode(identity),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::FsDisk;

    #[test]
    fn a_marker_is_believed_once_and_only_by_its_own_session() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let first = begin_session(&FsDisk, path).unwrap();
        assert_eq!(first.closed, None, "a new directory was not closed");
        let mut logs = ClosedLogs::default();
        logs.logs.insert(
            (TopicId::random(), PartitionId::new(1)),
            ClosedLog {
                log_start: Offset::new(1),
                end: Offset::new(9),
                last_segment: Offset::new(4),
                last_segment_bytes: 400,
            },
        );
        mark_clean(&FsDisk, path, &first.identity, &logs).unwrap();
        let marker = std::fs::read(path.join(layout::CLEAN_SHUTDOWN)).unwrap();
        let second = begin_session(&FsDisk, path).unwrap();
        assert_eq!(second.closed, Some(logs));
        assert_eq!(second.before, Some(first.identity));
        assert_eq!(second.identity.dir, first.identity.dir);
        assert!(!path.join(layout::CLEAN_SHUTDOWN).exists());
        // Somebody restores the old marker.
        std::fs::write(path.join(layout::CLEAN_SHUTDOWN), marker).unwrap();
        assert_eq!(begin_session(&FsDisk, path).unwrap().closed, None);
        assert_eq!(
            begin_session(&FsDisk, path).unwrap().closed,
            None,
            "and no marker at all"
        );
    }

    #[test]
    fn a_damaged_identity_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(layout::IDENTITY), b"something else").unwrap();
        let error = begin_session(&FsDisk, dir.path()).unwrap_err();
        assert!(matches!(error, OpenError::Identity { .. }), "{error}");
    }
}
