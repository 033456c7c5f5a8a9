//! The plan of a round, and what scrubbing finds on a disk that decays.

use std::path::Path;

use highwater_protocol::batch_builder::BatchBuilder;
use highwater_protocol::compression::Compression;
use highwater_protocol::ids::{LeaderEpoch, TopicName};
use proptest::prelude::*;

use super::*;
use crate::sim_disk::SimDisk;
use crate::{Background, EngineOptions, LogHealth, LogOptions, PartitionMeta};

fn ms(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn sealed(partition: u32, base: u64, bytes: u64) -> SealedSegment {
    SealedSegment {
        key: SegmentKey {
            topic_id: TopicId::from_bytes([1; 16]),
            partition: PartitionId::new(partition),
            base: Offset::new(base),
        },
        bytes,
    }
}

#[test]
fn a_round_is_spread_over_its_interval_by_bytes() {
    let segments = [sealed(0, 0, 100), sealed(0, 9, 300), sealed(2, 0, 600)];
    let mut round = ScrubRound::begin(ms(5000));
    let mut next = |now| round.next(&segments, ms(now), 1000);
    assert_eq!(next(5000), ScrubNext::Scrub(segments[0]));
    assert_eq!(next(5000), ScrubNext::Scrub(segments[0]), "not done yet");
    round.on_done(segments[0].key);
    let mut next = |now| round.next(&segments, ms(now), 1000);
    assert_eq!(next(5001), ScrubNext::WaitUntil(ms(5100)));
    assert_eq!(next(5100), ScrubNext::Scrub(segments[1]));
    round.on_done(segments[1].key);
    assert_eq!(
        round.next(&segments, ms(5200), 1000),
        ScrubNext::WaitUntil(ms(5400))
    );
    // Behind its time: at once. And the next round begins when the interval is over.
    assert_eq!(
        round.next(&segments, ms(5900), 1000),
        ScrubNext::Scrub(segments[2])
    );
    round.on_done(segments[2].key);
    assert_eq!(
        round.next(&segments, ms(5950), 1000),
        ScrubNext::WaitUntil(ms(6000))
    );
    assert_eq!(
        round.next(&segments, ms(6000), 1000),
        ScrubNext::Scrub(segments[0])
    );
    // A clock that was set back does not stop it for years.
    let mut ahead = ScrubRound::begin(ms(i64::MAX));
    assert_eq!(
        ahead.next(&segments, ms(7), 1000),
        ScrubNext::Scrub(segments[0])
    );
    assert_eq!(
        ahead.next(&[], ms(7), 1000),
        ScrubNext::WaitUntil(ms(1007)),
        "nothing is there"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever does what is due as soon as it is scrubs each segment once in an interval, in order.
    #[test]
    fn every_segment_is_scrubbed_once_in_an_interval(
        sizes in prop::collection::vec(1u64..1_000_000, 1..20),
        interval in 1i64..1_000_000,
        restart_at in 0usize..20,
    ) {
        let segments: Vec<_> = sizes
            .iter()
            .enumerate()
            .map(|(n, bytes)| sealed(n as u32 / 3, n as u64, *bytes))
            .collect();
        let (mut now, mut round) = (50, ScrubRound::begin(ms(50)));
        let mut done = Vec::new();
        while done.len() < segments.len() * 2 {
            match round.next(&segments, ms(now), interval) {
                ScrubNext::Scrub(segment) => {
                    done.push(segment);
                    round.on_done(segment.key);
                    if done.len() == segments.len() {
                        prop_assert!(now < 50 + interval);
                    }
                }
                ScrubNext::WaitUntil(then) => {
                    prop_assert!(then.millis() > now, "waiting ends");
                    now = then.millis();
                }
            }
            if done.len() == restart_at {
                round = ScrubRound::decode(&round.encode()).unwrap();
            }
        }
        prop_assert!(now >= 50 + interval && now < 50 + interval * 2);
        prop_assert_eq!(&done[..segments.len()], &segments[..]);
        prop_assert_eq!(&done[segments.len()..], &segments[..]);
    }
}

fn meta() -> PartitionMeta {
    PartitionMeta {
        topic_id: TopicId::from_bytes([4; 16]),
        topic: TopicName::new("old").unwrap(),
        partition: PartitionId::new(0),
    }
}

/// A log with three sealed segments and one that grows.
fn old_log(disk: &SimDisk) -> (Arc<Engine>, Arc<Log>) {
    let options = EngineOptions {
        disk: Arc::new(disk.clone()),
        background: Background::Manual,
        ..EngineOptions::default()
    };
    let engine = Engine::open(Path::new("/data"), options).unwrap();
    let log = engine.create_log(meta(), LogOptions::default()).unwrap();
    for n in 0..4u8 {
        for m in 0..5 {
            let mut builder = BatchBuilder::new(Compression::None, None);
            builder.push(ms(m), None, Some(&[n; 400]), &[]);
            log.append(&builder.build(), LeaderEpoch::new(3), ms(m))
                .unwrap();
        }
        if n < 3 {
            log.roll().unwrap();
        }
    }
    engine.run_pending();
    (engine, log)
}

/// Scrubs a segment to its end, and says how many bytes were read.
fn scrub(log: &Log, base: Offset) -> (u64, ScrubStep) {
    let mut scrub = log.begin_scrub(base).unwrap().unwrap();
    let mut read = 0;
    loop {
        match scrub.step(300).unwrap() {
            ScrubStep::Read { bytes } => read += bytes,
            ScrubStep::Healthy { bytes } => return (read + bytes, ScrubStep::Healthy { bytes }),
            other => return (read, other),
        }
    }
}

fn damage_of(step: &ScrubStep) -> &crate::Damage {
    match step {
        ScrubStep::Damaged(reason) => match &**reason {
            OfflineReason::Damaged(damage) => damage,
            other => panic!("{other}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn healthy_segments_are_read_whole_and_nothing_is_found() {
    let disk = SimDisk::new();
    let (engine, log) = old_log(&disk);
    let segments = engine.sealed_segments();
    assert_eq!(segments.len(), 3, "the growing one is not among them");
    for segment in &segments {
        let (read, end) = scrub(&log, segment.key.base);
        assert!(matches!(end, ScrubStep::Healthy { .. }), "{end:?}");
        assert_eq!(read, segment.bytes);
    }
    assert!(matches!(log.health(), LogHealth::Online));
    assert!(log.begin_scrub(log.end()).unwrap().is_none());
}

#[test]
fn one_flipped_bit_is_found_and_told_with_its_place() {
    let disk = SimDisk::new();
    let (engine, log) = old_log(&disk);
    let second = engine.sealed_segments()[1];
    let path = layout::segment_path(log.dir(), second.key.base, SegmentFileKind::Log);
    let batch = usize::try_from(second.bytes / 5).unwrap();
    disk.corrupt(&path, batch * 2 + 100, 0x04).unwrap();
    let end = scrub(&log, second.key.base).1;
    let damage = damage_of(&end);
    assert!(matches!(damage.kind, DamageKind::Batch(_)), "{damage}");
    assert_eq!(damage.position, batch as u64 * 2);
    assert_eq!(damage.offset.get(), second.key.base.get() + 2);
    assert!(matches!(log.health(), LogHealth::Offline(_)));
    assert!(engine.sealed_segments().is_empty(), "nothing more to find");
    assert!(!engine.has_failed(), "the disk answered");
    let size = disk.content(&path).unwrap().len() as u64;
    assert_eq!(size, second.bytes, "nothing is cut");
}

/// The leader epoch of a batch is outside of the batch's own checksum; the seal covers it.
#[test]
fn a_changed_epoch_is_found_by_the_seal_alone() {
    let disk = SimDisk::new();
    let (_engine, log) = old_log(&disk);
    let path = layout::segment_path(log.dir(), Offset::ZERO, SegmentFileKind::Log);
    disk.corrupt(&path, 15, 0x01).unwrap();
    let end = scrub(&log, Offset::ZERO).1;
    let damage = damage_of(&end);
    let by_seal = matches!(damage.kind, DamageKind::SealChecksum { .. });
    let by_epoch = matches!(damage.kind, DamageKind::EpochWentBack { .. });
    assert!(by_seal || by_epoch, "{damage}");
}

#[test]
fn a_segment_that_goes_away_meanwhile_is_not_damaged() {
    let disk = SimDisk::new();
    let (_engine, log) = old_log(&disk);
    let path = layout::segment_path(log.dir(), Offset::new(5), SegmentFileKind::Log);
    // Even if what was read of it is wrong.
    let mut scrub = log.begin_scrub(Offset::new(5)).unwrap().unwrap();
    scrub.step(300).unwrap();
    disk.corrupt(&path, 700, 0x10).unwrap();
    log.restart_at(Offset::new(1000)).unwrap();
    let end = loop {
        match scrub.step(300).unwrap() {
            ScrubStep::Read { .. } => {}
            other => break other,
        }
    };
    assert!(matches!(end, ScrubStep::Gone), "{end:?}");
    assert!(matches!(log.health(), LogHealth::Online));
}

#[test]
fn a_missing_file_is_found() {
    let disk = SimDisk::new();
    let (_engine, log) = old_log(&disk);
    let path = layout::segment_path(log.dir(), Offset::ZERO, SegmentFileKind::Log);
    disk.lose_file(&path);
    assert!(log.begin_scrub(Offset::ZERO).unwrap().is_none());
    assert!(matches!(log.health(), LogHealth::Offline(_)));
}

#[test]
fn a_round_goes_on_after_a_restart() {
    let disk = SimDisk::new();
    let (engine, log) = old_log(&disk);
    let mut round = engine.scrub_round(ms(70));
    assert_eq!(round, ScrubRound::begin(ms(70)));
    engine.keep_scrub_round(&round).unwrap();
    assert_eq!(engine.scrub_round(ms(99)), round);
    round.on_done(engine.sealed_segments()[1].key);
    engine.keep_scrub_round(&round).unwrap();
    drop((log, engine));
    disk.restart();
    let options = EngineOptions {
        disk: Arc::new(disk.clone()),
        background: Background::Manual,
        ..EngineOptions::default()
    };
    let engine = Engine::open(Path::new("/data"), options).unwrap();
    assert_eq!(engine.scrub_round(ms(99)), round);
    disk.corrupt(Path::new("/data/scrub"), 14, 1).unwrap();
    assert_eq!(engine.scrub_round(ms(99)), ScrubRound::begin(ms(99)));
}
