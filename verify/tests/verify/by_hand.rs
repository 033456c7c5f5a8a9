//! For each check a history that it must refuse, and one just inside what is allowed.

use highwater_verify::Outcome;
use highwater_verify::event::{AckLevel, Bound, Kind, Op};

use crate::story::Story;

#[test]
fn two_values_at_one_offset_are_refused() {
    let story = Story::new()
        .acked((10, 20), "0:0", 0)
        .in_doubt((10, 20), "1:0")
        .polled((21, 22), 0, &[(0, "1:0")])
        .read(100, &[(0, "0:0")]);
    assert!(story.found().contains(&"H1"), "{}", story.verdict());
    let told_twice = Story::new()
        .acked((10, 20), "0:0", 0)
        .acked((10, 20), "1:0", 0);
    assert_eq!(told_twice.found(), ["H1"]);
    // Records of acks=1 may make room for others before anybody has read them.
    let mut weak = told_twice.read(100, &[(0, "1:0")]);
    weak.header.rules.acks = AckLevel::Leader;
    weak.accepted();
}

#[test]
fn a_value_at_two_offsets_is_refused_unless_nobody_promised_otherwise() {
    let mut story = Story::new()
        .acked((10, 20), "0:0", 0)
        .read(100, &[(0, "0:0"), (1, "0:0")]);
    assert_eq!(story.found(), ["H2"]);
    story.header.rules.idempotent = false;
    story.accepted();
    let elsewhere = Story::new()
        .acked((10, 20), "0:0", 0)
        .in_doubt((10, 20), "1:0")
        .read(100, &[(0, "1:0"), (1, "0:0")]);
    assert!(elsewhere.found().contains(&"H2"));
}

#[test]
fn an_acknowledged_record_that_is_gone_is_refused() {
    let story = Story::new()
        .acked((10, 20), "0:0", 0)
        .acked((30, 40), "0:1", 1);
    let lost = story.clone().read(100, &[(0, "0:0")]);
    assert_eq!(lost.found(), ["H3"]);
    let verdict = lost.verdict();
    assert_eq!(verdict.outcome, Outcome::Invalid);
    let (_, finding) = verdict.findings().next().unwrap();
    assert_eq!((finding.partition, finding.offset), (0, Some(1)));
    assert!(
        verdict
            .to_string()
            .contains("sent 0:1: acknowledged at offset 1"),
        "{verdict}"
    );
    story
        .clone()
        .read(100, &[(0, "0:0"), (1, "0:1")])
        .accepted();
    // Retention may take what is old.
    story.read(100, &[(1, "0:1")]).accepted();
}

#[test]
fn one_whose_offset_is_not_known_may_be_anywhere_but_must_be_there() {
    let op = Op::Send {
        partition: 0,
        value: "0:1".parse().unwrap(),
        offset: None,
        error: None,
    };
    let story = Story::new()
        .acked((10, 20), "0:0", 0)
        .event("producer", (30, 40), Kind::Ok, op);
    assert_eq!(story.clone().read(100, &[(0, "0:0")]).found(), ["H3"]);
    story.read(100, &[(0, "0:0"), (1, "0:1")]).accepted();
}

#[test]
fn a_record_that_was_read_must_stay() {
    let story = Story::new()
        .acked((10, 20), "0:0", 0)
        .in_doubt((10, 50), "1:0")
        .polled((30, 31), 0, &[(0, "0:0"), (1, "1:0")]);
    assert_eq!(story.clone().read(100, &[(0, "0:0")]).found(), ["H3"]);
    story.read(100, &[(0, "0:0"), (1, "1:0")]).accepted();
    // One in doubt that nobody has read may come, now or later, or not at all.
    let unseen = Story::new()
        .acked((10, 20), "0:0", 0)
        .in_doubt((10, 50), "1:0");
    unseen.clone().read(100, &[(0, "0:0")]).accepted();
    unseen.read(100, &[(0, "0:0"), (1, "1:0")]).accepted();
}

#[test]
fn an_acknowledged_record_that_readers_skipped_is_missed_before_the_last_reading() {
    let story = Story::new()
        .acked((10, 20), "0:0", 0)
        .acked((12, 22), "1:0", 1)
        .acked((14, 24), "2:0", 2)
        .polled((30, 31), 0, &[(0, "0:0"), (2, "2:0")]);
    assert_eq!(story.found(), ["H3", "H10"]);
}

