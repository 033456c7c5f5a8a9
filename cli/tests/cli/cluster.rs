//! `highwater cluster`, `node` and `partition` against a cluster of one broker.

use crate::harness::Broker;

#[test]
fn one_broker_with_all_its_partitions_is_healthy() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "orders", "-p", "3"]).ok();
    let health = broker.run(&["cluster", "health", "-o", "json"]).json();
    assert_eq!(health["state"], "healthy", "{health}");
    assert_eq!(health["partitions"], 3);
    assert_eq!(health["under_replicated"], 0);
    let text = broker
        .run(&["cluster", "health", "--wait", "healthy", "--timeout", "10s"])
        .ok();
    assert!(text.starts_with("state             healthy\n"), "{text}");
}

#[test]
fn waiting_for_a_cluster_that_is_not_there_times_out() {
    let run = crate::harness::run(&[
        "cluster",
        "health",
        "--wait",
        "healthy",
        "--timeout",
        "1s",
        "-b",
        "127.0.0.1:1",
    ]);
    let error = run.fails(1);
    assert!(error.contains("127.0.0.1:1"), "{error}");
}

#[test]
fn a_node_is_listed_and_described() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "orders", "-p", "2"]).ok();
    let nodes = broker.run(&["node", "list", "-o", "json"]).json();
    assert_eq!(nodes.as_array().unwrap().len(), 1);
    let id = nodes[0]["node_id"].to_string();
    let node = broker.run(&["node", "describe", &id, "-o", "json"]).json();
    assert_eq!(node["partitions"].as_array().unwrap().len(), 2, "{node}");
    assert_eq!(node["partitions"][0]["leads"], true);
    let text = broker.run(&["node", "describe", &id]).ok();
    assert!(text.contains("orders/1   leader  yes"), "{text}");
    let error = broker.run(&["node", "describe", "99"]).fails(5);
    assert!(error.contains("node 99"), "{error}");
}

#[test]
fn partitions_are_listed_by_condition() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "a", "b", "-p", "2"]).ok();
    let all = broker.run(&["partition", "list", "-o", "json"]).json();
    assert_eq!(all.as_array().unwrap().len(), 4);
    let of_b = broker.run(&["partition", "list", "b", "-o", "json"]).json();
    assert_eq!(of_b[0]["topic"], "b");
    assert_eq!(of_b[0]["condition"], "healthy");
    for only in ["under-replicated", "offline", "at-min-isr", "moving"] {
        let none = broker.run(&["partition", "list", "--only", only, "-o", "json"]);
        assert_eq!(none.json().as_array().unwrap().len(), 0, "{only}");
    }
    broker.run(&["partition", "list", "nowhere"]).fails(5);
}
