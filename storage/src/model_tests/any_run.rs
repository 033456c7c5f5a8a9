//! Any sequence of operations fits the model.

use super::*;

#[derive(Debug, Clone)]
enum Op {
    Append {
        batches: usize,
        records: usize,
        bytes: usize,
    },
    Flush,
    Roll,
    Epoch,
    AssignEpoch,
    Truncate(u64),
    Trim(u64),
    RestartAt(u64),
    RunPending,
    WriteBack(u64),
    Crash(u64),
    Restart,
    Close,
    FailSync(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (1usize..4, 1usize..5, 1usize..900)
            .prop_map(|(batches, records, bytes)| Op::Append { batches, records, bytes }),
        4 => Just(Op::Flush),
        2 => Just(Op::Roll),
        1 => Just(Op::Epoch),
        1 => Just(Op::AssignEpoch),
        2 => (0u64..100).prop_map(Op::Truncate),
        2 => (0u64..100).prop_map(Op::Trim),
        1 => (0u64..200).prop_map(Op::RestartAt),
        4 => Just(Op::RunPending),
        2 => any::<u64>().prop_map(Op::WriteBack),
        3 => any::<u64>().prop_map(Op::Crash),
        1 => Just(Op::Restart),
        1 => Just(Op::Close),
        1 => (0u64..3).prop_map(Op::FailSync),
    ]
}

/// The log must be online unless a sync failed.
fn or_offline<E: std::fmt::Debug>(answer: Result<(), E>, log: &Log) -> bool {
    match answer {
        Ok(()) => true,
        Err(error) => {
            assert!(log.offline.get().is_some(), "{error:?}");
            false
        }
    }
}

fn run(ops: &[Op]) {
    let mut harness = Harness::new();
    for (n, op) in ops.iter().enumerate() {
        let context = format!("op {n}: {op:?}");
        let mut online = true;
        let log = Arc::clone(harness.log());
        match op {
            Op::Append {
                batches,
                records,
                bytes,
            } => {
                online = or_offline(harness.append(*batches, *records, *bytes), &log);
            }
            Op::Flush => online = or_offline(harness.flush(), &log),
            Op::Roll => online = or_offline(log.roll(), &log),
            Op::Epoch => harness.model.epoch += 1,
            Op::AssignEpoch => {
                harness.model.epoch += 1;
                let epoch = LeaderEpoch::new(harness.model.epoch);
                online = or_offline(log.assign_epoch(epoch), &log);
            }
            Op::Truncate(percent) => {
                let (start, end) = (harness.model.start, harness.model.end());
                let to = start + (end - start) * percent / 100;
                if harness.model.boundary(to) >= start {
                    online = or_offline(harness.truncate(to), &log);
                } else {
                    let refused = log.truncate_suffix(Offset::new(to)).unwrap_err();
                    online = log.offline.get().is_none();
                    let below_start = matches!(refused, StorageError::OutOfRange { .. });
                    assert!(below_start || !online, "{context}: {refused}");
                }
            }
            Op::RestartAt(percent) => {
                let to = harness.model.end() * percent / 100 + percent / 10;
                online = or_offline(harness.restart_at(to), &log);
            }
            Op::Trim(percent) => {
                let (start, end) = (harness.model.start, harness.model.end());
                let to = start + (end - start) * percent / 99;
                online = or_offline(harness.trim(to.min(end)), &log);
            }
            Op::RunPending => {
                harness.engine.as_ref().unwrap().run_pending();
                online = log.offline.get().is_none();
            }
            Op::WriteBack(seed) => harness.disk.write_back_some(&mut Dice::new(*seed)),
            Op::FailSync(after) => harness.disk.fail_sync_after(*after),
            Op::Crash(seed) => {
                drop(log);
                harness.model.durable =
                    harness.model.durable.max(harness.log().durable_end().get());
                harness.crash(&mut Dice::new(*seed));
                harness.open().unwrap();
                harness.check_recovered(&context);
                continue;
            }
            Op::Restart => {
                drop(log);
                let end = harness.model.end();
                harness.stop();
                harness.disk.restart();
                harness.open().unwrap();
                harness.check_recovered(&context);
                assert_eq!(
                    harness.model.end(),
                    end,
                    "{context}: a killed process loses nothing"
                );
                continue;
            }
            Op::Close => {
                drop(log);
                let closed = harness.engine.as_ref().unwrap().close();
                let end = harness.model.end();
                harness.model.durable =
                    harness.model.durable.max(harness.log().durable_end().get());
                harness.stop();
                harness.disk.restart();
                let report = harness
                    .open()
                    .unwrap_or_else(|error| panic!("{context}: {error}"));
                harness.check_recovered(&context);
                if closed.is_ok() && !report.was_poisoned {
                    assert_eq!(harness.model.end(), end, "{context}");
                    assert_eq!(harness.log().durable_end().get(), end, "{context}");
                    assert!(report.clean, "{context}: {report:?}");
                }
                continue;
            }
        }
        harness.model.durable = harness.model.durable.max(log.durable_end().get());
        if online && log.offline.get().is_none() {
            harness.check(&context);
        } else {
            // S5: nothing becomes durable after a failure, and nothing is appended.
            let durable = log.durable_end();
            let epoch = LeaderEpoch::new(1000);
            let now = Timestamp::from_millis(0);
            let refused = log.append(&batch(1, 1, 0, 0), epoch, now).unwrap_err();
            assert!(matches!(refused, AppendError::Offline { .. }));
            assert!(log.flush().is_err());
            assert_eq!(log.durable_end(), durable);
            drop(log);
            harness.stop();
            harness.disk.restart();
            harness
                .open()
                .unwrap_or_else(|error| panic!("{context}: {error}"));
            harness.check_recovered(&context);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        max_shrink_iters: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_run_fits_the_model(ops in prop::collection::vec(op(), 1..60)) {
        run(&ops);
    }
}

/// An empty segment that a recovery had removed came back with the next power loss, and hid what had
/// been appended to the segment before it.
#[test]
fn an_empty_segment_stays_removed() {
    let append = Op::Append {
        batches: 1,
        records: 1,
        bytes: 1,
    };
    for seed in 0..300 {
        run(&[
            append.clone(),
            Op::Roll,
            Op::Flush,
            Op::Crash(seed),
            append.clone(),
            Op::Roll,
            Op::Crash(seed * 31),
            Op::Crash(seed * 77),
            append.clone(),
            Op::Flush,
            Op::Crash(seed * 131),
        ]);
    }
}
