//! Faults and changes in an order that nobody thought of, from a seed.
//!
//! `HIGHWATER_SEED` replays a run's choices (the machine's timing is not replayed with them), and
//! `HIGHWATER_SWARM_SECONDS` makes it longer.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use highwater_broker::EmbeddedCluster;
use highwater_client::{Admin, Election, NewTopic, PartitionName, ReplicaMove};
use highwater_config::BrokerConfig;
use highwater_protocol::ids::{NodeId, PartitionId};
use highwater_tests::health::{Health, node};
use highwater_tests::workload::Workload;

/// How long the cluster may take to be whole again when all faults are over.
const HEAL_MAX: Duration = Duration::from_secs(60);

/// How long faults go on, if `HIGHWATER_SWARM_SECONDS` does not say.
const SECONDS: u64 = 20;

/// An administrator who is not answered goes on to something else.
const PATIENCE: Duration = Duration::from_secs(5);

/// One more than each partition has replicas, so that there is somewhere to move to.
const BROKERS: usize = 4;

/// Topics that are written to all the time: name, durability, partitions.
const TOPICS: [(&str, &str, u32); 2] = [("synced", "synced", 3), ("replicated", "replicated", 3)];

/// A generator of numbers that look random (SplitMix64): small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// What can be done to a cluster.
#[derive(Debug, Clone)]
enum Act {
    Kill(usize),
    Stop(usize),
    /// Once more than one is down, nobody may be able to start alone.
    RestartAll,
    Restart(usize),
    KillAll,
    Create(String),
    Delete(String),
    Move(&'static str, u32, Vec<usize>),
    Elect(&'static str, u32, usize),
    ElectPreferred,
    SetMinIsr(&'static str, usize),
    SetDurability(&'static str, &'static str),
    Wait,
}

/// What is chosen from.
struct Swarm {
    random: Random,
    up: [bool; BROKERS],
    extra: Vec<String>,
    created: usize,
}

impl Swarm {
    fn choose(&mut self) -> Act {
        let up: Vec<usize> = (0..BROKERS).filter(|i| self.up[*i]).collect();
        let down: Vec<usize> = (0..BROKERS).filter(|i| !self.up[*i]).collect();
        let (topic, _, partitions) = self.random.one_of(&TOPICS);
        let partition = self.random.below(partitions as usize) as u32;
        if down.len() >= 2 {
            return Act::RestartAll;
        }
        match self.random.below(100) {
            0..15 => Act::Kill(self.random.one_of(&up)),
            15..25 => Act::Stop(self.random.one_of(&up)),
            25..29 => Act::KillAll,
            29..50 if !down.is_empty() => Act::Restart(down[0]),
            50..57 => {
                self.created += 1;
                let name = format!("extra-{}", self.created);
                self.extra.push(name.clone());
                Act::Create(name)
            }
            57..62 if !self.extra.is_empty() => {
                let index = self.random.below(self.extra.len());
                Act::Delete(self.extra.swap_remove(index))
            }
            62..75 => {
                let out = self.random.below(BROKERS);
                let mut to: Vec<usize> = (0..BROKERS).filter(|broker| *broker != out).collect();
                let turn = self.random.below(to.len());
                to.rotate_left(turn);
                Act::Move(topic, partition, to)
            }
            75..82 => Act::Elect(topic, partition, self.random.below(BROKERS)),
            82..86 => Act::ElectPreferred,
            86..92 => Act::SetMinIsr(topic, 1 + self.random.below(3)),
            92..94 => Act::SetDurability(topic, self.random.one_of(&["synced", "replicated"])),
            _ => Act::Wait,
        }
    }

    async fn carry_out(&mut self, act: &Act, cluster: &mut EmbeddedCluster, admin: &Admin) {
        match act {
            Act::Kill(broker) => {
                cluster.kill(*broker).await.unwrap();
                self.up[*broker] = false;
            }
            Act::Stop(broker) => {
                cluster.stop(*broker).await.unwrap();
                self.up[*broker] = false;
            }
            Act::Restart(broker) => {
                cluster.restart(*broker).await.unwrap();
                self.up[*broker] = true;
            }
            Act::KillAll => {
                for broker in (0..BROKERS).filter(|broker| self.up[*broker]) {
                    cluster.kill(broker).await.unwrap();
                }
                self.up = [false; BROKERS];
            }
            Act::RestartAll => {
                cluster.restart_all().await.unwrap();
                self.up = [true; BROKERS];
            }
            Act::Create(name) => {
                let topic = NewTopic::new(name).partitions(4).replicas(3);
                asked(admin.create_topic(topic)).await;
            }
            Act::Delete(name) => asked(admin.delete_topic(name)).await,
            Act::Move(topic, partition, to) => {
                let name = PartitionName::new(*topic, PartitionId::new(*partition));
                let to: Vec<NodeId> = to.iter().copied().map(node).collect();
                let wanted = ReplicaMove {
                    partition: name,
                    replicas: Some(to),
                };
                asked(admin.move_replicas(vec![wanted])).await;
            }
            Act::Elect(topic, partition, to) => {
                let name = PartitionName::new(*topic, PartitionId::new(*partition));
                asked(admin.elect_leaders(Election::Node(node(*to)), Some(&[name]))).await;
            }
            Act::ElectPreferred => {
                asked(admin.elect_leaders(Election::Preferred, None)).await;
            }
            Act::SetMinIsr(topic, count) => {
                let value = count.to_string();
                let change = [("min.insync.replicas", Some(value.as_str()))];
                asked(admin.alter_configs(topic, change)).await;
            }
            Act::SetDurability(topic, durability) => {
                asked(admin.alter_configs(topic, [("durability", Some(*durability))])).await;
            }
            Act::Wait => {}
        }
    }
}

/// What an administrator asks for in the middle of faults may be refused, or not be answered.
async fn asked<T: fmt::Debug, E: fmt::Display>(request: impl Future<Output = Result<T, E>>) {
    match tokio::time::timeout(PATIENCE, request).await {
        Ok(Ok(done)) => println!("      {done:?}"),
        Ok(Err(error)) => println!("      {error}"),
        Err(_) => println!("      no answer"),
    }
}

fn quick(_: usize, config: &mut BrokerConfig) {
    config.cluster.heartbeat_interval = Duration::from_millis(100);
    config.cluster.session_timeout = Duration::from_millis(1500);
    config.cluster.election_timeout = Duration::from_millis(500);
    config.replication.lag_time_max = Duration::from_secs(2);
    config.replication.fetch_wait_max = Duration::from_millis(200);
    config.healing.after = Some(Duration::from_secs(4));
    config.healing.disk_percent_max = 100;
    config.healing.leader_balance_interval = Some(Duration::from_secs(3));
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_nothing_acknowledged_is_lost() {
    let seed = number("HIGHWATER_SEED").unwrap_or_else(|| {
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap();
        since.as_nanos() as u64 % 1_000_000
    });
    let seconds = number("HIGHWATER_SWARM_SECONDS").unwrap_or(SECONDS);
    println!("HIGHWATER_SEED={seed} HIGHWATER_SWARM_SECONDS={seconds}");
    let mut cluster = EmbeddedCluster::start_with(BROKERS, quick).await.unwrap();
    let health = Health::of(cluster.addresses(), HEAL_MAX).await;
    let mut loads = Vec::new();
    for (topic, durability, partitions) in TOPICS {
        let configs = [
            ("durability", durability),
            ("segment.bytes", "256KiB"),
            ("max.message.bytes", "64KiB"),
        ];
        health.create(topic, partitions, &configs).await;
        loads.push(Workload::start(cluster.addresses(), topic, partitions, 2).await);
    }
    let mut swarm = Swarm {
        random: Random(seed),
        up: [true; BROKERS],
        extra: Vec::new(),
        created: 0,
    };
    let admin = health.client().admin();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(seconds) {
        let act = swarm.choose();
        println!("{:>6} ms {act:?}", began.elapsed().as_millis());
        swarm.carry_out(&act, &mut cluster, &admin).await;
        let pause = swarm.random.one_of(&[0, 0, 50, 200, 500, 1000, 2000]);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    println!("{:>6} ms the faults are over", began.elapsed().as_millis());
    cluster.restart_all().await.unwrap();
    for ((topic, _, _), load) in TOPICS.iter().zip(&loads) {
        health.whole(topic).await;
        load.progress(100, HEAL_MAX).await;
    }
    println!("{:>6} ms whole", began.elapsed().as_millis());
    for topic in &swarm.extra {
        // One whose creation was not answered may not be there.
        if admin.describe_topic(topic).await.is_ok() {
            health.whole(topic).await;
        }
    }
    for load in loads {
        let outcome = load.stop().await;
        println!(
            "{} records, {} in doubt, longest pause {} ms",
            outcome.acked(),
            outcome.in_doubt(),
            outcome.gap_ms_max
        );
        outcome.check(cluster.addresses()).await;
    }
    cluster.shutdown().await.unwrap();
}
