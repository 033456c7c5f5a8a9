//! Networks that lose what is sent in one direction, or between two brokers only, or between a minority
//! and a majority: who can do its work goes on with it, who cannot is replaced, and nothing is lost.
//!
//! These tests need root, for the namespaces, and fail without it. `HIGHWATER_CHAOS_ROUNDS` makes them
//! longer.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::time::{Duration, Instant};

use highwater_tests::cluster_process::{ClusterProcess, QUICK};
use highwater_tests::health::{index, node};
use highwater_tests::namespaces::Link;
use highwater_tests::scene::{DEADLINE, Plan, Scene, TOPIC, rounds};

const PLAN: Plan<'_> = Plan {
    partitions: 3,
    configs: &[
        ("durability", "synced"),
        ("segment.bytes", "2MiB"),
        ("min.insync.replicas", "2"),
    ],
    value_bytes: 100,
};

/// A session of the quick settings.
const SESSION: Duration = Duration::from_millis(1500);

/// For tests in which the quorum keeps its leader: a busy machine must not take it for dead.
const PATIENT_QUORUM: &str = "cluster.election.timeout=3s";

/// For tests in which nobody is to be fenced, either.
const PATIENT_SESSION: &str = "cluster.session.timeout=10s";

fn quick_but(settings: &[&'static str]) -> Vec<&'static str> {
    let key = |setting: &str| setting.split('=').next().map(str::to_owned);
    let others = QUICK
        .iter()
        .filter(|quick| settings.iter().all(|other| key(quick) != key(other)));
    others.chain(settings).copied().collect()
}

/// Cuts or mends the ways from these brokers to those.
fn set_paths(scene: &Scene, from: &[usize], to: &[usize], link: Link) {
    for from in from {
        for to in to {
            scene.cluster.network().set_path(*from, *to, link);
            let fault = format!("what it sends to {} is lost", to + 1);
            match link {
                Link::Cut => scene.fault(&fault, *from),
                Link::Up => scene.lifted(&fault, *from),
            }
        }
    }
}

/// Controller, and the two others: the first of them leads partition 0, the second partition 1, and the
/// controller partition 2.
async fn roles(scene: &Scene) -> (usize, usize, usize) {
    let controller = scene.health.controller().await;
    let mut others = (0..3).filter(|broker| *broker != controller);
    let (leader, follower) = (others.next().unwrap(), others.next().unwrap());
    for (partition, broker) in [(0, leader), (1, follower), (2, controller)] {
        scene.give_lead(partition, broker).await;
    }
    (controller, leader, follower)
}

async fn term(scene: &Scene, broker: usize) -> u64 {
    let there = [scene.cluster.seeds()[broker].clone()];
    let there = highwater_tests::health::Health::of(&there, DEADLINE).await;
    there.client().admin().describe_quorum().await.unwrap().term
}

/// Leader and follower do not understand each other, and both speak with the controller: each leads on
/// without the other, nobody is fenced, nobody is elected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_heartbeats_and_cannot_replicate_goes_on_without_that_follower() {
    let cluster =
        ClusterProcess::start_in_namespaces(3, &quick_but(&[PATIENT_QUORUM, PATIENT_SESSION]));
    let scene = Scene::set_up(cluster, PLAN).await;
    for _ in 0..rounds() {
        let (controller, leader, follower) = roles(&scene).await;
        let before = term(&scene, controller).await;
        let (one, other) = ([leader], [follower]);
        for (there, back) in [(true, false), (false, true), (true, true)] {
            let set = |link| {
                if there {
                    set_paths(&scene, &one, &other, link);
                }
                if back {
                    set_paths(&scene, &other, &one, link);
                }
            };
            let epochs = |topic: &highwater_client::TopicDescription| -> Vec<_> {
                let partitions = topic.partitions.iter();
                partitions.map(|p| (p.leader, p.leader_epoch)).collect()
            };
            let led = scene.health.whole_now(TOPIC).await;
            set(Link::Cut);
            let cut = Instant::now();
            let seen = scene
                .health
                .until(TOPIC, "leader and follower go on apart", |topic| {
                    let [a, b, c] = topic.partitions.as_slice() else {
                        return false;
                    };
                    a.isr.len() == 2
                        && !a.isr.contains(&node(follower))
                        && b.isr.len() == 2
                        && !b.isr.contains(&node(leader))
                        && c.isr.len() == 3
                })
                .await;
            println!("out of the in-sync replicas after {:?}", cut.elapsed());
            scene.progress(30).await;
            assert_eq!(epochs(&seen), epochs(&led), "nobody was elected");
            set(Link::Up);
            let seen = scene.health.whole_now(TOPIC).await;
            assert_eq!(epochs(&seen), epochs(&led), "nobody was elected");
        }
        assert_eq!(term(&scene, controller).await, before, "of the quorum");
    }
    scene.wind_up().await;
}

/// A leader that follows and is followed, and whose way to the controller, or back, or both, is lost: it
/// is fenced and others lead; the controller stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_replicates_and_cannot_heartbeat_is_fenced() {
    let cluster = ClusterProcess::start_in_namespaces(3, &quick_but(&[PATIENT_QUORUM]));
    let scene = Scene::set_up(cluster, PLAN).await;
    for _ in 0..rounds() {
        let (controller, leader, _) = roles(&scene).await;
        let before = term(&scene, controller).await;
        for (there, back) in [(true, false), (false, true), (true, true)] {
            let set = |link| {
                if there {
                    set_paths(&scene, &[leader], &[controller], link);
                }
                if back {
                    set_paths(&scene, &[controller], &[leader], link);
                }
            };
            set(Link::Cut);
            let cut = Instant::now();
            scene.others_lead(leader).await;
            println!("fenced after {:?}", cut.elapsed());
            scene.progress(30).await;
            set(Link::Up);
            scene.health.whole(TOPIC).await;
            scene.give_lead(0, leader).await;
        }
        assert_eq!(term(&scene, controller).await, before, "of the quorum");
    }
    scene.wind_up().await;
}

