//! Attempts that may succeed later are repeated with backoff inside of one delivery timeout; others
//! are not.

use std::time::{Duration, Instant};

use highwater_client::{ErrorCode, ProducerRecord, SendError};
use highwater_protocol::api_key::ApiKey;

use crate::support::{FakeBroker, Verdict, eventually, quick, soon, values};

fn record() -> ProducerRecord {
    ProducerRecord::to("t").value("x")
}

#[tokio::test]
async fn retriable_refusals_are_tried_again() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    broker.on_first_produces(vec![
        Verdict::Refuse(ErrorCode::Busy),
        Verdict::Refuse(ErrorCode::DiskFull),
        Verdict::Refuse(ErrorCode::NotEnoughReplicas),
    ]);
    let client = quick(&broker).connect().await.unwrap();
    let ack = soon(client.producer().build().send(record()))
        .await
        .unwrap();
    assert_eq!(ack.offset.unwrap().get(), 0);
    assert_eq!(broker.produce_calls(), 4);
}

#[tokio::test]
async fn other_refusals_fail_at_once_and_name_the_code() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    broker.on_first_produces(vec![Verdict::Refuse(ErrorCode::BatchTooLarge)]);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().build();
    let error = soon(producer.send(record())).await.unwrap_err();
    assert_eq!(error.broker_code(), Some(ErrorCode::BatchTooLarge));
    assert_eq!(error.code(), "BatchTooLarge");
    assert!(!error.is_retriable() && !error.may_have_committed());
    assert_eq!(broker.produce_calls(), 1);
    soon(producer.send(record())).await.unwrap();
}

#[tokio::test]
async fn not_leader_refreshes_the_metadata_first() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    broker.on_first_produces(vec![Verdict::Refuse(ErrorCode::NotLeader)]);
    let client = quick(&broker).connect().await.unwrap();
    soon(client.producer().build().send(record()))
        .await
        .unwrap();
    assert_eq!(broker.requests(ApiKey::Metadata), 2);
}

#[tokio::test]
async fn a_topic_made_anew_is_found_under_its_new_id() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().build();
    soon(producer.send(record())).await.unwrap();
    broker.topic("t", 1);
    soon(producer.send(ProducerRecord::to("t").value("new")))
        .await
        .unwrap();
    assert_eq!(values(&broker.records("t", 0)), ["new"]);
}

#[tokio::test]
async fn a_deleted_topic_fails_its_records() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().build();
    soon(producer.send(record())).await.unwrap();
    broker.delete_topic("t");
    let error = soon(producer.send(record())).await.unwrap_err();
    assert!(matches!(error, SendError::UnknownTopic { .. }), "{error}");
    assert_eq!(producer.buffered_bytes(), 0);
}

#[tokio::test]
async fn an_unknown_topic_fails_and_can_be_used_once_it_exists() {
    let broker = FakeBroker::start().await;
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().build();
    let error = soon(producer.send(record())).await.unwrap_err();
    assert!(matches!(error, SendError::UnknownTopic { .. }), "{error}");
    broker.topic("t", 1);
    soon(producer.send(record())).await.unwrap();
}

#[tokio::test]
async fn the_delivery_timeout_ends_the_retries_and_tells_what_the_last_one_met() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    broker.on_produce(|_| Verdict::Refuse(ErrorCode::DiskFull));
    let client = quick(&broker).connect().await.unwrap();
    let producer = client
        .producer()
        .delivery_timeout(Duration::from_millis(300))
        .build();
    let begun = Instant::now();
    let error = soon(producer.send(record())).await.unwrap_err();
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let SendError::DeliveryTimedOut {
        attempts,
        may_have_committed,
        last,
        ..
    } = &error
    else {
        panic!("{error}");
    };
    assert!(*attempts > 3, "{attempts}");
    assert!(!may_have_committed);
    assert_eq!(
        last.as_ref().unwrap().broker_code(),
        Some(ErrorCode::DiskFull)
    );
    assert_eq!(producer.buffered_bytes(), 0);
}

