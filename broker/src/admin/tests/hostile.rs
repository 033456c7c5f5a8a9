//! Clients that mean no good, or know no better. Others are served meanwhile.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

async fn assert_alive(served: &Served) {
    let answer = timeout(DEADLINE, served.get("/healthz"))
        .await
        .expect("others are served");
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn garbage_is_answered_or_closed() {
    let served = Served::start().await;
    let hello: &[u8] =
        b"\x00\x00\x00\x20\x00\x00\x00\x01\x00\x00\x00\x00HWP1 a frame of the other port";
    for garbage in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
        hello,
        b"\r\n\r\n\r\n\r\nwhat",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nA\0B: 1\r\n\r\n",
        b"GET http://[::g]/ HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0xff; 4096],
    ] {
        let mut stream = served.connect().await;
        let _ = stream.write_all(garbage).await;
        let _ = stream.shutdown().await;
        let answer = read_to_end(&mut stream).await;
        assert!(
            answer.is_empty() || Answer::parse(&answer).status >= 400,
            "{answer:?}"
        );
    }
    assert_alive(&served).await;
}

#[tokio::test]
async fn requests_that_could_be_read_two_ways_are_refused() {
    let served = Served::start().await;
    let body = r#"{"name":"smuggled"}"#;
    for framing in [
        "Content-Length: 5\r\nContent-Length: 19",
        "Content-Length: -1",
        "Content-Length: 19, 19, 20",
        "Content-Length: 99999999999999999999999",
        "Transfer-Encoding: chunked, identity",
    ] {
        let request = format!(
            "POST /v1/topics HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{framing}\r\n\r\n{body}"
        );
        let mut stream = served.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert!(
            answer.is_empty() || Answer::parse(&answer).status >= 400,
            "{framing}: {answer:?}"
        );
    }
    assert_eq!(served.get("/v1/topics").await.json(), json!({"topics": []}));
}

