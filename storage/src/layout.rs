//! Names of files and directories, and which file is what.
//!
//! ```text
//! <data dir>/
//!   lock                        held by the broker that works here
//!   data-dir                    identity of the directory and its present session
//!   clean-shutdown              only between an orderly close and the next open
//!   broker-epoch                registration and boot of the present or last life
//!   dir-died                    only after a failed sync or another failed file operation
//!   scrub                       how far scrubbing got
//!   <topic id>-<partition>/
//!     partition.toml            names the topic, for people and for the next start
//!     leader-epochs             epoch -> first offset
//!     checkpoint                recovery point, log start, high watermark
//!     poisoned                  only after a failed sync
//!     restart                   only while the log begins anew at another offset
//!     <base offset>.log         record batches back to back
//!     <base offset>.index       offset -> position, every few KiB
//!     <base offset>.timeindex   time -> offset, sparser
//!     <base offset>.seal        of a finished segment: length, end, checksum
//!     prepared-N.next           space for the next segment, without content
//!     *.tmp                     a small file that was being written
//!   <topic id>-<partition>.<uuid>.deleted/   being removed
//!   <topic id>-<partition>.damaged-<n>/      a damaged log that was replaced, kept
//!   <topic id>-<partition>.stray-<n>/        a log of no known partition, kept
//! ```

use std::path::{Path, PathBuf};

use highwater_protocol::ids::{Offset, PartitionId, TopicId};

/// Lock file of the data directory.
pub(crate) const LOCK: &str = "lock";
/// Identity of the data directory.
pub(crate) const IDENTITY: &str = "data-dir";
/// Marker of an orderly close.
pub(crate) const CLEAN_SHUTDOWN: &str = "clean-shutdown";
/// Registration and boot of the last life.
pub(crate) const BROKER_EPOCH: &str = "broker-epoch";
/// Left behind by a failed file operation.
pub(crate) const DIR_DIED: &str = "dir-died";
/// How far scrubbing got.
pub(crate) const SCRUB: &str = "scrub";
/// Describes the partition.
pub(crate) const PARTITION_META: &str = "partition.toml";
/// Epoch cache of a log.
pub(crate) const LEADER_EPOCHS: &str = "leader-epochs";
/// Checkpoint of a log.
pub(crate) const CHECKPOINT: &str = "checkpoint";
/// Left behind by a failed sync.
pub(crate) const POISONED: &str = "poisoned";
/// Only while a log begins anew at another offset.
pub(crate) const RESTART: &str = "restart";
/// End of the name of a partition directory that is being removed.
pub(crate) const DELETED_SUFFIX: &str = ".deleted";
/// End of the name of a file that is being written.
pub(crate) const TMP_SUFFIX: &str = ".tmp";

/// One kind of file of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SegmentFileKind {
    /// The batches.
    Log,
    /// Offset index.
    Index,
    /// Time index.
    TimeIndex,
    /// Seal.
    Seal,
}

impl SegmentFileKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Log, Self::Index, Self::TimeIndex, Self::Seal];

    const fn extension(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Index => "index",
            Self::TimeIndex => "timeindex",
            Self::Seal => "seal",
        }
    }
}

/// Path of a file of the segment that starts at `base`.
#[must_use]
pub fn segment_path(dir: &Path, base: Offset, kind: SegmentFileKind) -> PathBuf {
    dir.join(format!("{:020}.{}", base.get(), kind.extension()))
}

/// Which segment file a name is, if it is one.
#[must_use]
pub fn parse_segment_name(name: &str) -> Option<(Offset, SegmentFileKind)> {
    let (stem, extension) = name.split_once('.')?;
    let kind = SegmentFileKind::ALL
        .into_iter()
        .find(|kind| kind.extension() == extension)?;
    Some((parse_offset(stem)?, kind))
}

/// An offset as names have it.
fn parse_offset(stem: &str) -> Option<Offset> {
    if stem.len() != 20 || !stem.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let offset = stem
        .parse::<u64>()
        .ok()
        .filter(|offset| *offset <= Offset::MAX.get())?;
    Some(Offset::new(offset))
}

/// End of the name of a snapshot of the producers.
const PRODUCERS_SUFFIX: &str = ".producers";

/// Path of the snapshot of the producers at an offset.
#[must_use]
pub fn producer_snapshot_path(dir: &Path, offset: Offset) -> PathBuf {
    dir.join(format!("{:020}{PRODUCERS_SUFFIX}", offset.get()))
}

