//! What a log knows of its producers, against the batches in it.

use highwater_protocol::ids::{ProducerEpoch, ProducerId, Sequence};

use super::*;
use crate::producer_snapshot::ProducerSnapshot;
use crate::producer_state::SequenceError;
use crate::producer_tracking;

/// What these batches add up to.
pub(super) fn replay<'a>(batches: impl IntoIterator<Item = &'a Written>) -> Producers {
    let mut producers = Producers::default();
    for written in batches {
        producers.record(&BatchHeader::parse(&written.bytes).unwrap(), None);
    }
    producers
}

/// Three of four batches have a producer, which goes on where it is; sometimes it begins anew.
pub(super) fn stamp_of(tag: u64, producers: &Producers) -> Option<ProducerStamp> {
    if tag.is_multiple_of(4) {
        return None;
    }
    let id = ProducerId::new(tag % 3);
    let known = producers.get(id);
    let epoch = known.map_or(0, |known| known.epoch().get());
    let next = known
        .and_then(|known| known.batches().last())
        .map_or(Sequence::new(i32::MAX as u32 - 3), |last| {
            Sequence::new((last.last_sequence.get() + 1) % (1 << 31))
        });
    let begins_anew = known.is_some() && tag.is_multiple_of(19);
    Some(ProducerStamp {
        id,
        epoch: ProducerEpoch::new(epoch + u16::from(begins_anew)),
        base_sequence: Some(if begins_anew { Sequence::ZERO } else { next }),
    })
}

/// `less` knows what `more` does, except for batches that came before all that it knows.
fn is_part_of(less: &Producers, more: &Producers, context: &str) {
    for (id, part) in less.sorted() {
        let whole = more.get(id).unwrap_or_else(|| panic!("{context}: S9 {id}"));
        assert_eq!(part.epoch(), whole.epoch(), "{context}: S9 {id}");
        assert_eq!(part.last_offset, whole.last_offset, "{context}: S9 {id}");
        assert!(
            whole.batches().ends_with(part.batches()),
            "{context}: S9 {id}: {part:?} {whole:?}"
        );
        assert!(part.accepted <= whole.accepted, "{context}: S9 {id}");
    }
}

impl Harness {
    /// S9: at least what the batches say that are there, and nothing that those that ever were there
    /// would not say.
    pub(super) fn check_producers(&self, context: &str) {
        let log = self.log();
        let found = log.writer.lock().producers.state.clone();
        let segments = log.segment_list();
        let first = segments.first().map_or(log.end(), |first| first.base).get();
        let is_there = |written: &&Written| written.base >= first;
        let least = replay(self.model.batches.iter().filter(is_there));
        let most = replay(&self.model.batches);
        is_part_of(&least, &found, context);
        is_part_of(&found, &most, context);
    }

    fn state(&self) -> Producers {
        self.log().writer.lock().producers.state.clone()
    }

    fn snapshots(&self) -> Vec<PathBuf> {
        let mut files = self.disk.files();
        files.retain(|path| path.extension().is_some_and(|end| end == "producers"));
        files.sort();
        files
    }

    /// Appends one batch as it was sent, and says what came of it.
    fn send(&mut self, one: &[u8]) -> Result<IdempotentAppend, AppendError> {
        let epoch = LeaderEpoch::new(self.model.epoch);
        let now = Timestamp::from_millis(0);
        self.log().append_idempotent(one, epoch, now)
    }
}

fn last_of_a_producer(harness: &Harness) -> Vec<u8> {
    let mut batches = harness.model.batches.iter().rev();
    let has_one = |written: &&Written| {
        let header = BatchHeader::parse(&written.bytes).unwrap();
        header.producer.is_some()
    };
    batches.find(has_one).unwrap().bytes.clone()
}

/// Ten thousand small batches would be read again; what lies behind the newest snapshot is.
#[test]
fn a_start_reads_the_headers_behind_the_newest_snapshot_and_no_others() {
    let mut harness = Harness::new();
    for _ in 0..40 {
        harness.append(2, 2, 400).unwrap();
        harness.flush().unwrap();
        harness.engine.as_ref().unwrap().run_pending();
    }
    let size = harness.log().size_bytes();
    let state = harness.state();
    harness.stop();
    harness.disk.restart();
    let report = harness.open().unwrap();
    assert!(size > 60_000, "{size}");
    assert!(report.producer_scanned_bytes < 7000, "{report:?}");
    assert_eq!(harness.state(), state);
    // After an orderly close nothing is read.
    harness.append(1, 2, 400).unwrap();
    let state = harness.state();
    harness.engine.as_ref().unwrap().close().unwrap();
    harness.stop();
    harness.disk.restart();
    assert_eq!(harness.open().unwrap().producer_scanned_bytes, 0);
    assert_eq!(harness.state(), state);
}

