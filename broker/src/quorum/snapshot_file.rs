//! Snapshots of the metadata: one file each, from which an image is built again.
//!
//! ```text
//! "HWmeta" · u16 version · u32 length · head · records · u32 0 · u64 count · u64 hash · u32 CRC-32
//! head     snapshot id · last entry · entry of the membership · membership
//! record   u32 length, not 0 · metadata record
//! ```
//! All numbers are big-endian; the checksum covers everything before it. The hash is of the records
//! that the image gives out: an image that was built from a snapshot must come to the same one, on any
//! node and in any version, or applying is not deterministic.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use highwater_coordination::cluster_image::{ApplyError, ClusterImage};
use highwater_protocol::codec::{DecodeError, Decoder, Encoder, Wire};
use highwater_protocol::messages::{RaftLogId, RaftMembership};
use highwater_protocol::metadata_record::{MetadataRecord, MetadataRecordError};
use thiserror::Error;

use super::types::{LogId, SnapshotMeta, StoredMembership};
use super::wire::{STORED, log_id_in, log_id_out, membership_in, membership_out};

const MAGIC: &[u8; 6] = b"HWmeta";
const VERSION: u16 = 1;
const SUFFIX: &str = ".snapshot";
const UNFINISHED: &str = ".snapshot.tmp";