#[test]
fn what_nobody_sent_is_refused() {
    let story = Story::new().acked((10, 20), "0:0", 0);
    for foreign in ["9:9", "!ff00"] {
        let read = story.clone().read(100, &[(0, "0:0"), (1, foreign)]);
        assert_eq!(read.found(), ["H4"], "{foreign}");
    }
    let refused = story.clone().refused((30, 31), "0:1");
    assert_eq!(
        refused.clone().read(100, &[(0, "0:0"), (1, "0:1")]).found(),
        ["H4"]
    );
    refused.read(100, &[(0, "0:0")]).accepted();
    let op = Op::Send {
        partition: 1,
        value: "5:5".parse().unwrap(),
        offset: None,
        error: None,
    };
    let strayed = story
        .event("producer", (10, 20), Kind::Info, op)
        .read(100, &[(0, "0:0"), (1, "5:5")]);
    assert_eq!(strayed.found(), ["H4"]);
}

#[test]
fn a_record_before_one_that_was_acknowledged_earlier_is_refused() {
    let story = |invoke| {
        Story::new()
            .acked((10, 20), "0:0", 1)
            .acked((invoke, 40), "1:0", 0)
            .read(100, &[(0, "1:0"), (1, "0:0")])
    };
    assert_eq!(story(21).found(), ["H8"]);
    // At the same time: any order.
    story(20).accepted();
    let in_doubt = Story::new()
        .acked((10, 20), "0:0", 1)
        .in_doubt((21, 40), "1:0")
        .read(100, &[(0, "1:0"), (1, "0:0")]);
    assert_eq!(
        in_doubt.found(),
        ["H8"],
        "its offset is known from the reading"
    );
}

#[test]
fn a_producers_records_are_in_its_order() {
    let mut story = Story::new()
        .acked((10, 50), "0:0", 1)
        .acked((11, 50), "0:1", 0)
        .read(100, &[(0, "0:1"), (1, "0:0")]);
    assert_eq!(story.found(), ["H8"]);
    story.header.rules.idempotent = false;
    story.accepted();
}

#[test]
fn an_end_before_what_was_acknowledged_is_refused() {
    let story = |asked, end| {
        Story::new()
            .acked((10, 20), "0:0", 0)
            .acked((12, 30), "1:0", 1)
            .listed((asked, 60), Bound::Latest, end, 1)
            .read(100, &[(0, "0:0"), (1, "1:0")])
    };
    assert_eq!(story(31, 1).found(), ["H9"]);
    story(30, 1).accepted();
    story(31, 2).accepted();
    let mut handed_over = story(31, 1);
    handed_over.header.rules.stale_ms_max = 1;
    handed_over.accepted();
    assert_eq!(story(21, 0).found(), ["H9"]);
}

#[test]
fn a_reader_that_skips_or_goes_back_is_refused() {
    let story = |position, found: &[(u64, &str)]| {
        Story::new()
            .acked((10, 20), "0:0", 0)
            .acked((10, 20), "1:0", 1)
            .acked((10, 20), "2:0", 2)
            .polled((30, 31), 0, &[(0, "0:0")])
            .polled((32, 33), position, found)
            .read(100, &[(0, "0:0"), (1, "1:0"), (2, "2:0")])
    };
    story(1, &[(1, "1:0"), (2, "2:0")]).accepted();
    assert_eq!(story(2, &[(2, "2:0")]).found(), ["H10"], "skips");
    assert_eq!(story(0, &[(0, "0:0")]).found(), ["H10"], "goes back");
    assert_eq!(story(1, &[(2, "2:0")]).found(), ["H10"], "skips inside");
    assert_eq!(
        story(1, &[(2, "2:0"), (1, "1:0")]).found(),
        ["H10"],
        "disorder"
    );
}

#[test]
fn a_last_reading_that_ends_early_is_refused() {
    let mut story = Story::new()
        .acked((10, 20), "0:0", 0)
        .read(100, &[(0, "0:0")]);
    for event in &mut story.events {
        if let Op::FinalRead {
            partition: 0, end, ..
        } = &mut event.op
        {
            *end = 2;
        }
    }
    assert_eq!(story.found(), ["H10"]);
}