/// Of which offset a snapshot of the producers is, if the name is that of one.
#[must_use]
pub fn parse_producer_snapshot_name(name: &str) -> Option<Offset> {
    parse_offset(name.strip_suffix(PRODUCERS_SUFFIX)?)
}

/// Name of the directory of a partition.
#[must_use]
pub fn partition_dir_name(topic_id: TopicId, partition: PartitionId) -> String {
    format!("{topic_id}-{partition}")
}

/// Which partition a directory holds, if its name says so.
#[must_use]
pub fn parse_partition_dir_name(name: &str) -> Option<(TopicId, PartitionId)> {
    let (topic, partition) = name.rsplit_once('-')?;
    let parsed = (topic.parse().ok()?, partition.parse().ok()?);
    // One spelling only, so that no partition has two directories.
    (partition_dir_name(parsed.0, parsed.1) == name).then_some(parsed)
}

/// Why a log is not used any more, and kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetAside {
    /// It is damaged.
    Damaged,
    /// It belongs to no known partition.
    Stray,
}

impl SetAside {
    const ALL: [Self; 2] = [Self::Damaged, Self::Stray];

    const fn word(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Stray => "stray",
        }
    }
}

/// Name of the directory of a log that was set aside, `number` counting those of one partition.
pub(crate) fn set_aside_name(dir_name: &str, why: SetAside, number: u32) -> String {
    format!("{dir_name}.{}-{number}", why.word())
}

/// What a directory of a log that was set aside is of, if the name is one.
pub(crate) fn parse_set_aside_name(name: &str) -> Option<(&str, SetAside, u32)> {
    let (dir_name, rest) = name.split_once('.')?;
    parse_partition_dir_name(dir_name)?;
    let (word, number) = rest.split_once('-')?;
    let why = SetAside::ALL.into_iter().find(|why| why.word() == word)?;
    let number = number.parse().ok()?;
    (set_aside_name(dir_name, why, number) == name).then_some((dir_name, why, number))
}

/// Name of the file that is prepared as the next segment.
pub(crate) fn prepared_name(number: u64) -> String {
    format!("prepared-{number}.next")
}

/// Whether a file is left over from an unfinished operation and can go.
pub(crate) fn is_leftover(name: &str) -> bool {
    name.ends_with(TMP_SUFFIX) || (name.starts_with("prepared-") && name.ends_with(".next"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_names_are_read_back_and_nothing_else_is() {
        let base = Offset::new(12_345);
        for kind in SegmentFileKind::ALL {
            let path = segment_path(Path::new("/d"), base, kind);
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(parse_segment_name(name), Some((base, kind)));
            assert_eq!(parse_producer_snapshot_name(name), None);
        }
        let path = producer_snapshot_path(Path::new("/d"), base);
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(parse_producer_snapshot_name(name), Some(base));
        assert_eq!(parse_segment_name(name), None);
        for name in [
            "",
            ".log",
            "1.log",
            "00000000000000000001.log.tmp",
            "0000000000000000000x.log",
            "+0000000000000000001.log",
            "99999999999999999999.log",
            "18446744073709551615.log",
            "00000000000000000001.txt",
        ] {
            assert_eq!(parse_segment_name(name), None, "{name}");
        }
    }

    #[test]
    fn partition_directories_have_one_spelling() {
        let topic = TopicId::random();
        let name = partition_dir_name(topic, PartitionId::new(7));
        assert_eq!(
            parse_partition_dir_name(&name),
            Some((topic, PartitionId::new(7)))
        );
        assert_eq!(parse_partition_dir_name(&format!("{topic}-07")), None);
        assert_eq!(parse_partition_dir_name(&name.to_uppercase()), None);
        assert_eq!(parse_partition_dir_name(&format!("{name}.x.deleted")), None);
        assert_eq!(parse_partition_dir_name("-"), None);
        for why in SetAside::ALL {
            let kept = set_aside_name(&name, why, 12);
            assert_eq!(parse_set_aside_name(&kept), Some((name.as_str(), why, 12)));
            assert_eq!(parse_partition_dir_name(&kept), None);
        }
        for other in ["damaged-01", "damaged-", "damaged", "lost-1", "x.deleted"] {
            assert_eq!(parse_set_aside_name(&format!("{name}.{other}")), None);
        }
    }
}
