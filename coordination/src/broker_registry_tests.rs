use highwater_protocol::ids::{BrokerEpoch, DirectoryId};
use highwater_protocol::metadata_record::MetadataRecord;

use super::*;

const SESSION: u64 = 6_000;

fn node(id: u32) -> NodeId {
    NodeId::new(id)
}

fn incarnation(id: u32) -> IncarnationId {
    IncarnationId::from_bytes(u128::from(id).to_be_bytes())
}

/// Registered and unfenced brokers, in the incarnation of their id.
fn image(ids: &[u32]) -> ClusterImage {
    let mut image = ClusterImage::default();
    for id in ids {
        let registered = MetadataRecord::BrokerRegistered {
            node_id: node(*id),
            broker_epoch: BrokerEpoch::new(1),
            directory: DirectoryId::from_bytes([0; 16]),
            incarnation: incarnation(*id),
            host: String::new(),
            port: 1,
            rack: None,
            version: String::new(),
        };
        image.apply(&registered).unwrap();
        set_fenced(&mut image, *id, false);
    }
    image
}

fn set_fenced(image: &mut ClusterImage, id: u32, fenced: bool) {
    let broker = image.broker(node(id)).unwrap();
    let record = broker.changed(node(id), |marks| marks.fenced = fenced);
    image.apply(&record).unwrap();
}

fn beat(id: u32) -> BrokerHeartbeatRequest {
    BrokerHeartbeatRequest {
        node_id: node(id),
        broker_epoch: BrokerEpoch::new(1),
        metadata_index: 10,
        wants_fence: false,
        wants_shutdown: false,
        offline: Vec::new(),
        to_rebuild: Vec::new(),
        log_bytes: 5,
        disk_free: 6,
        disk_total: 7,
    }
}

fn active(image: &ClusterImage, now_ms: u64) -> BrokerRegistry {
    let mut registry = BrokerRegistry::default();
    registry.activate(image, node(1), incarnation(1), now_ms);
    registry
}

#[test]
fn a_new_controller_gives_everybody_a_full_session() {
    let image = image(&[1, 2, 3]);
    let mut registry = active(&image, 100_000);
    assert!(
        registry
            .expired(&image, 100_000 + SESSION - 1, SESSION)
            .is_empty()
    );
    assert_eq!(
        registry.next_expiry_ms(&image, SESSION),
        Some(100_000 + SESSION)
    );
    assert_eq!(registry.silent_ms(node(2), 100_500), None, "never heard of");
    registry.touch(&beat(2), 100_500);
    assert_eq!(
        registry.expired(&image, 100_000 + SESSION, SESSION),
        [node(1), node(3)]
    );
    assert_eq!(
        registry.expired(&image, 100_500 + SESSION, SESSION),
        [node(1), node(2), node(3)]
    );
    assert_eq!(registry.silent_ms(node(2), 101_000), Some(500));
    let vitals = registry.vitals(node(2)).unwrap();
    assert_eq!((vitals.log_bytes, vitals.disk_free), (5, Some(6)));

    // A heartbeat that was overtaken takes nothing back.
    registry.touch(&beat(2), 100_200);
    assert_eq!(registry.silent_ms(node(2), 101_000), Some(500));
}

#[test]
fn only_unfenced_brokers_expire() {
    let mut image = image(&[1, 2]);
    let registry = active(&image, 0);
    set_fenced(&mut image, 2, true);
    assert_eq!(registry.expired(&image, SESSION, SESSION), [node(1)]);
    set_fenced(&mut image, 1, true);
    assert_eq!(registry.next_expiry_ms(&image, SESSION), None);
}

#[test]
fn a_controller_that_stood_still_blames_nobody_for_it() {
    let mut image = image(&[1, 2, 3]);
    set_fenced(&mut image, 3, true);
    let mut registry = active(&image, 0);
    registry.ended(node(3));
    assert_eq!(registry.expired(&image, 5000, 1000), [node(1), node(2)]);
    registry.stood_still(5000);
    assert!(registry.expired(&image, 5999, 1000).is_empty());
    assert_eq!(registry.expired(&image, 6000, 1000), [node(1), node(2)]);
    assert!(registry.is_alive(node(1), 5999, 1000));
    assert!(
        !registry.is_alive(node(3), 5999, 1000),
        "a session that was over stays over"
    );
}

#[test]
fn who_is_being_fenced_is_not_answered_before_that_is_done() {
    let image = image(&[1, 2]);
    let mut registry = active(&image, 1_000);
    assert_eq!(
        registry.expired(&image, 1_000 + SESSION, SESSION),
        [node(1), node(2)]
    );
    registry.fencing(node(2));
    // It is heard of while the decision is made durable: too late, and not forgotten by that.
    registry.touch(&beat(2), 1_001 + SESSION);
    assert!(registry.is_being_fenced(node(2)) && !registry.is_being_fenced(node(1)));
    registry.lost(node(2), 1_010 + SESSION, SESSION);
    assert!(!registry.is_being_fenced(node(2)));
    registry.fencing(node(2));
    registry.registered(node(2), 1_020 + SESSION);
    assert!(!registry.is_being_fenced(node(2)));
    // Nobody knows what became of it: another term begins anew.
    registry.fencing(node(2));
    registry.activate(&image, node(1), incarnation(1), 2_000 + SESSION);
    assert!(!registry.is_being_fenced(node(2)));
}