/// Why a snapshot cannot be used.
#[derive(Debug, Error)]
pub(crate) enum SnapshotError {
    /// A file operation failed.
    #[error("snapshot of the metadata: {0}")]
    Io(#[from] io::Error),
    /// It is not a snapshot, or of a newer version.
    #[error("snapshot of the metadata: not one, or of a version that is not known here")]
    Version,
    /// Its bytes are not what was written.
    #[error("snapshot of the metadata: {0}")]
    Damaged(&'static str),
    /// Its head makes no sense.
    #[error("snapshot of the metadata: {0}")]
    Head(#[from] DecodeError),
    /// A record in it cannot be decoded.
    #[error("snapshot of the metadata: {0}")]
    Record(#[from] MetadataRecordError),
    /// A record in it contradicts those before it.
    #[error("snapshot of the metadata: {0}")]
    Apply(#[from] ApplyError),
    /// The image that it gives is not the one that was written.
    #[error(
        "snapshot of the metadata: it gives an image with hash {found:016x}, not {expected:016x}"
    )]
    OtherImage {
        /// As written.
        expected: u64,
        /// As built.
        found: u64,
    },
}

/// A snapshot that was read.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) meta: SnapshotMeta,
    pub(super) image: ClusterImage,
}

/// Where the snapshot up to an entry lies.
pub(super) fn path_of(dir: &Path, last: Option<LogId>) -> PathBuf {
    let (index, term) = last.map_or((0, 0), |id| (id.index, id.leader_id.term));
    dir.join(format!("{index:020}-{term:010}{SUFFIX}"))
}

/// The snapshots in a directory, the newest first.
pub(super) fn find(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = named(dir, SUFFIX)?;
    // Names have numbers of a fixed width.
    found.sort();
    found.reverse();
    Ok(found)
}

/// Removes what a crash left unfinished. Only while nobody writes a snapshot.
pub(super) fn remove_unfinished(dir: &Path) -> io::Result<()> {
    for path in named(dir, UNFINISHED)? {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

fn named(dir: &Path, suffix: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(suffix) {
            found.push(path);
        }
    }
    Ok(found)
}

/// Removes all snapshots but this one.
pub(super) fn remove_others(dir: &Path, kept: &Path) {
    let others = find(dir).unwrap_or_default();
    for path in others.iter().filter(|path| *path != kept) {
        if let Err(error) = std::fs::remove_file(path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove an old snapshot");
        }
    }
}

/// Writes a snapshot of an image; durable, under its name, when this returns.
pub(super) fn write(
    dir: &Path,
    meta: &SnapshotMeta,
    image: &ClusterImage,
) -> Result<PathBuf, SnapshotError> {
    put(dir, meta.last_log_id, |file| {
        let mut out = Summed::new(BufWriter::new(file));
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_be_bytes())?;
        write_block(&mut out, &encode_head(meta))?;
        let records = image.snapshot();
        let mut hash = StateHash::default();
        for record in &records {
            let bytes = record.encode();
            hash.add(&bytes);
            write_block(&mut out, &bytes)?;
        }
        out.write_all(&0u32.to_be_bytes())?;
        out.write_all(&(records.len() as u64).to_be_bytes())?;
        out.write_all(&hash.0.to_be_bytes())?;
        let crc = out.crc.clone().finalize();
        out.write_all(&crc.to_be_bytes())?;
        out.inner.flush()
    })
}

/// Copies a snapshot that has been read, and checked by that, to its place.
pub(super) fn keep(
    dir: &Path,
    meta: &SnapshotMeta,
    received: &mut File,
) -> Result<PathBuf, SnapshotError> {
    received.rewind()?;
    put(dir, meta.last_log_id, |mut file| {
        io::copy(received, &mut file).map(|_| ())
    })
}

fn put(
    dir: &Path,
    last: Option<LogId>,
    fill: impl FnOnce(&File) -> io::Result<()>,
) -> Result<PathBuf, SnapshotError> {
    let path = path_of(dir, last);
    let unfinished = path.with_extension("snapshot.tmp");
    let file = File::create(&unfinished)?;
    fill(&file)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, &path)?;
    File::open(dir)?.sync_all()?;
    Ok(path)
}

/// Reads a snapshot from its start and builds its image.
pub(super) fn read(file: &mut File) -> Result<Loaded, SnapshotError> {
    file.rewind()?;
    let file_bytes = file.metadata()?.len();
    let mut input = Summed::new(BufReader::new(file));
    if &input.array::<6>()? != MAGIC || u16::from_be_bytes(input.array()?) != VERSION {
        return Err(SnapshotError::Version);
    }
    let head = read_block(&mut input, file_bytes)?.ok_or(SnapshotError::Damaged("no head"))?;
    let meta = decode_head(head)?;
    let mut image = ClusterImage::default();
    let mut count = 0u64;
    while let Some(bytes) = read_block(&mut input, file_bytes)? {
        image.apply(&MetadataRecord::decode(bytes)?)?;
        count += 1;
    }
    let counted = u64::from_be_bytes(input.array()?);
    let expected = u64::from_be_bytes(input.array()?);
    let crc = input.crc.clone().finalize();
    if u32::from_be_bytes(input.array()?) != crc {
        return Err(SnapshotError::Damaged("the checksum does not fit"));
    }
    if counted != count {
        return Err(SnapshotError::Damaged("the number of records does not fit"));
    }
    let found = state_hash(&image);
    if found != expected {
        return Err(SnapshotError::OtherImage { expected, found });
    }
    Ok(Loaded { meta, image })
}

/// Whether the bytes are what was written; leaves the file at its start.
pub(super) fn verify(file: &mut File) -> Result<(), SnapshotError> {
    file.rewind()?;
    let length = file.metadata()?.len();
    let content = length
        .checked_sub(4)
        .ok_or(SnapshotError::Damaged("it is too short"))?;
    let mut input = Summed::new(BufReader::new(&mut *file));
    io::copy(&mut (&mut input).take(content), &mut io::sink())?;
    let crc = input.crc.clone().finalize();
    if u32::from_be_bytes(input.array()?) != crc {
        return Err(SnapshotError::Damaged("the checksum does not fit"));
    }
    file.rewind()?;
    Ok(())
}

/// Tells images apart, on all nodes and in all versions in the same way.
pub(super) fn state_hash(image: &ClusterImage) -> u64 {
    let mut hash = StateHash::default();
    for record in image.snapshot() {
        hash.add(&record.encode());
    }
    hash.0
}

/// FNV-1a with 64 bits over the records and their lengths.
struct StateHash(u64);

impl Default for StateHash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl StateHash {
    fn add(&mut self, record: &[u8]) {
        let length = (record.len() as u64).to_be_bytes();
        for byte in length.iter().chain(record) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

fn encode_head(meta: &SnapshotMeta) -> Bytes {
    let mut out = Encoder::new();
    meta.snapshot_id.encode(&mut out, STORED);
    meta.last_log_id.map(log_id_out).encode(&mut out, STORED);
    let set_by = meta.last_membership.log_id().map(log_id_out);
    set_by.encode(&mut out, STORED);
    membership_out(meta.last_membership.membership()).encode(&mut out, STORED);
    out.into_bytes()
}

fn decode_head(head: Bytes) -> Result<SnapshotMeta, DecodeError> {
    let mut input = Decoder::new(head);
    let snapshot_id = String::decode(&mut input, STORED)?;
    let last = Option::<RaftLogId>::decode(&mut input, STORED)?;
    let set_by = Option::<RaftLogId>::decode(&mut input, STORED)?;
    let membership = RaftMembership::decode(&mut input, STORED)?;
    input.finish()?;
    Ok(SnapshotMeta {
        snapshot_id,
        last_log_id: last.as_ref().map(log_id_in),
        last_membership: StoredMembership::new(
            set_by.as_ref().map(log_id_in),
            membership_in(&membership),
        ),
    })
}

fn write_block(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    out.write_all(&length.to_be_bytes())?;
    out.write_all(bytes)
}

/// `None` at the block of length 0.
fn read_block<R: Read>(
    input: &mut Summed<R>,
    file_bytes: u64,
) -> Result<Option<Bytes>, SnapshotError> {
    let length = u32::from_be_bytes(input.array()?);
    if length == 0 {
        return Ok(None);
    }
    if u64::from(length) > file_bytes {
        return Err(SnapshotError::Damaged("a block is longer than the file"));
    }
    let mut bytes = vec![0; length as usize];
    input.read_exact(&mut bytes)?;
    Ok(Some(Bytes::from(bytes)))
}

/// Sums what goes through it.
struct Summed<T> {
    inner: T,
    crc: crc32fast::Hasher,
}

impl<T> Summed<T> {
    fn new(inner: T) -> Self {
        Self {
            inner,
            crc: crc32fast::Hasher::new(),
        }
    }
}

impl<T: Read> Summed<T> {
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl<T: Write> Write for Summed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.crc.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Summed<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.crc.update(&bytes[..read]);
        Ok(read)
    }
}
