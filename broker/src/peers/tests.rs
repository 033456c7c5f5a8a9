use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use bytes::Bytes;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::frame::{decode_body, encode_error_response};
use highwater_protocol::messages::{RaftProbeRequest, RaftProbeResponse};
use tokio::sync::{Notify, Semaphore};

use super::test_broker::{TestBroker, answer};
use super::*;

const ME: NodeId = NodeId::new(1);
const OTHER: NodeId = NodeId::new(2);
/// A test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn probe(number: u32) -> RaftProbeRequest {
    RaftProbeRequest {
        target: OTHER,
        from: NodeId::new(number),
    }
}

/// Says in the term who asked.
fn echo(request: &RaftProbeRequest) -> RaftProbeResponse {
    RaftProbeResponse {
        term: request.from.get().into(),
        leader: None,
    }
}

async fn echoing(cluster: ClusterId) -> TestBroker {
    TestBroker::start(OTHER, cluster, |header, input| {
        Box::pin(async move {
            let request = decode_body(input, header.version).expect("a probe");
            answer(header, &echo(&request))
        })
    })
    .await
}

fn peers_at(cluster: ClusterId, address: std::net::SocketAddr) -> Arc<Peers> {
    let address = address.to_string();
    let book: AddressBook = Arc::new(move |node| (node == OTHER).then(|| address.clone()));
    Peers::new(ME, cluster, book, Handle::current())
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn answers_reach_their_requests_in_any_order_over_one_connection() {
    let cluster = ClusterId::random();
    let all_are_there = Arc::new(Semaphore::new(0));
    let arrived = Arc::new(AtomicUsize::new(0));
    let gate = Arc::clone(&all_are_there);
    let broker = TestBroker::start(OTHER, cluster, move |header, input| {
        let gate = Arc::clone(&gate);
        if arrived.fetch_add(1, Ordering::SeqCst) == 99 {
            gate.add_permits(100);
        }
        Box::pin(async move {
            let request: RaftProbeRequest = decode_body(input, header.version).expect("a probe");
            // Nobody is answered before everybody has asked; then the last ones first.
            gate.acquire().await.expect("open").forget();
            tokio::time::sleep(Duration::from_micros(
                u64::from(100 - request.from.get()) * 100,
            ))
            .await;
            answer(header, &echo(&request))
        })
    })
    .await;
    let peers = peers_at(cluster, broker.address);
    let calls = (0..100).map(|number| {
        let peers = Arc::clone(&peers);
        async move {
            let response = peers.call(OTHER, &probe(number), PATIENCE).await;
            assert_eq!(response.expect("an answer").term, u64::from(number));
        }
    });
    futures_util::future::join_all(calls).await;
    assert_eq!(broker.connections(), 1);
}

#[tokio::test]
async fn a_node_that_is_not_the_wanted_one_gets_nothing_but_hello() {
    let cluster = ClusterId::random();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let count = move |_, _| -> super::test_broker::Handling {
        counter.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { None })
    };
    let wrong_node = TestBroker::start(NodeId::new(3), cluster, count.clone()).await;
    let wrong_cluster = TestBroker::start(OTHER, ClusterId::random(), count).await;
    for broker in [&wrong_node, &wrong_cluster] {
        let peers = peers_at(cluster, broker.address);
        let error = peers.call(OTHER, &probe(0), PATIENCE).await;
        let error = error.expect_err("it is somebody else");
        assert!(matches!(error, PeerError::WrongPeer { .. }), "{error}");
        assert!(!error.may_be_done());
        assert_eq!(broker.hellos(), 1);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_late_answer_is_not_taken_for_another_ones() {
    let cluster = ClusterId::random();
    let release = Arc::new(Notify::new());
    let gate = Arc::clone(&release);
    let late_is_sent = Arc::new(Notify::new());
    let sent = Arc::clone(&late_is_sent);
    let broker = TestBroker::start(OTHER, cluster, move |header, input| {
        let (gate, sent) = (Arc::clone(&gate), Arc::clone(&sent));
        Box::pin(async move {
            let request: RaftProbeRequest = decode_body(input, header.version).expect("a probe");
            if request.from == NodeId::new(1) {
                gate.notified().await;
                sent.notify_one();
            }
            answer(header, &echo(&request))
        })
    })
    .await;
    let peers = peers_at(cluster, broker.address);
    // The first answer makes sure that the connection is there, whatever the machine is busy with.
    assert!(peers.call(OTHER, &probe(7), PATIENCE).await.is_ok());
    let error = peers
        .call(OTHER, &probe(1), Duration::from_millis(30))
        .await;
    let error = error.expect_err("it is not answered");
    assert!(matches!(error, PeerError::TimedOut { .. }), "{error}");
    assert!(error.may_be_done());
    release.notify_one();
    late_is_sent.notified().await;
    for number in 2..10 {
        let response = peers.call(OTHER, &probe(number), PATIENCE).await;
        assert_eq!(response.expect("an answer").term, u64::from(number));
    }
    assert_eq!(broker.connections(), 1);
}

#[tokio::test]
async fn a_lost_connection_fails_its_calls_and_is_opened_again() {
    let cluster = ClusterId::random();
    let asked = Arc::new(Notify::new());
    let signal = Arc::clone(&asked);
    let broker = TestBroker::start(OTHER, cluster, move |_, _| {
        signal.notify_one();
        Box::pin(async { None })
    })
    .await;
    let listener_address = broker.address;
    let peers = peers_at(cluster, listener_address);
    let call = tokio::spawn({
        let peers = Arc::clone(&peers);
        async move { peers.call(OTHER, &probe(1), PATIENCE).await }
    });
    asked.notified().await;
    broker.stop();
    let error = call.await.expect("no panic").expect_err("nobody answered");
    assert!(matches!(error, PeerError::Lost { .. }), "{error}");
    assert!(error.may_be_done());

    let mut listener = None;
    until("the port is free again", || {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option");
        listener = socket
            .bind(listener_address)
            .and_then(|()| socket.listen(16))
            .ok();
        listener.is_some()
    })
    .await;
    let again = TestBroker::on(listener.expect("bound"), OTHER, cluster, |header, input| {
        Box::pin(async move {
            let request = decode_body(input, header.version).expect("a probe");
            answer(header, &echo(&request))
        })
    });
    let deadline = Instant::now() + PATIENCE;
    while peers.call(OTHER, &probe(1), PATIENCE).await.is_err() {
        assert!(Instant::now() < deadline, "it is never connected again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(again.hellos(), 1);
}

#[tokio::test]
async fn bytes_that_are_no_answer_end_the_connection() {
    let cluster = ClusterId::random();
    let garbage: [&'static [u8]; 3] = [
        // A frame of 4 GiB, one without room for a header, one with an error message that is none.
        &[0xff, 0xff, 0xff, 0xff, 1, 2, 3],
        &[0, 0, 0, 2, 7, 7],
        &[0, 0, 0, 8, 0, 0, 0, 1, 0, 1, 0xff, 0xff],
    ];
    for bytes in garbage {
        let broker = TestBroker::start(OTHER, cluster, move |_, _| {
            Box::pin(async move { Some(vec![Bytes::from_static(bytes)]) })
        })
        .await;
        let peers = peers_at(cluster, broker.address);
        let error = peers.call(OTHER, &probe(1), PATIENCE).await;
        let error = error.expect_err("garbage");
        assert!(matches!(error, PeerError::Lost { .. }), "{error}");
    }
}

#[tokio::test]
async fn an_answer_of_another_shape_is_an_error_of_its_call_only() {
    let cluster = ClusterId::random();
    let broker = TestBroker::start(OTHER, cluster, |header, input| {
        Box::pin(async move {
            let request: RaftProbeRequest = decode_body(input, header.version).expect("a probe");
            match request.from.get() {
                0 => answer(header, &77u8),
                1 => Some(encode_error_response(
                    ErrorCode::NodeRefused,
                    "not this one",
                    header.correlation,
                )),
                _ => answer(header, &echo(&request)),
            }
        })
    })
    .await;
    let peers = peers_at(cluster, broker.address);
    let malformed = peers.call(OTHER, &probe(0), PATIENCE).await;
    assert!(matches!(malformed, Err(PeerError::Malformed { .. })));
    let refused = peers.call(OTHER, &probe(1), PATIENCE).await;
    let expected = PeerError::Refused {
        code: ErrorCode::NodeRefused,
        message: "not this one".to_owned(),
    };
    assert_eq!(refused, Err(expected));
    assert!(peers.call(OTHER, &probe(2), PATIENCE).await.is_ok());
    assert_eq!(broker.connections(), 1);
}

#[tokio::test]
async fn a_node_that_is_down_fails_at_once_and_is_not_stormed() {
    let cluster = ClusterId::random();
    // It takes connections, and closes each before Hello is answered.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback");
    let address = listener.local_addr().expect("bound");
    let attempts = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&attempts);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            drop(stream);
        }
    });
    let peers = peers_at(cluster, address);
    let started = Instant::now();
    let mut calls = 0u32;
    while calls < 2_000 {
        let error = peers.call(OTHER, &probe(1), PATIENCE).await;
        let error = error.expect_err("nobody is there");
        assert!(matches!(error, PeerError::Unreachable { .. }), "{error}");
        calls += 1;
    }
    // One attempt at the start, and one for every pause that has passed since.
    let pauses = started.elapsed().as_millis() / BACKOFF_MIN.as_millis();
    let attempts = attempts.load(Ordering::SeqCst) as u128;
    assert!(attempts <= pauses + 1, "{attempts} in {pauses} pauses");

    let nobody: AddressBook = Arc::new(|_| None);
    let peers = Peers::new(ME, cluster, nobody, Handle::current());
    let error = peers.call(OTHER, &probe(1), PATIENCE).await;
    assert_eq!(error, Err(PeerError::NoAddress { node: OTHER }));
}

