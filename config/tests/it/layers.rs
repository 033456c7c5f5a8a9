//! Which layer wins, how names and values may be written, and what is remembered about them.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use highwater_config::{
    BrokerConfig, Durability, Flag, LoadOptions, LogFormat, Origin, Switch, load, variable,
};

use super::*;

#[test]
fn nothing_said_is_the_defaults() {
    let loaded = load(&LoadOptions::default()).unwrap();
    assert_eq!(loaded.config, BrokerConfig::default());
    assert!(
        loaded
            .values()
            .iter()
            .all(|(_, _, origin)| **origin == Origin::Default)
    );

    let config = loaded.config;
    assert_eq!(config.listen, "127.0.0.1:7171");
    assert_eq!(config.admin.listen.as_deref(), Some("127.0.0.1:7180"));
    assert_eq!(config.data_dir, PathBuf::from("./highwater-data"));
    assert_eq!(config.node_id, None);
    assert_eq!(config.network.frame_bytes_max, 64 << 20);
    assert_eq!(config.topic_defaults.durability, Durability::Synced);
    assert_eq!(
        config.topic_defaults.retention_ms,
        Some(Duration::from_secs(7 * 86_400))
    );
    assert_eq!(config.topic_defaults.retention_bytes, None);
    // A batch of 1 MiB of records, and ten thousand connections from one address, are let in.
    assert!(config.topic_defaults.max_message_bytes > (1 << 20) + 61);
    assert!(config.network.connections_per_ip_max > 10_000);
    assert!(config.network.connections_max >= config.network.connections_per_ip_max);
}

#[test]
fn each_layer_overrides_those_before_it_and_says_so() {
    let mut toml = tempfile::NamedTempFile::new().unwrap();
    let text = "segment.bytes = '1GiB'\nlisten = 'a:1'\n\n[retention]\nms = '1d'\nbytes = '1GiB'\n";
    toml.write_all(text.as_bytes()).unwrap();
    let loaded = load(&LoadOptions {
        file: Some(toml.path().to_owned()),
        environment: environment(&[
            ("HIGHWATER_LISTEN", "b:2"),
            ("HIGHWATER_RETENTION_MS", "2d"),
            ("HIGHWATER_RETENTION_BYTES", "2GiB"),
            ("PATH", "/bin"),
        ]),
        sets: ["listen=c:3", "retention.ms=3d", "retention.ms=4d"]
            .map(String::from)
            .to_vec(),
        flags: vec![Flag {
            flag: "--listen",
            key: "listen",
            values: vec!["d:4".into()],
        }],
    })
    .unwrap();
    assert_eq!(loaded.config.listen, "d:4");
    assert_eq!(
        loaded.config.topic_defaults.retention_ms,
        Some(Duration::from_secs(4 * 86_400))
    );
    assert_eq!(loaded.config.topic_defaults.retention_bytes, Some(2 << 30));
    assert_eq!(loaded.config.topic_defaults.segment_bytes, 1 << 30);

    let origin = |key| loaded.origins.of(key).to_string();
    assert_eq!(origin("listen"), "--listen");
    assert_eq!(origin("retention.ms"), "--set");
    assert_eq!(
        origin("retention.bytes"),
        "environment variable HIGHWATER_RETENTION_BYTES"
    );
    assert_eq!(
        origin("segment.bytes"),
        format!("{}:1", toml.path().display())
    );
    assert_eq!(origin("durability"), "default");
}

#[test]
fn the_environment_alone_can_set_every_setting() {
    for setting in highwater_config::SETTINGS {
        if setting.key == "cluster.seeds" {
            continue;
        }
        let loaded = load_environment(&[(&variable(setting), setting.default)]).unwrap();
        assert_eq!(loaded.config, BrokerConfig::default());
        assert!(matches!(
            loaded.origins.of(setting.key),
            Origin::Environment { .. }
        ));
    }
}

