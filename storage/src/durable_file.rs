//! Small files that must be right after any crash: a vote, an epoch, an identity.
//!
//! A file is replaced as a whole: written to `<name>.tmp`, synced, renamed over the old one, and the
//! directory is synced. A crash leaves the old content or the new one, never a mixture, and what
//! [`replace`] has returned from is the new one. The content lies in an envelope with a kind, a
//! version and a checksum (`docs/STORAGE.md`, "Small files").
//!
//! A file that is there and cannot be read is an error and never counts as absent: whoever forgets a
//! vote votes twice.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::disk::Disk;
use crate::error::IoError;
use crate::small_file::{self, SmallFileError};

/// Four ASCII letters that say what a file is, so that none is taken for another. Those that begin
/// with `HW` belong to this crate.
pub type FileKind = [u8; 4];

/// The longest content of a file, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// Why a file could not be read or replaced.
#[derive(Debug, Error)]
pub enum DurableFileError {
    /// A file operation failed. After a failed [`replace`] the old content or the new one may be
    /// found: neither may be relied upon before a later [`replace`] has succeeded.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The file is there but is not what it should be.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        reason: SmallFileError,
    },
    /// More than [`PAYLOAD_BYTES_MAX`]. Nothing was written.
    #[error(
        "{path}: {bytes} bytes are more than the {PAYLOAD_BYTES_MAX} that such a file may have"
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// How many bytes there are.
        bytes: usize,
    },
}

impl DurableFileError {
    /// Whether the disk is full: the operation may be repeated when space was made.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io(error) if error.is_disk_full())
    }
}

/// Reads the content of a file; `None` when there is none. `version` is the newest one that the
/// caller understands.
///
/// # Errors
/// The file is of another kind, of a newer version or damaged; the disk fails.
pub fn read(
    disk: &dyn Disk,
    path: &Path,
    kind: FileKind,
    version: u16,
) -> Result<Option<Vec<u8>>, DurableFileError> {
    let Some(bytes) = small_file::read_all(disk, path)? else {
        return Ok(None);
    };
    match small_file::unwrap(kind, version, &bytes) {
        Ok(payload) => Ok(Some(payload.to_vec())),
        Err(reason) => Err(DurableFileError::Damaged {
            path: path.to_owned(),
            reason,
        }),
    }
}

/// Replaces the content of a file, which is made when it is missing. Durable when this returns. The
/// directory must exist; two callers must not replace the same file at the same time.
///
/// # Errors
/// [`DurableFileError::Io`] says what is on the disk then; too large a content.
pub fn replace(
    disk: &dyn Disk,
    path: &Path,
    kind: FileKind,
    version: u16,
    payload: &[u8],
) -> Result<(), DurableFileError> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(DurableFileError::TooLarge {
            path: path.to_owned(),
            bytes: payload.len(),
        });
    }
    small_file::replace(disk, path, &small_file::wrap(kind, version, payload))?;
    Ok(())
}

/// Removes a file, which may be missing. Durable when this returns.
///
/// # Errors
/// The disk fails: the file may be there or not.
pub fn remove(disk: &dyn Disk, path: &Path) -> Result<(), DurableFileError> {
    crate::trim::remove_if_there(disk, path)?;
    let dir = small_file::parent(path);
    disk.sync_dir(dir).map_err(IoError::on("sync", dir))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::FsDisk;
    use crate::sim_disk::{Dice, SimDisk};

    const KIND: FileKind = *b"vote";

    fn path() -> &'static Path {
        Path::new("/data/raft/vote")
    }

    #[test]
    fn content_comes_back_and_anything_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vote");
        assert_eq!(read(&FsDisk, &path, KIND, 1).unwrap(), None);
        replace(&FsDisk, &path, KIND, 1, b"").unwrap();
        assert_eq!(read(&FsDisk, &path, KIND, 1).unwrap().unwrap(), b"");
        replace(&FsDisk, &path, KIND, 2, b"seven").unwrap();
        assert_eq!(read(&FsDisk, &path, KIND, 3).unwrap().unwrap(), b"seven");
        for (kind, version) in [(*b"else", 2), (KIND, 1)] {
            let error = read(&FsDisk, &path, kind, version).unwrap_err();
            assert!(matches!(error, DurableFileError::Damaged { .. }), "{error}");
        }
        std::fs::write(&path, b"").unwrap();
        let error = read(&FsDisk, &path, KIND, 3).unwrap_err();
        assert!(
            matches!(error, DurableFileError::Damaged { .. }),
            "an empty file is not an absent one: {error}"
        );
        remove(&FsDisk, &path).unwrap();
        remove(&FsDisk, &path).unwrap();
        assert_eq!(read(&FsDisk, &path, KIND, 3).unwrap(), None);
        let error = replace(&FsDisk, &path, KIND, 1, &vec![0; PAYLOAD_BYTES_MAX + 1]).unwrap_err();
        assert!(
            matches!(error, DurableFileError::TooLarge { .. }),
            "{error}"
        );
    }

    /// What survives a power loss at any step is the old or the new content, and the new one once
    /// `replace` has returned.
    #[test]
    fn a_crash_at_any_step_leaves_the_old_or_the_new_content() {
        let (mut old, mut new) = (0, 0);
        for step in 0..12 {
            for seed in 0..20 {
                let disk = SimDisk::new();
                disk.create_dir_all(path().parent().unwrap()).unwrap();
                replace(&disk, path(), KIND, 1, &[1; 9000]).unwrap();
                disk.sync_dir(Path::new("/data")).unwrap();
                disk.lose_power_at(disk.operations() + step);
                let answer = replace(&disk, path(), KIND, 1, &[2; 5000]);
                disk.crash(&mut Dice::new(seed * 1000 + step));
                let found = read(&disk, path(), KIND, 1).unwrap().unwrap();
                if answer.is_ok() || found[0] == 2 {
                    assert_eq!(found, [2; 5000], "step {step}, seed {seed}");
                    new += 1;
                } else {
                    assert_eq!(found, [1; 9000], "step {step}, seed {seed}");
                    old += 1;
                }
            }
        }
        assert!(old > 0 && new > 0, "{old} {new}");
    }

    #[test]
    fn a_failed_sync_is_an_error_and_the_next_replacement_counts() {
        let disk = SimDisk::new();
        disk.create_dir_all(path().parent().unwrap()).unwrap();
        replace(&disk, path(), KIND, 1, b"one").unwrap();
        disk.fail_sync_after(0);
        assert!(replace(&disk, path(), KIND, 1, b"two").is_err());
        assert_eq!(read(&disk, path(), KIND, 1).unwrap().unwrap(), b"one");
        replace(&disk, path(), KIND, 1, b"three").unwrap();
        disk.crash(&mut Dice::new(1));
        assert_eq!(read(&disk, path(), KIND, 1).unwrap().unwrap(), b"three");
    }
}