#[tokio::test]
async fn a_node_that_moved_is_followed() {
    let cluster = ClusterId::random();
    let before = echoing(cluster).await;
    let after = echoing(cluster).await;
    let addresses = [before.address.to_string(), after.address.to_string()];
    let moved = Arc::new(AtomicU32::new(0));
    let place = Arc::clone(&moved);
    let book: AddressBook =
        Arc::new(move |_| Some(addresses[place.load(Ordering::SeqCst) as usize].clone()));
    let peers = Peers::new(ME, cluster, book, Handle::current());
    assert!(peers.call(OTHER, &probe(1), PATIENCE).await.is_ok());
    assert_eq!((before.hellos(), after.hellos()), (1, 0));
    moved.store(1, Ordering::SeqCst);
    assert!(peers.call(OTHER, &probe(1), PATIENCE).await.is_ok());
    assert_eq!((before.hellos(), after.hellos()), (1, 1));
}

#[tokio::test]
async fn a_connection_on_which_nothing_arrives_any_more_is_replaced() {
    let cluster = ClusterId::random();
    let broker = TestBroker::start(OTHER, cluster, |_, _| Box::pin(async { None })).await;
    let peers = peers_at(cluster, broker.address);
    let deadline = Instant::now() + PATIENCE;
    while broker.connections() < 2 {
        assert!(Instant::now() < deadline, "it is never replaced");
        let error = peers
            .call(OTHER, &probe(1), Duration::from_millis(100))
            .await;
        assert!(error.is_err());
    }
}

