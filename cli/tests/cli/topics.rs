//! `highwater topic` and `highwater cluster`.

use crate::harness::Broker;

#[test]
fn a_topic_from_creation_to_deletion() {
    let broker = Broker::start();
    let created = broker
        .run(&[
            "topic",
            "create",
            "orders",
            "-p",
            "3",
            "-c",
            "retention.ms=3d",
        ])
        .ok();
    assert_eq!(
        created,
        "topic orders created: 3 partitions, 1 replica each\n"
    );

    let list = broker.run(&["topic", "list", "-o", "json"]).json();
    assert_eq!(list[0]["name"], "orders");
    assert_eq!(list[0]["partitions"], 3);
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert!(broker.run(&["topic", "list"]).ok().contains("orders"));
    assert_eq!(
        broker.run(&["topic", "list", "x*", "-o", "json"]).json(),
        serde_json::json!([])
    );

    let described = broker
        .run(&["topic", "describe", "orders", "-o", "json"])
        .json();
    assert_eq!(described[0]["partitions"].as_array().unwrap().len(), 3);
    assert_eq!(described[0]["partitions"][2]["end_offset"], 0);
    let text = broker.run(&["topic", "describe", "orders"]).ok();
    assert!(
        text.contains("retention.ms") && text.contains("PARTITION"),
        "{text}"
    );

    broker
        .run(&[
            "topic",
            "add-partitions",
            "orders",
            "--to",
            "5",
            "--dry-run",
        ])
        .ok();
    let refused = broker
        .run(&["topic", "add-partitions", "orders", "--to", "3"])
        .fails(1);
    assert!(refused.contains("has 3 partitions already"), "{refused}");
    broker
        .run(&["topic", "add-partitions", "orders", "--to", "5"])
        .ok();
    let offsets = broker
        .run(&["topic", "offsets", "orders", "-o", "json"])
        .json();
    assert_eq!(offsets.as_array().unwrap().len(), 5);

    assert!(
        broker
            .run(&["topic", "delete", "orders", "--dry-run"])
            .ok()
            .contains("would be")
    );
    assert_eq!(
        broker.run(&["topic", "delete", "orders"]).ok(),
        "topic orders deleted\n"
    );
    broker
        .run(&["topic", "delete", "orders", "--if-exists"])
        .ok();
    let gone = broker.run(&["topic", "delete", "orders"]).fails(5);
    assert!(gone.contains("orders"), "{gone}");
}

#[test]
fn creating_twice_is_an_error_unless_asked_otherwise() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "a", "b"]).ok();
    let error = broker.run(&["topic", "create", "b", "c"]).fails(1);
    assert!(
        error.contains("b") && error.contains("--if-not-exists"),
        "{error}"
    );
    // The others of the same call are made all the same.
    let again = broker
        .run(&["topic", "create", "a", "c", "--if-not-exists", "-o", "json"])
        .json();
    assert_eq!(again[0]["created"], false);
    assert_eq!(again[1]["created"], false);
}

#[test]
fn a_dry_run_creates_nothing() {
    let broker = Broker::start();
    let text = broker
        .run(&["topic", "create", "a", "-p", "2", "--dry-run"])
        .ok();
    assert!(text.contains("would be created: 2 partitions"), "{text}");
    assert_eq!(
        broker.run(&["topic", "list", "-o", "json"]).json(),
        serde_json::json!([])
    );
    let wrong = broker
        .run(&[
            "topic",
            "create",
            "a",
            "-c",
            "retention.msx=1d",
            "--dry-run",
        ])
        .fails(1);
    assert!(wrong.contains("retention.ms"), "{wrong}");
}

#[test]
fn more_than_one_replica_is_refused_clearly() {
    let broker = Broker::start();
    let error = broker.run(&["topic", "create", "a", "-r", "2"]).fails(1);
    assert!(
        error.starts_with("error: ") && error.contains("hint: "),
        "{error}"
    );
    assert!(error.contains("replica"), "{error}");
    let json = broker
        .run(&["topic", "create", "a", "-r", "2", "-o", "json"])
        .fails(1);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["error"]["code"], "InvalidReplicationFactor");
}

