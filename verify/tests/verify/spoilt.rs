//! A correct history with one thing spoilt is refused, by the check that should.

use highwater_verify::event::{Bound, Event, Kind, Op, Purpose};
use highwater_verify::{Outcome, Seen};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::model;
use crate::story::Story;

/// Picks one of the events that `wanted` takes.
fn pick(story: &mut Story, index: Index, wanted: impl Fn(&Event) -> bool) -> &mut Event {
    let candidates: Vec<usize> = (0..story.events.len())
        .filter(|at| wanted(&story.events[*at]))
        .collect();
    let at = candidates[index.index(candidates.len())];
    &mut story.events[at]
}

fn is_poll(event: &Event, of: Purpose) -> bool {
    matches!(&event.op, Op::Poll { purpose, records, .. } if *purpose == of && !records.is_empty())
}

fn is_acked(event: &Event) -> bool {
    event.kind == Kind::Ok && matches!(event.op, Op::Send { .. })
}

/// The last offset that the last reading has found.
fn last_offset(story: &Story) -> u64 {
    let ends = story.events.iter().filter_map(|event| match event.op {
        Op::FinalRead { end, .. } => Some(end),
        _ => None,
    });
    ends.max().unwrap() - 1
}

/// Whether anybody was acknowledged, or read, what is at this offset.
fn is_known(story: &Story, wanted: u64) -> bool {
    story.events.iter().any(|event| match &event.op {
        Op::Send { offset, .. } => *offset == Some(wanted),
        Op::Poll {
            purpose: Purpose::Follow,
            records,
            ..
        } => records.iter().any(|(offset, _)| *offset == wanted),
        _ => false,
    })
}

