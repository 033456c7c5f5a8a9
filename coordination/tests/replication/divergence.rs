//! Two logs that went different ways agree again, in as many rounds as there are epochs at most.

use highwater_coordination::moment::Moment;
use highwater_coordination::partition_follower::{
    FollowedAnswer, FollowerStep, PartitionFollower, Quarantine,
};
use highwater_coordination::partition_leader::{
    FetchAnswer, FetchRefusal, FollowerFetch, PartitionLeader, PartitionView, ReplicaView,
    TakeOver, WrittenMeans,
};
use highwater_protocol::ids::{BrokerEpoch, LeaderEpoch, NodeId, Offset};
use highwater_protocol::messages::EpochEnd;
use proptest::prelude::*;

use crate::model_log::{ModelLog, Record};

const LEADER: NodeId = NodeId::new(1);
const FOLLOWER: NodeId = NodeId::new(2);

fn leader_of(log: &ModelLog, epoch: u32) -> PartitionLeader {
    let view = |epoch| ReplicaView {
        epoch: Some(BrokerEpoch::new(epoch)),
        is_active: true,
    };
    PartitionLeader::new(TakeOver {
        node: LEADER,
        epoch: LeaderEpoch::new(epoch),
        view: PartitionView {
            partition_epoch: 1,
            recovering: false,
            isr: [LEADER].into(),
            replicas: [(LEADER, view(1)), (FOLLOWER, view(2))].into(),
        },
        isr_min: 1,
        written_means: WrittenMeans::Appended,
        lag_ms_max: 1000,
        log_end: log.end(),
        durable_end: log.end(),
        high_watermark: Offset::ZERO,
        now: Moment::from_millis(0),
    })
}

/// Follows until the logs agree. Returns the number of cuts, or why the follower was put aside.
fn follow(
    leader_log: &ModelLog,
    log: &mut ModelLog,
    epoch: u32,
    high_watermark: Offset,
    is_unclean: bool,
) -> Result<usize, Quarantine> {
    let mut leader = leader_of(leader_log, epoch);
    let mut follower =
        PartitionFollower::new(LEADER, LeaderEpoch::new(epoch), is_unclean, high_watermark);
    for cuts in 0.. {
        assert!(cuts < 1000, "the logs never agree");
        let ask = follower.ask(log.position());
        let fetch = FollowerFetch {
            follower: FOLLOWER,
            broker_epoch: BrokerEpoch::new(2),
            leader_epoch: ask.epoch,
            offset: ask.position.log_end,
            last_epoch: ask.position.last_epoch,
            durable_end: ask.position.log_end,
            is_report: false,
        };
        let answer = match leader.on_fetch(
            &fetch,
            Offset::ZERO,
            |epoch| leader_log.epoch_end(epoch),
            Moment::from_millis(1),
        ) {
            Ok(FetchAnswer::Records) => FollowedAnswer::Agrees,
            Ok(FetchAnswer::Diverging(end)) => FollowedAnswer::Diverges(end),
            Err(FetchRefusal::OutOfRange) => FollowedAnswer::OutOfRange {
                log_start: Offset::ZERO,
            },
            Err(FetchRefusal::EpochAhead) => FollowedAnswer::EpochAhead,
            Err(other) => panic!("{other:?}"),
        };
        let before = (log.end(), log.position().last_epoch);
        let told = Offset::ZERO;
        match follower.on_answer(&ask, answer, told, log.position(), |epoch| {
            log.epoch_end(epoch)
        }) {
            FollowerStep::Append => return Ok(cuts),
            FollowerStep::Truncate { to } => {
                assert!(
                    to >= high_watermark || is_unclean,
                    "cut below what is committed"
                );
                log.truncate(to);
                follower.on_cut(log.end());
                assert!(
                    (log.end(), log.position().last_epoch) < before,
                    "a round got nowhere"
                );
            }
            FollowerStep::Restart { at } => {
                assert_eq!(at, Offset::ZERO);
                log.truncate(at);
                follower.on_restarted(at);
            }
            FollowerStep::Quarantine(why) => return Err(why),
            FollowerStep::Drop => panic!("nothing else was asked meanwhile"),
        }
    }
    unreachable!()
}

/// Two logs that were led in turns; from some point on, neither heard of the other.
fn two_logs(history: &[(bool, u8, u8)]) -> (ModelLog, ModelLog) {
    let mut logs = [ModelLog::default(), ModelLog::default()];
    let mut value = 0;
    for ((second_leads, appended, copied), epoch) in history.iter().zip(1..) {
        let (leader, other) = (usize::from(*second_leads), usize::from(!second_leads));
        let together = logs[0].records == logs[1].records;
        logs[leader].assign(epoch);
        for n in 0..*appended {
            value += 1;
            let record = Record { epoch, value };
            logs[leader].append(record);
            if together && n < *copied {
                logs[other].append(record);
            }
        }
    }
    let [first, second] = logs;
    (first, second)
}