#[test]
fn ends_and_epochs_that_go_back_are_refused() {
    let story = |bound, first: (u64, u32), second: (u64, u32)| {
        Story::new()
            .acked((10, 20), "0:0", 0)
            .listed((30, 31), bound, first.0, first.1)
            .listed((32, 33), bound, second.0, second.1)
            .read(100, &[(0, "0:0")])
    };
    for bound in [Bound::Latest, Bound::Earliest] {
        story(bound, (4, 1), (4, 1)).accepted();
        story(bound, (4, 1), (5, 2)).accepted();
        assert_eq!(story(bound, (4, 1), (3, 1)).found(), ["H14"], "{bound:?}");
        assert_eq!(
            story(bound, (4, 2), (4, 1)).found(),
            ["H14"],
            "{bound:?} epoch"
        );
    }
}

#[test]
fn high_watermarks_and_epochs_of_records_do_not_go_back() {
    let story = |first: (u64, u32), second: (u64, u32)| {
        Story::new()
            .acked((10, 20), "0:0", 0)
            .acked((10, 20), "1:0", 1)
            .polled((30, 31), 0, &[(0, "0:0")])
            .told(first.0, first.1)
            .polled((32, 33), 1, &[(1, "1:0")])
            .told(second.0, second.1)
            .read(100, &[(0, "0:0"), (1, "1:0")])
    };
    story((2, 1), (2, 1)).accepted();
    story((2, 1), (2, 3)).accepted();
    assert_eq!(story((2, 1), (1, 1)).found(), ["H14"]);
    assert_eq!(story((2, 2), (2, 1)).found(), ["H14"]);
    let changed = story((2, 1), (2, 1)).polled((40, 41), 2, &[]).event(
        "other",
        (50, 51),
        Kind::Ok,
        Op::Poll {
            partition: 0,
            purpose: highwater_verify::event::Purpose::Follow,
            position: 0,
            next: 1,
            seek: true,
            high_watermark: None,
            leader_epoch: Some(7),
            records: crate::story::records(&[(0, "0:0")]),
        },
    );
    assert_eq!(changed.found(), ["H14"], "a record keeps its epoch");
}

#[test]
fn a_cluster_that_does_not_heal_is_refused() {
    let described = |at, isr: &[u32], story: Story| {
        (0..2).fold(story, |story, partition| {
            let op = Op::Describe {
                partition,
                leader: Some(1),
                replicas: vec![1, 2],
                isr: isr.to_vec(),
            };
            story.event("admin", (at, at), Kind::Ok, op)
        })
    };
    let second = |story: Story| {
        let send = Op::Send {
            partition: 1,
            value: "7:0".parse().unwrap(),
            offset: Some(0),
            error: None,
        };
        let poll = Op::Poll {
            partition: 1,
            purpose: highwater_verify::event::Purpose::Follow,
            position: 0,
            next: 1,
            seek: false,
            high_watermark: None,
            leader_epoch: None,
            records: crate::story::records(&[(0, "7:0")]),
        };
        story
            .event("producer", (31, 40), Kind::Ok, send)
            .event("other", (41, 42), Kind::Ok, poll)
    };
    let begin = || Story::new().event("faults", (30, 30), Kind::Ok, Op::Settle);
    let healed = |story: Story| {
        second(story)
            .acked((31, 40), "0:0", 0)
            .polled((41, 42), 0, &[(0, "0:0")])
    };
    assert_eq!(described(50, &[2, 1], healed(begin())).found(), [""; 0]);
    assert_eq!(described(50, &[1], healed(begin())).found(), ["H15"]);
    assert_eq!(
        described(29, &[2, 1], healed(begin())).found(),
        ["H15"],
        "too early"
    );
    let late = 30 + 1_000_000_001;
    assert_eq!(
        described(late, &[2, 1], healed(begin())).found(),
        ["H15"],
        "too late"
    );
    assert_eq!(
        described(50, &[2, 1], second(begin())).found(),
        ["H15"],
        "no record"
    );
    let unread = second(begin()).acked((31, 40), "0:0", 0);
    assert_eq!(described(50, &[2, 1], unread).found(), ["H15"], "not read");
}
