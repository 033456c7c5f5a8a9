//! The envelope of our small files, and how one is replaced so that a crash leaves the old or the
//! new one.
//!
//! ```text
//! 0   4  kind, four ASCII letters
//! 4   2  version of the payload, little endian like all numbers in our own files
//! 6   2  zero
//! 8   4  length of the payload
//! 12  n  payload
//! +   4  CRC-32 (IEEE) of everything before
//! ```

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::error::IoError;
use crate::layout::TMP_SUFFIX;

/// Bytes of the envelope before the payload.
const HEADER_BYTES: usize = 12;
/// Bytes of the checksum behind it.
const CRC_BYTES: usize = 4;
/// No small file is larger than this; a larger one is damaged.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Four letters that say what a file is.
pub(crate) type Kind = [u8; 4];

/// Why bytes are not a valid small file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SmallFileError {
    /// Fewer bytes than it says, or than any can have.
    #[error("too short")]
    TooShort,
    /// Another kind of file.
    #[error("not this kind of file")]
    Kind,
    /// Written by a newer version.
    #[error("version {0} is newer than this program")]
    Version(u16),
    /// The checksum does not fit the content.
    #[error("the checksum does not match")]
    Checksum,
    /// The checksum fits but the content makes no sense.
    #[error("the content is not valid")]
    Content,
}

/// Puts a payload into its envelope.
pub(crate) fn wrap(kind: Kind, version: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len() + CRC_BYTES);
    bytes.extend_from_slice(&kind);
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    let length = u32::try_from(payload.len()).expect("small files are small");
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(payload);
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// Takes a payload out of its envelope. Bytes behind the envelope are ignored.
pub(crate) fn unwrap(kind: Kind, version: u16, bytes: &[u8]) -> Result<&[u8], SmallFileError> {
    let header = bytes.get(..HEADER_BYTES).ok_or(SmallFileError::TooShort)?;
    if header[..4] != kind {
        return Err(SmallFileError::Kind);
    }
    let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
    let end = HEADER_BYTES
        .checked_add(length)
        .ok_or(SmallFileError::TooShort)?;
    let crc = bytes
        .get(end..)
        .and_then(|rest| rest.first_chunk())
        .ok_or(SmallFileError::TooShort)?;
    if crc32fast::hash(&bytes[..end]) != u32::from_le_bytes(*crc) {
        return Err(SmallFileError::Checksum);
    }
    let found = u16::from_le_bytes([header[4], header[5]]);
    if found > version {
        return Err(SmallFileError::Version(found));
    }
    Ok(&bytes[HEADER_BYTES..end])
}

/// Reads a whole file, `None` when there is none.
pub(crate) fn read_all(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, IoError> {
    let file = match disk.open_read_only(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(IoError::on("open", path)(error)),
    };
    let read = || -> io::Result<Vec<u8>> {
        let bytes = file.size()?.min(FILE_BYTES_MAX);
        let mut buffer = vec![0; usize::try_from(bytes).unwrap_or(0)];
        let filled = file.read_at(&mut buffer, 0)?;
        buffer.truncate(filled);
        Ok(buffer)
    };
    read().map(Some).map_err(IoError::on("read", path))
}

/// Replaces a file: written aside, synced, renamed, and the name made durable.
pub(crate) fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), IoError> {
    replace_unsynced_name(disk, path, bytes)?;
    let dir = parent(path);
    disk.sync_dir(dir).map_err(IoError::on("sync", dir))
}

/// Like [`replace`], for a caller that makes several names durable with one sync.
pub(crate) fn replace_unsynced_name(
    disk: &dyn Disk,
    path: &Path,
    bytes: &[u8],
) -> Result<(), IoError> {
    let tmp = tmp_path(path);
    let write = || -> Result<(), IoError> {
        let file = disk.create(&tmp).map_err(IoError::on("create", &tmp))?;
        file.write_all_at(bytes, 0)
            .map_err(IoError::on("write", &tmp))?;
        file.sync_data().map_err(IoError::on("sync", &tmp))
    };
    if let Err(error) = write() {
        // Nothing depends on the leftover; the next open removes it as well.
        let _ = disk.remove_file(&tmp);
        return Err(error);
    }
    disk.rename(&tmp, path).map_err(IoError::on("rename", path))
}

fn tmp_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TMP_SUFFIX);
    PathBuf::from(name)
}

/// The directory of a file.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new("."))
}

/// Reads little-endian numbers one after the other.
#[derive(Debug)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], SmallFileError> {
        let (head, rest) = self.0.split_first_chunk().ok_or(SmallFileError::Content)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(crate) fn bytes16(&mut self) -> Result<[u8; 16], SmallFileError> {
        self.take()
    }

    pub(crate) fn u32(&mut self) -> Result<u32, SmallFileError> {
        self.take().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, SmallFileError> {
        self.take().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, SmallFileError> {
        self.take().map(i64::from_le_bytes)
    }

    /// Nothing may be left.
    pub(crate) const fn finish(&self) -> Result<(), SmallFileError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(SmallFileError::Content)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::FsDisk;

    const KIND: Kind = *b"test";

    #[test]
    fn every_flipped_bit_and_every_missing_byte_is_noticed() {
        let whole = wrap(KIND, 1, b"some payload");
        assert_eq!(unwrap(KIND, 1, &whole), Ok(&b"some payload"[..]));
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(unwrap(KIND, 1, &bytes).is_err(), "bit {bit}");
        }
        for length in 0..whole.len() {
            assert!(unwrap(KIND, 1, &whole[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_newer_version_is_refused_by_name() {
        assert_eq!(
            unwrap(KIND, 1, &wrap(KIND, 2, b"")),
            Err(SmallFileError::Version(2))
        );
    }

    #[test]
    fn a_file_is_replaced_and_no_leftover_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert_eq!(read_all(&FsDisk, &path).unwrap(), None);
        replace(&FsDisk, &path, b"one").unwrap();
        replace(&FsDisk, &path, b"two").unwrap();
        assert_eq!(read_all(&FsDisk, &path).unwrap().unwrap(), b"two");
        assert_eq!(FsDisk.list(dir.path()).unwrap().len(), 1);
    }
}
