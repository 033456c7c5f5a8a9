//! The small files of a Raft node, beside its log: the vote, what was purged, what is committed.
//!
//! `vote` and `purged` are replaced durably before the operation returns that needs them. `committed`
//! only spares a restarted node from showing an older image for a moment: it is written in place, in
//! two slots that take turns, and never synced, and a slot that does not check out does not count.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use highwater_protocol::codec::Wire;
use highwater_protocol::messages::{RaftBallot, RaftLogId};
use highwater_storage::disk::DiskFile;
use highwater_storage::durable_file::{self, DurableFileError, FileKind};
use highwater_storage::{Engine, SmallFileError};
use parking_lot::Mutex;

use super::types::{LogId, Vote};
use super::wire::{ballot_in, ballot_out, decoded, encoded, log_id_in, log_id_out};

const VOTE: FileKind = *b"RVot";
const PURGED: FileKind = *b"RPur";
const VERSION: u16 = 1;

const LOG_ID_BYTES: usize = 8 + 4 + 8;
/// A slot of `committed`: sequence number, log id, checksum of both.
const SLOT_BYTES: usize = 8 + LOG_ID_BYTES + 4;
/// Slots lie in different sectors, so that one torn write spoils one of them.
const SLOT_DISTANCE: u64 = 4096;

/// The files in a directory.
pub(super) struct StateFiles {
    engine: Arc<Engine>,
    dir: PathBuf,
    committed: Mutex<Committed>,
}

struct Committed {
    file: Arc<dyn DiskFile>,
    sequence: u64,
}

impl fmt::Debug for StateFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateFiles")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl StateFiles {
    /// Files in `dir`, which must be there. With what `committed` says, if it says anything.
    pub(super) fn open(engine: Arc<Engine>, dir: &Path) -> std::io::Result<(Self, Option<LogId>)> {
        let path = dir.join("committed");
        let opened = match engine.disk().open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                engine.disk().create(&path)
            }
            opened => opened,
        };
        let file = opened?;
        let mut sequence = 0;
        let mut committed = None;
        for slot in 0..2 {
            let mut bytes = [0; SLOT_BYTES];
            let length = file.read_at(&mut bytes, slot * SLOT_DISTANCE)?;
            if let Some((number, id)) = decode_slot(&bytes[..length])
                && number > sequence
            {
                sequence = number;
                committed = Some(id);
            }
        }
        let files = Self {
            engine,
            dir: dir.to_owned(),
            committed: Mutex::new(Committed { file, sequence }),
        };
        Ok((files, committed))
    }

    pub(super) fn vote(&self) -> Result<Option<Vote>, DurableFileError> {
        let ballot: Option<RaftBallot> = self.read("vote", VOTE)?;
        Ok(ballot.as_ref().map(ballot_in))
    }

    pub(super) fn save_vote(&self, vote: &Vote) -> Result<(), DurableFileError> {
        self.replace("vote", VOTE, &encoded(&ballot_out(vote)))
    }

    pub(super) fn purged(&self) -> Result<Option<LogId>, DurableFileError> {
        let id: Option<RaftLogId> = self.read("purged", PURGED)?;
        Ok(id.as_ref().map(log_id_in))
    }

    pub(super) fn save_purged(&self, id: LogId) -> Result<(), DurableFileError> {
        self.replace("purged", PURGED, &encoded(&log_id_out(id)))
    }

    /// Best effort: see the head of the module.
    pub(super) fn save_committed(&self, id: LogId) {
        let mut committed = self.committed.lock();
        committed.sequence += 1;
        let slot = committed.sequence % 2 * SLOT_DISTANCE;
        let bytes = encode_slot(committed.sequence, id);
        if let Err(error) = committed.file.write_all_at(&bytes, slot) {
            tracing::debug!(%error, "cannot note what is committed");
        }
    }

    fn replace(&self, name: &str, kind: FileKind, payload: &[u8]) -> Result<(), DurableFileError> {
        let path = self.dir.join(name);
        durable_file::replace(self.engine.disk(), &path, kind, VERSION, payload)
    }

    fn read<T: Wire>(&self, name: &str, kind: FileKind) -> Result<Option<T>, DurableFileError> {
        let path = self.dir.join(name);
        let Some(payload) = durable_file::read(self.engine.disk(), &path, kind, VERSION)? else {
            return Ok(None);
        };
        let value = decoded(Bytes::from(payload)).map_err(|_| DurableFileError::Damaged {
            path,
            reason: SmallFileError::Content,
        })?;
        Ok(Some(value))
    }
}

fn encode_slot(sequence: u64, id: LogId) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SLOT_BYTES);
    bytes.extend_from_slice(&sequence.to_be_bytes());
    bytes.extend_from_slice(&encoded(&log_id_out(id)));
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes
}

fn decode_slot(bytes: &[u8]) -> Option<(u64, LogId)> {
    let (content, crc) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(content) != u32::from_be_bytes(*crc) {
        return None;
    }
    let (sequence, id) = content.split_first_chunk::<8>()?;
    let id: RaftLogId = decoded(Bytes::copy_from_slice(id)).ok()?;
    Some((u64::from_be_bytes(*sequence), log_id_in(&id)))
}