proptest! {
    #[test]
    fn a_correct_history_is_accepted(story in model::history()) {
        let verdict = story.verdict();
        prop_assert_ne!(verdict.outcome, Outcome::Invalid, "{}", verdict);
    }

    #[test]
    fn a_log_that_lost_its_end(mut story in model::history()) {
        let last = last_offset(&story);
        prop_assume!(is_known(&story, last));
        story.events.retain(|event| {
            !matches!(&event.op, Op::Poll { purpose: Purpose::Final, position, .. } if *position == last)
        });
        for event in &mut story.events {
            if let Op::FinalRead { partition: 0, end, .. } = &mut event.op {
                *end = last;
            }
        }
        prop_assert_eq!(story.found(), ["H3"]);
    }

    #[test]
    fn a_record_left_out_of_the_last_reading(mut story in model::history(), index: Index) {
        let event = pick(&mut story, index, |event| is_poll(event, Purpose::Final));
        let Op::Poll { records, position, .. } = &mut event.op else { unreachable!() };
        let at = *position;
        records.clear();
        let found = story.found();
        prop_assert!(found.contains(&"H10"));
        prop_assert_eq!(found.contains(&"H3"), is_known(&story, at));
    }

    #[test]
    fn a_record_that_is_there_twice(mut story in model::history(), index: Index) {
        let again = pick(&mut story, index, |event| is_poll(event, Purpose::Final)).clone();
        let end = last_offset(&story) + 1;
        let at = story.events.iter().position(|e| matches!(e.op, Op::FinalRead { .. })).unwrap();
        let Op::Poll { records, .. } = &again.op else { unreachable!() };
        let mut twice = again.clone();
        twice.op = Op::Poll {
            partition: 0,
            purpose: Purpose::Final,
            position: end,
            next: end + 1,
            seek: false,
            high_watermark: None,
            leader_epoch: None,
            records: vec![(end, records[0].1.clone())],
        };
        story.events.insert(at, twice);
        for event in &mut story.events {
            if let Op::FinalRead { partition: 0, end, .. } = &mut event.op {
                *end += 1;
            }
        }
        prop_assert_eq!(story.found(), ["H2"]);
    }

    #[test]
    fn two_acknowledgements_exchanged(mut story in model::history(), one: Index, other: Index) {
        let acked: Vec<usize> = (0..story.events.len()).filter(|at| is_acked(&story.events[*at])).collect();
        let (one, other) = (acked[one.index(acked.len())], acked[other.index(acked.len())]);
        prop_assume!(one != other);
        let offset_of = |event: &Event| match event.op {
            Op::Send { offset, .. } => offset,
            _ => unreachable!(),
        };
        let (a, b) = (offset_of(&story.events[one]), offset_of(&story.events[other]));
        for (at, told) in [(one, b), (other, a)] {
            if let Op::Send { offset, .. } = &mut story.events[at].op {
                *offset = told;
            }
        }
        prop_assert!(story.found().contains(&"H1"));
    }

    #[test]
    fn two_records_exchanged_for_everybody(mut story in model::history(), one: Index, other: Index) {
        let acked: Vec<Event> = story.events.iter().filter(|event| is_acked(event)).cloned().collect();
        let (one, other) = (&acked[one.index(acked.len())], &acked[other.index(acked.len())]);
        // Only where time tells which was first.
        prop_assume!(one.complete < other.invoke);
        let id = |event: &Event| match event.op {
            Op::Send { value, .. } => value,
            _ => unreachable!(),
        };
        let (a, b) = (id(one), id(other));
        let (times_a, times_b) = ((one.invoke, one.complete), (other.invoke, other.complete));
        // Exchanging when they were sent leaves every reading and acknowledgement as it is.
        for event in &mut story.events {
            if let Op::Send { value, .. } = event.op {
                if value == a {
                    (event.invoke, event.complete) = times_b;
                } else if value == b {
                    (event.invoke, event.complete) = times_a;
                }
            }
        }
        prop_assert!(story.found().contains(&"H8"));
    }

    #[test]
    fn a_value_altered_on_its_way(mut story in model::history(), index: Index, damaged: bool) {
        let event = pick(&mut story, index, |event| {
            is_poll(event, Purpose::Final) || is_poll(event, Purpose::Follow)
        });
        let Op::Poll { records, .. } = &mut event.op else { unreachable!() };
        let at = index.index(records.len());
        records[at].1 = if damaged {
            Seen::Damaged("00".to_owned())
        } else {
            Seen::try_from("77:77".to_owned()).unwrap()
        };
        prop_assert!(story.found().contains(&"H4"));
    }

    #[test]
    fn an_end_that_is_outdated(mut story in model::history(), index: Index) {
        let event = pick(&mut story, index, |event| {
            matches!(event.op, Op::ListOffsets { bound: Bound::Latest, .. })
        });
        let asked = event.invoke;
        let Op::ListOffsets { offset, .. } = &mut event.op else { unreachable!() };
        let told = offset.unwrap();
        *offset = Some(told - 1);
        let acked = story.events.iter().any(|event| {
            is_acked(event)
                && event.complete < asked
                && matches!(event.op, Op::Send { offset: Some(offset), .. } if offset + 1 == told)
        });
        prop_assert_eq!(story.found().contains(&"H9"), acked);
    }

    #[test]
    fn a_reader_that_skips(mut story in model::history(), index: Index) {
        let event = pick(&mut story, index, |event| is_poll(event, Purpose::Follow));
        let Op::Poll { records, .. } = &mut event.op else { unreachable!() };
        records.remove(index.index(records.len()));
        prop_assert!(story.found().contains(&"H10"));
    }

    #[test]
    fn a_start_that_goes_back(mut story in model::history(), index: Index) {
        let (first, _) = story
            .events
            .iter()
            .enumerate()
            .find(|(_, e)| matches!(e.op, Op::ListOffsets { bound: Bound::Earliest, .. }))
            .unwrap();
        if let Op::ListOffsets { offset, .. } = &mut story.events[first].op {
            *offset = Some(1 + index.index(5) as u64);
        }
        prop_assert_eq!(story.found(), ["H14"]);
    }

    #[test]
    fn an_epoch_that_goes_back(mut story in model::history(), index: Index) {
        let last = last_offset(&story);
        prop_assume!(last > 0);
        let below = 1 + index.index(last as usize) as u64;
        for event in &mut story.events {
            if let Op::Poll { position, next, leader_epoch, .. } = &mut event.op
                && *position <= below && below < *next
            {
                *leader_epoch = Some(0);
            }
        }
        prop_assert_eq!(story.found(), ["H14"]);
    }
}
