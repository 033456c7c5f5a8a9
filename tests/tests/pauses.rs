//! Brokers that stand still for a while and do not know it (SIGSTOP; a machine that is suspended does
//! the same): nothing that was acknowledged is lost, others take over, and what wakes up serves nothing
//! that has been overtaken.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::time::{Duration, Instant};

use highwater_client::{ErrorCode, OffsetSpec};
use highwater_protocol::ids::{CorrelationId, NodeId, PartitionId, TopicId};
use highwater_protocol::messages::{
    Acks, FetchRequest, ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
    ProducePartition, ProduceRequest, ProduceTopic,
};
use highwater_tests::cluster_process::{ClusterProcess, QUICK};
use highwater_tests::health::{Health, index, node};
use highwater_tests::raw::{RawClient, Refused, batch_of};
use highwater_tests::scene::{DEADLINE, Plan, Scene, TOPIC, rounds};
use highwater_tests::workload::Workload;

const PARTITIONS: u32 = 3;

/// Longer than a session of the quick settings.
const LONG: Duration = Duration::from_secs(3);

/// How long in-sync replicas are watched after somebody woke up: a look at who lags comes sooner.
const WATCH: Duration = Duration::from_secs(3);

async fn set_up(durability: &str) -> (ClusterProcess, Health, Workload) {
    let cluster = ClusterProcess::start(3, QUICK);
    let health = Health::of(cluster.seeds(), DEADLINE).await;
    let configs = [("durability", durability), ("segment.bytes", "2MiB")];
    health.create(TOPIC, PARTITIONS, &configs).await;
    let load = Workload::start(cluster.seeds(), TOPIC, PARTITIONS, 3).await;
    load.progress(300, DEADLINE).await;
    (cluster, health, load)
}

async fn wind_up(cluster: ClusterProcess, health: &Health, load: Workload) {
    load.progress(300, DEADLINE).await;
    let outcome = load.stop().await;
    health.whole(TOPIC).await;
    println!(
        "{} records, {} in doubt, longest pause {} ms",
        outcome.acked(),
        outcome.in_doubt(),
        outcome.gap_ms_max
    );
    outcome.check(cluster.seeds()).await;
}

/// A connection, and the question that waits in it until the broker goes on.
struct Question<R> {
    client: RawClient,
    asked: CorrelationId,
    request: std::marker::PhantomData<R>,
}

impl<R: highwater_protocol::api_key::Request> Question<R> {
    fn ask(mut client: RawClient, request: &R) -> Self {
        let asked = client.send(request);
        Self {
            client,
            asked,
            request: std::marker::PhantomData,
        }
    }

    fn answer(mut self) -> R::Response {
        let answer = self.client.answer::<R>(self.asked).unwrap();
        answer.unwrap()
    }
}

fn produce(topic_id: TopicId, partition: PartitionId, acks: Acks) -> ProduceRequest {
    ProduceRequest {
        acks,
        timeout_ms: 5_000,
        topics: vec![ProduceTopic {
            topic_id,
            partitions: vec![ProducePartition {
                partition,
                leader_epoch: None,
                // The check of the workload fails should this ever be read.
                records: batch_of([b"from one who has been overtaken".as_slice()]),
            }],
        }],
    }
}

fn list(topic_id: TopicId, partition: PartitionId) -> ListOffsetsRequest {
    let asked = [
        OffsetSpec::Earliest,
        OffsetSpec::Latest,
        OffsetSpec::LogEnd,
        OffsetSpec::MaxTimestamp,
    ];
    let asked = asked.map(|spec| ListOffsetsPartition {
        partition,
        leader_epoch: None,
        spec,
    });
    ListOffsetsRequest {
        topics: vec![ListOffsetsTopic {
            topic_id,
            partitions: asked.to_vec(),
        }],
    }
}

/// What a broker that does not lead says.
fn is_declined(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::NotLeader | ErrorCode::Busy)
}

