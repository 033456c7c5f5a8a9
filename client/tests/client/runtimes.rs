//! The client works on any tokio runtime and across tasks.

use std::time::Duration;

use highwater_client::{Acks, Client, Producer, ProducerRecord, Reader, Until};

use crate::support::{FakeBroker, quick, soon};

fn is_send_and_static<T: Send + 'static>(_: &T) {}
fn is_sync<T: Sync>() {}

async fn many_tasks_share_one_producer() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 4);
    let client = soon(quick(&broker).connect()).await.unwrap();
    let producer = client.producer().acks(Acks::Leader).build();
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let producer = producer.clone();
            tokio::spawn(async move {
                for n in 0..50 {
                    let record = ProducerRecord::to("t")
                        .key(format!("{task}"))
                        .value(n.to_string());
                    producer.send(record).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        soon(task).await.unwrap();
    }
    soon(producer.close(Duration::from_secs(5))).await.unwrap();
    let mut last = std::collections::HashMap::new();
    let mut reader = soon(client.reader("t").until(Until::End).build())
        .await
        .unwrap();
    let mut count = 0;
    while let Some(record) = soon(reader.next()).await.unwrap() {
        let n: i32 = String::from_utf8_lossy(record.value.as_ref().unwrap())
            .parse()
            .unwrap();
        let before = last.insert(record.key.clone(), n).unwrap_or(-1);
        assert_eq!(n, before + 1, "each task's records in order");
        count += 1;
    }
    assert_eq!(count, 800);
}

#[tokio::test(flavor = "current_thread")]
async fn on_one_thread() {
    many_tasks_share_one_producer().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_several_threads() {
    many_tasks_share_one_producer().await;
}

#[tokio::test]
async fn futures_may_move_between_threads() {
    is_sync::<Client>();
    is_sync::<Producer>();
    is_sync::<Reader>();
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let client = soon(quick(&broker).connect()).await.unwrap();
    let producer = client.producer().build();
    let sending = async move {
        producer
            .send(ProducerRecord::to("t").value("x"))
            .await
            .unwrap();
        producer
            .enqueue_many("t", None, ["a", "b"])
            .await
            .unwrap()
            .await
            .unwrap();
        producer.flush().await;
        producer.close(Duration::ZERO).await.unwrap();
    };
    is_send_and_static(&sending);
    soon(sending).await;
    let reading = async move {
        let mut reader = client.reader("t").until(Until::End).build().await.unwrap();
        while let Some(batch) = reader.next_batch().await.unwrap() {
            let _ = batch.to_records().unwrap();
        }
    };
    is_send_and_static(&reading);
    soon(reading).await;
}