#[test]
fn a_fenced_broker_must_have_applied_the_fence_and_nothing_later() {
    let image = image(&[1, 2]);
    let mut registry = active(&image, 0);
    assert!(!registry.has_applied_fence(node(1), 19, 20));
    assert!(!registry.has_applied_fence(node(1), 19, 30));
    assert!(
        registry.has_applied_fence(node(1), 20, 40),
        "what came later is no reason to keep it out"
    );
    registry.unfenced(node(1), 100);
    assert!(!registry.has_applied_fence(node(1), 40, 50), "fenced again");
    registry.registered(node(1), 200);
    assert!(registry.has_applied_fence(node(1), 60, 60), "another life");
    assert!(
        !registry.has_applied_fence(node(2), 10, 11),
        "each for itself"
    );
}

#[test]
fn another_life_waits_for_the_session_of_the_old_one() {
    let image = image(&[1, 2]);
    let mut registry = active(&image, 0);
    let waits = |registry: &BrokerRegistry, id, life, now| {
        registry.has_live_session_of_another(&image, node(id), incarnation(life), now, SESSION)
    };
    assert!(waits(&registry, 2, 9, SESSION - 1));
    assert!(!waits(&registry, 2, 9, SESSION), "expired");
    assert!(!waits(&registry, 2, 2, 0), "a retry of the same");
    assert!(!waits(&registry, 7, 9, 0), "unknown");

    // It may stop: its next life need not wait, though it beats until its exit.
    let mut last = beat(2);
    last.wants_shutdown = true;
    registry.touch(&last, 10);
    assert!(waits(&registry, 2, 9, 20));
    registry.ended(node(2));
    registry.touch(&last, 20);
    assert!(!waits(&registry, 2, 9, 30));
    assert!(!registry.is_alive(node(2), 30, SESSION));
    assert_eq!(
        registry.expired(&image, 20 + SESSION, SESSION),
        [node(1), node(2)],
        "it is fenced all the same"
    );

    registry.registered(node(2), 40);
    assert!(registry.is_alive(node(2), 50, SESSION));
}

#[test]
fn an_earlier_life_of_the_controller_itself_is_over() {
    let image = image(&[1, 2]);
    let mut registry = BrokerRegistry::default();
    registry.activate(&image, node(1), incarnation(99), 0);
    assert!(!registry.is_alive(node(1), 0, SESSION));
    assert!(registry.is_alive(node(2), 0, SESSION));
}

#[test]
fn more_than_a_third_lost_within_one_session_is_a_mass_outage() {
    let ids: Vec<u32> = (1..=6).collect();
    let image = image(&ids);
    let mut registry = active(&image, 0);
    registry.lost(node(2), 10_000, SESSION);
    registry.lost(node(2), 10_000, SESSION);
    registry.lost(node(3), 11_000, SESSION);
    assert_eq!(registry.mass_outage_until(11_000), None, "two of six");
    registry.lost(node(4), 18_000, SESSION);
    assert_eq!(
        registry.mass_outage_until(18_000),
        None,
        "2 and 3 are long ago"
    );
    registry.lost(node(5), 18_500, SESSION);
    registry.lost(node(6), 19_000, SESSION);
    assert_eq!(registry.mass_outage_until(19_000), Some(19_000 + SESSION));
    assert_eq!(registry.mass_outage_until(19_000 + SESSION), None);
}

#[test]
fn brokers_that_stopped_in_order_are_no_outage() {
    let image = image(&[1, 2, 3]);
    let mut registry = active(&image, 0);
    for id in [1, 2, 3] {
        let mut last = beat(id);
        last.wants_shutdown = true;
        registry.touch(&last, 100);
        registry.ended(node(id));
        registry.lost(node(id), 7_000, SESSION);
    }
    assert_eq!(registry.mass_outage_until(7_000), None);
}

#[test]
fn a_leaver_waits_until_the_others_have_applied_what_relieved_it() {
    let mut image = image(&[1, 2, 3]);
    let mut registry = active(&image, 0);
    registry.touch(&beat(1), 0);
    assert!(
        !registry.have_applied(&image, node(3), 10),
        "2 is unheard of"
    );
    registry.touch(&beat(2), 0);
    assert!(registry.have_applied(&image, node(3), 10));
    assert!(!registry.have_applied(&image, node(3), 11));
    assert!(
        !registry.have_applied(&image, node(3), 0),
        "its next heartbeat changes nothing, and still they must know of the last"
    );
    set_fenced(&mut image, 2, true);
    set_fenced(&mut image, 1, true);
    assert!(registry.have_applied(&image, node(3), 0));
    assert!(!registry.have_applied(&image, node(9), 0));
}

#[test]
fn who_is_unfenced_for_how_long_is_known() {
    let image = image(&[1, 2]);
    let mut registry = active(&image, 50);
    let since = |registry: &BrokerRegistry| registry.vitals(node(2)).unwrap().unfenced_since_ms;
    assert_eq!(since(&registry), Some(50));
    registry.unfenced(node(2), 70);
    assert_eq!(since(&registry), Some(50));
    registry.registered(node(2), 80);
    assert_eq!(since(&registry), None);
    registry.unfenced(node(2), 90);
    assert_eq!(since(&registry), Some(90));
    registry.removed(node(2));
    assert!(registry.vitals(node(2)).is_none());
}
