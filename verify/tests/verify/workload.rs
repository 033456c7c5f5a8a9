//! The workload against real brokers, in this process.

use std::time::Duration;

use highwater_broker::EmbeddedBroker;
use highwater_client::{Client, NewTopic, ProducerRecord};
use highwater_verify::event::{AckLevel, Rules};
use highwater_verify::file::read_history;
use highwater_verify::{Outcome, Plan, Verdict, Workload};

const DEADLINE: Duration = Duration::from_secs(60);

async fn broker(partitions: u32) -> (EmbeddedBroker, Client, [String; 1]) {
    let broker = EmbeddedBroker::start().await.unwrap();
    let seeds = [broker.address().to_string()];
    let client = Client::builder().seeds(&seeds).connect().await.unwrap();
    let topic = NewTopic::new("t").partitions(partitions);
    client.admin().create_topic(topic).await.unwrap();
    (broker, client, seeds)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sound_broker_passes_and_the_file_says_the_same() {
    let (_broker, _client, seeds) = broker(3).await;
    let dir = tempfile::tempdir().unwrap();
    let mut plan = Plan::new("t", 3);
    plan.file = Some(dir.path().join("history"));
    plan.probe_every = Duration::from_millis(5);
    let load = Workload::start_plan(&seeds, plan).await.unwrap();
    load.progress(500, DEADLINE).await.unwrap();
    assert!(load.settle().await);
    let outcome = load.stop().await.unwrap();
    let verdict = outcome.check(&seeds).await.unwrap();
    verdict.expect_valid();
    assert!(verdict.checks.iter().all(|check| check.excused.is_none()));
    assert!(verdict.acked >= 500 && verdict.acked == outcome.acked());
    assert_eq!(verdict.read, verdict.sent, "everything was read");
    assert!(verdict.probes > 0 && verdict.pauses.max_ms > 0.0);
    let again = outcome.check(&seeds).await.unwrap();
    again.expect_valid();
    let from_disk = Verdict::of(&read_history(&dir.path().join("history")).unwrap());
    from_disk.expect_valid();
    assert_eq!((from_disk.sent, from_disk.read), (again.sent, again.read));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weaker_producers_are_held_to_what_they_asked_for() {
    for (acks, idempotent) in [
        (AckLevel::None, false),
        (AckLevel::Leader, false),
        (AckLevel::Leader, true),
        (AckLevel::All, false),
    ] {
        let (_broker, _client, seeds) = broker(2).await;
        let mut plan = Plan::new("t", 2);
        plan.rules = Rules {
            acks,
            idempotent,
            ..Rules::default()
        };
        let load = Workload::start_plan(&seeds, plan).await.unwrap();
        load.progress(200, DEADLINE).await.unwrap();
        let outcome = load.stop().await.unwrap();
        let verdict = outcome.check(&seeds).await.unwrap();
        verdict.expect_valid();
        assert!(verdict.checks.iter().any(|check| check.excused.is_some()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_else_writes_and_deletes_is_found() {
    let (_broker, client, seeds) = broker(1).await;
    let load = Workload::start(&seeds, "t", 1, 1).await.unwrap();
    load.progress(100, DEADLINE).await.unwrap();
    let foreign = ProducerRecord::to("t").value("hello");
    client.producer().build().send(foreign).await.unwrap();
    load.progress(100, DEADLINE).await.unwrap();
    let outcome = load.stop().await.unwrap();
    let verdict = outcome.check(&seeds).await.unwrap();
    let found: Vec<_> = verdict.findings().map(|(check, _)| check.id).collect();
    assert_eq!((verdict.outcome, found), (Outcome::Invalid, vec!["H4"]));

    client.admin().delete_topic("t").await.unwrap();
    let topic = NewTopic::new("t").partitions(1);
    client.admin().create_topic(topic).await.unwrap();
    let verdict = outcome.check(&seeds).await.unwrap();
    let lost = verdict
        .checks
        .iter()
        .find(|check| check.id == "H3")
        .unwrap();
    assert!(lost.found >= 200, "{verdict}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_is_kept() {
    let (_broker, _client, seeds) = broker(2).await;
    let mut plan = Plan::new("t", 2);
    (plan.rate, plan.rules.acked_min) = (Some(100), 1);
    let load = Workload::start_plan(&seeds, plan).await.unwrap();
    let began = std::time::Instant::now();
    load.progress(50, DEADLINE).await.unwrap();
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(300), "{took:?}");
    let outcome = load.stop().await.unwrap();
    outcome.check(&seeds).await.unwrap().expect_valid();
}