#[test]
fn damaged_and_lost_snapshots_cost_reading_and_nothing_else() {
    let mut harness = Harness::new();
    for _ in 0..12 {
        harness.append(3, 2, 500).unwrap();
        harness.flush().unwrap();
        harness.engine.as_ref().unwrap().run_pending();
    }
    let state = harness.state();
    let mut scanned = 0;
    while let Some(newest) = harness.snapshots().pop() {
        harness.stop();
        harness.disk.restart();
        if scanned % 2 == 0 {
            harness.disk.corrupt(&newest, 20, 1).unwrap();
        } else {
            harness.disk.lose_file(&newest);
        }
        let report = harness.open().unwrap();
        assert!(report.producer_scanned_bytes > scanned, "{report:?}");
        scanned = report.producer_scanned_bytes;
        assert_eq!(harness.state(), state);
        harness.stop();
        harness.disk.restart();
        harness.disk.lose_file(&newest);
        harness.open().unwrap();
    }
    assert_eq!(scanned, harness.log().size_bytes(), "the whole log at last");
}

/// Whoever had a batch deleted is still known: a retry is answered, not appended.
#[test]
fn producers_outlive_the_deletion_of_their_batches() {
    for close in [false, true] {
        let mut harness = Harness::new();
        for _ in 0..12 {
            harness.append(3, 2, 500).unwrap();
            harness.flush().unwrap();
            harness.engine.as_ref().unwrap().run_pending();
        }
        let state = harness.state();
        assert_eq!(state.len(), 3);
        let end = harness.model.end();
        harness.trim(end).unwrap();
        assert_eq!(harness.log().segment_count(), 0);
        assert_eq!(harness.state(), state);
        if close {
            harness.engine.as_ref().unwrap().close().unwrap();
        }
        harness.crash(&mut Dice::new(7));
        harness.open().unwrap();
        harness.check_recovered("after the crash");
        assert_eq!(harness.state(), state);
        let last = last_of_a_producer(&harness);
        let answer = harness.send(&last).unwrap();
        assert!(answer.is_duplicate(), "{answer:?}");
        harness.append(3, 2, 500).unwrap();
        harness.check("goes on");
    }
}

#[test]
fn a_truncation_takes_the_producers_back() {
    for whole in [false, true] {
        let mut harness = Harness::new();
        for _ in 0..9 {
            harness.append(3, 2, 500).unwrap();
            harness.flush().unwrap();
            harness.engine.as_ref().unwrap().run_pending();
        }
        let cut = if whole { 0 } else { harness.model.end() - 7 };
        let later = last_of_a_producer(&harness);
        harness.truncate(cut).unwrap();
        assert_eq!(harness.state(), replay(&harness.model.batches));
        let end = harness.log().end();
        for path in harness.snapshots() {
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(crate::layout::parse_producer_snapshot_name(name).unwrap() <= end);
        }
        // What was cut can be appended again, as far as it follows.
        let header = BatchHeader::parse(&later).unwrap();
        let verdict = harness.state().check(&header);
        let appended = harness.send(&later);
        match verdict {
            crate::producer_state::Verdict::Append => assert!(!appended.unwrap().is_duplicate()),
            _ => assert!(matches!(appended, Err(AppendError::Sequence(_)))),
        }
    }
}

