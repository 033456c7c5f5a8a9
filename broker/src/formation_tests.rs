//! Tests of the rule by which a cluster is formed.

use super::*;

fn newcomer(seeds: &[&str]) -> Newcomer {
    Newcomer {
        seeds: seeds.iter().map(|&seed| seed.to_owned()).collect(),
        node_id: None,
        directory: DirectoryId::random(),
        incarnation: IncarnationId::random(),
        host: "127.0.0.1".to_owned(),
        port: 1,
    }
}

fn answer_of(
    incarnation: IncarnationId,
    cluster_id: Option<ClusterId>,
) -> Option<DiscoverResponse> {
    Some(DiscoverResponse {
        incarnation,
        directory: DirectoryId::random(),
        cluster_id,
        node_id: None,
        controller: None,
    })
}

#[test]
fn only_the_first_seed_forms_and_only_when_all_answer() {
    let me = newcomer(&["a:1", "b:1", "c:1"]);
    let other = || answer_of(IncarnationId::random(), None);
    let mine = || answer_of(me.incarnation, None);
    assert_eq!(me.judge(&[mine(), other(), other()]), Ok(Next::Form));
    let waits = |found: &[Option<DiscoverResponse>], what: &str| {
        let Ok(Next::Wait { reason }) = me.judge(found) else {
            panic!("does not wait for {what}");
        };
        assert!(reason.contains(what), "{reason}");
    };
    waits(&[mine(), None, other()], "b:1");
    waits(&[other(), mine(), other()], "a:1 to form");
    waits(&[None, mine(), other()], "a:1");
}

#[test]
fn a_member_is_joined_also_when_others_are_silent() {
    let me = newcomer(&["a:1", "b:1", "c:1"]);
    let cluster = ClusterId::random();
    let found = [
        answer_of(me.incarnation, None),
        None,
        answer_of(IncarnationId::random(), Some(cluster)),
    ];
    let through = "c:1".to_owned();
    assert_eq!(me.judge(&found), Ok(Next::Join { through }));
}

#[test]
fn seeds_of_two_clusters_are_refused() {
    let me = newcomer(&["a:1", "b:1"]);
    let member = || answer_of(IncarnationId::random(), Some(ClusterId::random()));
    let error = me.judge(&[member(), member()]).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("a:1") && text.contains("b:1"), "{text}");
}
