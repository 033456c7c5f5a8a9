//! Connections: the handshake, what ends them, and coming back.

use std::time::Duration;

use highwater_client::{Client, ConnectError, ProducerRecord};
use highwater_protocol::api_key::ApiKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{FakeBroker, Verdict, eventually, quick, soon};

/// Listens and answers every connection with these bytes.
async fn foreign_service(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut request = [0; 64];
                let _ = socket.read(&mut request).await;
                let _ = socket.write_all(answer).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn something_else_on_the_port_is_named() {
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"[..],
        b"\0\0\0\x04abcd",
        b"\0\0\0\x06\0\0\0\0\0\0",
        b"\xff\xff\xff\xff",
    ] {
        let address = foreign_service(answer).await;
        let error = soon(Client::connect(&address)).await.unwrap_err();
        assert!(
            matches!(error, ConnectError::NotHighwater { .. }),
            "{answer:?}: {error:?}"
        );
        assert!(!error.is_retriable());
    }
}

#[tokio::test]
async fn a_service_that_hangs_up_may_be_a_broker_that_stops() {
    for answer in [&b""[..], b"\0"] {
        let address = foreign_service(answer).await;
        let error = soon(Client::connect(&address)).await.unwrap_err();
        assert!(
            matches!(error, ConnectError::Io { .. }),
            "{answer:?}: {error:?}"
        );
        assert!(error.is_retriable());
    }
}

#[tokio::test]
async fn a_silent_service_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connecting = Client::builder()
        .seed(address)
        .connect_timeout(Duration::from_millis(50))
        .connect();
    let error = soon(connecting).await.unwrap_err();
    assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");
    assert!(error.is_retriable());
}

#[tokio::test]
async fn nobody_there_is_an_error_that_names_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = soon(Client::connect(&address)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Io { .. }), "{error}");
    assert!(error.to_string().contains(&address), "{error}");
    assert!(error.is_retriable());
}

#[tokio::test]
async fn bad_addresses_are_refused_before_connecting() {
    for bad in ["", "nohost", ":7171", "host:", "host:port", "host:70000"] {
        let error = soon(Client::connect(bad)).await.unwrap_err();
        assert!(
            matches!(error, ConnectError::InvalidAddress { .. }),
            "{bad}: {error}"
        );
    }
    let error = soon(Client::builder().connect()).await.unwrap_err();
    assert!(matches!(error, ConnectError::NoSeeds));
}

#[tokio::test]
async fn any_seed_that_answers_will_do() {
    let broker = FakeBroker::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = listener.local_addr().unwrap().to_string();
    drop(listener);
    let client = soon(Client::builder().seeds([gone, broker.address()]).connect())
        .await
        .unwrap();
    drop(client);
}

#[tokio::test]
async fn the_expected_cluster_is_demanded() {
    let broker = FakeBroker::start().await;
    let client = soon(quick(&broker).connect()).await.unwrap();
    soon(quick(&broker).expect_cluster(client.cluster_id()).connect())
        .await
        .unwrap();
    let other = highwater_client::ClusterId::random();
    let error = soon(quick(&broker).expect_cluster(other).connect())
        .await
        .unwrap_err();
    assert!(
        matches!(error, ConnectError::WrongCluster { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn an_api_that_the_broker_lacks_fails_without_asking() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    broker.drop_api(ApiKey::Produce);
    let client = soon(quick(&broker).connect()).await.unwrap();
    let producer = client.producer().build();
    let error = soon(producer.send(ProducerRecord::to("t").value("x")))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "UnsupportedVersion", "{error}");
    assert!(!error.is_retriable() && !error.may_have_committed());
    assert_eq!(producer.buffered_bytes(), 0);
}

#[tokio::test]
async fn one_connection_serves_all_and_answers_come_in_any_order() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    broker.topic("u", 1);
    let client = soon(quick(&broker).connect()).await.unwrap();
    let (held, told) = tokio::sync::oneshot::channel();
    broker.on_first_produces(vec![Verdict::AppendAndHold(told)]);
    let producer = client.producer().build();
    let slow = producer
        .enqueue(ProducerRecord::to("t").value("x"))
        .await
        .unwrap();
    eventually("it is there", || broker.produce_calls() == 1).await;
    // A long poll and an unanswered produce are pending; others overtake them.
    let mut reader = client
        .reader("u")
        .fetch_wait(Duration::from_secs(60))
        .build()
        .await
        .unwrap();
    for _ in 0..10 {
        soon(producer.send(ProducerRecord::to("u").value("y")))
            .await
            .unwrap();
    }
    assert!(soon(reader.next()).await.unwrap().is_some());
    held.send(()).unwrap();
    soon(slow).await.unwrap();
    assert_eq!(broker.connections(), 1);
}

#[tokio::test]
async fn a_silent_connection_is_given_up_and_made_anew() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    broker.on_first_produces(vec![Verdict::AppendAndForget]);
    let client = quick(&broker)
        .request_timeout(Duration::from_millis(100))
        .connect();
    let client = soon(client).await.unwrap();
    let producer = client.producer().build();
    soon(producer.send(ProducerRecord::to("t").value("x")))
        .await
        .unwrap();
    assert_eq!(broker.connections(), 2);
    assert_eq!(broker.produce_calls(), 2);
    assert_eq!(
        broker.records("t", 0).len(),
        1,
        "the second attempt is recognized"
    );
}

#[tokio::test]
async fn dropping_everything_closes_the_connection() {
    let broker = FakeBroker::start().await;
    let client = soon(quick(&broker).connect()).await.unwrap();
    drop(client);
    // Its tasks end: a current-thread runtime would otherwise keep them for ever.
    let metrics = tokio::runtime::Handle::current().metrics();
    eventually("only the broker's tasks are left", || {
        metrics.num_alive_tasks() <= 1
    })
    .await;
}
