//! The admin endpoint over a real socket, with a broker that is only pretended.

mod fake;
mod hostile;
mod openapi;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use highwater_config::{AdminConfig, BrokerConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use self::fake::FakeBackend;
use super::{AdminServer, ReadinessView, RecoveryView, Status};

/// Nothing here takes a fraction of it; it keeps a fault from hanging the tests.
const DEADLINE: Duration = Duration::from_secs(20);

/// A server, and what it talks to.
struct Served {
    server: AdminServer,
    backend: Arc<FakeBackend>,
}

/// An answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Self {
            status: status.unwrap_or_else(|| panic!("not an HTTP answer: {text:?}")),
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn error_code(&self) -> String {
        let json = self.json();
        assert!(
            json["error"]["message"]
                .as_str()
                .is_some_and(|m| !m.is_empty()),
            "{json}"
        );
        json["error"]["code"].as_str().unwrap().to_owned()
    }
}

impl Served {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut AdminConfig)) -> Self {
        let mut config = BrokerConfig::default().admin;
        change(&mut config);
        let backend = Arc::new(FakeBackend::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = AdminServer::start(listener, Arc::clone(&backend) as Arc<_>, &config).unwrap();
        Self { server, backend }
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address()).await.unwrap()
    }

    /// Sends bytes as they are and reads until the other side closes.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        // The other side may close before it has read all of it.
        let _ = stream.write_all(bytes).await;
        read_to_end(&mut stream).await
    }

    async fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        Answer::parse(&self.raw(request.as_bytes()).await)
    }

    async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "", "").await
    }

    async fn create(&self, body: &Value) -> Answer {
        let json = "Content-Type: application/json\r\n";
        self.request("POST", "/v1/topics", json, &body.to_string())
            .await
    }
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset after the answer is as good as an end: the answer is what counts.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut bytes))
        .await
        .expect("the server must close");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn health_and_readiness() {
    let served = Served::start().await;
    let health = served.get("/healthz").await;
    assert_eq!(
        (health.status, health.json()),
        (200, json!({"status": "ok"}))
    );

    let ready = served.get("/readyz").await;
    assert_eq!(ready.status, 200);
    let expected = json!({"status": "serving", "partitions_offline": 0, "disk_is_low": false});
    assert_eq!(ready.json(), expected);

    served.backend.be(ReadinessView {
        status: Status::Recovering,
        waits_for: None,
        recovery: Some(RecoveryView {
            partitions_done: 3,
            partitions_total: 10,
        }),
        partitions_offline: 1,
        disk_is_low: true,
    });
    let ready = served.get("/readyz").await;
    assert_eq!(ready.status, 503);
    let expected = json!({
        "status": "recovering",
        "recovery": {"partitions_done": 3, "partitions_total": 10},
        "partitions_offline": 1,
        "disk_is_low": true,
    });
    assert_eq!(ready.json(), expected);
    assert_eq!(served.get("/healthz").await.status, 200);
    assert_eq!(served.get("/metrics").await.status, 200);
    for path in ["/v1/cluster", "/v1/topics", "/v1/topics/a"] {
        let answer = served.get(path).await;
        assert_eq!(
            (answer.status, answer.error_code().as_str()),
            (503, "NotReady"),
            "{path}"
        );
    }
    assert_eq!(served.create(&json!({"name": "a"})).await.status, 503);

    served.backend.be(ReadinessView {
        status: Status::Stopping,
        waits_for: None,
        recovery: None,
        partitions_offline: 0,
        disk_is_low: false,
    });
    assert_eq!(served.get("/readyz").await.status, 503);
    assert_eq!(served.get("/v1/topics").await.error_code(), "ShuttingDown");
}