proptest! {
    #[test]
    fn logs_agree_after_as_many_rounds_as_epochs_and_keep_what_they_share(
        history in proptest::collection::vec((any::<bool>(), 0..4u8, 0..4u8), 0..12),
        committed in 0..100usize,
    ) {
        let (mut leader_log, mut log) = two_logs(&history);
        let common = leader_log.common_with(&log);
        let committed = Offset::new(committed.min(common) as u64);
        let epoch = history.len() as u32 + 1;
        leader_log.assign(epoch);
        let rounds = follow(&leader_log, &mut log, epoch, committed, false).unwrap();
        prop_assert!(rounds <= history.len() + 1, "{} rounds, {} epochs", rounds, history.len());
        prop_assert_eq!(log.records.len(), common, "everything that is shared stays");
        prop_assert_eq!(log.common_with(&leader_log), common);
    }

    #[test]
    fn a_log_that_is_committed_past_the_common_part_is_put_aside_and_not_cut(
        history in proptest::collection::vec((any::<bool>(), 1..4u8, 0..4u8), 1..12),
    ) {
        let (mut leader_log, mut log) = two_logs(&history);
        let common = leader_log.common_with(&log);
        prop_assume!(log.records.len() > common);
        let epoch = history.len() as u32 + 1;
        leader_log.assign(epoch);
        let before = log.clone();
        let committed = Offset::new(log.records.len() as u64);
        let outcome = follow(&leader_log, &mut log, epoch, committed, false);
        prop_assert!(outcome.is_err());
        prop_assert_eq!(&log, &before, "not a record of it is gone");
        // After an election that is known to lose records, it gives in.
        follow(&leader_log, &mut log, epoch, committed, true).unwrap();
        prop_assert_eq!(log.records.len(), common);
    }
}

#[test]
fn a_follower_of_a_later_time_than_its_leader_is_put_aside() {
    let mut leader_log = ModelLog::default();
    leader_log.assign(3);
    let mut log = ModelLog::default();
    log.append(Record { epoch: 7, value: 1 });
    let why = follow(&leader_log, &mut log, 3, Offset::ZERO, false).unwrap_err();
    let expected = Quarantine::EpochAhead {
        last_epoch: LeaderEpoch::new(7),
    };
    assert_eq!(why, expected);
    assert_eq!(log.records.len(), 1);
}

#[test]
fn an_own_epoch_without_records_is_forgotten() {
    let mut leader_log = ModelLog::default();
    leader_log.append(Record { epoch: 1, value: 1 });
    let mut log = leader_log.clone();
    log.assign(2);
    leader_log.assign(3);
    assert_eq!(
        follow(&leader_log, &mut log, 3, Offset::new(1), false),
        Ok(1)
    );
    assert_eq!(log.records.len(), 1);
    assert_eq!(log.position().last_epoch, Some(LeaderEpoch::new(1)));
}

#[test]
fn the_high_watermark_is_believed_only_from_an_answer_that_agrees_and_never_past_the_log() {
    let mut log = ModelLog::default();
    for value in 0..4 {
        log.append(Record { epoch: 1, value });
    }
    let mut follower = PartitionFollower::new(LEADER, LeaderEpoch::new(4), false, Offset::new(2));
    let ask = follower.ask(log.position());
    let parts = FollowedAnswer::Diverges(EpochEnd {
        epoch: LeaderEpoch::new(1),
        end: Offset::new(3),
    });
    let told = Offset::new(9);
    let step = follower.on_answer(&ask, parts, told, log.position(), |epoch| {
        log.epoch_end(epoch)
    });
    let to = Offset::new(3);
    assert_eq!(step, FollowerStep::Truncate { to });
    follower.on_cut(to);
    assert_eq!(follower.high_watermark(), Offset::new(2), "the logs parted");

    let mut agrees = |told| {
        let ask = follower.ask(log.position());
        let answer = FollowedAnswer::Agrees;
        let step = follower.on_answer(&ask, answer, Offset::new(told), log.position(), |_| None);
        assert_eq!(step, FollowerStep::Append);
        follower.on_appended(log.end());
        follower.high_watermark()
    };
    assert_eq!(agrees(9), Offset::new(4));
    assert_eq!(agrees(3), Offset::new(4), "it never goes back");
}

#[test]
fn an_answer_to_an_earlier_question_is_dropped() {
    let mut log = ModelLog::default();
    log.append(Record { epoch: 1, value: 1 });
    let mut follower = PartitionFollower::new(LEADER, LeaderEpoch::new(4), false, Offset::ZERO);
    let ask = follower.ask(log.position());
    let mut later = PartitionFollower::new(FOLLOWER, LeaderEpoch::new(5), false, Offset::ZERO);
    let agrees = FollowedAnswer::Agrees;
    let told = Offset::ZERO;
    let step = later.on_answer(&ask, agrees.clone(), told, log.position(), |_| None);
    assert_eq!(step, FollowerStep::Drop);
    log.append(Record { epoch: 1, value: 2 });
    let step = follower.on_answer(&ask, agrees, told, log.position(), |_| None);
    assert_eq!(step, FollowerStep::Drop, "the log has grown since");
}

#[test]
fn a_log_that_the_leader_has_trimmed_away_begins_anew() {
    let mut log = ModelLog::default();
    log.append(Record { epoch: 1, value: 1 });
    let mut follower = PartitionFollower::new(LEADER, LeaderEpoch::new(4), false, Offset::new(1));
    let ask = follower.ask(log.position());
    let trimmed = FollowedAnswer::OutOfRange {
        log_start: Offset::new(500),
    };
    let step = follower.on_answer(&ask, trimmed, Offset::ZERO, log.position(), |_| None);
    let at = Offset::new(500);
    assert_eq!(step, FollowerStep::Restart { at });
}