#[tokio::test]
async fn heads_without_end_are_cut_off() {
    let served = Served::start().await;
    let long_path = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20));
    let long_header = format!(
        "GET /healthz HTTP/1.1\r\nA: {}\r\n\r\n",
        "a".repeat(1 << 20)
    );
    let many = format!(
        "GET /healthz HTTP/1.1\r\n{}\r\n",
        "A: b\r\n".repeat(100_000)
    );
    let some_more = format!("GET /healthz HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(65));
    for request in [long_path, long_header, many, some_more] {
        let answer = served.raw(request.as_bytes()).await;
        let refused = answer.is_empty() || matches!(Answer::parse(&answer).status, 400..=499);
        assert!(refused, "{answer:?}");
    }
    assert_alive(&served).await;
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused() {
    let served = Served::start_with(|config| config.request_bytes_max = 1024).await;
    let json = "Content-Type: application/json\r\n";
    let body = format!(r#"{{"name": "{}"}}"#, "a".repeat(2000));
    let answer = served.request("POST", "/v1/topics", json, &body).await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (413, "BodyTooLarge")
    );

    // Announced only: nothing is reserved, nothing waited for.
    let announced = "POST /v1/topics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                     Content-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n{";
    assert_eq!(
        Answer::parse(&served.raw(announced.as_bytes()).await).status,
        413
    );

    // Not announced: chunk after chunk.
    let mut chunked = "POST /v1/topics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                       Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        .to_owned();
    for _ in 0..100 {
        chunked.push_str("64\r\n");
        chunked.push_str(&"a".repeat(100));
        chunked.push_str("\r\n");
    }
    assert_eq!(
        Answer::parse(&served.raw(chunked.as_bytes()).await).status,
        413
    );
    assert_alive(&served).await;
}

#[tokio::test]
async fn web_pages_make_no_changes() {
    let served = Served::start().await;
    served.create(&json!({"name": "precious"})).await;
    let origin = "Origin: http://evil.example\r\nContent-Type: application/json\r\n";
    let body = r#"{"name": "evil"}"#;
    let answer = served.request("POST", "/v1/topics", origin, body).await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (403, "CrossOrigin")
    );
    let answer = served
        .request("DELETE", "/v1/topics/precious", origin, "")
        .await;
    assert_eq!(answer.status, 403);
    // A form of a page has no JSON to offer.
    let form = "Content-Type: text/plain\r\n";
    let answer = served.request("POST", "/v1/topics", form, body).await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (415, "UnsupportedMediaType")
    );
    assert_eq!(
        served.request("POST", "/v1/topics", "", body).await.status,
        415
    );
    let topics = served.get("/v1/topics").await.json();
    assert_eq!(topics["topics"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn slow_clients_are_cut_off_and_others_served() {
    let served = Served::start_with(|config| {
        config.request_timeout = Duration::from_secs(1);
    })
    .await;
    let mut silent = served.connect().await;
    let mut slow_head = served.connect().await;
    slow_head
        .write_all(b"GET /healthz HTTP/1.1\r\nHo")
        .await
        .unwrap();
    let mut slow_body = served.connect().await;
    let head = "POST /v1/topics HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{";
    slow_body.write_all(head.as_bytes()).await.unwrap();
    let mut idle = served.connect().await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();

    assert_alive(&served).await;
    assert_eq!(read_to_end(&mut silent).await, "");
    let answer = read_to_end(&mut slow_head).await;
    assert!(
        answer.is_empty() || Answer::parse(&answer).status == 408,
        "{answer:?}"
    );
    let answer = Answer::parse(&read_to_end(&mut slow_body).await);
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (408, "Timeout")
    );
    // Answered, kept for a while, then closed.
    assert_eq!(Answer::parse(&read_to_end(&mut idle).await).status, 200);
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_cut_off() {
    let served = Served::start_with(|config| {
        config.request_timeout = Duration::from_secs(1);
        config.connections_max = 1;
    })
    .await;
    served.backend.say("x".repeat(64 << 20));
    let mut deaf = served.connect().await;
    deaf.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 16];
    timeout(DEADLINE, deaf.read_exact(&mut first))
        .await
        .unwrap()
        .unwrap();
    // It holds the only place until it is given up.
    assert_alive(&served).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let served = Served::start_with(|config| config.connections_max = 2).await;
    let (first, second) = (served.connect().await, served.connect().await);
    let mut third = served.connect().await;
    third
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut buffer = [0; 1];
    let early = timeout(Duration::from_millis(100), third.peek(&mut buffer)).await;
    assert!(early.is_err(), "answered before a place was free");
    drop((first, second));
    assert_eq!(Answer::parse(&read_to_end(&mut third).await).status, 200);
}

#[tokio::test]
async fn very_many_connections_come_and_go() {
    let served = Served::start_with(|config| config.connections_max = 16).await;
    for _ in 0..20 {
        let mut open = Vec::new();
        for _ in 0..16 {
            open.push(served.connect().await);
        }
        drop(open);
    }
    assert_alive(&served).await;
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_stop_what_it_asked_for() {
    let served = Served::start().await;
    let gate = served.backend.hold_creations();
    let body = r#"{"name": "a"}"#;
    let mut stream = served.connect().await;
    let request = format!(
        "POST /v1/topics HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    timeout(DEADLINE, served.backend.creation_began())
        .await
        .unwrap();
    drop(stream);
    assert_alive(&served).await;
    gate.notify_one();
    let created = async {
        while served.get("/v1/topics/a").await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, created).await.unwrap();
}

#[tokio::test]
async fn a_half_closed_request_is_answered() {
    let served = Served::start().await;
    let mut stream = served.connect().await;
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(Answer::parse(&read_to_end(&mut stream).await).status, 200);
}

#[tokio::test]
async fn text_of_a_request_is_shown_without_harm() {
    let served = Served::start().await;
    let path = format!("/{}", "%3Cscript%3E".repeat(500));
    let answer = served.get(&path).await;
    assert_eq!(answer.status, 404);
    assert!(answer.body.len() < 600, "{}", answer.body.len());
    assert!(answer.head.contains("content-type: application/json"));
}
