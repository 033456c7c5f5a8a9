//! The simulation notices when a rule is broken: each mutant within 200 seeds.
#![cfg(feature = "mutants")]
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use highwater_coordination::mutant::{Mutant, switch_on};
use highwater_simulation::run;

/// Seeds within which each is to be found.
const SEEDS: u64 = 200;

#[test]
fn every_broken_rule_is_noticed_within_200_seeds() {
    let mut unnoticed = Vec::new();
    for mutant in Mutant::ALL {
        switch_on(Some(mutant));
        let found = (0..SEEDS).find_map(|seed| {
            let violation = run(seed, false).violation?;
            Some((seed, violation))
        });
        switch_on(None);
        match found {
            Some((seed, violation)) => println!(
                "{mutant:?}: seed {seed}, {}: {}",
                violation.rule, violation.what
            ),
            None => unnoticed.push(mutant),
        }
    }
    assert!(
        unnoticed.is_empty(),
        "not noticed within {SEEDS} seeds: {unnoticed:?}"
    );
}
