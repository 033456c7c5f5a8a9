//! The simulation notices when a rule is broken: each mutant within 200 seeds, or, where the breach takes
//! several rare things at once, a scenario that makes them happen.
#![cfg(feature = "mutants")]
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use highwater_coordination::mutant::{Mutant, switch_on};
use highwater_coordination::partition_follower::{FollowedAnswer, LogPosition, PartitionFollower};

use highwater_protocol::ids::{LeaderEpoch, NodeId, Offset};
use highwater_protocol::messages::EpochEnd;
use highwater_simulation::run;

/// Seeds within which each is to be found.
const SEEDS: u64 = 200;

#[test]
fn every_broken_rule_is_noticed_within_200_seeds() {
    let mut unnoticed = Vec::new();
    for mutant in Mutant::ALL {
        switch_on(Some(mutant));
        let found = (0..SEEDS).find_map(|seed| {
            let violation = run(seed, false).violation?;
            Some((seed, violation))
        });
        switch_on(None);
        match found {
            Some((seed, violation)) => println!(
                "{mutant:?}: seed {seed}, {}: {}",
                violation.rule, violation.what
            ),
            None if scenario_notices(mutant) => println!("{mutant:?}: its scenario"),
            None => unnoticed.push(mutant),
        }
    }
    assert!(
        unnoticed.is_empty(),
        "not noticed within {SEEDS} seeds: {unnoticed:?}"
    );
}

/// Whether the scenario of a mutant, if it has one, goes well as things are and badly with the mutant.
fn scenario_notices(mutant: Mutant) -> bool {
    let goes_well = match mutant {
        Mutant::WatermarkBeforeDivergence => a_log_that_parted_is_not_believed_committed,
        _ => return false,
    };
    assert!(goes_well(), "{mutant:?}: the scenario fails without it");
    switch_on(Some(mutant));
    let notices = !goes_well();
    switch_on(None);
    notices
}

/// A follower has offsets 2 and 3 of an epoch that is over. Its leader, whose log parted from it at 3, tells
/// of a high watermark of 9: the follower must not take its own record at 3 for committed.
fn a_log_that_parted_is_not_believed_committed() -> bool {
    let known = Offset::new(2);
    let mut follower = PartitionFollower::new(NodeId::new(1), LeaderEpoch::new(4), false, known);
    let log = LogPosition {
        log_start: Offset::ZERO,
        log_end: Offset::new(4),
        last_epoch: Some(LeaderEpoch::new(1)),
    };
    let end_of = |end| EpochEnd {
        epoch: LeaderEpoch::new(1),
        end: Offset::new(end),
    };
    let ask = follower.ask(log);
    let parted = FollowedAnswer::Diverges(end_of(3));
    follower.on_answer(&ask, parted, Offset::new(9), log, |_| Some(end_of(4)));
    follower.high_watermark() == known
}
