//! Do the tests notice when a rule is broken?
//!
//! Each mutant is one rule of the product, broken on purpose (`src/mutant.rs` of the crate), and for each
//! there are the tests that must notice. They run twice, each time in a process of its own: as the product
//! is, where they have to pass, and with the mutant on, where they have to fail. The tests are the ordinary
//! ones; only the build has the feature `mutants`. Not part of a plain `cargo test`, because of that build:
//!
//! ```text
//! cargo test -p highwater-tests --features mutants --test mutants -- --nocapture
//! ```
#![cfg(feature = "mutants")]
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::path::{Path, PathBuf};
use std::process::Command;

use highwater_broker::mutant::Mutant as BrokerMutant;
use highwater_storage::mutant::Mutant as StorageMutant;
use highwater_tests::workspace_root;

/// The tests that must notice a broken rule of the storage engine.
fn of_storage(mutant: StorageMutant) -> &'static [&'static str] {
    match mutant {
        StorageMutant::DirectoryNotSynced => {
            &["model_tests::crash_points::a_crash_at_every_operation_of_a_run_is_recovered_from"]
        }
        StorageMutant::FailedSyncRepeated => {
            &["model_tests::failures::a_failed_sync_poisons_the_log_for_good"]
        }
        StorageMutant::DamageCut => &[
            "model_tests::damage::damage_below_the_recovery_point_is_reported_and_never_cut",
            "model_tests::damage::a_missing_segment_is_damage",
        ],
        StorageMutant::EpochMayFall => {
            &["model_tests::damage::a_batch_of_an_earlier_epoch_is_not_taken_behind_one_of_a_later"]
        }
        StorageMutant::SnapshotKeepsOneBatch => {
            &["model_tests::producers::producers_outlive_the_deletion_of_their_batches"]
        }
        StorageMutant::MarkerByExistence => &[
            "identity::tests::a_marker_is_believed_once_and_only_by_its_own_session",
            "session::tests::a_marker_of_an_earlier_close_proves_nothing_about_a_later_life",
        ],
    }
}

/// The tests that must notice a broken rule of the broker.
fn of_broker(mutant: BrokerMutant) -> &'static [&'static str] {
    match mutant {
        BrokerMutant::DuplicateNotAwaited => &[
            "partition::duplicate_tests::a_duplicate_is_acknowledged_no_sooner_than_its_first_attempt",
        ],
        BrokerMutant::PeersBelieved => &[
            "quorum::tests::nonsense::messages_that_make_no_sense_are_refused_and_the_node_goes_on",
            "quorum::tests::nonsense::a_snapshot_that_is_damaged_is_refused_and_the_node_goes_on",
        ],
        BrokerMutant::SenderNotChecked => {
            &["api::replication_tests::a_follower_that_lies_commits_nothing_beyond_what_is_there"]
        }
        BrokerMutant::StrayDeleted => {
            &["reconcile::tests::what_the_metadata_does_not_mention_is_kept"]
        }
    }
}

/// The unit tests of a crate, built so that its rules can be broken.
fn test_binary(package: &str) -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args([
            "test",
            "--locked",
            "--no-run",
            "--lib",
            "--features",
            "mutants",
        ])
        .args(["--message-format", "json", "--package", package])
        .current_dir(workspace_root())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{package}: {errors}");
    said.lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|line| line["target"]["kind"][0] == "lib" && line["profile"]["test"] == true)
        .find_map(|line| line["executable"].as_str().map(PathBuf::from))
        .expect("cargo says where the tests are")
}

/// Whether one test passes, and the line in which it says how it failed.
fn passes(binary: &Path, test: &str, mutant: Option<&str>) -> (bool, String) {
    let mut command = Command::new(binary);
    command
        .args(["--exact", test])
        .env_remove("HIGHWATER_MUTANT");
    if let Some(mutant) = mutant {
        command.env("HIGHWATER_MUTANT", mutant);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let passed = said.contains("test result: ok. 1 passed; 0 failed;");
    let failed = said.contains("test result: FAILED. 0 passed; 1 failed;");
    // A test that does not exist, or a process that died, is neither.
    assert!(passed != failed, "{test}: {said}");
    let why = said
        .lines()
        .skip_while(|line| !line.contains("panicked at"));
    let why = why.take(2).last().unwrap_or_default();
    (passed, why.chars().take(160).collect())
}

fn hunt<M: std::fmt::Debug>(package: &str, mutants: &[(M, &[&str])]) {
    let binary = test_binary(package);
    for (mutant, tests) in mutants {
        let mutant = format!("{mutant:?}");
        assert!(!tests.is_empty(), "{mutant}: some test must notice");
        for test in *tests {
            let (as_it_is, why) = passes(&binary, test, None);
            assert!(as_it_is, "{test} fails without {mutant}: {why}");
            let (with_it, why) = passes(&binary, test, Some(&mutant));
            assert!(!with_it, "{test} does not notice {mutant}");
            println!("{package}: {mutant} caught by {test}\n    {why}");
        }
    }
}

#[test]
fn each_broken_rule_of_the_storage_is_noticed() {
    hunt(
        "highwater-storage",
        &StorageMutant::ALL.map(|mutant| (mutant, of_storage(mutant))),
    );
}

#[test]
fn each_broken_rule_of_the_broker_is_noticed() {
    hunt(
        "highwater-broker",
        &BrokerMutant::ALL.map(|mutant| (mutant, of_broker(mutant))),
    );
}