#[test]
fn tables_dots_and_quotes_are_the_same_name() {
    for text in [
        "network.idle.timeout = '5m'",
        "[network]\nidle.timeout = '5m'",
        "[network.idle]\ntimeout = '5m'",
        "[network]\nidle = { timeout = '5m' }",
        "'network.idle.timeout' = '5m'",
        "connections.max.idle.ms = 300000",
        "connections.max.idle.ms = 300_000",
        "connections.max.idle.ms = '300s'",
    ] {
        let loaded = file(text).unwrap();
        assert_eq!(
            loaded.config.network.idle_timeout,
            Duration::from_secs(300),
            "{text}"
        );
    }
}

#[test]
fn values_of_other_products_are_understood() {
    let loaded = file(
        "log.dirs = '/srv/hw'\nlisteners = 'PLAINTEXT://127.0.0.1:9092'\nbroker.id = 3\n\
         log.retention.ms = -1\nretention.bytes = -1\nlog.segment.bytes = 1073741824\n\
         message.max.bytes = 1048588\nmessage.timestamp.type = 'CreateTime'\n\
         cleanup.policy = ['delete']\nnum.partitions = 12\n",
    )
    .unwrap();
    let config = loaded.config;
    assert_eq!(config.data_dir, PathBuf::from("/srv/hw"));
    assert_eq!(config.listen, "127.0.0.1:9092");
    assert_eq!(
        config.node_id.map(highwater_protocol::ids::NodeId::get),
        Some(3)
    );
    assert_eq!(config.topic_defaults.retention_ms, None);
    assert_eq!(config.topic_defaults.retention_bytes, None);
    assert_eq!(config.topic_defaults.segment_bytes, 1 << 30);
    assert_eq!(config.topic_defaults.max_message_bytes, 1_048_588);
    assert_eq!(config.new_topics.partitions, 12);
}

#[test]
fn a_cluster_of_another_product_is_understood() {
    let loaded = file(
        "broker.heartbeat.interval.ms = 2000\nbroker.session.timeout.ms = 9000\n\
         controller.quorum.election.timeout.ms = 1000\nreplica.lag.time.max.ms = 30000\n\
         replica.fetch.wait.max.ms = 500\nreplica.fetch.response.max.bytes = 10485760\n\
         broker.rack = 'a'\ndefault.replication.factor = 3\nmin.insync.replicas = 2\n\
         cluster.seeds = ['PLAINTEXT://b0:7171', 'b1:7171']\n",
    )
    .unwrap();
    let config = loaded.config;
    let ms = Duration::from_millis;
    assert_eq!(config.cluster.heartbeat_interval, ms(2000));
    assert_eq!(config.cluster.session_timeout, ms(9000));
    assert_eq!(config.cluster.election_timeout, ms(1000));
    assert_eq!(config.replication.lag_time_max, ms(30_000));
    assert_eq!(config.replication.fetch_bytes_max, 10 << 20);
    assert_eq!(config.rack.as_deref(), Some("a"));
    assert_eq!(config.new_topics.replicas, Some(3));
    assert_eq!(config.topic_defaults.min_insync_replicas, Some(2));
    assert_eq!(config.seeds, ["b0:7171", "b1:7171"]);
    assert_eq!(loaded.warnings.len(), 0, "{:?}", loaded.warnings);
}

/// What depends on how many brokers there are is decided where that is known, unless it is said.
#[test]
fn what_is_left_to_the_cluster_is_none() {
    let auto = load_sets(&[
        "default.replication.factor=auto",
        "min.insync.replicas=Auto",
        "heal.after=never",
        "leader.balance.interval=off",
        "replication.catchup.rate=unlimited",
        "storage.scrub.interval=OFF",
        "balance.on.node.add=OFF",
    ])
    .unwrap()
    .config;
    assert_eq!(auto.new_topics.replicas, None);
    assert_eq!(auto.topic_defaults.min_insync_replicas, None);
    assert_eq!(auto.healing.after, None);
    assert_eq!(auto.healing.leader_balance_interval, None);
    assert_eq!(auto.healing.balance_on_add, Switch::Off);
    assert_eq!(auto.replication.catchup_rate, None);
    assert_eq!(auto.storage.scrub_interval, None);
    let default = BrokerConfig::default();
    assert_eq!(default.new_topics.replicas, None, "auto by default");
    assert_eq!(default.topic_defaults.min_insync_replicas, None);
    let value = |key| default.value(key).unwrap();
    assert_eq!(value("default.replication.factor"), "auto");
    assert_eq!(value("min.insync.replicas"), "auto");

    let set = load_sets(&["default.replication.factor=5", "min.insync.replicas=4"])
        .unwrap()
        .config;
    assert_eq!(set.new_topics.replicas, Some(5));
    assert_eq!(set.topic_defaults.min_insync_replicas, Some(4));
}

