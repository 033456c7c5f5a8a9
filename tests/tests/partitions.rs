//! Networks that part (links that swallow packets, between network namespaces): one side at most
//! acknowledges, nothing that was acknowledged is lost, and all is whole again once the network is.
//!
//! These tests need root, for the namespaces, and fail without it.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::time::{Duration, Instant};

use highwater_client::ErrorCode;
use highwater_protocol::ids::{Offset, PartitionId, TopicId};
use highwater_protocol::messages::Acks;
use highwater_tests::cluster_process::{ClusterProcess, QUICK};
use highwater_tests::health::{Health, index, node};
use highwater_tests::namespaces::Link;
use highwater_tests::raw::{RawClient, Refused, batch_of};
use highwater_tests::workload::Workload;

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(60);

const TOPIC: &str = "t";
const PARTITIONS: u32 = 3;

/// A session of the quick settings.
const SESSION: Duration = Duration::from_millis(1500);

struct Scene {
    cluster: ClusterProcess,
    health: Health,
    load: Workload,
    topic_id: TopicId,
}

impl Scene {
    async fn set_up() -> Self {
        let cluster = ClusterProcess::start_in_namespaces(3, QUICK);
        let health = Health::of(cluster.seeds(), DEADLINE).await;
        let configs = [("durability", "synced"), ("segment.bytes", "2MiB")];
        health.create(TOPIC, PARTITIONS, &configs).await;
        let load = Workload::start(cluster.seeds(), TOPIC, PARTITIONS, 3).await;
        load.progress(300, DEADLINE).await;
        let admin = health.client().admin();
        let topic_id = admin.describe_topic(TOPIC).await.unwrap().topic_id;
        Self {
            cluster,
            health,
            load,
            topic_id,
        }
    }

    /// A broker that is the controller and leads a partition, and the partition.
    async fn victim(&self) -> (usize, u32) {
        let victim = self.health.controller().await;
        let leads = |topic: &highwater_client::TopicDescription| {
            let mut partitions = topic.partitions.iter();
            partitions
                .find(|partition| partition.leader.map(index) == Some(victim))
                .map(|partition| partition.partition.get())
        };
        let what = "the controller leads a partition";
        let topic = self.health.until(TOPIC, what, |t| leads(t).is_some()).await;
        (victim, leads(&topic).unwrap())
    }

    /// Waits until the other two lead everything, without this one.
    async fn others_lead(&self, without: usize) {
        let elsewhere = Health::of(&self.cluster.seeds_without(without), DEADLINE).await;
        elsewhere
            .until(TOPIC, "the others lead", |topic| {
                topic.partitions.iter().all(|partition| {
                    let leader = partition.leader.map(index);
                    leader.is_some_and(|leader| leader != without)
                        && !partition.isr.contains(&node(without))
                })
            })
            .await;
    }

    async fn wind_up(self) {
        let began = Instant::now();
        self.health.whole(TOPIC).await;
        println!("whole {} ms after the network", began.elapsed().as_millis());
        self.load.progress(300, DEADLINE).await;
        let outcome = self.load.stop().await;
        println!(
            "{} records, {} in doubt, longest pause {} ms",
            outcome.acked(),
            outcome.in_doubt(),
            outcome.gap_ms_max
        );
        outcome.check(self.cluster.seeds()).await;
    }
}

