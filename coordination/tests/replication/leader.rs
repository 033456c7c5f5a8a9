//! A leader: what is committed, what may be acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use highwater_coordination::moment::Moment;
use highwater_coordination::partition_leader::{
    AckState, AckWhen, FetchAnswer, FetchRefusal, FollowerFetch, NotEnoughReplicas,
    PartitionLeader, PartitionView, ReplicaView, TakeOver, WrittenMeans,
};
use highwater_protocol::ids::{BrokerEpoch, LeaderEpoch, NodeId, Offset};
use highwater_protocol::messages::{Acks, EpochEnd};
use proptest::prelude::*;

pub(crate) const LAG_MS: u64 = 1000;
pub(crate) const EPOCH: LeaderEpoch = LeaderEpoch::new(3);

pub(crate) fn node(id: u32) -> NodeId {
    NodeId::new(id)
}

pub(crate) fn at(millis: u64) -> Moment {
    Moment::from_millis(millis)
}

/// Replicas 1 to `replicas`, all active, each registered under ten times its number.
pub(crate) fn view(partition_epoch: u32, isr: &[u32], replicas: u32) -> PartitionView {
    let replicas = (1..=replicas).map(|id| {
        let view = ReplicaView {
            epoch: Some(BrokerEpoch::new(u64::from(id) * 10)),
            is_active: true,
        };
        (node(id), view)
    });
    PartitionView {
        partition_epoch,
        recovering: false,
        isr: isr.iter().map(|id| node(*id)).collect(),
        replicas: replicas.collect::<BTreeMap<_, _>>(),
    }
}

/// Node 1 leads from offset 10, all durable, 4 of them known to be committed.
pub(crate) fn leader(
    written_means: WrittenMeans,
    isr_min: usize,
    isr: &[u32],
    replicas: u32,
) -> PartitionLeader {
    PartitionLeader::new(TakeOver {
        node: node(1),
        epoch: EPOCH,
        view: view(5, isr, replicas),
        isr_min,
        written_means,
        lag_ms_max: LAG_MS,
        log_end: Offset::new(10),
        durable_end: Offset::new(10),
        high_watermark: Offset::new(4),
        now: at(0),
    })
}

pub(crate) fn fetch(follower: u32, end: u64, durable: u64) -> FollowerFetch {
    FollowerFetch {
        follower: node(follower),
        broker_epoch: BrokerEpoch::new(u64::from(follower) * 10),
        leader_epoch: EPOCH,
        offset: Offset::new(end),
        last_epoch: Some(EPOCH),
        durable_end: Offset::new(durable),
        is_report: false,
    }
}

/// A fetch of a follower whose log agrees.
pub(crate) fn fetched(leader: &mut PartitionLeader, follower: u32, end: u64, now: u64) {
    told(leader, &fetch(follower, end, end), now).unwrap();
}

pub(crate) fn told(
    leader: &mut PartitionLeader,
    fetch: &FollowerFetch,
    now: u64,
) -> Result<FetchAnswer, FetchRefusal> {
    // Further than any log of these tests goes.
    let end = Offset::new(1_000_000);
    let epoch_end = |epoch| Some(EpochEnd { epoch, end });
    leader.on_fetch(fetch, Offset::ZERO, epoch_end, at(now))
}

#[test]
fn in_memory_mode_commits_with_the_append() {
    let mut leader = leader(WrittenMeans::Appended, 1, &[1], 1);
    assert_eq!(leader.high_watermark(), Offset::new(10));
    assert_eq!(leader.on_appended(Offset::new(12), Acks::All), AckWhen::Now);
    assert_eq!(leader.high_watermark(), Offset::new(12));
}

#[test]
fn synced_mode_waits_for_the_disk_with_acks_1_and_all() {
    let mut leader = leader(WrittenMeans::Durable, 1, &[1], 1);
    let end = Offset::new(12);
    assert_eq!(leader.on_appended(end, Acks::Leader), AckWhen::Durable(end));
    assert_eq!(leader.on_appended(end, Acks::All), AckWhen::Committed(end));
    assert_eq!(leader.on_appended(end, Acks::None), AckWhen::Now);
    assert_eq!(leader.high_watermark(), Offset::new(10));
    assert!(leader.waits_for_disk());
    leader.on_durable(Offset::new(11));
    assert_eq!(leader.ack_state(AckWhen::Durable(end)), AckState::Waiting);
    leader.on_durable(end);
    assert_eq!(leader.ack_state(AckWhen::Durable(end)), AckState::Done);
    assert_eq!(leader.ack_state(AckWhen::Committed(end)), AckState::Done);
    assert!(!leader.waits_for_disk());
}

