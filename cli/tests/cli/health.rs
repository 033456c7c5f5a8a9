//! `highwater health`, as the health check of a container runs it.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use crate::harness::{Broker, highwater, run, run_command};

#[test]
fn a_broker_that_serves_is_ready() {
    let broker = Broker::start();
    let url = format!("http://{}/readyz", broker.admin);
    let answer = run(&["health", "--url", &url]).ok();
    assert!(answer.contains("serving"), "{answer}");
}

#[test]
fn without_a_url_the_configuration_tells_where_to_ask() {
    let broker = Broker::start();
    let (_, port) = broker.admin.rsplit_once(':').unwrap();
    let mut health = highwater();
    health
        .arg("health")
        .env("HIGHWATER_ADMIN_LISTEN", format!("0.0.0.0:{port}"));
    run_command(&mut health, b"").ok();
    health.env("HIGHWATER_ADMIN_LISTEN", "off");
    let error = run_command(&mut health, b"").fails(1);
    assert!(error.contains("admin endpoint is off"), "{error}");
}

#[test]
fn what_is_not_ready_fails() {
    let broker = Broker::start();
    let missing = format!("http://{}/nothing", broker.admin);
    let error = run(&["health", "--url", &missing]).fails(1);
    assert!(error.contains("404"), "{error}");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/readyz", listener.local_addr().unwrap());
    // Connected by the kernel, answered by nobody.
    let error = run(&["health", "--url", &url, "--timeout", "100ms"]).fails(3);
    assert!(error.contains("no answer"), "{error}");

    let recovering = std::thread::spawn(move || {
        let (_unanswered, _) = listener.accept().unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let length = stream.read(&mut request).unwrap();
        stream
            .write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n{\"status\":\"recovering\"}")
            .unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let error = run(&["health", "--url", &url]).fails(1);
    assert!(error.contains("recovering"), "{error}");
    let request = recovering.join().unwrap();
    assert!(request.starts_with("GET /readyz HTTP/1.1\r\n"), "{request}");

    // The listener is gone now.
    run(&["health", "--url", &url]).fails(1);
    run(&["health", "--url", "nonsense"]).fails(64);
}
