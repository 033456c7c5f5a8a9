//! A sync that fails, a disk that is full.

use super::*;

#[test]
fn a_failed_sync_poisons_the_log_for_good() {
    let mut harness = Harness::new();
    harness.append(3, 2, 300).unwrap();
    harness.flush().unwrap();
    let durable = harness.log().durable_end();
    harness.append(3, 2, 300).unwrap();
    harness.disk.fail_sync_after(0);
    let told = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let hear = Arc::clone(&told);
    harness.log().on_durable(Box::new(move |log| {
        assert!(log.offline.get().is_some());
        hear.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }));
    assert!(matches!(
        harness.log().flush(),
        Err(StorageError::Offline(_))
    ));
    assert!(
        told.load(std::sync::atomic::Ordering::Relaxed) > 0,
        "waiters are told"
    );
    // A second sync would succeed and prove nothing: there is none.
    let before = harness.disk.operations();
    assert!(harness.log().flush().is_err());
    harness.engine.as_ref().unwrap().run_pending();
    assert_eq!(harness.disk.operations(), before);
    assert_eq!(harness.log().durable_end(), durable);
    assert!(matches!(
        **harness.log().offline.get().unwrap(),
        OfflineReason::SyncFailed(_)
    ));
    // The next process does not believe the page cache, which still shows the lost bytes.
    harness.stop();
    harness.disk.restart();
    let report = harness.open().unwrap();
    assert!(report.was_poisoned);
    assert_eq!(harness.log().end(), durable);
    harness.check_recovered("after a failed sync");
    harness.append(1, 1, 10).unwrap();
    harness.flush().unwrap();
    harness.crash(&mut Dice::new(1));
    assert!(!harness.open().unwrap().was_poisoned);
    harness.check_recovered("and later");
}

#[test]
fn a_full_disk_refuses_appends_and_nothing_else() {
    let mut harness = Harness::new();
    harness.append(3, 2, 300).unwrap();
    harness.flush().unwrap();
    harness
        .disk
        .set_capacity(Some(harness.disk.used_bytes() + 20_000));
    let mut refused = 0;
    for _ in 0..200 {
        match harness.append(1, 2, 800) {
            Ok(()) => harness.check("filling"),
            Err(error) => {
                assert!(matches!(error, AppendError::DiskFull { .. }), "{error}");
                assert!(error.is_retriable());
                refused += 1;
                assert!(matches!(harness.log().health(), crate::LogHealth::DiskFull));
                harness.check("full");
                // What is there can still be made durable.
                harness.flush().unwrap();
            }
        }
        harness.engine.as_ref().unwrap().run_pending();
    }
    assert!(refused > 50);
    // Retention makes space, or the operator does.
    harness.disk.set_capacity(None);
    harness.append(5, 2, 800).unwrap();
    assert!(matches!(harness.log().health(), crate::LogHealth::Online));
    harness.flush().unwrap();
    harness.engine.as_ref().unwrap().run_pending();
    harness.check("space again");
    harness.crash(&mut Dice::new(5));
    harness.open().unwrap();
    harness.check_recovered("after a full disk");
    assert_eq!(harness.log().end().get(), harness.model.end());
}

#[test]
fn a_full_disk_at_every_size_loses_nothing() {
    for spare in (0..60_000).step_by(1500) {
        let mut harness = Harness::new();
        harness.append(3, 2, 300).unwrap();
        harness.flush().unwrap();
        harness
            .disk
            .set_capacity(Some(harness.disk.used_bytes() + spare));
        for n in 0..40 {
            let _ = harness.append(1, 2, 700);
            if n % 5 == 4 {
                let _ = harness.flush();
                harness.engine.as_ref().unwrap().run_pending();
            }
            if n == 30 {
                let _ = harness
                    .log()
                    .trim_prefix(Offset::new(20))
                    .map(|_| harness.model.start = 20);
            }
            assert!(harness.log().offline.get().is_none(), "spare {spare}, {n}");
            harness.model.durable = harness.model.durable.max(harness.log().durable_end().get());
        }
        harness.check("full");
        harness.crash(&mut Dice::new(spare));
        harness.disk.set_capacity(None);
        harness
            .open()
            .unwrap_or_else(|error| panic!("spare {spare}: {error}"));
        harness.check_recovered(&format!("spare {spare}"));
        harness.append(3, 2, 700).unwrap();
        harness.flush().unwrap();
    }
}
