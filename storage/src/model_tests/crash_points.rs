//! A crash at each operation of a run, and of the recovery after it.

use super::*;

/// A run that comes through every kind of operation. Stops at the first failure.
fn scripted(harness: &mut Harness) -> bool {
    let mut trim_to = None;
    let mut go = || -> Result<(), Box<dyn std::error::Error>> {
        harness.append(2, 3, 200)?;
        harness.flush()?;
        harness.append(3, 2, 700)?;
        harness.append(4, 3, 900)?;
        harness.log().roll()?;
        harness.engine.as_ref().unwrap().run_pending();
        harness.model.durable = harness.model.durable.max(harness.log().durable_end().get());
        harness.append(2, 3, 300)?;
        harness.model.epoch += 1;
        harness
            .log()
            .assign_epoch(LeaderEpoch::new(harness.model.epoch))?;
        harness.append(2, 1, 300)?;
        harness.flush()?;
        harness.append(3, 1, 500)?;
        let end = harness.model.end();
        harness.truncate(end - 5)?;
        harness.model.epoch += 1;
        harness.append(2, 3, 400)?;
        harness.flush()?;
        trim_to = Some(harness.model.batches[7].base);
        harness.trim(trim_to.unwrap_or_default())?;
        harness.append(3, 2, 1500)?;
        harness.engine.as_ref().unwrap().run_pending();
        harness.model.durable = harness.model.durable.max(harness.log().durable_end().get());
        harness.truncate(harness.model.start + 4)?;
        harness.append(1, 2, 100)?;
        harness.restart_at(harness.model.end() + 7)?;
        harness.append(3, 2, 900)?;
        harness.flush()?;
        harness.restart_at(harness.model.start - 5)?;
        harness.append(2, 2, 200)?;
        harness.engine.as_ref().unwrap().close()?;
        harness.model.durable = harness.model.end();
        Ok(())
    };
    let whole = go().is_ok();
    if let Some(log) = &harness.log {
        harness.model.durable = harness.model.durable.max(log.durable_end().get());
    }
    whole
}

#[test]
fn a_crash_at_every_operation_of_a_run_is_recovered_from() {
    let mut harness = Harness::new();
    let first = harness.disk.operations();
    assert!(scripted(&mut harness));
    let last = harness.disk.operations();
    assert!(last - first > 100, "{} operations", last - first);
    for at in first..last {
        for seed in 0..4 {
            let mut harness = Harness::new();
            harness.disk.lose_power_at(at);
            assert!(!scripted(&mut harness));
            let mut dice = Dice::new(seed * 1_000_003 + at);
            harness.crash(&mut dice);
            let context = format!("crash at operation {at}, seed {seed}");
            let report = harness
                .open()
                .unwrap_or_else(|error| panic!("{context}: {error}"));
            harness.check_recovered(&context);
            // S2: a second recovery finds the same, without another cut.
            let end = harness.model.end();
            harness.stop();
            harness.disk.restart();
            let again = harness.open().unwrap();
            assert_eq!(again.end.get(), end, "{context}: {report:?} {again:?}");
            assert_eq!(again.cut_bytes, 0, "{context}");
            harness.check_recovered(&context);
            // And the log can be used.
            harness.model.epoch += 5;
            harness.append(2, 2, 300).unwrap();
            harness.flush().unwrap();
            harness.check(&context);
        }
    }
}

#[test]
fn a_crash_at_every_operation_of_a_recovery_is_recovered_from() {
    let mut harness = Harness::new();
    let first = harness.disk.operations();
    scripted(&mut harness);
    let last = harness.disk.operations();
    for at in (first..last).step_by(7) {
        for step in 0.. {
            let mut harness = Harness::new();
            harness.disk.lose_power_at(at);
            scripted(&mut harness);
            let mut dice = Dice::new(at * 31 + step);
            harness.crash(&mut dice);
            harness.disk.lose_power_at(harness.disk.operations() + step);
            let interrupted = harness.open().is_err();
            if !interrupted {
                break;
            }
            harness.crash(&mut dice);
            let context = format!("crash at {at}, again at step {step} of the recovery");
            harness
                .open()
                .unwrap_or_else(|error| panic!("{context}: {error}"));
            harness.check_recovered(&context);
        }
    }
}