/// The leader, which is the controller as well, stands still for longer than its session. What waits in
/// its sockets when it goes on is the first that it sees: before any heartbeat, and before it hears of
/// its successor.
async fn a_leader_that_stood_still_serves_nothing_stale(durability: &str) {
    let (cluster, health, load) = set_up(durability).await;
    let topic_id = health
        .client()
        .admin()
        .describe_topic(TOPIC)
        .await
        .unwrap()
        .topic_id;
    for _ in 0..2 {
        let paused = health.controller().await;
        let others: Vec<NodeId> = (0..3).filter(|i| *i != paused).map(node).collect();
        let partition = led_by(&health, paused).await;
        let at = PartitionId::new(partition);
        let connect = || RawClient::hello(cluster.address(paused));
        let (a, b, c, d) = (connect(), connect(), connect(), connect());
        let mut later = connect();

        cluster.pause(paused);
        let elsewhere = Health::of(&cluster.seeds_without(paused), DEADLINE).await;
        elsewhere
            .until(TOPIC, "others lead", |topic| {
                let leads = |leader: Option<NodeId>| leader.is_some_and(|l| others.contains(&l));
                topic.partitions.iter().all(|p| leads(p.leader))
            })
            .await;
        load.progress(300, DEADLINE).await;
        let fetch = {
            let mut client = a;
            let asked = client.long_poll(topic_id, at, 0);
            Question::<FetchRequest> {
                client,
                asked,
                request: std::marker::PhantomData,
            }
        };
        let all = Question::ask(b, &produce(topic_id, at, Acks::All));
        let leader = Question::ask(c, &produce(topic_id, at, Acks::Leader));
        let list_offsets = Question::ask(d, &list(topic_id, at));
        cluster.resume(paused);

        let fetched = &fetch.answer().topics[0].partitions[0];
        assert!(is_declined(fetched.error), "{fetched:?}");
        assert!(fetched.records.is_empty(), "{fetched:?}");
        for produced in [all, leader] {
            let produced = &produced.answer().topics[0].partitions[0];
            assert!(is_declined(produced.error), "{produced:?}");
            assert_eq!(produced.base_offset, None);
        }
        for listed in &list_offsets.answer().topics[0].partitions {
            assert!(is_declined(listed.error), "{listed:?}");
            assert_eq!(listed.offset, None);
        }
        // Nor does it do so later, and it puts nobody out of the in-sync replicas.
        let began = Instant::now();
        while began.elapsed() < WATCH {
            match later.fetch(topic_id, at, highwater_protocol::ids::Offset::ZERO) {
                Err(Refused { code, .. }) => assert!(is_declined(code), "{code}"),
                // On a machine that is short of time another broker may lose its session as well, and
                // this one be elected again: then the others know it, too.
                Ok(_) => {
                    elsewhere
                        .until(TOPIC, "it answers because it leads again", |topic| {
                            topic.partitions[partition as usize].leader == Some(node(paused))
                        })
                        .await;
                    break;
                }
            }
            let produced = later.produce(
                topic_id,
                at,
                Acks::Leader,
                batch_of([b"from one who has been overtaken".as_slice()]),
            );
            if let Err(refused) = produced.unwrap() {
                assert!(is_declined(refused.code), "{refused:?}");
            } else {
                continue;
            }
            let topic = elsewhere
                .client()
                .admin()
                .describe_topic(TOPIC)
                .await
                .unwrap();
            for partition in &topic.partitions {
                let stay = others.iter().all(|node| partition.isr.contains(node));
                assert!(stay, "{partition:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        health.whole(TOPIC).await;
    }
    wind_up(cluster, &health, load).await;
}

/// A partition that is led by this broker.
async fn led_by(health: &Health, broker: usize) -> u32 {
    let topic = health
        .until(TOPIC, "the controller leads a partition", |topic| {
            topic
                .partitions
                .iter()
                .any(|partition| partition.leader.map(index) == Some(broker))
        })
        .await;
    let mut partitions = topic.partitions.iter();
    let led = partitions.find(|partition| partition.leader.map(index) == Some(broker));
    led.unwrap().partition.get()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stood_still_serves_nothing_stale_when_synced() {
    a_leader_that_stood_still_serves_nothing_stale("synced").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stood_still_serves_nothing_stale_when_replicated() {
    a_leader_that_stood_still_serves_nothing_stale("replicated").await;
}

/// The other two go on, also without the one that stood still last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_stands_still_holds_nobody_up() {
    let (cluster, health, load) = set_up("synced").await;
    for _ in 0..2 {
        let controller = health.controller().await;
        let paused = (0..3).find(|broker| *broker != controller).unwrap();
        cluster.pause(paused);
        load.progress(300, DEADLINE).await;
        let without = |topic: &highwater_client::TopicDescription| {
            let mut partitions = topic.partitions.iter();
            partitions.all(|partition| !partition.isr.contains(&node(paused)))
        };
        health
            .until(TOPIC, "it is out of the in-sync replicas", without)
            .await;
        load.progress(300, DEADLINE).await;
        cluster.resume(paused);
        health.whole(TOPIC).await;
    }
    wind_up(cluster, &health, load).await;
}

/// A leader that is not the controller, and a controller that leads nothing: who loses one of the two
/// roles loses no more than that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_and_a_controller_that_stand_still_are_replaced_one_without_the_other() {
    let plan = Plan {
        partitions: PARTITIONS,
        configs: &[("durability", "synced"), ("segment.bytes", "2MiB")],
        value_bytes: 100,
    };
    let scene = Scene::set_up(ClusterProcess::start(3, QUICK), plan).await;
    for _ in 0..rounds() {
        let controller = scene.health.controller().await;
        let mut others = (0..3).filter(|broker| *broker != controller);
        let (one, other) = (others.next().unwrap(), others.next().unwrap());
        for (partition, leader) in [(0, one), (1, one), (2, other)] {
            scene.give_lead(partition, leader).await;
        }
        for paused in [one, controller] {
            scene.pause(paused);
            let began = Instant::now();
            scene.others_lead(paused).await;
            println!("replaced after {:?}", began.elapsed());
            scene.progress(30).await;
            tokio::time::sleep(LONG.saturating_sub(began.elapsed())).await;
            scene.resume(paused);
            scene.health.whole(TOPIC).await;
        }
    }
    scene.wind_up().await;
}

/// Shorter than a session, again and again, and of whoever leads: nobody needs to be replaced, and
/// nothing is lost when somebody is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_pauses_of_leaders_cost_no_more_than_time() {
    let (cluster, health, load) = set_up("synced").await;
    for round in 0..12u64 {
        let paused = health.leader(TOPIC, (round % 3) as u32).await;
        cluster.pause(paused);
        tokio::time::sleep(Duration::from_millis(150 * (1 + round % 8))).await;
        cluster.resume(paused);
        load.progress(20, DEADLINE).await;
    }
    health.whole(TOPIC).await;
    wind_up(cluster, &health, load).await;
}

/// All stand still, as when the host of virtual machines is suspended. Nobody can be blamed, and
/// everybody goes on, whoever wakes up first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_brokers_that_stand_still_go_on() {
    let (cluster, health, load) = set_up("synced").await;
    for round in 0..3 {
        for broker in 0..3 {
            cluster.pause(broker);
        }
        tokio::time::sleep(LONG).await;
        for step in 0..3 {
            cluster.resume((round + step) % 3);
            // Apart from each other in the last round.
            if round == 2 {
                tokio::time::sleep(LONG).await;
            }
        }
        load.progress(300, DEADLINE).await;
        health.whole(TOPIC).await;
    }
    wind_up(cluster, &health, load).await;
}