#[test]
fn calls_may_come_from_any_runtime() {
    let io = tokio::runtime::Runtime::new().expect("a runtime");
    let cluster = ClusterId::random();
    let (broker, peers) = io.block_on(async {
        let broker = echoing(cluster).await;
        let peers = peers_at(cluster, broker.address);
        (broker, peers)
    });
    for number in 0..3 {
        let caller = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let response = caller.block_on(peers.call(OTHER, &probe(number), PATIENCE));
        assert_eq!(response.expect("an answer").term, u64::from(number));
    }
    assert_eq!(broker.connections(), 1);
}

#[tokio::test]
async fn one_question_to_whoever_is_there() {
    let cluster = ClusterId::random();
    let broker = echoing(cluster).await;
    let address = broker.address.to_string();
    let response = Peers::call_at(&address, &probe(5), PATIENCE).await;
    assert_eq!(response.expect("an answer").term, 5);
    assert_eq!(broker.hellos(), 1);
    broker.stop();
    until("the listener is gone", || {
        std::net::TcpStream::connect(broker.address).is_err()
    })
    .await;
    let error = Peers::call_at(&address, &probe(5), PATIENCE).await;
    let error = error.expect_err("nobody is there");
    assert!(matches!(error, PeerError::Unreachable { .. }), "{error}");
}
