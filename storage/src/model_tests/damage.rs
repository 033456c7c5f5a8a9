//! Bad bytes and lost files: what had been durable is reported, never cut.

use super::*;

/// A log with several segments, the last of them unsealed and with an unsynced end.
fn mixed_log() -> Harness {
    let mut harness = Harness::new();
    for _ in 0..12 {
        harness.append(3, 2, 400).unwrap();
    }
    harness.flush().unwrap();
    harness.engine.as_ref().unwrap().run_pending();
    harness.append(2, 2, 400).unwrap();
    harness.flush().unwrap();
    harness.append(3, 2, 400).unwrap();
    harness
}

#[test]
fn damage_below_the_recovery_point_is_reported_and_never_cut() {
    // The last segment is not sealed, and its checkpoint is lost, so that it is scanned from its
    // start; the seals before it say what had been durable.
    let mut harness = mixed_log();
    let segments = harness.log().segment_list();
    assert!(segments.len() > 2 && segments[0].is_sealed());
    let (first, last) = (&segments[0], segments.last().unwrap());
    let path = first.path(SegmentFileKind::Log);
    let seal = first.path(SegmentFileKind::Seal);
    let middle = usize::try_from(first.log_bytes() / 2).unwrap();
    let before = harness.disk.content(&path).unwrap();
    let last_path = last.path(SegmentFileKind::Log);
    drop(segments);
    harness.stop();
    harness.disk.restart();
    harness.disk.lose_file(&seal);
    harness.disk.corrupt(&path, middle, 0x40).unwrap();
    let error = harness.open().unwrap_err();
    let OpenError::Damaged(damage) = error else {
        panic!("{error}")
    };
    let found = matches!(
        damage.kind,
        DamageKind::Batch(_) | DamageKind::OffsetGap { .. }
    );
    assert!(found, "{damage}");
    assert!(damage.offset < damage.recovery_point);
    // Nothing was touched.
    harness.stop();
    harness.disk.restart();
    let after = harness.disk.content(&path).unwrap();
    assert_eq!(after.len(), before.len());
    assert!(harness.disk.content(&last_path).is_ok());
    // And when the medium gives the bytes again, so does the log.
    harness.disk.corrupt(&path, middle, 0x40).unwrap();
    harness.open().unwrap();
    harness.check_recovered("repaired");
}

#[test]
fn a_missing_segment_is_damage() {
    for which in 0..2 {
        let mut harness = mixed_log();
        let segments = harness.log().segment_list();
        let path = segments[which].path(SegmentFileKind::Log);
        drop(segments);
        harness.stop();
        harness.disk.restart();
        harness.disk.lose_file(&path);
        let error = harness.open().unwrap_err();
        assert!(matches!(error, OpenError::Damaged(_)), "{error}");
    }
}

/// Whether a position of the last segment, which ends at `end`, holds the epoch of a batch: Kafka's
/// format leaves it out of the checksum, so only a seal notices another value.
fn in_epoch_field(model: &Model, end: u64, position: u64) -> bool {
    let mut batch_end = end;
    for written in model.batches.iter().rev() {
        let start = batch_end.saturating_sub(written.bytes.len() as u64);
        if position >= start {
            return (12..16).contains(&(position - start));
        }
        batch_end = start;
    }
    false
}

#[test]
fn a_torn_tail_is_cut_and_what_had_been_synced_stays() {
    for seed in 0..60 {
        let mut harness = mixed_log();
        let durable = harness.log().durable_end().get();
        let segments = harness.log().segment_list();
        let last = segments.last().unwrap();
        let path = last.path(SegmentFileKind::Log);
        let end = last.log_bytes();
        let synced = last.synced_bytes.load(std::sync::atomic::Ordering::Relaxed);
        drop(segments);
        let mut dice = Dice::new(seed);
        harness.stop();
        harness.disk.restart();
        let position = synced + dice.below(end - synced);
        if in_epoch_field(&harness.model, end, position) {
            continue;
        }
        harness
            .disk
            .corrupt(&path, usize::try_from(position).unwrap(), 0x10)
            .unwrap();
        let report = harness.open().unwrap();
        assert!(report.cut_bytes > 0 || harness.log().end().get() == harness.model.end());
        harness.check_recovered(&format!("seed {seed}"));
        assert!(harness.log().end().get() >= durable);
    }
}

/// A valid batch of an earlier epoch behind one of a later is no record of this log, and its checksum
/// does not cover the epoch. Taken in, it would also take the later epochs from the epochs that are known,
/// by which followers find where their logs part from this one.
#[test]
fn a_batch_of_an_earlier_epoch_is_not_taken_behind_one_of_a_later() {
    for synced in [false, true] {
        let mut harness = Harness::new();
        harness.model.epoch = 2;
        harness.append(1, 2, 100).unwrap();
        harness.model.epoch = 3;
        harness.append(2, 2, 100).unwrap();
        let (end, epoch) = (harness.log().end(), harness.log().latest_epoch());
        if synced {
            harness.flush().unwrap();
        }
        let path = dir().join(format!("{:020}.log", 0));
        harness.stop();
        harness.disk.restart();
        let last = harness.model.batches.pop().unwrap();
        let before: usize = harness
            .model
            .batches
            .iter()
            .map(|one| one.bytes.len())
            .sum();
        harness.disk.corrupt(&path, before + 15, 3 ^ 1).unwrap();
        if synced {
            // Without them a start reads what lies before the recovery point as well.
            harness
                .disk
                .lose_file(&dir().join(crate::layout::LEADER_EPOCHS));
            let OpenError::Damaged(damage) = harness.open().unwrap_err() else {
                panic!("damage")
            };
            assert!(
                matches!(damage.kind, DamageKind::EpochWentBack { .. }),
                "{damage}"
            );
            assert_eq!(damage.offset.get(), last.base);
        } else {
            let report = harness.open().unwrap();
            assert_eq!(report.cut_valid_batches, 1, "{report:?}");
            assert!(harness.log().end() < end);
            assert_eq!(harness.log().latest_epoch(), epoch);
            harness.check_recovered("an epoch went back");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// One flipped byte anywhere: the log opens with all that had been synced, or is refused; a
    /// file that is a cache or a hint changes nothing at all.
    #[test]
    fn one_bad_byte_never_loses_what_had_been_synced(file in any::<u32>(), place in any::<u32>(), flip in 1u8..) {
        let mut harness = mixed_log();
        harness.stop();
        harness.disk.restart();
        let files: Vec<_> = harness
            .disk
            .files()
            .into_iter()
            .filter(|path| path.starts_with(dir()) && !harness.disk.content(path).unwrap().is_empty())
            .collect();
        let path = &files[file as usize % files.len()];
        let length = harness.disk.content(path).unwrap().len();
        harness.disk.corrupt(path, place as usize % length, flip).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        match harness.open() {
            Err(OpenError::PartitionMeta { .. }) => prop_assert_eq!(name, "partition.toml"),
            Err(OpenError::Damaged(_)) => prop_assert!(name.ends_with(".log"), "{}", name),
            Err(other) => prop_assert!(false, "{}: {}", name, other),
            Ok(_) if name.ends_with(".log") => {
                let end = harness.log().end().get();
                prop_assert!(end >= harness.model.durable && end <= harness.model.end());
            }
            Ok(_) => {
                let end = harness.model.end();
                harness.check_recovered(name);
                prop_assert_eq!(harness.model.end(), end, "{}", name);
            }
        }
    }
}