/// A controller that is not heard by anybody, and one that hears nobody: another takes over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_is_not_heard_or_hears_nobody_is_replaced() {
    let cluster = ClusterProcess::start_in_namespaces(3, QUICK);
    let scene = Scene::set_up(cluster, PLAN).await;
    for _ in 0..rounds() {
        for is_heard in [false, true] {
            let (controller, one, other) = roles(&scene).await;
            let set = |link| {
                if is_heard {
                    set_paths(&scene, &[one, other], &[controller], link);
                } else {
                    set_paths(&scene, &[controller], &[one, other], link);
                }
            };
            set(Link::Cut);
            let cut = Instant::now();
            scene.others_lead(controller).await;
            println!("heard {is_heard}: replaced after {:?}", cut.elapsed());
            scene.progress(30).await;
            set(Link::Up);
            scene.health.whole(TOPIC).await;
        }
    }
    scene.wind_up().await;
}

/// Five brokers, of which two are cut off from the other three, the controller among the two: partitions
/// with two replicas on the larger side go on there, and no other acknowledges anything, on neither side.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_five_brokers_the_majority_goes_on_and_the_minority_acknowledges_nothing() {
    let settings = quick_but(&["cluster.voters=5"]);
    let cluster = ClusterProcess::start_in_namespaces(5, &settings);
    let plan = Plan {
        partitions: 10,
        ..PLAN
    };
    let scene = Scene::set_up(cluster, plan).await;
    scene.health.voters(5).await;
    for _ in 0..rounds() {
        let topic = scene.health.whole_now(TOPIC).await;
        let controller = scene.health.controller().await;
        let in_minority = |other: usize| {
            let lost = move |partition: &highwater_client::PartitionDescription| {
                partition.replicas.contains(&node(controller))
                    && partition.replicas.contains(&node(other))
            };
            let partitions = topic.partitions.iter().filter(move |p| lost(p));
            partitions.map(|p| p.partition.get()).collect::<Vec<_>>()
        };
        let others = (0..5).filter(|broker| *broker != controller);
        let other = others
            .max_by_key(|other| in_minority(*other).len())
            .unwrap();
        let (minority, frozen) = ([controller, other], in_minority(other));
        let majority: Vec<usize> = (0..5).filter(|b| !minority.contains(b)).collect();
        let alive: Vec<u32> = (0..10).filter(|p| !frozen.contains(p)).collect();
        assert!(!frozen.is_empty() && !alive.is_empty(), "{topic:?}");

        set_paths(&scene, &minority, &majority, Link::Cut);
        set_paths(&scene, &majority, &minority, Link::Cut);
        let seeds: Vec<String> = majority
            .iter()
            .map(|broker| scene.cluster.seeds()[*broker].clone())
            .collect();
        let there = highwater_tests::health::Health::of(&seeds, DEADLINE).await;
        there
            .until(TOPIC, "the majority leads", |topic| {
                topic.partitions.iter().all(|partition| {
                    let leader = partition.leader.map(index);
                    leader.is_some_and(|leader| majority.contains(&leader))
                })
            })
            .await;
        scene.load.progress_in(&alive, 30, DEADLINE).await;
        // What was on its way is settled by now, on the other side as well.
        tokio::time::sleep(SESSION).await;
        let acked = || -> Vec<u64> { frozen.iter().map(|p| scene.load.acked_in(*p)).collect() };
        let before = acked();
        scene.load.progress_in(&alive, 30, DEADLINE).await;
        tokio::time::sleep(SESSION).await;
        assert_eq!(acked(), before, "of partitions that have one replica there");
        set_paths(&scene, &minority, &majority, Link::Up);
        set_paths(&scene, &majority, &minority, Link::Up);
        scene.health.whole(TOPIC).await;
        scene.progress(30).await;
    }
    scene.wind_up().await;
}
