use super::*;
use highwater_coordination::partition_health::{LeaderEvents, PartitionHealth};
use highwater_protocol::ids::{NodeId, TopicName};

fn line<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(start)?.strip_prefix(' '))
}

#[test]
fn what_was_observed_is_rendered() {
    let metrics = Metrics::new();
    metrics.request_answered(ApiKey::Produce, Duration::from_micros(3));
    metrics.request_answered(ApiKey::Produce, Duration::from_secs(100));
    metrics.request_failed(ApiKey::Fetch, ErrorCode::Busy);
    metrics.request_failed(ApiKey::Fetch, ErrorCode::Unrecognized(9999));
    metrics.produce_refused(ErrorCode::DiskFull);
    metrics.produced(100);
    metrics.fetched(200);
    metrics.bytes_in(10);
    metrics.bytes_in(20);
    metrics.bytes_out(5);
    metrics.connection_opened();
    metrics.connection_opened();
    metrics.connection_closed();
    metrics.connection_refused();
    metrics.disk_free(u64::MAX);
    let replication = metrics.replication();
    replication.received(1000);
    replication.sent(2000);
    replication.catchup_waits();
    replication.isr_proposals_failed(3);
    replication.leader_events(LeaderEvents {
        elected: 4,
        elected_unclean: 1,
        isr_shrinks: 5,
        isr_expands: 6,
    });

    let text = metrics.render(Scrape::default());
    let value = |start| line(&text, start);
    assert_eq!(
        value("highwater_requests_total{api=\"Produce\"}"),
        Some("2")
    );
    assert_eq!(value("highwater_requests_total{api=\"Hello\"}"), Some("0"));
    let errors = |code| {
        line(
            &text,
            &format!("highwater_request_errors_total{{api=\"Fetch\",code=\"{code}\"}}"),
        )
    };
    assert_eq!(errors("Busy"), Some("1"));
    assert_eq!(errors("Unrecognized"), Some("1"));
    assert_eq!(
        value("highwater_produce_refused_total{code=\"DiskFull\"}"),
        Some("1")
    );
    let bucket = |le| {
        let labels = format!("{{le=\"{le}\",api=\"Produce\"}}");
        line(
            &text,
            &format!("highwater_request_duration_seconds_bucket{labels}"),
        )
    };
    assert_eq!(bucket("0.000002"), Some("0"), "{text}");
    assert_eq!(bucket("0.000004"), Some("1"));
    assert_eq!(bucket("67.108864"), Some("1"));
    assert_eq!(bucket("+Inf"), Some("2"));
    assert_eq!(
        value("highwater_request_duration_seconds_count{api=\"Produce\"}"),
        Some("2")
    );
    assert_eq!(
        value("highwater_request_duration_seconds_sum{api=\"Produce\"}"),
        Some("100.000003")
    );
    assert_eq!(value("highwater_received_bytes_total"), Some("30"));
    assert_eq!(value("highwater_sent_bytes_total"), Some("5"));
    assert_eq!(value("highwater_produced_bytes_total"), Some("100"));
    assert_eq!(value("highwater_fetched_bytes_total"), Some("200"));
    for (name, expected) in [
        ("replication_received_bytes", "1000"),
        ("replication_sent_bytes", "2000"),
        ("replication_catchup_waits", "1"),
        ("isr_proposals_failed", "3"),
        ("leaders_elected", "4"),
        ("unclean_elections", "1"),
        ("isr_shrinks", "5"),
        ("isr_expands", "6"),
    ] {
        let start = format!("highwater_{name}_total");
        assert_eq!(line(&text, &start), Some(expected), "{name}");
    }
    assert_eq!(value("highwater_connections"), Some("1"));
    assert_eq!(value("highwater_connections_opened_total"), Some("2"));
    assert_eq!(value("highwater_connections_refused_total"), Some("1"));
    assert_eq!(
        value("highwater_disk_free_bytes"),
        Some("9223372036854775807")
    );
    assert!(value("process_resident_memory_bytes").is_some());
    assert!(value("process_cpu_seconds_total").is_some());
    assert!(value("process_open_fds").is_some());
    assert!(text.contains("highwater_build_info{version=\""));
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn the_state_of_the_moment_is_rendered() {
    let scrape = Scrape {
        topics: 1,
        partitions: vec![PartitionScrape {
            topic: TopicName::new("orders").unwrap(),
            partition: 7,
            log_start: 1,
            high_watermark: 2,
            log_end: 4,
            durable_end: 3,
            size_bytes: 500,
            segments: 2,
        }],
        partitions_offline: 3,
        in_flight_bytes: 10,
        in_flight_bytes_max: 20,
        admission_waiting: 4,
        disk_is_low: true,
        storage: Some(StorageScrape {
            sync_durations: DurationBuckets {
                buckets: vec![(0.001, 5), (0.01, 1)],
                sum_seconds: 0.5,
            },
            sync_failures: 1,
            segments_prepared: 8,
            segments_late: 2,
            disk_full: 6,
        }),
        cluster: Some(ClusterScrape {
            controller: Some(ControllerScrape {
                safe_mode: true,
                moves_under_way: 5,
                moves_waiting: 6,
                brokers_fenced: 1,
            }),
            metadata_applied: 100,
            metadata_published: 99,
            quorum_term: 3,
            quorum_has_leader: true,
            is_voter: true,
            is_fenced: false,
            lease: Duration::from_millis(2500),
            heartbeat_age: Some(Duration::from_millis(500)),
            replicas: 12,
            led: PartitionHealth {
                partitions: 4,
                under_replicated: 2,
                below_min_isr: 1,
                ..PartitionHealth::default()
            },
            leaderless: 7,
            follower_lags: vec![(NodeId::new(2), 0), (NodeId::new(3), 40)],
        }),
    };
    let text = Metrics::new().render(scrape);
    let value = |start| line(&text, start);
    for (name, expected) in [
        ("log_start", "1"),
        ("high_watermark", "2"),
        ("log_end", "4"),
        ("durable_end", "3"),
        ("size_bytes", "500"),
        ("segments", "2"),
    ] {
        let start = format!("highwater_partition_{name}{{topic=\"orders\",partition=\"7\"}}");
        assert_eq!(line(&text, &start), Some(expected), "{name}");
    }
    for (name, expected) in [
        ("controller_active", "1"),
        ("metadata_applied_index", "100"),
        ("metadata_published_index", "99"),
        ("quorum_term", "3"),
        ("quorum_leader_known", "1"),
        ("quorum_voter", "1"),
        ("broker_fenced", "0"),
        ("lease_remaining_seconds", "2.5"),
        ("heartbeat_age_seconds", "0.5"),
        ("replicas", "12"),
        ("partitions_led", "4"),
        ("partitions_under_replicated", "2"),
        ("partitions_below_min_isr", "1"),
        ("partitions_leaderless", "7"),
        ("follower_lag_records{follower=\"3\"}", "40"),
        ("safe_mode", "1"),
        ("moves_under_way", "5"),
        ("moves_waiting", "6"),
        ("brokers_fenced", "1"),
    ] {
        let start = format!("highwater_{name}");
        assert_eq!(line(&text, &start), Some(expected), "{name}");
    }
    assert_eq!(value("highwater_partitions_offline"), Some("3"));
    assert_eq!(value("highwater_in_flight_bytes"), Some("10"));
    assert_eq!(value("highwater_admission_waiting"), Some("4"));
    assert_eq!(value("highwater_disk_low"), Some("1"));
    assert_eq!(value("highwater_segments_late_total"), Some("2"));
    assert_eq!(value("highwater_disk_full_total"), Some("6"));
    assert_eq!(
        value("highwater_sync_duration_seconds_bucket{le=\"0.01\"}"),
        Some("6")
    );
    assert_eq!(
        value("highwater_sync_duration_seconds_bucket{le=\"+Inf\"}"),
        Some("6")
    );
    assert_eq!(value("highwater_sync_duration_seconds_count"), Some("6"));
}

/// Two brokers in one process count apart.
#[test]
fn nothing_is_global() {
    let (one, two) = (Metrics::new(), Metrics::new());
    one.bytes_in(1);
    let text = two.render(Scrape::default());
    assert_eq!(line(&text, "highwater_received_bytes_total"), Some("0"));
}

/// Each family is described once, and its samples stand right behind: what parsers insist on.
#[test]
fn the_text_is_well_formed() {
    let metrics = Metrics::new();
    metrics.request_failed(ApiKey::Hello, ErrorCode::Busy);
    let text = metrics.render(Scrape {
        storage: Some(StorageScrape::default()),
        cluster: Some(ClusterScrape {
            controller: Some(ControllerScrape::default()),
            heartbeat_age: Some(Duration::ZERO),
            follower_lags: vec![(NodeId::new(2), 1)],
            ..ClusterScrape::default()
        }),
        ..Scrape::default()
    });
    let mut described = std::collections::BTreeSet::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            current = rest.split(' ').next().unwrap().to_owned();
            assert!(
                described.insert(current.clone()),
                "{current} is described twice"
            );
        } else if !line.starts_with('#') {
            assert!(line.starts_with(&current), "{line} stands under {current}");
            let (_, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    assert!(described.len() > 20);
}