#[test]
fn words_for_no_value_and_words_of_choices_ignore_case() {
    let loaded = load_sets(&[
        "admin.listen=OFF",
        "node.id=auto",
        "rack=None",
        "log.format=JSON",
        "durability=Replicated",
        "log.level=info,highwater_storage::log=debug",
    ])
    .unwrap();
    assert_eq!(loaded.config.admin.listen, None);
    assert_eq!(loaded.config.rack, None);
    assert_eq!(loaded.config.log.format, LogFormat::Json);
    assert_eq!(
        loaded.config.topic_defaults.durability,
        Durability::Replicated
    );
    assert_eq!(loaded.config.log.level, "info,highwater_storage::log=debug");
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
}

#[test]
fn what_is_probably_not_meant_is_said() {
    let warned = |set| load_sets(&[set]).unwrap().warnings.join("\n");
    assert!(warned("listen=0.0.0.0:7171").contains("no authentication"));
    assert!(warned("admin.listen=[::]:7180").contains("delete topics"));
    assert!(warned("data.dir=/tmp/x").contains("reboot"));
    assert!(warned("retention.ms=1h").contains("`segment.ms` (7d)"));
    assert!(warned("retention.bytes=1MiB").contains("last segment"));
    let told = load_sets(&["listen=0.0.0.0:7171", "advertised.listen=hw.example:7171"]).unwrap();
    assert_eq!(told.warnings.len(), 1);
    assert!(warned("durability=replicated").contains("there is one replica"));
    let of = |sets: &[&str]| load_sets(sets).unwrap().warnings.join("\n");
    let replicated = "durability=replicated";
    assert_eq!(of(&[replicated, "default.replication.factor=3"]), "");
    assert_eq!(of(&[replicated, "cluster.seeds=a:1,b:1,c:1"]), "");
    let alone = [replicated, "cluster.seeds=a:1,b:1", "min.insync.replicas=1"];
    assert!(of(&alone).contains("while a leader is alone"));
    assert_eq!(warned("listen=[::1]:0"), "");
    assert_eq!(warned("listen=localhost:7171"), "");
}

#[test]
fn links_that_an_orchestrator_sets_are_not_settings() {
    load_environment(&[
        ("HIGHWATER_SERVICE_HOST", "10.0.0.1"),
        ("HIGHWATER_PORT", "tcp://10.0.0.1:7171"),
        ("HIGHWATER_PORT_7171_TCP_ADDR", "10.0.0.1"),
        ("HIGHWATER_CONFIG", "/etc/highwater.toml"),
    ])
    .unwrap();
}

#[test]
fn values_round_trip_through_their_text() {
    let sets = [
        "retention.ms=1h30m",
        "segment.bytes=100000000",
        "flush.max.delay=1500ms",
        "advertised.listen=broker-0.example:7171",
        "network.threads=3",
    ];
    let loaded = load_sets(&sets).unwrap();
    assert_eq!(
        loaded.config.value("flush.max.delay").as_deref(),
        Some("1s500ms")
    );
    let again: Vec<String> = loaded
        .values()
        .iter()
        .map(|(setting, value, _)| format!("{}={value}", setting.key))
        .collect();
    let again: Vec<&str> = again.iter().map(String::as_str).collect();
    assert_eq!(load_sets(&again).unwrap().config, loaded.config);
}
