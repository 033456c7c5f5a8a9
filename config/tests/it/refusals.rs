//! Everything that must be refused, with the message that a person sees.

use std::io::Write;
use std::path::PathBuf;

use highwater_config::{BrokerConfig, LoadOptions, load};

use super::*;

#[test]
fn all_faults_of_all_layers_are_reported_at_once() {
    let mut toml = tempfile::NamedTempFile::new().unwrap();
    let text = "retention.sm = '7d'\n\n[network]\nidle_timeout = '5m'\nthreads = 0\n\n\
                [ssl]\nkeystore.location = '/x'\n";
    toml.write_all(text.as_bytes()).unwrap();
    let errors = load(&LoadOptions {
        file: Some(toml.path().to_owned()),
        environment: environment(&[
            ("HIGHWATER_SEGMENT_BYTE", "1GiB"),
            ("HIGHWATER_LISTEN", "7171"),
        ]),
        sets: [
            "retention.bytes",
            "segment.bytes=1MiB",
            "network.connections.max=5",
        ]
        .map(String::from)
        .to_vec(),
        flags: Vec::new(),
    })
    .unwrap_err();
    let at = toml.path().display();
    assert_eq!(
        messages(&errors),
        [
            format!("{at}:1: unknown setting `retention.sm`; did you mean `retention.ms`?"),
            format!(
                "{at}:4: unknown setting `network.idle_timeout`; did you mean `network.idle.timeout`?"
            ),
            format!("{at}:5: `network.threads`: \"0\" is out of range; allowed is 1 to 1024"),
            format!(
                "{at}:8: `ssl.keystore.location`: TLS and authentication are not supported yet; \
                 listen on a loopback address or a private network"
            ),
            "environment variable HIGHWATER_LISTEN: `listen`: \"7171\" is not an address: \
             the port is missing; write host:port"
                .to_owned(),
            "unknown environment variable HIGHWATER_SEGMENT_BYTE; did you mean \
             `HIGHWATER_SEGMENT_BYTES`?"
                .to_owned(),
            "--set: \"retention.bytes\" is not `key=value`".to_owned(),
            "`max.message.bytes`, `segment.bytes`: a batch of 2MiB does not fit into a segment of 1MiB"
                .to_owned(),
            "`network.connections.per.ip.max`, `network.connections.max`: one address is allowed \
             more connections (12000) than all together (5)"
                .to_owned(),
        ]
    );
    assert!(
        errors
            .to_string()
            .starts_with("9 faults in the configuration:\n  ")
    );
}

#[test]
fn bad_values_are_refused() {
    for (set, expected) in [
        ("retention.ms=", "is empty"),
        ("retention.ms=soon", "is not a duration"),
        ("retention.ms=-2", "is not a duration"),
        ("retention.ms=0", "out of range"),
        ("retention.ms=99999999999999999999", "is too large"),
        ("retention.ms=7 fortnights", "unknown unit `fortnights`"),
        ("network.idle.timeout=600", "has no unit"),
        ("network.idle.timeout=999ms", "allowed is 1s to 30d"),
        ("segment.bytes=1G", "unknown unit `G`"),
        ("segment.bytes=-1", "is not a size"),
        ("segment.bytes=4GiB", "out of range"),
        ("segment.bytes=0.3KiB", "finer than one byte"),
        ("segment.bytes=18446744073709551616", "is too large"),
        ("node.id=-1", "not a whole number"),
        ("node.id=4294967296", "allowed is 0 to 2147483647"),
        ("node.id=one", "not a whole number"),
        ("node.id=1.0", "not a whole number"),
        ("network.threads=0x10", "not a whole number"),
        ("listen=:7171", "the host is missing"),
        ("listen=localhost", "the port is missing"),
        ("listen=localhost:70000", "is not a port"),
        ("listen=a b:1", "is not a host name"),
        ("listen=::1:7171", "needs brackets"),
        ("listen=SSL://a:1", "needs brackets"),
        ("advertised.listen=a:0", "port 0 makes no sense"),
        ("advertised.listen=0.0.0.0:7171", "is a wildcard"),
        ("data.dir=", "must not be empty"),
        ("data.dir=a\0b", "control character"),
        ("rack=", "must not be empty"),
        ("log.level=verbose", "\"verbose\", which is neither"),
        ("log.level=info,=debug", "which is neither"),
        ("log.level=", "must not be empty"),
        ("log.format=xml", "is not one of text, json"),
        ("durability=fast", "is not one of synced, replicated"),
        ("cleanup.policy=compact", "no compaction"),
        ("cleanup.policy=compact,delete", "no compaction"),
        ("cleanup.policy=compost", "is not one of delete"),
        ("compression.type=lz4", "is not supported yet"),
        (
            "message.timestamp.type=LogAppendTime",
            "is not supported yet",
        ),
        ("min.insync.replicas=0", "allowed is 1 to 32"),
        ("min.insync.replicas=all", "not a whole number"),
        ("default.replication.factor=33", "allowed is 1 to 32"),
        ("cluster.voters=0", "allowed is 1 to 9"),
        ("cluster.voters=auto", "not a whole number"),
        ("heal.after=0", "allowed is 100ms to 365d"),
        ("heal.disk.max.percent=101", "allowed is 1 to 100"),
        ("balance.on.node.add=yes", "is not one of on, off"),
        ("storage.scrub.rate=unlimited", "is not a size"),
        ("cluster.seeds=a:1,b", "the port is missing"),
        ("num.partitions=0", "out of range"),
        ("num.partitions=1000000", "out of range"),
        ("=1", "unknown setting ``"),
    ] {
        let errors = messages(&load_sets(&[set]).unwrap_err());
        assert_eq!(errors.len(), 1, "{set}: {errors:?}");
        assert!(errors[0].contains(expected), "{set}: {errors:?}");
    }
}