#[test]
fn below_min_isr_nothing_commits_and_acks_all_is_refused() {
    let mut leader = leader(WrittenMeans::Appended, 2, &[1], 1);
    assert_eq!(leader.high_watermark(), Offset::new(4));
    assert!(!leader.high_watermark_is_known());
    let refused = NotEnoughReplicas {
        in_sync: 1,
        needed: 2,
    };
    assert_eq!(leader.admit(Acks::All), Err(refused));
    assert_eq!(leader.admit(Acks::Leader), Ok(()));
    leader.on_appended(Offset::new(20), Acks::Leader);
    assert_eq!(leader.high_watermark(), Offset::new(4));
    leader.on_settings(leader.epoch(), WrittenMeans::Appended, 1);
    assert_eq!(leader.high_watermark(), Offset::new(20));
    assert!(leader.high_watermark_is_known());
}

/// A leader that hears at once of its successor and of a lower minimum commits nothing by it: the successor
/// may have less.
#[test]
fn settings_of_a_later_leader_epoch_commit_nothing() {
    let mut leader = leader(WrittenMeans::Durable, 2, &[1], 1);
    leader.on_appended(Offset::new(20), Acks::Leader);
    let later = LeaderEpoch::new(leader.epoch().get() + 1);
    leader.on_settings(later, WrittenMeans::Appended, 1);
    assert_eq!(leader.high_watermark(), Offset::new(4));
    assert!(leader.admit(Acks::All).is_err());
}

#[test]
fn of_whom_nothing_was_heard_in_this_epoch_nothing_is_known() {
    let mut leader = leader(WrittenMeans::Appended, 2, &[1, 2, 3], 3);
    fetched(&mut leader, 2, 10, 1);
    assert_eq!(leader.high_watermark(), Offset::new(4), "3 is unknown");
    fetched(&mut leader, 3, 7, 2);
    assert_eq!(leader.high_watermark(), Offset::new(7));
    assert!(
        !leader.high_watermark_is_known(),
        "the last leader may have committed up to 10"
    );
    fetched(&mut leader, 3, 10, 3);
    assert!(leader.high_watermark_is_known());
}

#[test]
fn in_synced_mode_only_what_followers_have_on_disk_counts() {
    let mut leader = leader(WrittenMeans::Durable, 2, &[1, 2], 2);
    leader.on_appended(Offset::new(12), Acks::All);
    leader.on_durable(Offset::new(12));
    told(&mut leader, &fetch(2, 12, 10), 1).unwrap();
    assert_eq!(leader.high_watermark(), Offset::new(10));
    // More on its disk than it has is less.
    told(&mut leader, &fetch(2, 11, 99), 2).unwrap();
    assert_eq!(leader.high_watermark(), Offset::new(11));
}

#[test]
fn a_follower_that_is_about_to_join_is_waited_for() {
    let mut leader = leader(WrittenMeans::Appended, 2, &[1, 2], 3);
    fetched(&mut leader, 2, 10, 1);
    assert_eq!(leader.high_watermark(), Offset::new(10));
    // 3 is far behind: it holds nobody up.
    fetched(&mut leader, 3, 2, 2);
    leader.on_appended(Offset::new(12), Acks::All);
    fetched(&mut leader, 2, 12, 3);
    assert_eq!(leader.high_watermark(), Offset::new(12));
    // It has caught up, and is asked for.
    fetched(&mut leader, 3, 12, 4);
    leader.on_appended(Offset::new(14), Acks::All);
    fetched(&mut leader, 2, 14, 5);
    assert_eq!(leader.high_watermark(), Offset::new(12));
    fetched(&mut leader, 3, 13, 6);
    assert_eq!(leader.high_watermark(), Offset::new(13));
}

#[test]
fn too_few_after_the_append_is_told_and_what_was_committed_stays_so() {
    let mut leader = leader(WrittenMeans::Appended, 2, &[1, 2], 2);
    fetched(&mut leader, 2, 10, 1);
    leader.on_appended(Offset::new(12), Acks::All);
    let mut fenced = view(6, &[1], 2);
    fenced.replicas.get_mut(&node(2)).unwrap().is_active = false;
    leader.on_image(&fenced, at(2));
    let waits = AckWhen::Committed(Offset::new(12));
    assert_eq!(leader.ack_state(waits), AckState::NotEnoughReplicas);
    let committed = AckWhen::Committed(Offset::new(10));
    assert_eq!(leader.ack_state(committed), AckState::Done);
}

