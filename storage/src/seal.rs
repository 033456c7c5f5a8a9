//! The seal of a finished segment: how long it is, where it ends, and its checksums.
//!
//! A seal is written after the segment's bytes were synced, so it also says: all of this had been
//! durable. A start trusts a sealed segment without reading it. The file may be *longer* than the
//! seal says, when a suffix was truncated while somebody still read it: what lies behind is not
//! part of the log.

use std::path::Path;

use highwater_protocol::ids::{LeaderEpoch, Offset};

use crate::disk::Disk;
use crate::error::IoError;
use crate::small_file::{self, Fields, Kind, SmallFileError};

const KIND: Kind = *b"HWsl";
const VERSION: u16 = 1;

/// Content of a seal file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// First offset of the segment.
    pub base_offset: Offset,
    /// First offset behind it.
    pub end_offset: Offset,
    /// Bytes of batches.
    pub log_bytes: u64,
    /// Newest timestamp in it, in milliseconds.
    pub max_timestamp_ms: i64,
    /// Epoch of its last batch.
    pub last_epoch: LeaderEpoch,
    /// CRC-32 (IEEE) of the bytes of batches.
    pub log_crc: u32,
    /// Bytes of batches between two entries of its offset index, to rebuild it in the same way.
    pub index_interval_bytes: u32,
    /// Bytes of its offset index.
    pub index_bytes: u32,
    /// CRC-32 of them.
    pub index_crc: u32,
    /// Bytes of its time index.
    pub time_index_bytes: u32,
    /// CRC-32 of them.
    pub time_index_crc: u32,
}

impl Seal {
    /// The bytes of the file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(64);
        payload.extend_from_slice(&self.base_offset.get().to_le_bytes());
        payload.extend_from_slice(&self.end_offset.get().to_le_bytes());
        payload.extend_from_slice(&self.log_bytes.to_le_bytes());
        payload.extend_from_slice(&self.max_timestamp_ms.to_le_bytes());
        for number in [
            self.last_epoch.get(),
            self.log_crc,
            self.index_interval_bytes,
            self.index_bytes,
            self.index_crc,
            self.time_index_bytes,
            self.time_index_crc,
        ] {
            payload.extend_from_slice(&number.to_le_bytes());
        }
        small_file::wrap(KIND, VERSION, &payload)
    }

    /// Reads the bytes of the file.
    ///
    /// # Errors
    /// [`SmallFileError`] says what is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Self, SmallFileError> {
        let mut fields = Fields::new(small_file::unwrap(KIND, VERSION, bytes)?);
        let seal = Self {
            base_offset: Offset::new(fields.u64()?),
            end_offset: Offset::new(fields.u64()?),
            log_bytes: fields.u64()?,
            max_timestamp_ms: fields.i64()?,
            last_epoch: LeaderEpoch::new(fields.u32()?),
            log_crc: fields.u32()?,
            index_interval_bytes: fields.u32()?,
            index_bytes: fields.u32()?,
            index_crc: fields.u32()?,
            time_index_bytes: fields.u32()?,
            time_index_crc: fields.u32()?,
        };
        fields.finish()?;
        let sane = seal.base_offset < seal.end_offset
            && seal.end_offset <= Offset::MAX
            && seal.log_bytes > 0
            && seal.log_bytes <= u64::from(u32::MAX);
        if sane {
            Ok(seal)
        } else {
            Err(SmallFileError::Content)
        }
    }

    /// Reads the seal of a segment. `None`: there is none, or none that can be trusted.
    pub(crate) fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Self>, IoError> {
        let Some(bytes) = small_file::read_all(disk, path)? else {
            return Ok(None);
        };
        match Self::decode(&bytes) {
            Ok(seal) => Ok(Some(seal)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "seal is unreadable; reading the segment");
                Ok(None)
            }
        }
    }

    /// Writes the seal of a segment, durably.
    pub(crate) fn write(&self, disk: &dyn Disk, path: &Path) -> Result<(), IoError> {
        small_file::replace(disk, path, &self.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_is_read_back() {
        let seal = Seal {
            base_offset: Offset::new(5),
            end_offset: Offset::new(9),
            log_bytes: 1000,
            max_timestamp_ms: -3,
            last_epoch: LeaderEpoch::new(2),
            log_crc: 1,
            index_interval_bytes: 4096,
            index_bytes: 16,
            index_crc: 2,
            time_index_bytes: 12,
            time_index_crc: 3,
        };
        assert_eq!(Seal::decode(&seal.encode()), Ok(seal));
        let empty = Seal {
            end_offset: Offset::new(5),
            ..seal
        };
        assert_eq!(Seal::decode(&empty.encode()), Err(SmallFileError::Content));
    }
}