#[test]
fn settings_that_do_not_work_are_refused_not_ignored() {
    for (key, expected) in [
        (
            "min.cleanable.dirty.ratio",
            "compaction is not supported yet",
        ),
        ("min.compaction.lag.ms", "compaction is not supported yet"),
        ("delete.retention.ms", "compaction is not supported yet"),
        ("log.cleaner.threads", "compaction is not supported yet"),
        ("flush.messages", "use `durability`"),
        ("log.retention.hours", "use `retention.ms`"),
        ("auto.create.topics.enable", "highwater topic create"),
        ("unclean.leader.election.enable", "an operator asks for one"),
        ("replica.fetch.max.bytes", "use `replica.fetch.bytes.max`"),
        ("num.replica.fetchers", "one fetcher for each broker"),
        ("controlled.shutdown.enable", "within `shutdown.timeout`"),
        ("auto.leader.rebalance.enable", "`leader.balance.interval`"),
        ("controller.quorum.voters", "`cluster.voters`"),
        ("controller.listener.names", "`listen`"),
        ("process.roles", "`cluster.voters`"),
        ("sasl.enabled.mechanisms", "not supported yet"),
        ("remote.storage.enable", "tiered storage"),
        ("offsets.topic.num.partitions", "consumer groups"),
    ] {
        let errors = faults(&format!("{key} = '1'"));
        assert_eq!(errors.len(), 1, "{key}: {errors:?}");
        assert!(errors[0].contains(expected), "{key}: {errors:?}");
    }
}

#[test]
fn values_must_fit_together() {
    for (sets, expected) in [
        (
            vec!["max.message.bytes=64MiB"],
            "does not fit into a frame of 64MiB",
        ),
        (
            vec!["max.message.bytes=1MiB", "segment.bytes=512KiB"],
            "a segment of 512KiB",
        ),
        (
            vec!["network.connection.in.flight.bytes.max=1MiB"],
            "can never send a frame of 64MiB",
        ),
        (
            vec!["network.in.flight.bytes.max=32MiB"],
            "the whole broker (32MiB)",
        ),
        (vec!["network.handshake.timeout=1h"], "may not take longer"),
        (vec!["admin.listen=127.0.0.1:7171"], "both listen on"),
        (
            vec!["cluster.heartbeat.interval=3s"],
            "with a heartbeat every 3s a session of 6s ends before three of them were missed",
        ),
        (
            vec!["cluster.session.timeout=1499ms"],
            "with a heartbeat every 500ms a session of 1s499ms",
        ),
        (
            vec!["replica.fetch.wait.max=6s"],
            "a follower that is answered every 6s cannot show within 10s that it is in sync",
        ),
        (
            vec!["replica.lag.time.max=999ms"],
            "answered every 500ms cannot show within 999ms",
        ),
        (
            vec!["min.insync.replicas=3", "default.replication.factor=2"],
            "with 2 replicas there are never 3 in sync",
        ),
    ] {
        let errors = messages(&load_sets(&sets).unwrap_err());
        assert_eq!(errors.len(), 1, "{sets:?}: {errors:?}");
        assert!(errors[0].contains(expected), "{sets:?}: {errors:?}");
    }
    // The default of a value that could not be read contradicts nothing.
    let errors = load_sets(&["network.frame.bytes.max=big", "max.message.bytes=100MiB"]);
    assert_eq!(errors.unwrap_err().faults().len(), 1);
    // At the edge, and where one of two is decided later.
    for sets in [
        &["cluster.session.timeout=1500ms"][..],
        &["replica.lag.time.max=1s"],
        &["min.insync.replicas=2", "default.replication.factor=2"],
        &["min.insync.replicas=3", "default.replication.factor=auto"],
        &["min.insync.replicas=auto", "default.replication.factor=1"],
    ] {
        load_sets(sets).unwrap();
    }
    // Two on port 0 get two ports.
    load_sets(&["listen=127.0.0.1:0", "admin.listen=127.0.0.1:0"]).unwrap();
}