#[test]
fn settings_of_a_topic() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "a"]).ok();
    let value = |key: &str| {
        let configs = broker
            .run(&["topic", "config", "a", "get", key, "-o", "json"])
            .json();
        (configs[0]["value"].clone(), configs[0]["source"].clone())
    };
    let (default, source) = value("retention.bytes");
    assert_eq!(source, "default");
    broker
        .run(&[
            "topic",
            "config",
            "a",
            "set",
            "retention.bytes=1GiB",
            "--dry-run",
        ])
        .ok();
    assert_eq!(value("retention.bytes").0, default);
    broker
        .run(&[
            "topic",
            "config",
            "a",
            "set",
            "retention.bytes=1GiB",
            "retention.ms=1d",
        ])
        .ok();
    let (changed, source) = value("retention.bytes");
    assert_eq!(
        (changed.as_str(), source.as_str()),
        (Some("1GiB"), Some("topic"))
    );
    broker
        .run(&["topic", "config", "a", "unset", "retention.bytes"])
        .ok();
    assert_eq!(value("retention.bytes").0, default);

    let error = broker
        .run(&["topic", "config", "a", "set", "cleanup.policy=compact"])
        .fails(1);
    assert!(error.contains("compact"), "{error}");
    broker.run(&["topic", "config", "nothere", "get"]).fails(5);
}

#[test]
fn trimming_deletes_the_oldest_records() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "a", "-p", "1"]).ok();
    broker.run_with(&["produce", "a"], "0\n1\n2\n3\n4\n").ok();
    let dry = broker
        .run(&[
            "topic",
            "trim",
            "a",
            "--before",
            "2",
            "--dry-run",
            "-o",
            "json",
        ])
        .json();
    assert_eq!(
        (&dry[0]["records"], &dry[0]["trimmed"]),
        (&2.into(), &false.into())
    );
    broker.run(&["topic", "trim", "a", "--before", "2"]).ok();
    let offsets = broker.run(&["topic", "offsets", "a", "-o", "json"]).json();
    assert_eq!(
        (&offsets[0]["start_offset"], &offsets[0]["end_offset"]),
        (&2.into(), &5.into())
    );
    assert_eq!(broker.run(&["consume", "a", "-e"]).ok(), "2\n3\n4\n");
    let beyond = broker
        .run(&["topic", "trim", "a", "--before", "9"])
        .fails(1);
    assert!(beyond.contains("ends at offset 5"), "{beyond}");
    broker.run(&["topic", "trim", "a", "--before", "end"]).ok();
    assert_eq!(broker.run(&["consume", "a", "-e"]).ok(), "");
}

#[test]
fn offsets_by_time() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "a", "-p", "1"]).ok();
    let records = "{\"value\":\"x\",\"timestamp\":1767225600000}\n{\"value\":\"y\",\"timestamp\":1767225660000}\n";
    broker
        .run_with(&["produce", "a", "--from-json"], records)
        .ok();
    let at = |time: &str| {
        let found = broker
            .run(&["topic", "offsets", "a", "--at", time, "-o", "json"])
            .json();
        found[0]["offset"].clone()
    };
    assert_eq!(at("earliest"), 0);
    assert_eq!(at("latest"), 2);
    assert_eq!(at("max-ts"), 1);
    assert_eq!(at("@2026-01-01T00:00Z"), 0);
    assert_eq!(at("@2026-01-01T00:00:30Z"), 1);
    assert_eq!(at("@2026-01-02"), serde_json::Value::Null);
}

#[test]
fn the_cluster_shows_its_broker() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "a", "-p", "4"]).ok();
    let info = broker.run(&["cluster", "info", "-o", "json"]).json();
    assert_eq!(
        (&info["topics"], &info["partitions"]),
        (&1.into(), &4.into())
    );
    let (host, port) = broker.address.rsplit_once(':').unwrap();
    assert_eq!(info["brokers"][0]["host"], host);
    assert_eq!(info["brokers"][0]["port"].to_string(), port);
    let text = broker.run(&["cluster", "info"]).ok();
    assert!(text.contains(&broker.address), "{text}");
}
