//! A cluster with hundreds of partitions forms, and goes on when a broker is killed.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::time::{Duration, Instant};

use highwater_client::{Producer, ProducerRecord};
use highwater_protocol::ids::{Offset, PartitionId};
use highwater_protocol::messages::OffsetSpec;
use highwater_tests::cluster_process::{ClusterProcess, QUICK};
use highwater_tests::health::{Health, index};

/// With three replicas each.
const PARTITIONS: u32 = 600;
/// One in so many takes records: the first of each is dear, because it makes a segment on every replica.
const USED: usize = 4;
/// How long the cluster may take for any step, on a busy machine and unoptimized.
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_with_hundreds_of_partitions_forms_and_survives_its_leaders() {
    let mut cluster = ClusterProcess::start(3, QUICK);
    let health = Health::of(cluster.seeds(), DEADLINE).await;
    let began = Instant::now();
    health.create("wide", PARTITIONS, &[]).await;
    println!("formed in {:?}", began.elapsed());
    let producer = health.client().producer().build();
    send_to_all(&producer).await;
    let controller = health.controller().await;
    for victim in [(controller + 1) % 3, controller] {
        cluster.kill(victim);
        let began = Instant::now();
        health
            .until("wide", "others lead", |topic| {
                let mut leaders = topic.partitions.iter().map(|partition| partition.leader);
                leaders.all(|leader| leader.is_some_and(|leader| index(leader) != victim))
            })
            .await;
        let led = began.elapsed();
        send_to_all(&producer).await;
        println!(
            "others led after {led:?}, all took a record after {:?}",
            began.elapsed()
        );
        tokio::task::block_in_place(|| cluster.restart(victim));
        health.whole("wide").await;
    }
    let admin = health.client().admin();
    let ends = admin.list_offsets("wide", OffsetSpec::Latest).await;
    for end in ends.unwrap().iter().step_by(USED) {
        assert_eq!(end.offset.map(Offset::get), Some(3), "{}", end.partition);
    }
}

/// Sends a record to each partition that is used; each must be acknowledged by all that are in sync.
async fn send_to_all(producer: &Producer) {
    let records = (0..PARTITIONS).step_by(USED).map(|partition| {
        ProducerRecord::to("wide")
            .partition(PartitionId::new(partition))
            .value("x")
    });
    let sent = producer.send_all(records);
    for sent in tokio::time::timeout(DEADLINE, sent).await.unwrap() {
        sent.unwrap();
    }
}