/// Clients reach the old leader and it reaches nobody: it must not acknowledge, and it must not answer
/// for what the others have done since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_only_clients_reach_acknowledges_nothing() {
    let scene = Scene::set_up().await;
    for _ in 0..2 {
        let (victim, partition) = scene.victim().await;
        let (cluster, at) = (&scene.cluster, PartitionId::new(partition));
        let mut raw = RawClient::hello(cluster.address(victim));
        cluster.note(victim, "cut off from the other brokers");
        cluster.network().set_brokers_link(victim, Link::Cut);
        let cut = Instant::now();
        // It cannot have anything new committed, and says so when its lease is over, long before the
        // time is over that the producer gave it.
        let value = b"to one who is cut off".as_slice();
        let answer = raw.produce(scene.topic_id, at, Acks::All, batch_of([value]));
        let refused = answer.unwrap().unwrap_err();
        println!(
            "acks=all was declined after {:?}: {refused:?}",
            cut.elapsed()
        );
        assert_eq!(refused.code, ErrorCode::NotLeader, "{refused:?}");
        scene.others_lead(victim).await;
        scene.load.progress(300, DEADLINE).await;
        // The others lead only when its lease is over.
        for acks in [Acks::All, Acks::Leader] {
            let answer = raw.produce(scene.topic_id, at, acks, batch_of([value]));
            let refused = answer.unwrap().unwrap_err();
            assert_eq!(refused.code, ErrorCode::NotLeader, "{acks:?}: {refused:?}");
        }
        match raw.fetch(scene.topic_id, at, Offset::ZERO) {
            Err(Refused { code, .. }) => assert_eq!(code, ErrorCode::NotLeader),
            Ok(_) => panic!("it was overtaken, and answers"),
        }
        cluster.note(victim, "connected again");
        cluster.network().set_brokers_link(victim, Link::Up);
        scene.health.whole(TOPIC).await;
    }
    scene.wind_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_nobody_reaches_is_replaced() {
    let scene = Scene::set_up().await;
    for _ in 0..2 {
        let (victim, _) = scene.victim().await;
        let network = scene.cluster.network();
        scene.cluster.note(victim, "cut off from everybody");
        network.set_brokers_link(victim, Link::Cut);
        network.set_clients_link(victim, Link::Cut);
        scene.others_lead(victim).await;
        scene.load.progress(300, DEADLINE).await;
        scene.cluster.note(victim, "connected again");
        network.set_brokers_link(victim, Link::Up);
        network.set_clients_link(victim, Link::Up);
        scene.health.whole(TOPIC).await;
    }
    scene.wind_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_cut_off_holds_nobody_up_and_deposes_nobody() {
    let scene = Scene::set_up().await;
    for _ in 0..2 {
        let controller = scene.health.controller().await;
        let victim = (0..3).find(|broker| *broker != controller).unwrap();
        let network = scene.cluster.network();
        scene.cluster.note(victim, "cut off from the other brokers");
        network.set_brokers_link(victim, Link::Cut);
        scene.others_lead(victim).await;
        scene.load.progress(300, DEADLINE).await;
        scene.cluster.note(victim, "connected again");
        network.set_brokers_link(victim, Link::Up);
        scene.health.whole(TOPIC).await;
        // It asked before it stood for election, and was told that there is a leader.
        assert_eq!(scene.health.controller().await, controller);
    }
    scene.wind_up().await;
}

/// No two brokers reach each other: nothing can be acknowledged, by nobody. Then all is as it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_do_not_reach_each_other_acknowledge_nothing() {
    let scene = Scene::set_up().await;
    let network = scene.cluster.network();
    for broker in 0..3 {
        scene.cluster.note(broker, "all cut off");
        network.set_brokers_link(broker, Link::Cut);
    }
    // What was on its way when the links were cut is settled by now.
    tokio::time::sleep(SESSION).await;
    let acked = scene.load.acked();
    tokio::time::sleep(SESSION * 2).await;
    assert_eq!(scene.load.acked(), acked, "nobody can commit anything");
    for broker in 0..3 {
        scene.cluster.note(broker, "all connected");
        network.set_brokers_link(broker, Link::Up);
    }
    scene.load.progress(300, DEADLINE).await;
    scene.wind_up().await;
}

/// Links that come and go faster than anybody decides anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_flaps_loses_nothing() {
    let scene = Scene::set_up().await;
    for round in 0..12u64 {
        let broker = (round % 3) as usize;
        scene.cluster.network().set_brokers_link(broker, Link::Cut);
        tokio::time::sleep(Duration::from_millis(100 * (1 + round % 7))).await;
        scene.cluster.network().set_brokers_link(broker, Link::Up);
        scene.load.progress(20, DEADLINE).await;
    }
    scene.wind_up().await;
}
