//! When nothing is moved.

use highwater_coordination::safe_mode::SafeMode;

use crate::cluster::*;

const SESSION_MS: u64 = 6_000;

fn settled(cluster: &Cluster) -> SafeMode {
    let mut mode = SafeMode::at_activation(0, SESSION_MS);
    mode.observe(&cluster.image, &cluster.loads, 0);
    mode.observe(&cluster.image, &cluster.loads, SESSION_MS);
    assert_eq!(mode.reason(), None);
    mode
}

#[test]
fn a_new_controller_waits_for_one_session_without_a_change() {
    let mut cluster = Cluster::without_racks(3);
    cluster.set(3, FENCED);
    let mut mode = SafeMode::at_activation(1_000, SESSION_MS);
    assert!(mode.reason().is_some());
    mode.observe(&cluster.image, &cluster.loads, 1_000);
    cluster.set(3, UP);
    mode.observe(&cluster.image, &cluster.loads, 5_000);
    mode.observe(&cluster.image, &cluster.loads, 5_000 + SESSION_MS - 1);
    assert_eq!(
        mode.reason().unwrap(),
        "safe mode: the controller became active a short while ago"
    );
    mode.observe(&cluster.image, &cluster.loads, 5_000 + SESSION_MS);
    assert_eq!(mode.reason(), None);
}

#[test]
fn a_broker_that_is_not_there_is_waited_for_until_it_is_absent_for_a_session() {
    let mut cluster = Cluster::without_racks(3);
    cluster.set(3, FENCED);
    let mut mode = SafeMode::at_activation(0, SESSION_MS);
    mode.observe(&cluster.image, &cluster.loads, 0);
    // Fenced and not silent: it is starting.
    mode.observe(&cluster.image, &cluster.loads, 10 * SESSION_MS);
    assert_eq!(
        mode.reason().unwrap(),
        "safe mode: the controller became active a short while ago; waiting for node 3"
    );
    cluster.load(3).absent_since_ms = Some(11 * SESSION_MS);
    mode.observe(&cluster.image, &cluster.loads, 12 * SESSION_MS);
    assert!(mode.reason().is_some());
    mode.observe(&cluster.image, &cluster.loads, 12 * SESSION_MS + 1);
    assert_eq!(mode.reason(), None);
}

#[test]
fn more_than_a_third_fenced_at_once_is_safe_mode_and_a_third_is_not() {
    let mut cluster = Cluster::without_racks(6);
    let mut mode = settled(&cluster);
    for id in [1, 2] {
        cluster.lose(id, 20_000);
        mode.observe(&cluster.image, &cluster.loads, 20_000);
        assert_eq!(mode.reason(), None);
    }
    // One more, but later than a session timeout.
    cluster.lose(3, 20_001 + SESSION_MS);
    mode.observe(&cluster.image, &cluster.loads, 20_001 + SESSION_MS);
    assert_eq!(mode.reason(), None);

    let mut cluster = Cluster::without_racks(6);
    let mut mode = settled(&cluster);
    for (id, now_ms) in [(1, 20_000), (2, 22_000), (3, 20_000 + SESSION_MS)] {
        cluster.lose(id, now_ms);
        mode.observe(&cluster.image, &cluster.loads, now_ms);
    }
    assert_eq!(
        mode.reason().unwrap(),
        "safe mode: 3 of 6 brokers were lost at once; waiting for node 1, 2, 3"
    );
    for id in [1, 2, 3] {
        cluster.comes_back(id);
    }
    mode.observe(&cluster.image, &cluster.loads, 30_000);
    assert!(mode.reason().is_some());
    mode.observe(&cluster.image, &cluster.loads, 30_000 + SESSION_MS);
    assert_eq!(mode.reason(), None);
}

#[test]
fn brokers_that_stop_in_order_are_no_outage() {
    let mut cluster = Cluster::without_racks(3);
    let mut mode = settled(&cluster);
    for id in 1..=3 {
        let stopping = Flags {
            shutting_down: true,
            ..UP
        };
        cluster.set(id, stopping);
        mode.observe(&cluster.image, &cluster.loads, 20_000);
        cluster.set(
            id,
            Flags {
                fenced: true,
                ..stopping
            },
        );
        mode.observe(&cluster.image, &cluster.loads, 20_001);
    }
    assert_eq!(mode.reason(), None);
}