/// A load balancer takes a broker out that must not answer clients; its operator can still look at it.
#[tokio::test]
async fn a_fenced_broker_is_not_ready_and_still_tells_what_it_knows() {
    let served = Served::start().await;
    for (status, name) in [(Status::Fenced, "fenced"), (Status::Joining, "joining")] {
        served.backend.be(ReadinessView {
            status,
            waits_for: Some("its lease is over".to_owned()),
            recovery: None,
            partitions_offline: 0,
            disk_is_low: false,
        });
        let ready = served.get("/readyz").await;
        assert_eq!(ready.status, 503);
        assert_eq!(ready.json()["status"], name);
        assert_eq!(ready.json()["waits_for"], "its lease is over");
        assert_eq!(served.get("/healthz").await.status, 200);
        let expected = if status == Status::Fenced { 200 } else { 503 };
        for path in ["/v1/cluster", "/v1/cluster/quorum", "/v1/topics"] {
            assert_eq!(served.get(path).await.status, expected, "{name} {path}");
        }
    }
}

#[tokio::test]
async fn without_a_controller_the_answer_says_so() {
    let served = Served::start().await;
    assert_eq!(served.get("/v1/cluster/moves").await.status, 200);
    served.backend.lose_controller();
    let answer = served.get("/v1/cluster/moves").await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (503, "NotController")
    );
    assert!(answer.json()["error"]["hint"].is_string());
}

#[tokio::test]
async fn metrics_say_what_they_are() {
    let served = Served::start().await;
    let metrics = served.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(
        metrics
            .head
            .contains("content-type: application/openmetrics-text"),
        "{metrics:?}"
    );
    assert_eq!(metrics.body, "fake 1\n# EOF\n");
}

#[tokio::test]
async fn topics_come_and_go() {
    let served = Served::start().await;
    assert_eq!(served.get("/v1/topics").await.json(), json!({"topics": []}));

    let created = served
        .create(&json!({"name": "orders", "partitions": 3, "configs": {"retention.ms": "1d"}}))
        .await;
    assert_eq!(created.status, 201, "{created:?}");
    assert!(
        created.head.contains("location: /v1/topics/orders"),
        "{created:?}"
    );
    assert_eq!(created.json()["partitions"], 3);

    let again = served.create(&json!({"name": "orders"})).await;
    assert_eq!(
        (again.status, again.error_code().as_str()),
        (409, "TopicAlreadyExists")
    );
    assert!(again.json()["error"]["hint"].is_string());

    let listed = served.get("/v1/topics").await.json();
    assert_eq!(listed["topics"][0]["name"], "orders");
    let topic = served.get("/v1/topics/orders").await;
    assert_eq!(topic.status, 200);
    assert_eq!(topic.json()["partitions"].as_array().map(Vec::len), Some(3));
    assert_eq!(topic.json()["partitions"][0]["log"]["log_end"], 4);

    let deleted = served.request("DELETE", "/v1/topics/orders", "", "").await;
    assert_eq!((deleted.status, deleted.body.as_str()), (204, ""));
    let gone = served.request("DELETE", "/v1/topics/orders", "", "").await;
    assert_eq!(
        (gone.status, gone.error_code().as_str()),
        (404, "UnknownTopicOrPartition")
    );
    assert_eq!(served.get("/v1/topics/orders").await.status, 404);
}

#[tokio::test]
async fn a_topic_can_be_tried_out() {
    let served = Served::start().await;
    let tried = served
        .create(&json!({"name": "a", "validate_only": true}))
        .await;
    assert_eq!((tried.status, &tried.json()["id"]), (200, &Value::Null));
    assert_eq!(served.get("/v1/topics").await.json(), json!({"topics": []}));
}

