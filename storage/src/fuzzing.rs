//! What must hold of any bytes whatever in the files of a log: the bodies of the fuzz targets.
//!
//! Each function takes hostile bytes and panics only on a bug. The crate `fuzz` wraps them for
//! cargo-fuzz; the test `corpus` runs them over the checked-in corpus and mutations of it, without
//! nightly tools.

use std::path::Path;
use std::sync::Arc;

use highwater_protocol::batch_builder::BatchBuilder;
use highwater_protocol::compression::Compression;
use highwater_protocol::ids::{LeaderEpoch, Offset, PartitionId, Timestamp, TopicId, TopicName};
use highwater_protocol::record_batch::{Batches, verify_batch};

use crate::engine::Engine;
use crate::epoch_checkpoint::EpochCache;
use crate::identity::{ClosedLogs, Identity};
use crate::layout::{self, SegmentFileKind, segment_path};
use crate::log::Log;
use crate::options::{Background, EngineOptions, LogOptions};
use crate::partition_meta::{self, PartitionMeta};
use crate::producer_snapshot::ProducerSnapshot;
use crate::seal::Seal;
use crate::session::LifeRecord;
use crate::sim_disk::SimDisk;
use crate::{checkpoint, offset_index, restart, time_index};

/// A target: its name, which is also the name of its corpus directory, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target of this crate.
pub const TARGETS: &[Target] = &[
    ("segment_recovery", segment_recovery),
    ("storage_index", storage_index),
    ("storage_small_file", storage_small_file),
];

const DATA: &str = "/data";

fn meta() -> PartitionMeta {
    PartitionMeta {
        topic_id: TopicId::from_bytes([1; 16]),
        topic: TopicName::new("fuzz").expect("a valid name"),
        partition: PartitionId::new(0),
    }
}

/// Files of one log, one after the other: a byte that says which (its lowest three bits), the
/// length of its content as two big-endian bytes, its content. Content that is cut off is taken as
/// it is.
///
/// The log is opened. It opens or is refused; when it opens, everything in it can be read and is
/// valid, it can be appended to, and opening it again finds the same.
///
/// # Panics
/// On a bug.
pub fn segment_recovery(data: &[u8]) {
    let disk = SimDisk::new();
    let dir = Path::new(DATA).join(meta().dir_name());
    disk.plant(
        &dir.join(layout::PARTITION_META),
        partition_meta::encode(&meta()).as_bytes(),
    );
    let mut rest = data;
    while let [which, high, low, content @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(content.len());
        let base = Offset::new(if which & 8 == 0 { 0 } else { 3 });
        let path = match which & 7 {
            0 | 1 => segment_path(&dir, base, SegmentFileKind::Log),
            2 => segment_path(&dir, base, SegmentFileKind::Index),
            3 => segment_path(&dir, base, SegmentFileKind::TimeIndex),
            4 => segment_path(&dir, base, SegmentFileKind::Seal),
            5 => dir.join(layout::CHECKPOINT),
            6 => dir.join(layout::LEADER_EPOCHS),
            _ => dir.join(layout::POISONED),
        };
        disk.plant(&path, &content[..length]);
        rest = &content[length..];
    }
    let Some((engine, log)) = open(&disk) else {
        return;
    };
    let end = log.end();
    let readable = read_through(&log);
    let mut batch = BatchBuilder::new(Compression::None, None);
    batch.push(Timestamp::from_millis(1), None, Some(b"after"), &[]);
    let epoch = log.latest_epoch().unwrap_or(LeaderEpoch::new(1));
    let appended = log.append(&batch.build(), epoch, Timestamp::from_millis(1));
    let appended = match appended {
        Ok(appended) => {
            assert_eq!(appended.base_offset, end);
            appended.end_offset
        }
        Err(crate::AppendError::OffsetsExhausted) => end,
        Err(error) => panic!("{error}"),
    };
    log.flush().expect("the disk works");
    drop((engine, log));
    disk.restart();
    match open(&disk) {
        Some((_, log)) => assert_eq!(log.end(), appended),
        // What a seal hides when a log is opened may be found when it is read.
        None => assert!(!readable, "a log that was read through opens again"),
    }
}