#[tokio::test]
async fn an_unanswered_request_is_given_up_in_time_and_leaves_doubt() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    broker.on_produce(|_| Verdict::AppendAndForget);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client
        .producer()
        .delivery_timeout(Duration::from_millis(300))
        .build();
    let error = soon(producer.send(record())).await.unwrap_err();
    assert!(error.may_have_committed(), "{error}");
    assert!(error.is_retriable());
    assert_eq!(broker.records("t", 0).len(), 1);
}

#[tokio::test]
async fn records_survive_a_broker_restart() {
    let mut broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().build();
    soon(producer.send(record())).await.unwrap();
    broker.stop().await;
    let mut acks = Vec::new();
    for _ in 0..10 {
        acks.push(producer.enqueue(record()).await.unwrap());
    }
    broker.restart().await;
    for ack in acks {
        soon(ack).await.unwrap();
    }
    assert_eq!(broker.records("t", 0).len(), 11);
}

#[tokio::test]
async fn a_broker_that_stays_away_fails_records_after_the_delivery_timeout() {
    let mut broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client
        .producer()
        .delivery_timeout(Duration::from_millis(200))
        .build();
    soon(producer.send(record())).await.unwrap();
    broker.stop().await;
    let error = soon(producer.send(record())).await.unwrap_err();
    assert!(
        matches!(error, SendError::DeliveryTimedOut { .. }),
        "{error}"
    );
    eventually("the buffer is empty", || producer.buffered_bytes() == 0).await;
}

#[tokio::test]
async fn a_broker_of_another_cluster_fails_records_at_once() {
    let mut broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().build();
    soon(producer.send(record())).await.unwrap();
    broker.stop().await;
    broker.change_cluster();
    broker.restart().await;
    let error = soon(producer.send(record())).await.unwrap_err();
    assert_eq!(error.code(), "WrongCluster", "{error}");
    assert!(!error.is_retriable());
}

#[tokio::test]
async fn a_producer_id_is_asked_for_until_there_is_one() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    broker.refuse_producer_ids(ErrorCode::NotController, 3);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().build();
    soon(producer.send(record())).await.unwrap();
    soon(producer.send(record())).await.unwrap();
    assert_eq!(broker.requests(ApiKey::InitProducerId), 4);
}

#[tokio::test]
async fn a_cluster_without_producer_ids_fails_the_records() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    broker.refuse_producer_ids(ErrorCode::Unsupported, 2);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().build();
    let error = soon(producer.send(record())).await.unwrap_err();
    assert!(matches!(error, SendError::NoProducerId { .. }), "{error}");
    assert_eq!(error.broker_code(), Some(ErrorCode::Unsupported));
    assert!(!error.is_retriable() && !error.may_have_committed());
    assert_eq!(producer.buffered_bytes(), 0);
    assert!(broker.records("t", 0).is_empty());
    // Without, it is the caller's decision.
    let producer = client.producer().idempotent(false).build();
    soon(producer.send(record())).await.unwrap();
}

#[tokio::test]
async fn a_broker_that_forgot_the_producer_is_no_obstacle() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().build();
    soon(producer.send(record())).await.unwrap();
    broker.forget_producers();
    soon(producer.send(record())).await.unwrap();
    soon(producer.send(record())).await.unwrap();
    assert_eq!(broker.records("t", 0).len(), 3);
}

#[tokio::test]
async fn a_repetition_whose_place_is_forgotten_is_a_success_without_offset() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    broker.on_first_produces(vec![Verdict::AppendAndRefuse(ErrorCode::DuplicateSequence)]);
    let client = quick(&broker).connect().await.unwrap();
    let ack = soon(client.producer().build().send(record()))
        .await
        .unwrap();
    assert_eq!(ack.offset, None);
}