#[tokio::test]
async fn bodies_that_are_no_topic_are_refused() {
    let served = Served::start().await;
    for (body, expected) in [
        ("", "EOF"),
        ("{", "EOF"),
        ("[]", "invalid length"),
        ("{}", "missing field `name`"),
        (r#"{"name": 1}"#, "expected a string"),
        (
            r#"{"name": "a", "partition": 3}"#,
            "unknown field `partition`, expected one of",
        ),
        (r#"{"name": "a", "partitions": -1}"#, "expected u32"),
        (r#"{"name": "a", "partitions": 4294967296}"#, "expected u32"),
        (
            r#"{"name": "a", "configs": {"retention.ms": 1}}"#,
            "expected a string",
        ),
        (r#"{"name": "a"} x"#, "trailing characters"),
    ] {
        let json = "Content-Type: application/json; charset=utf-8\r\n";
        let answer = served.request("POST", "/v1/topics", json, body).await;
        assert_eq!(
            (answer.status, answer.error_code().as_str()),
            (400, "MalformedBody"),
            "{body}"
        );
        let message = answer.json()["error"]["message"].to_string();
        assert!(message.contains(expected), "{body}: {message}");
    }
    let deep = "[".repeat(100_000);
    let json = "Content-Type: application/json\r\n";
    assert_eq!(
        served
            .request("POST", "/v1/topics", json, &deep)
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn errors_of_the_broker_keep_their_code() {
    let served = Served::start().await;
    let answer = served.create(&json!({"name": "a b"})).await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (400, "InvalidTopic")
    );
    let answer = served.create(&json!({"name": "full"})).await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (507, "DiskFull")
    );
}

#[tokio::test]
async fn what_is_not_there_says_so_in_json() {
    let served = Served::start().await;
    for path in [
        "/",
        "/v1",
        "/v1/topics/",
        "/v1/topics/a/b",
        "/metrics/",
        "/%00",
        "//healthz",
    ] {
        let answer = served.get(path).await;
        assert_eq!(
            (answer.status, answer.error_code().as_str()),
            (404, "NotFound"),
            "{path}"
        );
    }
    for (method, path) in [
        ("PUT", "/v1/topics"),
        ("POST", "/healthz"),
        ("BREW", "/v1/cluster"),
    ] {
        let answer = served.request(method, path, "", "").await;
        assert_eq!(
            (answer.status, answer.error_code().as_str()),
            (405, "MethodNotAllowed")
        );
        assert!(answer.head.contains("allow: "), "{answer:?}");
    }
    for name in ["%20", "a%2Fb", "..", "%ff", "a%00", &"x".repeat(250)] {
        let answer = served.get(&format!("/v1/topics/{name}")).await;
        assert_eq!(
            (answer.status, answer.error_code().as_str()),
            (400, "InvalidTopic"),
            "{name}"
        );
    }
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let served = Served::start().await;
    let answer = served.request("HEAD", "/healthz", "", "").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let served = Served::start().await;
    let mut stream = served.connect().await;
    for _ in 0..3 {
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut buffer = vec![0; 4096];
        let read = timeout(DEADLINE, stream.read(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            Answer::parse(std::str::from_utf8(&buffer[..read]).unwrap()).status,
            200
        );
    }
}

#[tokio::test]
async fn shutdown_finishes_what_is_under_way_and_frees_the_port() {
    let served = Served::start().await;
    let address = served.address();
    let mut idle = served.connect().await;
    let mut asked_before = served.connect().await;
    asked_before
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut buffer = [0; 1024];
    assert!(
        timeout(DEADLINE, asked_before.read(&mut buffer))
            .await
            .unwrap()
            .unwrap()
            > 0
    );
    let gate = served.backend.hold_creations();
    let mut waiting = served.connect().await;
    let body = r#"{"name": "late"}"#;
    let request = format!(
        "POST /v1/topics HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    waiting.write_all(request.as_bytes()).await.unwrap();
    timeout(DEADLINE, served.backend.creation_began())
        .await
        .unwrap();

    let shutdown = tokio::spawn(served.server.shutdown());
    // The port is closed first.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    gate.notify_one();
    assert_eq!(Answer::parse(&read_to_end(&mut waiting).await).status, 201);
    assert_eq!(read_to_end(&mut idle).await, "");
    assert_eq!(read_to_end(&mut asked_before).await, "");
    timeout(DEADLINE, shutdown).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_is_dropped_is_gone() {
    let served = Served::start().await;
    let address = served.address();
    drop(served);
    let gone = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, gone).await.unwrap();
}