#[test]
fn fetches_are_checked_in_the_order_of_the_protocol() {
    let mut leader = leader(WrittenMeans::Appended, 1, &[1], 2);
    let good = fetch(2, 10, 10);
    let ended = |epoch: u32, end: u64| {
        move |_| {
            Some(EpochEnd {
                epoch: LeaderEpoch::new(epoch),
                end: Offset::new(end),
            })
        }
    };
    let mut ask = |fetch: &FollowerFetch, found: Option<EpochEnd>| {
        leader.on_fetch(fetch, Offset::new(5), |_| found, at(1))
    };
    let epoch = |epoch: u32| FollowerFetch {
        leader_epoch: LeaderEpoch::new(epoch),
        ..good
    };
    assert_eq!(ask(&epoch(2), None), Err(FetchRefusal::FencedLeaderEpoch));
    assert_eq!(ask(&epoch(4), None), Err(FetchRefusal::UnknownLeaderEpoch));
    let stranger = FollowerFetch {
        follower: node(9),
        ..good
    };
    assert_eq!(ask(&stranger, None), Err(FetchRefusal::UnknownLeaderEpoch));
    let earlier_life = FollowerFetch {
        broker_epoch: BrokerEpoch::new(19),
        ..good
    };
    assert_eq!(
        ask(&earlier_life, None),
        Err(FetchRefusal::StaleBrokerEpoch)
    );
    // Outside of the log comes before where it parts.
    assert_eq!(ask(&fetch(2, 4, 4), None), Err(FetchRefusal::OutOfRange));
    assert_eq!(ask(&good, None), Err(FetchRefusal::EpochAhead));
    let end = |epoch, end| ended(epoch, end)(());
    for parts in [end(2, 10), end(3, 9)] {
        let answer = ask(&good, parts.clone());
        assert_eq!(answer, Ok(FetchAnswer::Diverging(parts.unwrap())));
    }
    let empty = FollowerFetch {
        offset: Offset::new(11),
        last_epoch: None,
        ..good
    };
    assert_eq!(ask(&empty, None), Err(FetchRefusal::OutOfRange));
    assert!(
        leader.followers().all(|(_, known)| known.is_none()),
        "none of them proved anything"
    );
    fetched(&mut leader, 2, 10, 2);
    assert!(leader.followers().all(|(_, known)| known.is_some()));
}

#[test]
fn a_later_life_of_a_follower_fences_its_earlier_one_before_metadata_tells_of_it() {
    let mut leader = leader(WrittenMeans::Appended, 1, &[1], 2);
    let reborn = FollowerFetch {
        broker_epoch: BrokerEpoch::new(77),
        ..fetch(2, 6, 6)
    };
    told(&mut leader, &reborn, 1).unwrap();
    let late = told(&mut leader, &fetch(2, 10, 10), 2);
    assert_eq!(late, Err(FetchRefusal::StaleBrokerEpoch));
}

proptest! {
    /// Whatever comes in whatever order: the high watermark never moves back, never passes what any
    /// in-sync replica has, and with `synced` never passes what is on disk.
    #[test]
    fn high_watermark_is_monotone_and_bounded(
        events in proptest::collection::vec((0..6u8, 0..1000u64), 0..100),
    ) {
        let mut leader = leader(WrittenMeans::Durable, 2, &[1, 2, 3], 3);
        let (mut end, mut durable) = (10, 10);
        let mut others: BTreeMap<u32, u64> = BTreeMap::new();
        for (kind, number) in events {
            let before = leader.high_watermark();
            match kind {
                0 | 1 => {
                    end += number;
                    leader.on_appended(Offset::new(end), Acks::All);
                }
                2 => {
                    durable = durable.max(number.min(end));
                    leader.on_durable(Offset::new(number));
                }
                follower => {
                    let follower = u32::from(follower) % 2 + 2;
                    let has = number.min(end);
                    told(&mut leader, &fetch(follower, end, has), 1).unwrap();
                    let most = others.entry(follower).or_default();
                    *most = (*most).max(has);
                }
            }
            let now = leader.high_watermark();
            prop_assert!(now >= before);
            if now > Offset::new(4) {
                let all: BTreeSet<u64> = others.values().copied().chain([durable]).collect();
                prop_assert_eq!(others.len(), 2);
                prop_assert!(now.get() <= *all.first().unwrap());
            }
        }
    }
}