fn open(disk: &SimDisk) -> Option<(Arc<Engine>, Arc<Log>)> {
    let options = EngineOptions {
        disk: Arc::new(disk.clone()),
        background: Background::Manual,
        ..EngineOptions::default()
    };
    let engine = Engine::open(Path::new(DATA), options).expect("the directory is in order");
    let log_options = LogOptions {
        segment_bytes: 1 << 20,
        ..LogOptions::default()
    };
    let mut opened = engine.open_logs(&|_| Some(log_options.clone()), &|_| {});
    let log = opened.pop().expect("there is one directory").result.ok()?.0;
    Some((engine, log))
}

/// Reads a log from its start. `false` when damage was met, which is an answer.
fn read_through(log: &Log) -> bool {
    let mut from = log.log_start();
    while from < log.end() {
        let Ok(slice) = log.read(from, log.end(), 1 << 16) else {
            return false;
        };
        if log.bring_in(&slice).is_err() {
            return false;
        }
        for item in Batches::new(&slice.records) {
            let Ok((header, batch)) = item else {
                return false;
            };
            if verify_batch(batch).is_err() || header.next_offset() <= from {
                return false;
            }
        }
        assert!(slice.next > from, "a read goes on");
        from = slice.next;
    }
    let _ = log.offset_at_time(Timestamp::from_millis(0), log.end());
    true
}

/// The entries of an offset index and of a time index.
///
/// # Panics
/// On a bug.
pub fn storage_index(data: &[u8]) {
    let Some((first, bytes)) = data.split_first_chunk::<4>() else {
        return;
    };
    let wanted = u32::from_le_bytes(*first);
    let sane = offset_index::sane_entries(bytes, u64::from(u32::MAX));
    let sane_bytes = &bytes[..sane * offset_index::ENTRY_BYTES];
    let by_offset = offset_index::floor_of_offset(sane_bytes, wanted);
    assert!(by_offset.relative_offset <= wanted);
    let by_position = offset_index::floor_of_position(sane_bytes, wanted);
    assert!(by_position.position <= wanted);
    for entry in offset_index::entries(sane_bytes)
        .iter()
        .map(offset_index::decode)
    {
        assert!(
            entry.relative_offset > wanted || entry.relative_offset <= by_offset.relative_offset
        );
        assert!(entry.position > wanted || entry.position <= by_position.position);
    }
    let _ = offset_index::floor_of_offset(bytes, wanted);
    let sane = time_index::sane_entries(bytes);
    let _ = time_index::scan_start(&bytes[..sane * time_index::ENTRY_BYTES], i64::from(wanted));
    let _ = time_index::scan_start(bytes, i64::from(wanted));
}

/// Every small file. What decodes, encodes to something that decodes to the same.
///
/// # Panics
/// On a bug.
pub fn storage_small_file(data: &[u8]) {
    if let Ok(epochs) = EpochCache::decode(data) {
        assert_eq!(EpochCache::decode(&epochs.encode()), Ok(epochs));
    }
    if let Ok(seal) = Seal::decode(data) {
        assert_eq!(Seal::decode(&seal.encode()), Ok(seal));
    }
    if let Ok(checkpoint) = checkpoint::parse(data) {
        assert!(checkpoint.log_start <= checkpoint.recovery_point.offset);
    }
    if let Ok(producers) = ProducerSnapshot::decode(data) {
        assert_eq!(ProducerSnapshot::decode(&producers.encode()), Ok(producers));
    }
    let identity = Identity::decode(data);
    if let Ok(identity) = &identity {
        assert_eq!(Identity::decode(&identity.encode()).as_ref(), Ok(identity));
    }
    let known = Identity {
        dir: crate::identity::DirId::from_bytes([0; 16]),
        session: [0; 16],
    };
    if let Ok(closed) = ClosedLogs::decode(data, &known) {
        assert_eq!(
            ClosedLogs::decode(&closed.encode(&known), &known),
            Ok(closed)
        );
    }
    if let Ok(record) = LifeRecord::decode(data) {
        assert_eq!(LifeRecord::decode(&record.encode()), Ok(record));
    }
    if let Ok(offset) = restart::decode(data) {
        assert_eq!(restart::decode(&restart::encode(offset)), Ok(offset));
    }
    if let Ok(meta) = partition_meta::decode(data) {
        assert_eq!(
            partition_meta::decode(partition_meta::encode(&meta).as_bytes()),
            Ok(meta)
        );
    }
    let _ = layout::parse_segment_name(&String::from_utf8_lossy(data));
    let _ = layout::parse_producer_snapshot_name(&String::from_utf8_lossy(data));
    let _ = layout::parse_partition_dir_name(&String::from_utf8_lossy(data));
}