#[test]
fn a_file_that_is_no_configuration_is_refused() {
    let missing = LoadOptions {
        file: Some(PathBuf::from("/no/such")),
        ..LoadOptions::default()
    };
    assert!(
        load(&missing)
            .unwrap_err()
            .to_string()
            .starts_with("cannot read /no/such: ")
    );
    let dir = tempfile::tempdir().unwrap();
    let directory = LoadOptions {
        file: Some(dir.path().to_owned()),
        ..LoadOptions::default()
    };
    assert!(
        load(&directory)
            .unwrap_err()
            .to_string()
            .ends_with("it is a directory")
    );
    let read = |bytes: &[u8]| {
        let path = dir.path().join("x.toml");
        std::fs::write(&path, bytes).unwrap();
        load(&LoadOptions {
            file: Some(path),
            ..LoadOptions::default()
        })
    };
    assert!(
        read(b"a = '\xff'")
            .unwrap_err()
            .to_string()
            .ends_with("it is not UTF-8")
    );
    assert!(
        read(&vec![b'#'; 2 << 20])
            .unwrap_err()
            .to_string()
            .ends_with("larger than 1MiB")
    );
    assert!(read(b"").is_ok());
    assert!(read(b"\xef\xbb\xbfrack = 'a'").is_ok());
}

#[test]
fn syntax_faults_carry_their_line_and_do_not_hide_others() {
    let errors = faults("rack = 'a'\nlisten = \nretention.sm = '1d'\nrack = 'b'\n");
    assert!(
        errors.iter().any(|e| e.starts_with("test.toml:2: ")),
        "{errors:?}"
    );
    assert!(
        errors
            .iter()
            .any(|e| e.contains("did you mean `retention.ms`?")),
        "{errors:?}"
    );
    assert!(
        errors.iter().any(|e| e.starts_with("test.toml:4: ")),
        "{errors:?}"
    );
}

#[test]
fn one_setting_under_two_names_is_refused() {
    let errors = faults("segment.bytes = '1GiB'\nlog.segment.bytes = '2GiB'\n");
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].starts_with("test.toml:2: `segment.bytes` is given twice"),
        "{errors:?}"
    );
    assert_eq!(
        faults("'retention.ms' = '1d'\nretention.ms = '2d'").len(),
        1
    );
}

#[test]
fn values_of_the_wrong_kind_are_refused() {
    for text in [
        "segment.bytes = true",
        "segment.bytes = 1.5",
        "segment.bytes = 0x10",
        "segment.bytes = [1, 2]",
        "segment.bytes = [[1]]",
        "segment.bytes = 1979-05-27",
        "segment.bytes = nan",
        "[segment.bytes]\nx = 1",
        "[[segment.bytes]]\nx = 1",
        "segment = 1",
        "cluster.seeds = [1979-05-27]",
    ] {
        assert_eq!(faults(text).len(), 1, "{text}");
    }
}

#[test]
fn what_came_from_outside_is_shown_without_harm() {
    let long = "x".repeat(100_000);
    for set in [
        format!("{long}=1"),
        format!("rack={long}"),
        format!("log.level={long}"),
    ] {
        let message = load_sets(&[&set]).unwrap_err().to_string();
        assert!(message.len() < 600, "{}", message.len());
    }
    let message = load_sets(&["\u{1b}[31mred=1"]).unwrap_err().to_string();
    assert!(!message.contains('\u{1b}'), "{message:?}");
    let message = load_sets(&["log.format=\u{1b}[31m\n"])
        .unwrap_err()
        .to_string();
    assert!(!message.contains(['\u{1b}', '\n']), "{message:?}");
}

#[test]
fn variables_that_are_not_text_are_refused_if_they_are_ours() {
    use std::os::unix::ffi::OsStringExt;
    let bad = || std::ffi::OsString::from_vec(vec![0xff]);
    let load_one = |name: &str| {
        let environment = vec![(name.into(), bad()), (bad(), bad())];
        load(&LoadOptions {
            environment,
            ..LoadOptions::default()
        })
    };
    let message = load_one("HIGHWATER_RACK").unwrap_err().to_string();
    assert_eq!(message, "environment variable HIGHWATER_RACK is not UTF-8");
    load_one("OTHER").unwrap();
}

#[test]
fn a_configuration_made_in_code_is_checked_as_well() {
    let mut config = BrokerConfig::default();
    config.network.threads = Some(0);
    config.listen = "nowhere".to_owned();
    config.topic_defaults.segment_bytes = 1;
    let errors = config.validate().unwrap_err();
    let keys: Vec<_> = messages(&errors);
    assert_eq!(keys.len(), 4, "{keys:?}");
    assert!(
        keys.iter()
            .any(|e| e.starts_with("configuration: `network.threads`: \"0\""))
    );
}