/// The check and the append are one step, all batches of a call or none.
#[test]
fn a_duplicate_appends_nothing_and_a_gap_is_refused() {
    let mut harness = Harness::new();
    harness.append(8, 2, 100).unwrap();
    let end = harness.log().end();
    let of = |harness: &Harness, n: usize| harness.model.batches[n].bytes.clone();
    let batches: Vec<_> = (0..8).map(|n| of(&harness, n)).collect();
    for (n, one) in batches.iter().enumerate() {
        let header = BatchHeader::parse(one).unwrap();
        if header.producer.is_some() {
            let answer = harness.send(one).unwrap();
            let base_offset = Some(Offset::new(harness.model.batches[n].base));
            let end_offset = Offset::new(harness.model.batches[n].next);
            let duplicate = IdempotentAppend::Duplicate {
                base_offset,
                end_offset,
            };
            assert_eq!(answer, duplicate);
        }
    }
    let stamped = |sequence| {
        let stamp = ProducerStamp {
            id: ProducerId::new(1),
            epoch: ProducerEpoch::new(0),
            base_sequence: Some(Sequence::new(sequence % (1 << 31))),
        };
        batch_of(Some(stamp), 2, 10, 1, 1)
    };
    let known = *harness.state().get(ProducerId::new(1)).unwrap();
    let next = known.batches().last().unwrap().last_sequence.get() + 1;
    let refused = harness.send(&stamped(next + 1)).unwrap_err();
    assert!(matches!(
        refused,
        AppendError::Sequence(SequenceError::OutOfOrder { .. })
    ));
    // New batches with one that is known, or one that does not follow them: none is appended.
    let mixed = [stamped(next), stamped(next)].concat();
    let refused = harness.send(&mixed).unwrap_err();
    assert!(matches!(
        refused,
        AppendError::Sequence(SequenceError::PartlyDuplicate)
    ));
    let gap = [stamped(next), stamped(next + 3)].concat();
    assert!(harness.send(&gap).is_err());
    assert_eq!(harness.log().end(), end);
    harness.check("nothing was appended");
    let both = [stamped(next), stamped(next + 2)].concat();
    assert!(!harness.send(&both).unwrap().is_duplicate());
    assert!(harness.send(&both).unwrap().is_duplicate());
    assert_eq!(harness.log().end().get(), end.get() + 4);
}

/// A follower's state is its leader's.
#[test]
fn replicated_batches_are_recorded_like_appended_ones() {
    let mut leader = Harness::new();
    leader.append(3, 3, 200).unwrap();
    leader.append(4, 2, 200).unwrap();
    let follower = Harness::new();
    for written in &leader.model.batches {
        let now = Timestamp::from_millis(5);
        follower
            .log()
            .append_replicated(&written.bytes, now)
            .unwrap();
    }
    assert_eq!(follower.state(), leader.state());
    assert_eq!(follower.log().producer_count(), 3);
}

/// Space for snapshots is not demanded: a full disk keeps no sync from being done, and the copies that
/// wait are bounded.
#[test]
fn copies_that_cannot_be_written_wait_and_are_bounded() {
    let mut harness = Harness::new();
    harness.append(3, 2, 500).unwrap();
    harness.flush().unwrap();
    for _ in 0..30 {
        harness.append(3, 2, 500).unwrap();
        let capacity = harness.disk.used_bytes() + 10;
        harness.disk.set_capacity(Some(capacity));
        // Index entries may not fit either; what was appended is durable nevertheless.
        if let Err(error) = harness.log().flush() {
            assert!(error.is_disk_full(), "{error}");
        }
        assert_eq!(harness.log().durable_end(), harness.log().end());
        let pending = harness.log().writer.lock().producers.pending.len();
        assert!(pending <= producer_tracking::PENDING_MAX);
        harness.disk.set_capacity(None);
    }
    assert!(!harness.log().writer.lock().producers.pending.is_empty());
    harness.flush().unwrap();
    assert!(harness.log().writer.lock().producers.pending.is_empty());
    assert!(!harness.snapshots().is_empty());
    let state = harness.state();
    harness.crash(&mut Dice::new(3));
    harness.open().unwrap();
    assert_eq!(harness.state(), state);
}

/// What an interrupted truncation leaves: a snapshot that knows more than the log. Were it there still
/// when other batches have its offsets, a start would believe it.
#[test]
fn a_snapshot_ahead_of_the_log_is_removed_for_good() {
    for seed in 0..20 {
        let mut harness = Harness::new();
        harness.append(3, 2, 500).unwrap();
        harness.flush().unwrap();
        let end = harness.log().end();
        harness.stop();
        harness.disk.restart();
        let ahead = ProducerSnapshot {
            offset: end.next(),
            segment: Offset::ZERO,
            position: 0,
            producers: Producers::default(),
        };
        ahead.write(&harness.disk, &dir()).unwrap();
        let path = crate::layout::producer_snapshot_path(&dir(), ahead.offset);
        assert!(harness.snapshots().contains(&path));
        harness.open().unwrap();
        harness.check_recovered("with a snapshot ahead");
        harness.append(1, 2, 100).unwrap();
        harness.crash(&mut Dice::new(seed));
        assert!(!harness.snapshots().contains(&path), "seed {seed}");
        harness.open().unwrap();
        harness.check_recovered("later");
    }
}
