//! The state of the producers against the table at the head of its module, written down a second time.

use highwater_protocol::batch_builder::BatchBuilder;
use highwater_protocol::compression::Compression;
use proptest::prelude::*;

use super::*;

/// Wire sequence 0, with room to look back.
const ZERO: u64 = 5 * SEQUENCES;

fn header(id: u64, epoch: u16, sequence: u64, records: u64, offset: u64) -> BatchHeader {
    let mut builder = BatchBuilder::new(Compression::None, None);
    builder.push(Timestamp::from_millis(1), None, None, &[]);
    let mut header = BatchHeader::parse(&builder.build()).unwrap();
    header.base_offset = Offset::new(offset);
    header.last_offset_delta = (records - 1) as u32;
    header.record_count = records as u32;
    header.producer = Some(ProducerStamp {
        id: ProducerId::new(id),
        epoch: ProducerEpoch::new(epoch),
        base_sequence: Some(Sequence::new((sequence % SEQUENCES) as u32)),
    });
    header
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// A producer that remembers everything, with sequence numbers that never wrap.
#[derive(Debug, Clone, Default)]
struct Model {
    epoch: u16,
    /// First and last sequence, first offset: of this epoch.
    batches: Vec<(u64, u64, u64)>,
}

impl Model {
    fn verdict(&self, epoch: u16, first: u64, records: u64) -> Verdict {
        let wire = |sequence: u64| Sequence::new((sequence % SEQUENCES) as u32);
        let Some((_, last, _)) = self.batches.last().copied() else {
            return Verdict::Append;
        };
        if epoch < self.epoch {
            return Verdict::InvalidEpoch {
                current: ProducerEpoch::new(self.epoch),
            };
        }
        if epoch > self.epoch {
            return if wire(first) == Sequence::ZERO {
                Verdict::Append
            } else {
                Verdict::OutOfOrder {
                    expected: Sequence::ZERO,
                    found: wire(first),
                }
            };
        }
        let end = first + records - 1;
        let known = self.batches.iter().rev().take(5);
        for (known_first, known_last, offset) in known {
            if (first, end) == (*known_first, *known_last) {
                return Verdict::Duplicate {
                    first_offset: Offset::new(*offset),
                    last_offset: Offset::new(offset + records - 1),
                };
            }
        }
        if first == last + 1 {
            Verdict::Append
        } else if end <= last && first >= self.batches[0].0 {
            Verdict::DuplicateUnknownOffset
        } else {
            Verdict::OutOfOrder {
                expected: wire(last + 1),
                found: wire(first),
            }
        }
    }

    fn next(&self) -> u64 {
        self.batches.last().map_or(ZERO, |(_, last, _)| last + 1)
    }
}

#[derive(Debug, Clone)]
struct Send {
    producer: u64,
    epoch: i32,
    /// From the sequence that is next.
    from_next: i64,
    records: u64,
}

fn send() -> impl Strategy<Value = Send> {
    let from_next = prop_oneof![6 => Just(0i64), 3 => -60i64..0, 1 => 1i64..50];
    let epoch = prop_oneof![12 => Just(0i32), 1 => Just(-1), 1 => Just(1)];
    (0u64..3, epoch, from_next, 1u64..10).prop_map(|(producer, epoch, from_next, records)| Send {
        producer,
        epoch,
        from_next,
        records,
    })
}

proptest! {
    /// Any producers that begin anywhere, also just before the numbers wrap.
    #[test]
    fn verdicts_are_those_of_the_table(
        starts in prop::collection::vec(prop_oneof![Just(ZERO), ZERO + SEQUENCES - 40..ZERO + SEQUENCES + 3], 3),
        sends in prop::collection::vec(send(), 1..120),
    ) {
        let mut models = vec![Model { epoch: 3, ..Model::default() }; 3];
        let mut producers = Producers::default();
        let mut end = 100;
        for send in sends {
            let model = &mut models[send.producer as usize];
            let epoch = u16::try_from(i32::from(model.epoch) + send.epoch).unwrap();
            let next = if model.batches.is_empty() { starts[send.producer as usize] } else { model.next() };
            let first = if epoch > model.epoch && send.from_next == 0 {
                ZERO
            } else {
                next.checked_add_signed(send.from_next).unwrap()
            };
            let header = header(send.producer, epoch, first, send.records, end);
            let verdict = producers.check(&header);
            prop_assert_eq!(verdict, model.verdict(epoch, first, send.records), "{:?}", model);
            if verdict == Verdict::Append {
                producers.record(&header, None);
                if epoch != model.epoch {
                    model.batches.clear();
                }
                model.epoch = epoch;
                model.batches.push((first, first + send.records - 1, end));
                // What was just appended is a duplicate from now on.
                let again = Verdict::Duplicate {
                    first_offset: header.base_offset,
                    last_offset: header.last_offset(),
                };
                prop_assert_eq!(producers.check(&header), again);
                end += send.records;
            }
        }
    }

    /// All or none: the verdict on several batches is the one that they would get one by one.
    #[test]
    fn several_batches_are_judged_as_one(
        before in prop::collection::vec(send(), 0..20),
        unit in prop::collection::vec(send(), 1..6),
    ) {
        let mut producers = Producers::default();
        let mut next = [ZERO; 3];
        let mut end = 0;
        let mut make = |send: &Send, end: u64| {
            let next = &mut next[send.producer as usize];
            let first = next.checked_add_signed(send.from_next).unwrap();
            if send.from_next == 0 {
                *next += send.records;
            }
            header(send.producer, 3, first, send.records, end)
        };
        for send in &before {
            let header = make(send, end);
            if producers.check(&header) == Verdict::Append {
                producers.record(&header, None);
                end += send.records;
            }
        }
        let headers: Vec<_> = unit
            .iter()
            .map(|send| {
                let header = make(send, end);
                end += send.records;
                header
            })
            .collect();
        let found = producers.check_all(headers.iter());
        let mut one_by_one = producers.clone();
        let (mut appended, mut duplicates) = (0, Vec::new());
        for header in &headers {
            match one_by_one.check(header) {
                Verdict::Append => {
                    one_by_one.record(header, None);
                    appended += 1;
                }
                Verdict::Duplicate { first_offset, last_offset } => {
                    duplicates.push(Some((first_offset, last_offset)));
                }
                Verdict::DuplicateUnknownOffset => duplicates.push(None),
                Verdict::OutOfOrder { .. } | Verdict::InvalidEpoch { .. } => {
                    // Which of the refusals is named depends on the order; that it is refused does not.
                    prop_assert!(found.is_err());
                    return Ok(());
                }
            }
        }
        match found {
            Ok(UnitVerdict::Append) => prop_assert_eq!((appended, duplicates.len()), (headers.len(), 0)),
            Ok(UnitVerdict::Duplicate { first_offset, last_offset }) => {
                prop_assert_eq!(appended, 0);
                prop_assert_eq!(first_offset, duplicates[0].map(|(first, _)| first));
                let last = duplicates.iter().copied().collect::<Option<Vec<_>>>();
                let last = last.and_then(|all| all.iter().map(|(_, last)| *last).max());
                prop_assert_eq!(last_offset, last);
            }
            Err(error) => {
                prop_assert_eq!(error, SequenceError::PartlyDuplicate);
                prop_assert!(appended > 0 && !duplicates.is_empty());
            }
        }
    }

    /// Never more than the bound, and the one whose last batch is the oldest goes first.
    #[test]
    fn the_longest_silent_producer_is_forgotten_first(
        max in 1usize..6,
        ids in prop::collection::vec(0u64..12, 1..80),
    ) {
        let mut producers = Producers::with_max(max);
        let mut order: Vec<u64> = Vec::new();
        for (offset, id) in ids.into_iter().enumerate() {
            if let Some(place) = order.iter().position(|known| *known == id) {
                order.remove(place);
            } else if order.len() == max {
                order.remove(0);
            }
            order.push(id);
            producers.record(&header(id, 0, ZERO, 1, offset as u64), None);
            let mut expected = order.clone();
            expected.sort_unstable();
            let known: Vec<_> = producers.sorted().iter().map(|(id, _)| id.get()).collect();
            prop_assert_eq!(known, expected);
        }
    }
}

#[test]
fn what_a_leader_accepted_is_recorded_whatever_it_is() {
    let mut producers = Producers::default();
    producers.record(&header(1, 5, ZERO, 10, 0), None);
    producers.record(&header(1, 5, ZERO + 50, 10, 10), None);
    // What lies before the gap is known as far as the batches are kept, and no further.
    let verdict = |sequence, records| producers.check(&header(1, 5, sequence, records, 99));
    assert!(matches!(verdict(ZERO, 10), Verdict::Duplicate { .. }));
    assert!(matches!(verdict(ZERO + 3, 2), Verdict::OutOfOrder { .. }));
    assert_eq!(verdict(ZERO + 52, 3), Verdict::DuplicateUnknownOffset);
    assert_eq!(verdict(ZERO + 60, 1), Verdict::Append);
    // An older epoch too: the leader did not know the producer any more.
    producers.record(&header(1, 2, ZERO + 7, 1, 20), None);
    let known = producers.get(ProducerId::new(1)).unwrap();
    assert_eq!((known.epoch().get(), known.batches().len()), (2, 1));
}

#[test]
fn a_control_batch_moves_the_epoch_and_no_sequence() {
    let mut producers = Producers::default();
    producers.record(&header(1, 5, ZERO, 10, 0), None);
    let mut control = header(1, 5, ZERO, 1, 10);
    control.is_control = true;
    if let Some(stamp) = &mut control.producer {
        stamp.base_sequence = None;
    }
    producers.record(&control, None);
    let next = |epoch, sequence| producers.check(&header(1, epoch, sequence, 1, 11));
    assert_eq!(next(5, ZERO + 10), Verdict::Append);
    if let Some(stamp) = &mut control.producer {
        stamp.epoch = ProducerEpoch::new(6);
    }
    producers.record(&control, None);
    let next = |epoch, sequence| producers.check(&header(1, epoch, sequence, 1, 11));
    assert!(matches!(next(5, ZERO + 10), Verdict::InvalidEpoch { .. }));
    assert_eq!(next(6, ZERO), Verdict::Append);
}

#[test]
fn producers_are_forgotten_after_a_day_of_silence_by_a_steady_clock() {
    const HOUR: i64 = 3600 * 1000;
    let mut producers = Producers::default();
    producers.record(&header(1, 0, ZERO, 1, 0), None);
    producers.record(&header(2, 0, ZERO, 1, 1), Some(at(HOUR)));
    for hour in 1..=24 {
        producers.forget_idle(at(hour * HOUR));
        assert_eq!(producers.len(), 2, "hour {hour}");
    }
    producers.record(&header(2, 0, ZERO + 1, 1, 2), Some(at(24 * HOUR)));
    producers.forget_idle(at(25 * HOUR));
    producers.forget_idle(at(25 * HOUR + 1));
    assert_eq!(producers.len(), 1, "heard of at hour 1, silent since");
    assert!(producers.get(ProducerId::new(2)).is_some());
    // A clock that jumps, forth or back, is no silence.
    producers.forget_idle(at(1000 * HOUR));
    producers.forget_idle(at(1001 * HOUR));
    producers.forget_idle(at(-1000 * HOUR));
    producers.forget_idle(at(-999 * HOUR));
    assert_eq!(producers.len(), 1);
    for hour in -998..=-975 {
        producers.forget_idle(at(hour * HOUR));
    }
    assert_eq!(producers.len(), 0);
}
