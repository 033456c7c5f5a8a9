use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use highwater_coordination::cluster_image::ClusterImage;

use super::super::snapshot_file::{self, SnapshotError};
use super::super::types::{SnapshotMeta, StoredMembership};
use super::cluster::{Cluster, has_topic, topic, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_far_behind_gets_a_snapshot() {
    let mut cluster = Cluster::new();
    cluster.snapshot_entries = 20;
    cluster.start(1).await;
    cluster.quorum(1).form("127.0.0.1", 1).await.unwrap();
    for number in 0..70 {
        cluster.propose(number).await;
    }
    until("the log was purged behind a snapshot", || {
        let described = cluster.quorum(1).describe();
        let snapshot = described.and_then(|quorum| quorum.snapshot_index);
        snapshot.is_some() && cluster.quorum(1).log.purged().is_some()
    })
    .await;
    cluster.start(2).await;
    cluster.add_learner(2).await;
    cluster.all_have([2], 69).await;
    let applied = cluster.quorum(2).applied();
    assert!((0..70).all(|number| has_topic(&applied, number)));
    assert!(
        cluster.quorum(2).log.purged().is_some(),
        "entries that were purged can only come in a snapshot"
    );
    // Both go on from their snapshots, and from what is in the logs behind them.
    cluster.propose(70).await;
    cluster.all_have([2], 70).await;
    for id in [1, 2] {
        cluster.stop(id).await;
        cluster.start(id).await;
        let applied = cluster.quorum(id).applied();
        assert!((0..=70).all(|number| has_topic(&applied, number)));
        assert_eq!(
            snapshot_file::find(&cluster.dir(id).join("raft"))
                .unwrap()
                .len(),
            1
        );
    }
    cluster.propose(71).await;
    cluster.all_have([1, 2], 71).await;
    let images = [1, 2].map(|id| snapshot_file::state_hash(&cluster.quorum(id).applied().image));
    assert_eq!(images[0], images[1]);
}

fn image(topics: u32) -> ClusterImage {
    let mut image = ClusterImage::default();
    for number in 0..topics {
        image.apply(&topic(number)).unwrap();
    }
    image
}

fn meta() -> SnapshotMeta {
    SnapshotMeta {
        last_log_id: Some(super::log::log_id(3, 17)),
        last_membership: StoredMembership::default(),
        snapshot_id: "one".to_owned(),
    }
}

#[test]
fn a_snapshot_gives_its_image_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = snapshot_file::write(dir.path(), &meta(), &image(100)).unwrap();
    let loaded = snapshot_file::read(&mut File::open(&path).unwrap()).unwrap();
    assert_eq!(loaded.meta, meta());
    assert_eq!(loaded.image, image(100));
    std::fs::write(dir.path().join("00-00.snapshot.tmp"), b"half").unwrap();
    assert_eq!(snapshot_file::find(dir.path()).unwrap(), [path]);
    snapshot_file::remove_unfinished(dir.path()).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn no_changed_byte_of_a_snapshot_goes_unnoticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = snapshot_file::write(dir.path(), &meta(), &image(3)).unwrap();
    let length = std::fs::metadata(&path).unwrap().len();
    for at in 0..length {
        let mut file = File::options().read(true).write(true).open(&path).unwrap();
        let mut byte = [0];
        file.seek(SeekFrom::Start(at)).unwrap();
        file.read_exact(&mut byte).unwrap();
        let mut put = |byte| {
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(&[byte]).unwrap();
        };
        put(byte[0] ^ 0x10);
        let error = snapshot_file::read(&mut File::open(&path).unwrap());
        assert!(error.is_err(), "byte {at}");
        put(byte[0]);
    }
    assert!(snapshot_file::read(&mut File::open(&path).unwrap()).is_ok());
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(length - 1)
        .unwrap();
    let error = snapshot_file::read(&mut File::open(&path).unwrap());
    assert!(matches!(error, Err(SnapshotError::Io(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_rots_on_the_disk_is_not_handed_on() {
    let mut cluster = Cluster::new();
    cluster.snapshot_entries = 20;
    cluster.start(1).await;
    cluster.quorum(1).form("127.0.0.1", 1).await.unwrap();
    for number in 0..50 {
        cluster.propose(number).await;
    }
    until("the log was purged behind a snapshot", || {
        cluster.quorum(1).log.purged().is_some()
    })
    .await;
    let found = snapshot_file::find(&cluster.dir(1).join("raft")).unwrap();
    let mut file = File::options().write(true).open(&found[0]).unwrap();
    file.seek(SeekFrom::Start(100)).unwrap();
    file.write_all(b"rot").unwrap();
    drop(file);
    cluster.start(2).await;
    cluster.add_learner(2).await;
    cluster.all_have([2], 49).await;
    assert!(cluster.quorum(2).watch_failure().borrow().is_none());
    assert!(cluster.quorum(1).watch_failure().borrow().is_none());
    let applied = cluster.quorum(2).applied();
    assert!((0..50).all(|number| has_topic(&applied, number)));
}
